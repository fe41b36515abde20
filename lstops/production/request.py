"""A person's request for a production, and what makes no sense in one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lstops.errors import ConfigError
from lstops.night import Night
from lstops.production.from_lstmcpipe import DEFAULT_ROOTS
from lstops.production.level import checked_level
from lstops.production.naming import checked_name
from lstops.production.needs import ZenithRange
from lstops.production.tuning import Tuning
from lstops.site.model import Trainer


@dataclass(frozen=True)
class ProductionRequest:
    """What is asked for: a configuration, or data (a night or runs), or NSB levels.

    Attributes
    ----------
    target : str or None
        A name of the target list, or "ra dec" in degrees: the nearest declination line is used.
    lines : tuple of str
        Declination lines by name.
    zenith : ZenithRange or None
        Only test nodes around pointings of that range are planned; None: all of them.
    levels_ghz : tuple of float
        One production each; beside a configuration the level that it does not say in GHz itself (noise in images).
    all_sky : bool
        Every declination line and every test node.
    trainer : Trainer or None
        Of the forests; None: the site's. Those of a configuration of lstmcpipe are lstchain's.
    tuning : Tuning
        Where the NSB of data goes.
    despite_errors : bool
        Plan a configuration whose lint has errors.
    """

    config: Path | None = None
    lstchain_config: Path | None = None
    roots: tuple[tuple[str, str], ...] = DEFAULT_ROOTS
    night: Night | None = None
    runs: tuple[int, ...] = ()
    profile: str | None = None
    target: str | None = None
    lines: tuple[str, ...] = ()
    zenith: ZenithRange | None = None
    levels_ghz: tuple[float, ...] = ()
    all_sky: bool = False
    name: str | None = None
    lstchain_version: str | None = None
    trainer: Trainer | None = None
    tuning: Tuning = Tuning.AUTO
    despite_errors: bool = False


def check_request(request: ProductionRequest) -> ProductionRequest:
    """Refuse requests that say nothing, two things, or something that has no meaning for them.

    Returns
    -------
    ProductionRequest
        The same, with the levels as they are planned.

    Raises
    ------
    ConfigError
        Naming the options that do not go together.
    """
    given = {
        "CONFIG.yml": request.config is not None,
        "--night": request.night is not None,
        "--runs": bool(request.runs),
        "--nsb": bool(request.levels_ghz) and request.config is None,
    }
    sources = [name for name, is_given in given.items() if is_given]
    if len(sources) != 1:
        raise ConfigError(
            f"the request names {' and '.join(sources) or 'no source'}.",
            "give one of CONFIG.yml, --night, --runs (their typical NSB) or --nsb (levels).",
        )
    if idle := list(_without_effect(request)):
        raise ConfigError(f"{' and '.join(idle)} would have no effect on this request.", "leave out what is not meant.")
    sky = [request.target, request.lines, request.zenith, request.all_sky]
    if request.config and any(sky):
        raise ConfigError(
            "a configuration says itself which lines and nodes it has.", "leave out --target, --line, --zenith-range."
        )
    if request.config and len(request.levels_ghz) > 1:
        raise ConfigError("a configuration has one level of NSB.", "give one --nsb, or none.")
    if request.config and request.trainer is Trainer.ACCELERATED:
        raise ConfigError(
            "a configuration of lstmcpipe is trained by lstchain.",
            "leave out the trainer; the DAG rf_training then makes accelerated forests from the same DL1.",
        )
    if request.target and request.lines:
        raise ConfigError("both --target and --line are given.", "give one: a target means its nearest line.")
    if request.all_sky and any(sky[:3]):
        raise ConfigError("--all-sky needs no target, line or zenith range.", "give one or the other.")
    if request.name is not None:
        checked_name(request.name)
    levels = tuple(checked_level(level) for level in request.levels_ghz)
    for what, values in (("level", [f"{level:.2f} GHz" for level in levels]), ("line", request.lines)):
        if twice := [value for index, value in enumerate(values) if value in values[:index]]:
            raise ConfigError(f"the {what} {twice[0]} is named twice.", "name it once.")
    if wrong := [run for run in request.runs if run < 1]:
        raise ConfigError(f"{wrong[0]} is no run number.", "name runs as 2001,2002.")
    if request.levels_ghz and not request.config and not request.all_sky:
        if not (request.target or request.lines):
            raise ConfigError("--nsb does not say which part of the sky.", "add --target or --line, or --all-sky.")
        if request.zenith is None:
            raise ConfigError("--nsb needs to know down to which zenith distance.", "add --zenith-range 0:35, say.")
    return replace(request, levels_ghz=levels)


def _without_effect(request: ProductionRequest) -> Iterator[str]:
    """Options that say something about another kind of request."""
    if request.config is None:
        if request.lstchain_config is not None:
            yield "--lstchain-config"
        if request.roots != DEFAULT_ROOTS:
            yield "--root"
        if request.despite_errors:
            yield "--despite-errors"
    if request.night is None and not request.runs:
        if request.profile:
            yield "--profile"
        if request.tuning is not Tuning.AUTO:
            yield "--tuning"
