"""The branches of a production: its declination lines, each of which goes through the stages at its own pace.

What no line alone needs (the data of the test nodes) is a branch of its own, which the lines wait for when they come to
their test data, and not before.
"""

from __future__ import annotations

from collections.abc import Sequence

from lstops.production.grid import line_in_path
from lstops.step.model import Plan, Step

#: the stage that all others wait for
HEAD = "tune"
#: stages of the branch of what several lines need
COMMON_STAGES = ("r0_to_dl1", "dl1ab", "split", "merge")
#: stages of a line; from `FIRST_ON_TEST_DATA` on they read the common branch
LINE_STAGES = (*COMMON_STAGES, "train", "dl2", "irf", "sensitivity", "report")
FIRST_ON_TEST_DATA = "dl2"
DAG_STAGES = (HEAD, *LINE_STAGES)

COMMON = "common"
#: the only line of a plan that cannot be divided
UNDIVIDED = "all"


def with_branches(plan: Plan) -> Plan:
    """The plan whose steps say to which branch they belong.

    A step belongs to the line that its product's path names, else to the line of the steps whose products it reads, if
    that is one. A plan in which a line would have to wait for another, or would train on what the common branch makes,
    is not divided: its stages follow one another as a whole.

    Parameters
    ----------
    plan : Plan
        In the stages `DAG_STAGES`.
    """
    steps, stages = plan.steps(), [stage.name for stage in plan.stages for _ in stage.steps]
    parents = _parents(steps)
    branches = _branches(steps, stages, parents)
    if not _divided(stages, branches, parents):
        whole = str(plan.context.get("line") or UNDIVIDED)
        branches = [None if stage == HEAD else whole for stage in stages]
    named = iter(branches)
    return plan.model_copy(
        update={
            "stages": tuple(
                stage.model_copy(
                    update={"steps": tuple(step.model_copy(update={"branch": next(named)}) for step in stage.steps)}
                )
                for stage in plan.stages
            )
        }
    )


def lines_of(plan: Plan) -> tuple[str, ...]:
    """The branches of a plan that are declination lines, in the order of their first steps."""
    found = dict.fromkeys(step.branch for step in plan.steps())
    return tuple(branch for branch in found if branch and branch != COMMON)


def _parents(steps: Sequence[Step]) -> list[tuple[int, ...]]:
    maker = {output.path: index for index, step in enumerate(steps) for output in step.outputs}
    return [tuple(maker[item.path] for item in step.inputs if item.path in maker) for step in steps]


def _branches(
    steps: Sequence[Step], stages: Sequence[str], parents: Sequence[tuple[int, ...]]
) -> list[str | None]:  # fmt: skip
    found: list[str | None] = []
    for step, stage, above in zip(steps, stages, parents, strict=True):
        line = line_in_path(step.primary.path)
        if line is None:
            lines = {found[parent] for parent in above} - {None, COMMON}
            line = lines.pop() if len(lines) == 1 else None
        if stage == HEAD:
            found.append(None)
        else:
            found.append(line or COMMON)
    first = next((branch for branch in found if branch not in (None, COMMON)), None)
    # what is about the production as a whole goes with its first line (the texts of a pull request)
    return [
        first if branch == COMMON and stage not in COMMON_STAGES and not _reads(above, found) else branch
        for branch, stage, above in zip(found, stages, parents, strict=True)
    ]


def _reads(above: Sequence[int], branches: Sequence[str | None]) -> bool:
    """True if a step reads what another than the stage of all makes."""
    return any(branches[parent] is not None for parent in above)


def _divided(stages: Sequence[str], branches: Sequence[str | None], parents: Sequence[tuple[int, ...]]) -> bool:
    """True if every step finds its inputs where the DAG runs its branch."""
    order = {stage: number for number, stage in enumerate(DAG_STAGES)}
    for stage, branch, above in zip(stages, branches, parents, strict=True):
        if branch == COMMON and stage not in COMMON_STAGES:
            return False
        for parent in above:
            reads = branches[parent]
            if reads == COMMON and branch != COMMON and order[stage] < order[FIRST_ON_TEST_DATA]:
                return False
            if reads not in (None, COMMON, branch):
                return False
    return any(branch not in (None, COMMON) for branch in branches)
