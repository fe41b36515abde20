"""Lint rules on names and versions: a production, its folders and files, and the software that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from lstops.production.definition import StepDefinition
from lstops.production.findings import Finding, LintContext, Rule, Severity, by_stage, counted, of_paths
from lstops.production.lstchain_config import version_in_name, version_tuple

#: Names of published productions begin with a date; other folder names say nothing about the production.
_DATED = re.compile(r"^\d{8}_")
_GRID_PREFIX = re.compile(r"^\d{8}_v[\d.]+")


def _config_folder(context: LintContext) -> tuple[str, bool] | None:
    """Name of the folder that holds the configuration, and whether it is a grid of levels (NSB-0.14 below it)."""
    if context.config.path is None:
        return None
    folder = context.config.path.resolve().parent
    level = folder.name.upper().startswith("NSB-")
    name = folder.parent.name if level else folder.name
    return (name, level) if _DATED.match(name) else None


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
                other_prefix.append((step, parts[-1]))
    for stage, cases in by_stage(elsewhere).items():
        yield of_paths(
            cases,
            code="prod-id-mismatch",
            severity=Severity.ERROR,
            message=f"{counted(len(cases), 'output')} of {stage} not below a folder {prod_id}, e.g. {cases[0][1]}",
            remedy="correct prod_id or the output paths; another production may own that place.",
        )
    for stage, cases in by_stage(other_prefix).items():
        yield of_paths(
            cases,
            code="prod-id-mismatch",
            severity=Severity.WARNING,
            message=f"{counted(len(cases), 'file')} of {stage} named after another production, e.g. {cases[0][1]}",
            remedy="name the files after this production; until then identify them by content, never by name.",
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


RULES: tuple[Rule, ...] = (prod_id_in_names, versions)
