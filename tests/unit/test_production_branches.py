"""Which steps of a production wait for which: the lines of a plan."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from lstops.production.branches import COMMON, DAG_STAGES, lines_of, with_branches
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step, step_key


def step(made: str, *reads: str) -> Step:
    return Step(
        kind="toy",
        label=made,
        subject=made,
        commands=(("cp", "{in:i0}", "{out:o}") if reads else ("touch", "{out:o}"),),
        inputs=tuple(Input(name=f"i{n}", kind=ArtifactKind.FILE, path=path) for n, path in enumerate(reads)),
        outputs=(Output(name="o", kind=ArtifactKind.FILE, path=made),),
        environment="core",
    )


def plan(context: dict[str, str] | None = None, **stages: Iterable[Step]) -> Plan:
    every = tuple(Stage(name=name, steps=tuple(stages.get(name, ()))) for name in DAG_STAGES)
    return Plan(
        kind="toy", title="Toy", site="toy", lstchain_version="0.12.3", stages=every, context=context or {}
    )  # fmt: skip


def branches(made: Plan) -> dict[str, str | None]:
    return {step.label: step.branch for step in with_branches(made).steps()}


def two_lines() -> Plan:
    lines = ("dec_2276", "dec_3476")
    return plan(
        tune=[step("config")],
        dl1ab=[*(step(f"{line}/dl1", "config") for line in lines), step("test/dl1", "config")],
        # the halves of the training data that are tested with lie in a folder that names no line
        split=[step("halves/1", "dec_2276/dl1")],
        merge=[step("merged/test", "test/dl1"), step("merged/half", "halves/1")],
        train=[step(f"models/{line}", f"{line}/dl1") for line in lines],
        dl2=[step(f"dl2/{line}/t", f"models/{line}", "merged/test") for line in lines]
        + [step("dl2/half", "models/dec_2276", "merged/half")],
        report=[step("readme", "config")],
    )


def test_lines_and_what_they_share() -> None:
    assert branches(two_lines()) == {
        "config": None,
        "dec_2276/dl1": "dec_2276",
        "dec_3476/dl1": "dec_3476",
        "test/dl1": COMMON,
        "halves/1": "dec_2276",
        "merged/test": COMMON,
        "merged/half": "dec_2276",
        "models/dec_2276": "dec_2276",
        "models/dec_3476": "dec_3476",
        "dl2/dec_2276/t": "dec_2276",
        "dl2/dec_3476/t": "dec_3476",
        "dl2/half": "dec_2276",
        "readme": "dec_2276",
    }
    assert lines_of(with_branches(two_lines())) == ("dec_2276", "dec_3476")


def test_a_stage_of_a_branch_has_its_steps_only() -> None:
    made = with_branches(two_lines())
    labels = [step.label for step in made.steps()]
    assert [labels[i] for i in made.indices("dl1ab", "dec_3476")] == ["dec_3476/dl1"]
    assert [labels[i] for i in made.indices("dl1ab", COMMON)] == ["test/dl1"]
    assert [labels[i] for i in made.indices("dl1ab")] == ["dec_2276/dl1", "dec_3476/dl1", "test/dl1"]
    assert list(made.indices("irf", "dec_3476")) == []


def test_every_step_runs_in_exactly_one_task() -> None:
    made = with_branches(two_lines())
    ran = list(made.indices("tune"))
    for stage in DAG_STAGES[1:]:
        for branch in (COMMON, *lines_of(made)):
            ran += made.indices(stage, branch)
    assert sorted(ran) == list(range(len(made.steps())))


def test_the_branch_is_no_part_of_a_steps_key() -> None:
    (before, *_), (after, *_) = two_lines().steps()[1:], with_branches(two_lines()).steps()[1:]
    assert after.branch == "dec_2276"
    assert step_key(before, {"i0": "x"}, "v") == step_key(after, {"i0": "x"}, "v")


@pytest.mark.parametrize(
    "made",
    [
        plan(dl1ab=[step("dl1")], train=[step("models", "dl1")], dl2=[step("dl2", "models", "dl1")]),
        # a line trained on what is merged for all
        plan(merge=[step("merged")], train=[step("models/dec_2276", "merged"), step("models/dec_931", "merged")]),
        # one line reads what another makes
        plan(merge=[step("dec_931/m")], train=[step("models/dec_2276", "dec_931/m"), step("models/dec_931")]),
        # forests of two lines in one response
        plan(
            train=[step("dec_931/m"), step("dec_2276/m")],
            dl2=[step("dl2", "dec_931/m", "dec_2276/m")],
        ),
    ],
)
def test_a_plan_that_cannot_be_divided_runs_stage_by_stage(made: Plan) -> None:
    assert set(branches(made).values()) == {"all"}
    named = made.model_copy(update={"context": {"line": "dec_2276"}})
    assert set(branches(named).values()) == {"dec_2276"}
