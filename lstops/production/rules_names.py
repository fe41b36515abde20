"""Lint rules on names, versions and paths."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import PurePosixPath

from lstops.errors import ConfigError
from lstops.production.config import LstmcpipeConfig
from lstops.production.definition import StepDefinition, cycles
from lstops.production.findings import Finding, LintContext, Rule, Severity, Tree, counted
from lstops.production.grid import node_in_path
from lstops.production.lstchain_config import version_in_name, version_tuple
from lstops.production.stages import StageName

#: Names of published productions begin with a date; other folder names say nothing about the production.
_DATED = re.compile(r"^\d{8}_")
# in bytes, of Linux
_LONGEST_PATH, _LONGEST_NAME = 4095, 255
_GRID_PREFIX = re.compile(r"^\d{8}_v[\d.]+")


def _config_folder(context: LintContext) -> tuple[str, bool] | None:
    """Name of the folder that holds the configuration, and whether it is a grid of levels (NSB-0.14 below it)."""
    if context.config.path is None:
        return None
    folder = context.config.path.resolve().parent
    level = folder.name.upper().startswith("NSB-")
    name = folder.parent.name if level else folder.name
    return (name, level) if _DATED.match(name) else None


def _by_stage(steps: Iterable[tuple[StepDefinition, str]]) -> dict[str, list[tuple[StepDefinition, str]]]:
    groups: dict[str, list[tuple[StepDefinition, str]]] = defaultdict(list)
    for step, path in steps:
        groups[step.stage.value].append((step, path))
    return groups


def _of_paths(
    cases: Sequence[tuple[StepDefinition, str]], *, code: str, severity: Severity, message: str, remedy: str
) -> Finding:
    """One finding for paths of a stage that share a fault; its place is the first step."""
    return Finding(
        code=code,
        severity=severity,
        place=cases[0][0].place,
        message=message,
        remedy=remedy,
        count=len(cases),
        items=tuple(path for _, path in cases[:20]),
    )


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
        for stage, cases in _by_stage(found).items():
            yield _of_paths(
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


def prod_id_in_names(context: LintContext) -> Iterator[Finding]:
    """Folder of the configuration, output folders and file prefixes carry the production's identifier."""
    prod_id = context.production.prod_id
    folder = _config_folder(context)
    if folder and context.config.old is None:
        name, is_grid = folder
        left, right = _GRID_PREFIX.match(name), _GRID_PREFIX.match(prod_id)
        same = (left and right and left.group() == right.group()) if is_grid else name == prod_id
        if not same:
            yield Finding(
                code="prod-id-mismatch",
                severity=Severity.WARNING,
                place="prod_id",
                message=f"prod_id is {prod_id}, but the configuration is in the folder {name}",
                remedy="give both the same name, so that products and configuration find each other.",
            )
    elsewhere, other_prefix = [], []
    for step in context.production.steps():
        for path in step.products:
            parts = PurePosixPath(path).parts
            if prod_id not in parts:
                elsewhere.append((step, path))
            elif re.search(r"_\d{8}_", parts[-1]) and prod_id not in parts[-1]:
                other_prefix.append((step, path))
    for stage, cases in _by_stage(elsewhere).items():
        yield _of_paths(
            cases,
            code="prod-id-mismatch",
            severity=Severity.ERROR,
            message=f"{counted(len(cases), 'output')} of {stage} not below a folder {prod_id}, e.g. {cases[0][1]}",
            remedy="correct prod_id or the output paths; another production may own that place.",
        )
    for stage, cases in _by_stage(other_prefix).items():
        file_name = PurePosixPath(cases[0][1]).name
        yield Finding(
            code="prod-id-mismatch",
            severity=Severity.WARNING,
            place=cases[0][0].place,
            message=f"{counted(len(cases), 'file')} of {stage} named after another production, e.g. {file_name}",
            remedy="name the files after this production; until then identify them by content, never by name.",
            count=len(cases),
            items=tuple(PurePosixPath(path).name for _, path in cases[:20]),
        )


def _same_version(claimed: str, actual: str) -> bool:
    """Whether a version is the one that a name claims; a name may leave out the last number."""
    wanted = version_tuple(claimed)
    return version_tuple(actual)[: len(wanted)] == wanted


def versions(context: LintContext) -> Iterator[Finding]:
    """The version in the production's name, the environment's, and those of the models and DL1 that are used."""
    production = context.production
    folder = _config_folder(context)
    claims = {folder[0]: "the configuration's folder"} if folder else {}
    claims[production.prod_id] = "prod_id"
    in_env = production.lstchain_version
    for name, where in claims.items():
        claimed = version_in_name(name)
        if claimed is None or (in_env and _same_version(claimed, in_env)):
            continue
        env = f"the environment {production.conda_env}" + (
            f" has lstchain {in_env}" if in_env else " does not say which version it has"
        )
        yield Finding(
            code="version-environment-mismatch",
            severity=Severity.ERROR if in_env else Severity.WARNING,
            place="source_environment.conda_env",
            message=f"{where} {name} says lstchain {claimed}, but {env}",
            remedy=f"run in lstchain-v{claimed}, or name the production after the version that runs.",
        )
        break
    if in_env is None:
        return
    for role, severity, what in (
        ("models", Severity.WARNING, "models trained with"),
        ("input", Severity.INFO, "files made with"),
    ):
        used: dict[str, tuple[str, StepDefinition]] = {}
        for step in production.steps():
            for part in PurePosixPath(step.path(role) or "").parts:
                version = version_in_name(part) if _DATED.match(part) else None
                if version and part != production.prod_id and not _same_version(version, in_env):
                    used.setdefault(version, (part, step))
        for version, (name, step) in used.items():
            yield Finding(
                code="version-environment-mismatch",
                severity=severity,
                place=step.place,
                message=f"{what} lstchain {version} ({name}) are used with lstchain {in_env}",
                remedy="check that this version reads them and that the definitions of the parameters are the same.",
            )


def duplicates(context: LintContext) -> Iterator[Finding]:
    """No two steps make the same file or fill the same folder."""
    makers: dict[str, list[StepDefinition]] = defaultdict(list)
    for step in context.production.steps():
        for path in step.products:
            makers[path.rstrip("/")].append(step)
    twice = [(steps[1], path) for path, steps in makers.items() if len(steps) > 1]
    for stage, cases in _by_stage(twice).items():
        path = cases[0][1]
        yield _of_paths(
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
    for stage, cases in _by_stage((step, path) for step, path, _ in found).items():
        path = cases[0][1]
        yield _of_paths(
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
    for stage, cases in _by_stage(own).items():
        yield _of_paths(
            cases,
            code="input-not-produced",
            severity=Severity.WARNING,
            message=f"{counted(len(cases), 'input')} of {stage} in this production's own folders, "
            f"made by no step that runs, e.g. {cases[0][1]}",
            remedy="add the steps that make them, or be sure that an earlier run has left them there.",
        )
    for stage, cases in _by_stage(absent).items():
        yield _of_paths(
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
    for stage, cases in _by_stage(hit).items():
        yield _of_paths(
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
    for stage, cases in _by_stage(there).items():
        yield _of_paths(
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


RULES: tuple[Rule, ...] = (paths, prod_id_in_names, versions, duplicates, cyclic_paths, inputs, overwrites)
