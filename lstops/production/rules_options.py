"""Lint rules on what steps give on: options for lstchain's scripts and for sbatch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lstops.errors import ConfigError
from lstops.production.documents import keys_of, nearest
from lstops.production.findings import Finding, LintContext, Rule, Severity, counted
from lstops.production.slurm_options import is_unlimited, read_options
from lstops.production.stages import SBATCH_OPTIONS, SlurmOptions, StageName
from lstops.production.step_options import irf_options, merge_options, option_words

_KNOWN_TO_SBATCH = SBATCH_OPTIONS | {*keys_of(SlurmOptions)}

#: code, severity, place, message, remedy
_Case = tuple[str, Severity, str, str, str]


def _findings(stage: StageName, cases: Iterable[_Case]) -> Iterator[Finding]:
    """One finding for all steps of a stage of which the same is to be said."""
    groups: dict[tuple[str, Severity, str, str], list[str]] = {}
    for code, severity, place, message, remedy in cases:
        groups.setdefault((code, severity, message, remedy), []).append(place)
    for (code, severity, message, remedy), places in groups.items():
        more = f" ({counted(len(places), 'step')} of {stage.value})" if len(places) > 1 else ""
        yield Finding(
            code=code,
            severity=severity,
            place=places[0],
            message=message.rstrip(".") + more,
            remedy=remedy,
            count=len(places),
        )


def slurm_options(context: LintContext) -> Iterator[Finding]:
    """What jobs ask for is known to sbatch, and can be planned."""
    for stage in context.config.pipe.stages.defined:
        steps = enumerate(context.config.pipe.stages.of(stage))
        asked = ((f"stages.{stage.value}[{i}].extra_slurm_options", step.extra_slurm_options) for i, step in steps)
        yield from _findings(stage, (case for place, given in asked if given for case in _slurm_cases(place, given)))


def _slurm_cases(place: str, options: SlurmOptions) -> Iterator[_Case]:
    for key, error in read_options(options)[1].items():
        if is_unlimited(key, getattr(options, key.replace("-", "_"))):
            remedy = "give a limit; without one it cannot be planned by lstops."
            yield "bad-value", Severity.WARNING, f"{place}.{key}", f"{key} without a limit", remedy
        else:
            yield "bad-value", Severity.ERROR, f"{place}.{key}", error.what, error.remedy
    for key in options.model_extra or ():
        if key not in _KNOWN_TO_SBATCH:
            best = nearest(key, _KNOWN_TO_SBATCH)
            near = f", the nearest right one is {best!r}" if best else ""
            remedy = f"write {best!r} instead of {key!r}, or remove it." if best else "remove it."
            yield "unknown-key", Severity.WARNING, f"{place}.{key}", f"sbatch has no option {key!r}{near}", remedy


def script_options(context: LintContext) -> Iterator[Finding]:
    """Options for lstchain's scripts are ones that the scripts have."""
    for stage in (StageName.MERGE_DL1, StageName.DL2_TO_IRFS):
        steps = enumerate(context.config.pipe.stages.of(stage))
        yield from _findings(stage, (case for i, step in steps for case in _script_cases(stage, i, step.options)))


def _script_cases(stage: StageName, index: int, options: object) -> Iterator[_Case]:
    severity = Severity.ERROR
    try:
        if stage is StageName.DL2_TO_IRFS:
            irf_options(str(options or ""))
        else:
            option_words(str(options or ""))
            severity = Severity.WARNING  # the script may have it; a plan cannot carry it over
            merge_options(str(options or ""))
    except ConfigError as error:
        yield "bad-option", severity, f"stages.{stage.value}[{index}].options", error.what, error.remedy


RULES: tuple[Rule, ...] = (slurm_options, script_options)
