"""Lint rules on paths: what steps read and make, in which order, and what would be lost of what is there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from lstops.errors import ConfigError
from lstops.production.config import LstmcpipeConfig
from lstops.production.definition import StepDefinition, cycles
from lstops.production.findings import Finding, LintContext, Rule, Severity, Tree, by_stage, counted, of_paths
from lstops.production.grid import node_in_path
from lstops.production.stages import StageName

# in bytes, of Linux
_LONGEST_PATH, _LONGEST_NAME = 4095, 255


def _path_fault(path: str) -> str | None:
    """Why no job could be given this path, else None."""
    if not path.strip():
        return "blank"
    if any(character < " " for character in path):
        return "with control characters"
    if not path.startswith("/"):
        return "not absolute"
    if ".." in path.split("/"):
        return "with '..'"
    parts = path.encode(errors="surrogatepass").split(b"/")
    if sum(map(len, parts)) + len(parts) > _LONGEST_PATH or max(map(len, parts)) > _LONGEST_NAME:
        return "too long for any file system"
    return None


def paths(context: LintContext) -> Iterator[Finding]:
    """Every path says by itself where it is; jobs run in folders of their own."""
    faults: dict[str, list[tuple[StepDefinition, str]]] = defaultdict(list)
    for step in context.production.steps():
        for given in (*step.inputs, *step.outputs):
            if fault := _path_fault(given.path):
                faults[fault].append((step, given.path))
    for fault, found in faults.items():
        for stage, cases in by_stage(found).items():
            yield of_paths(
                cases,
                code="bad-path",
                severity=Severity.ERROR,
                message=f"{counted(len(cases), 'path')} of {stage} {fault}, e.g. {cases[0][1][:200]!r}",
                remedy="write the whole path, from / on.",
            )


def impossible_nodes(pipe: LstmcpipeConfig) -> tuple[Finding, ...]:
    """Folders of nodes that are no direction above the horizon, so that no other rule can be applied."""
    found = []
    for stage in pipe.stages.defined:
        cases: dict[str, str] = {}
        for index, step in enumerate(pipe.stages.of(stage)):
            for path in _texts(step.model_dump(include={"input", "output", "path_model"})):
                try:
                    node_in_path(path)
                except ConfigError as error:
                    cases.setdefault(f"stages.{stage.value}[{index}]", error.what)
        if cases:
            place, what = next(iter(cases.items()))
            found.append(
                Finding(
                    code="bad-path",
                    severity=Severity.ERROR,
                    place=place,
                    message=f"{counted(len(cases), 'step')} of {stage.value} for no node: {what.rstrip('.')}",
                    remedy="correct the name of the node; nothing else of the file has been checked.",
                    count=len(cases),
                    items=tuple(cases)[:20],
                )
            )
    return tuple(found)


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)


def duplicates(context: LintContext) -> Iterator[Finding]:
    """No two steps make the same file or fill the same folder."""
    makers: dict[str, list[StepDefinition]] = defaultdict(list)
    for step in context.production.steps():
        for path in step.products:
            makers[path.rstrip("/")].append(step)
    twice = [(steps[1], path) for path, steps in makers.items() if len(steps) > 1]
    for stage, cases in by_stage(twice).items():
        path = cases[0][1]
        yield of_paths(
            cases,
            code="duplicate-output",
            severity=Severity.ERROR,
            message=f"{counted(len(cases), 'output')} of {stage} made twice, e.g. {path} by "
            f"{' and '.join(s.place for s in makers[path.rstrip('/')][:3])}",
            remedy="give each step its own output; the later one would overwrite or mix with the earlier one.",
        )


def cyclic_paths(context: LintContext) -> Iterator[Finding]:
    """No step waits for one of the same stage or of a later one."""
    found = cycles(context.production)
    makers = {path: maker for _, path, maker in found}
    for stage, cases in by_stage((step, path) for step, path, _ in found).items():
        path = cases[0][1]
        yield of_paths(
            cases,
            code="cyclic-path",
            severity=Severity.ERROR,
            message=f"{counted(len(cases), 'input')} of {stage} only made by the same or a later stage, "
            f"e.g. {path} by {makers[path].place}",
            remedy="correct the paths: a stage reads what earlier stages or other productions have made.",
        )


def _ancestors(path: str) -> Iterator[str]:
    yield from (str(parent) for parent in PurePosixPath(path.rstrip("/")).parents)


def _folders_of(steps: Iterable[StepDefinition]) -> set[str]:
    """The folders in which the products of steps lie."""
    products = {path.rstrip("/") for step in steps for path in step.products}
    return {folder for path in products for folder in _ancestors(path)}


def _unmade(context: LintContext) -> Iterator[tuple[StepDefinition, str]]:
    """Inputs that no step that runs makes.

    A folder is made by whoever has put something into it before: merged files lie beside what was merged, so that the
    output of the merge itself says nothing about its input. What is made too late is a cyclic path.
    """
    late = {(step.place, path) for step, path, _ in cycles(context.production)}
    made = {path.rstrip("/") for step in context.production.steps(True) for path in step.products}
    # folders that a step fills with files whose names are not known beforehand
    folders = {o.path.rstrip("/") for s in context.production.steps(True) for o in s.outputs if o.is_folder}
    filled: set[str] = set()
    for stage in context.production.stages:
        if not stage.runs:
            continue
        for step in stage.steps:
            for given in step.inputs:
                path = given.path.rstrip("/")
                if path in made or path in filled or (step.place, path) in late:
                    continue
                if folders.isdisjoint(_ancestors(path)):
                    yield step, path
        filled.update(_folders_of(stage.steps))


def inputs(context: LintContext) -> Iterator[Finding]:
    """Each input is made by a step that runs, or is there (where the tree is at hand)."""
    tree, unmade = context.tree, tuple(_unmade(context))
    own = [(step, path) for step, path in unmade if context.production.prod_id in PurePosixPath(path).parts]
    absent = [(step, path) for step, path in unmade if tree and tree.covers(path) and not tree.has(path)]
    for stage, cases in by_stage(own).items():
        yield of_paths(
            cases,
            code="input-not-produced",
            severity=Severity.WARNING,
            message=f"{counted(len(cases), 'input')} of {stage} in this production's own folders, "
            f"made by no step that runs, e.g. {cases[0][1]}",
            remedy="add the steps that make them, or be sure that an earlier run has left them there.",
        )
    for stage, cases in by_stage(absent).items():
        yield of_paths(
            cases,
            code="input-missing",
            severity=Severity.ERROR,
            message=f"{counted(len(cases), 'input')} of {stage} missing or empty, e.g. {cases[0][1]}",
            remedy="correct the paths, or run the production that makes them first.",
        )


def overwrites(context: LintContext) -> Iterator[Finding]:
    """No output is an input that exists before, holds one, or is there already and not from a run before."""
    steps = tuple(context.production.steps())
    made = {path.rstrip("/") for step in steps for path in step.products} | _folders_of(steps)
    before: dict[str, StepDefinition] = {}
    holding: dict[str, tuple[str, StepDefinition]] = {}
    for step in context.production.steps():
        for given in step.inputs:
            path = given.path.rstrip("/")
            if path not in made or path in {p.rstrip("/") for p in step.products}:
                before.setdefault(path, step)
                for folder in _ancestors(path):
                    holding.setdefault(folder, (path, step))
    hit: list[tuple[StepDefinition, str]] = []
    for step in context.production.steps():
        for output in step.outputs:
            path = output.path.rstrip("/")
            if path in before or (output.is_folder and path in holding):
                hit.append((step, path))
    for stage, cases in by_stage(hit).items():
        yield of_paths(
            cases,
            code="overwrites",
            severity=Severity.ERROR,
            message=f"{counted(len(cases), 'output')} of {stage} that are or hold inputs of before, "
            f"e.g. {cases[0][1]}; lstmcpipe empties output folders without asking",
            remedy="give these steps outputs of their own.",
        )
    if context.tree:
        yield from _existing(context, context.tree)


def _existing(context: LintContext, tree: Tree) -> Iterator[Finding]:
    """Outputs that are there and were not made by an earlier run of this very production.

    A folder of outputs is looked into: each file in it may be another's.
    """
    own, strange = context.production.prod_id, dict[str, str | None]()
    there: list[tuple[StepDefinition, str]] = []
    for step in context.production.steps(running_only=True):
        for place in _filled(step):
            if place not in strange:
                strange[place] = next(tree.not_of(own, place), None)
            if file := strange[place]:
                there.append((step, file))
    for stage, cases in by_stage(there).items():
        yield of_paths(
            cases,
            code="overwrites",
            severity=Severity.ERROR,
            message=f"{counted(len(cases), 'output')} of {stage} where files are that no run of {own} by lstops has "
            f"made, e.g. {cases[0][1]}",
            remedy="choose a new prod_id, or take the finished steps out; published products stay. What lstops has "
            "made at a site is only known with its site file (--site).",
        )


def _filled(step: StepDefinition) -> Iterator[str]:
    """What lstmcpipe is told to fill: DL2 is one file to us, and a folder to its configuration."""
    for path in step.products:
        yield path.rpartition("/")[0] if step.stage is StageName.DL1_TO_DL2 else path


RULES: tuple[Rule, ...] = (paths, duplicates, cyclic_paths, inputs, overwrites)
