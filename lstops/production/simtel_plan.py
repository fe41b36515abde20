"""Plan from simulated raw events to DL1: lstchain's configuration, with NSB tuned or not, then R0 -> DL1.

One step a file: what cannot be read fails alone and says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from lstops.errors import ConfigError
from lstops.production.mc_files import dl1_name
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step


@dataclass(frozen=True)
class Tuning:
    """NSB tuning with a subrun of data; both paths relative to the site's base.

    Attributes
    ----------
    level : str
        "waveform" (for R0 -> DL1) or "image" (for DL1 -> DL1).
    """

    data: str
    simtel: str
    level: str = "waveform"


@dataclass(frozen=True)
class SimtelRequest:
    """What to process.

    Attributes
    ----------
    files : tuple of str
        Simulated raw events, relative to the site's base.
    folder : str
        Where configuration and DL1 go, relative to the base.
    update : mapping
        Changes to lstchain's Monte Carlo configuration.
    tuning : Tuning or None
        None: no extra NSB.
    """

    name: str
    lstchain_version: str
    files: tuple[str, ...]
    folder: str
    update: Mapping[str, Any] = field(default_factory=dict)
    tuning: Tuning | None = None


def event_source(max_events: int | None = None) -> dict[str, Any]:
    """Settings for files without an effective focal length; `max_events` stops before a damaged or missing end."""
    source = {"allowed_tels": [1], "focal_length_choice": "EQUIVALENT", "max_events": max_events}
    return {"source_config": {"EventSource": source}}


def plan_r0_to_dl1(request: SimtelRequest, site: Site) -> Plan:
    """Plan configuration and R0 -> DL1; a file that fails is quarantined, the others go on.

    Raises
    ------
    ConfigError
        If there are no files or two would have the same name.
    """
    site.environment(request.lstchain_version)
    names = [dl1_name(path) for path in request.files]
    if not names or len(set(names)) != len(names):
        raise ConfigError(
            f"{request.name}: {len(names)} file(s), {len(set(names))} name(s) of DL1 files.",
            "give at least one file, and files whose names differ.",
        )
    config = _config(request, site)
    steps = tuple(_dl1(path, name, request, site) for path, name in zip(request.files, names, strict=True))
    return Plan(
        kind="simtel_to_dl1",
        title=f"{request.name}: {len(steps)} simulated file(s) to DL1",
        site=site.name,
        lstchain_version=request.lstchain_version,
        stages=(Stage(name="config", steps=(config,)), Stage(name="r0-to-dl1", steps=steps, quarantine=True)),
        context={"name": request.name},
    )


def _config_path(request: SimtelRequest) -> str:
    return f"{request.folder}/lstchain_config.json"


def _config(request: SimtelRequest, site: Site) -> Step:
    tuning = request.tuning
    inputs: tuple[Input, ...] = ()
    expect: dict[str, Any] = {"sections": ["source_config", "tailcut", "LocalPeakWindowSum"]}
    update = "{file:update.json}"
    if tuning is None:
        command: tuple[str, ...] = (
            "python",
            "-m",
            "lstops.science.mc_config",
            "--update",
            update,
            "--output",
            "{out:config}",
        )
    else:
        command = ("python", "-m", "lstops.science.tune_nsb", "--level", tuning.level, "--data", "{in:data}",
                   "--simtel", "{in:simtel}", "--update", update, "--output", "{out:config}")  # fmt: skip
        inputs = (
            Input(name="data", kind=ArtifactKind.DL1, path=tuning.data),
            Input(name="simtel", kind=ArtifactKind.SIMTEL, path=tuning.simtel),
        )
        switch = {"waveform": "waveform_nsb_tuning.nsb_tuning", "image": "image_modifier.increase_nsb"}
        expect["values"] = {switch[tuning.level]: True}
    return Step(
        kind="tune" if tuning else "config",
        label=f"configuration of {request.name}" + (f", NSB tuned in the {tuning.level}" if tuning else ""),
        subject=request.name,
        commands=(command,),
        inputs=inputs,
        outputs=(Output(name="config", kind=ArtifactKind.LSTCHAIN_CONFIG, path=_config_path(request), expect=expect),),
        files={"update.json": json.dumps(dict(request.update), sort_keys=True)},
        resources=site.resources_for("tune"),
        environment=request.lstchain_version,
    )


def _dl1(path: str, name: str, request: SimtelRequest, site: Site) -> Step:
    return Step(
        kind="r0-to-dl1",
        label=f"DL1 of {PurePosixPath(path).name}",
        subject=PurePosixPath(path).name,
        commands=(("lstchain_mc_r0_to_dl1", "-f", "{in:simtel}", "-o", "{outdir:dl1}", "-c", "{in:config}"),),
        inputs=(
            Input(name="simtel", kind=ArtifactKind.SIMTEL, path=path),
            Input(name="config", kind=ArtifactKind.LSTCHAIN_CONFIG, path=_config_path(request)),
        ),
        outputs=(
            Output(
                name="dl1",
                kind=ArtifactKind.DL1,
                path=f"{request.folder}/{name}",
                expect={"images": True, "simulation": True},
            ),
        ),
        resources=site.resources_for("r0-to-dl1"),
        environment=request.lstchain_version,
    )
