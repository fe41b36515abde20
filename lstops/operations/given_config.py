"""What is looked at before a configuration of lstmcpipe is planned that somebody gave: nothing in it is lost unsaid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lstops.errors import ConfigError
from lstops.production.config import ProductionConfig, WorkflowKind
from lstops.production.definition import ProductionDefinition
from lstops.production.findings import Finding, Severity, counted
from lstops.production.grid import Grid
from lstops.production.lint import lint_read
from lstops.production.outline import LEVEL_GIVEN, plan_level_ghz
from lstops.production.reuse import SAME_LEVEL_GHZ
from lstops.step.model import Plan

#: errors that a refusal spells out
_SHOWN = 4


def require_plannable(config: ProductionConfig, name: str | None) -> None:
    """Refuse what a plan would do otherwise than lstmcpipe does.

    Parameters
    ----------
    name : str or None
        What the production shall be called; its configuration says that, too.

    Raises
    ------
    ConfigError
        Naming the way out.
    """
    pipe = config.pipe
    if name not in (None, pipe.prod_id):
        raise ConfigError(
            f"the configuration makes {pipe.prod_id}, not {name}: its paths hold that name.",
            f"leave the name out, or write {name} into the configuration as prod_id and in its paths.",
        )
    if pipe.workflow_kind is not WorkflowKind.LSTCHAIN:
        raise ConfigError(
            f"{pipe.prod_id} is a production of {pipe.workflow_kind.value}; steps are planned for lstchain only.",
            "run it with lstmcpipe; or write `workflow_kind: lstchain`, if that is what is meant.",
        )
    if pipe.dl1_noise_tune_data_run or pipe.dl1_noise_tune_mc_run:
        raise ConfigError(
            f"{pipe.prod_id} lets lstmcpipe tune the noise (dl1_noise_tune_data_run, dl1_noise_tune_mc_run), which no "
            "step here does: its Monte Carlo would not be tuned.",
            "plan it from its data (--night or --runs), which tunes; or write what `lstchain_tune_nsb` prints for the "
            "two files into `image_modifier` of the lstchain configuration, and remove the two keys.",
        )


def lint_notes(
    config: ProductionConfig, definition: ProductionDefinition, path: Path, grid: Grid | None, despite_errors: bool
) -> tuple[str, ...]:
    """What the lint says of the configuration, for people; what is only worth knowing is left out.

    Parameters
    ----------
    despite_errors : bool
        Errors are notes like warnings.

    Raises
    ------
    ConfigError
        If there are errors, naming the first of them.
    """
    found = lint_read(config, definition, path, grid)
    errors = [finding for finding in found if finding.severity is Severity.ERROR]
    if errors and not despite_errors:
        raise _refusal(path, errors)
    return tuple(
        f"{finding.severity.value} {finding.code}, {finding.place}: {finding.message}"
        for finding in found
        if finding.severity is not Severity.INFO
    )


def with_given_level(plan: Plan, levels_ghz: Sequence[float]) -> tuple[Plan, tuple[str, ...]]:
    """The plan with the NSB level that a person gave for it, or what to say where nobody knows the level.

    Raises
    ------
    ConfigError
        If the configuration says another one.
    """
    known, given = plan_level_ghz(plan), next(iter(levels_ghz), None)
    if known is None and given is None:
        return plan, (
            "the configuration does not say its NSB in GHz, so that the production cannot be registered: give the "
            "level (--nsb, in the form nsb_ghz), or later to `lstops production register`",
        )
    if known is None:
        return plan.model_copy(update={"context": {**plan.context, "nsb_level_ghz": given, LEVEL_GIVEN: True}}), ()
    if given is not None and abs(known - given) >= SAME_LEVEL_GHZ:
        raise ConfigError(
            f"the configuration has {known:.2f} GHz, not {given:.2f} GHz.",
            "leave the level out, or correct one of them.",
        )
    return plan, ()


def _refusal(path: Path, errors: Sequence[Finding]) -> ConfigError:
    shown = "; ".join(f"{e.code}, {e.place}: {e.message} (remedy: {e.remedy.rstrip('.')})" for e in errors[:_SHOWN])
    more = f"; and {len(errors) - _SHOWN} more" if len(errors) > _SHOWN else ""
    return ConfigError(
        f"{path} has {counted(len(errors), 'error')}: {shown}{more}.",
        f"correct it (`lstops production lint {path}` lists all); to plan it as it is: --despite-errors, in the form "
        "despite_errors.",
    )
