"""NSB tuning to data: in the images or in the waveforms, and the step that measures it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

from lstops.errors import ConfigError
from lstops.nsb.sample import Recommendation, SampleNsb
from lstops.science.tune_nsb import TuningLevel
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Input, Output, Step

#: Key of a plan's context: what the selection recommends and what is done.
CHOICE = "nsb_choice"


class Tuning(str, Enum):
    """What a person asks for: what the selection recommends, if it can be done, or one of the two."""

    AUTO = "auto"
    IMAGE = "image"
    WAVEFORM = "waveform"


def parse_tuning(text: str | None) -> Tuning:
    """A way of tuning by name; None and an empty text say nothing: auto.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    try:
        return Tuning(text or Tuning.AUTO)
    except ValueError:
        raise ConfigError(
            f"{text!r} is no way of NSB tuning.", f"write {', '.join(one.value for one in Tuning)}."
        ) from None


@dataclass(frozen=True)
class Choice:
    """Where the NSB goes.

    Attributes
    ----------
    note : str
        What the selection recommends, what is done, and why if that is something else.
    """

    level: TuningLevel
    note: str


def choose(asked: Tuning, nsb: SampleNsb, obstacle: Callable[[], str | None]) -> Choice:
    """Choose between images and waveforms.

    Parameters
    ----------
    nsb : SampleNsb
        Of the runs that the production is for.
    obstacle : callable
        Why the waveforms cannot be simulated; None if they can. It is asked only if they should be.

    Raises
    ------
    ConfigError
        If waveforms were asked for and cannot be simulated.
    """
    median = f"{nsb.median_pe:.2f} p.e." if math.isfinite(nsb.median_pe) else "unknown"
    said = f"NSB of the runs {median}: {nsb.recommendation.advice}"
    recommended = nsb.recommendation is Recommendation.WAVEFORM
    if asked is Tuning.IMAGE or not (recommended or asked is Tuning.WAVEFORM):
        return Choice(TuningLevel.IMAGE, f"{said} Images are tuned{', as asked' if asked is Tuning.IMAGE else ''}.")
    reason = obstacle()
    if reason is None:
        how = ", as asked" if asked is Tuning.WAVEFORM else ""
        return Choice(TuningLevel.WAVEFORM, f"{said} It is simulated in the waveforms{how}.")
    if asked is Tuning.WAVEFORM:
        raise ConfigError(
            f"the NSB cannot be tuned in the waveforms: {reason}.",
            "bring the raw events there, name a zenith range (which needs fewer test nodes), or tune the images.",
        )
    return Choice(
        TuningLevel.IMAGE,
        f"{said} Images are tuned instead, because {reason}. With the raw events there, or a zenith range that needs "
        "none of the missing nodes, plan again.",
    )


@dataclass(frozen=True)
class TuneRequest:
    """What is measured, with what.

    Attributes
    ----------
    subruns : tuple of str
        DL1 of data with images and interleaved pedestals, relative to the site's base.
    update : mapping
        Changes to lstchain's Monte Carlo configuration.
    config, record : str
        Where the configuration goes, and value, uncertainty and source of the tuning; relative to the base.
    simtel : str or None
        Simulated showers with true p.e., relative to the base; None: that of the site file.
    """

    production: str
    lstchain_version: str
    level: TuningLevel
    subruns: tuple[str, ...]
    update: Mapping[str, Any]
    config: str
    record: str
    simtel: str | None = None


def tune_step(request: TuneRequest, site: Site) -> Step:
    """The step that measures the NSB of several subruns and writes the configuration of a production.

    Raises
    ------
    ConfigError
        If there is nothing to measure, or nothing to compare it with.
    """
    inputs = [
        *(Input(name=f"data-{i}", kind=ArtifactKind.DL1, path=path) for i, path in enumerate(request.subruns)),
        Input(name="simtel", kind=ArtifactKind.SIMTEL, path=_simtel(request, site)),
    ]
    if not request.subruns:
        raise ConfigError("there is no subrun to tune the NSB with.", "name a night with good runs.")
    data = [word for i in range(len(request.subruns)) for word in ("--data", f"{{in:data-{i}}}")]
    level = request.level
    command = ("python", "-m", "lstops.science.tune_nsb", "--level", level.value, *data, "--simtel", "{in:simtel}",
               "--update", "{file:update.json}", "--output", "{out:config}",
               "--record", "{out:tuning}")  # fmt: skip
    expect = {
        "sections": [level.block, "tailcut", "energy_regression_features"],
        "values": {f"{level.block}.{level.switch}": True},
    }
    return Step(
        kind="tune",
        label=f"NSB tuning of {request.production}",
        subject=request.production,
        commands=(command,),
        inputs=tuple(inputs),
        outputs=(
            Output(name="config", kind=ArtifactKind.LSTCHAIN_CONFIG, path=request.config, expect=expect),
            Output(name="tuning", kind=ArtifactKind.FILE, path=request.record),
        ),
        files={"update.json": json.dumps(request.update, indent=1, sort_keys=True)},
        resources=site.resources_for("tune"),
        environment=request.lstchain_version,
    )


def _simtel(request: TuneRequest, site: Site) -> str:
    simtel = request.simtel or site.production.tuning_simtel
    if not simtel:
        raise ConfigError(
            "there is no simulation to tune the NSB with.",
            "set production.tuning_simtel in the site file to showers of the base production (simtel, true p.e.).",
        )
    if PurePosixPath(simtel).is_absolute():
        return Layout(site.base, site.work).relative(site.base / simtel)
    return simtel
