"""DL2 files of data and simulations.

`dl1_to_dl2` drops events outside the configuration's filters and images without a finite feature, so the count must be
that of the *predictable* events of the inputs in `counts_from`, with filters and features of the lstchain configuration
among the inputs (a file, or the copy in the folder of models). Predictions must be interpolated in zenith (columns w0,
w1) when the models have training pointings and the configuration asks for it; `expect` of an output may say so itself
with `interpolated`. The events of data must be of the run in the file's name, which lstchain takes for that of its DL3.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lstops.errors import DataError
from lstops.site.layout import parse_run_file
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify import dl1, dl3_times
from lstops.step.verify.common import Facts, InputFacts, refuse, sources
from lstops.step.verify.hdf5 import chunks, missing_columns, opened, root_attribute, table
from lstops.step.verify.models import configuration

PROVENANCE = "/provenance/dl1_to_dl2"
PARAMETERS = "/dl2/event/telescope/parameters/LST_LSTCam"
RECONSTRUCTED = ("reco_energy", "reco_alt", "reco_az", "gammaness")
_SHOWER = 32
_FEATURES = (
    "energy_regression_features",
    "disp_regression_features",
    "disp_classification_features",
    "particle_classification_features",
)
#: union of the features of lstchain's standard configuration that are columns of DL1 (lstchain_standard_config.json)
STANDARD_FEATURES = (
    "log_intensity", "width", "length", "x", "y", "wl", "skewness", "kurtosis", "time_gradient",
    "leakage_intensity_width_2", "sin_az_tel", "alt_tel",
)  # fmt: skip
#: forests give 0 to 1; the linear extrapolation a hair beyond the outermost node goes a little beyond
_GAMMANESS = (-0.05, 1.05)
#: how far beyond the training nodes, in distances between two of them, events may be on average
_BEYOND = 0.5


def inspect(path: Path) -> Facts:
    """Facts of a DL2 file from its table's size and its ends.

    Raises
    ------
    DataError
        If it is damaged, lacks the table or a reconstructed column, or holds no events. A file that `dl1_to_dl2` opened
        but never filled (it writes the provenance first) is one of these.
    """
    with opened(path) as file:
        parameters = table(file, PARAMETERS)
        wanted = (*RECONSTRUCTED, "event_id", "obs_id", "alt_tel", "az_tel")
        findings = [f"table {PARAMETERS} lacks the column {name}" for name in missing_columns(parameters, wanted)]
        if parameters.nrows == 0:
            findings.append(f"table {PARAMETERS} has no rows: not one event")
        version = root_attribute(file, "LSTCHAIN_VERSION")
        if not version:
            findings.append("the root attribute LSTCHAIN_VERSION is missing")
        refuse(path, findings)
        return {
            "events": int(parameters.nrows),
            "lstchain_version": version,
            "simulation": "mc_energy" in parameters.colnames,
            "interpolated": not missing_columns(parameters, ("w0", "w1")),
            **dl1.ends(parameters),
        }


def origin(path: Path) -> dict[ArtifactKind, str]:
    """Which DL1 file and which folder of models a DL2 file says that it was made from; empty if it says nothing.

    `lstchain_dl1_to_dl2` writes that into the file since 0.11 (lstchain/io/provenance.py), as JSON.
    """
    import h5py

    roles = {"dl1 input file": ArtifactKind.DL1_MERGED, "trained model directory": ArtifactKind.MODELS}
    try:
        with h5py.File(path, "r") as file:
            text = file[PROVENANCE][()] if PROVENANCE in file else b"{}"
        listed = json.loads(text).get("input", [])
        return {roles[item["role"]]: str(item["url"]) for item in listed if item.get("role") in roles}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # damaged, or of another kind: nothing that can be believed


def check(output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts:
    """Facts of a DL2 file that was just made, every row read.

    Raises
    ------
    DataError
        See `inspect`; also if a reconstructed value is not finite or impossible, or events were lost.
    """
    facts = inspect(path)
    found = _Reconstruction()
    with opened(path) as file:
        parameters = table(file, PARAMETERS)
        optional = [n for n in ("w0", "event_type", "dragon_time") if n in parameters.colnames]
        for block in chunks(parameters, [*RECONSTRUCTED, "alt_tel", "az_tel", *optional]):
            found.add(block)
    refuse(path, _of_other_runs(path, facts), "correct the DL1 file's name, or merge it again from its own subruns.")
    findings = found.findings(facts["events"])
    config = configuration(inputs)
    if output.expect.get("interpolated", _interpolation_wanted(config, inputs)) and not facts["interpolated"]:
        findings.append(
            "the predictions were not interpolated in zenith (no columns w0, w1): the models lack training_dirs.ecsv"
        )
    refuse(path, findings, "check the models, their training_dirs.ecsv and the step's log.")
    facts |= found.facts()
    named = sources(output, inputs)
    if named:
        features = [f for key in _FEATURES for f in config.get(key, STANDARD_FEATURES)]
        kept = sum(dl1.predictable(i.path, features, config.get("events_filters", {})) for i in named)
        if kept != facts["events"]:
            raise DataError(
                f"{path} holds {facts['events']} events, but {kept} of its input can be reconstructed.",
                "events were lost: see the step's log.",
            )
        facts["dropped"] = sum(int(i.facts["events"]) for i in named) - facts["events"]
    return facts


def _interpolation_wanted(config: dict[str, Any], inputs: Sequence[InputFacts]) -> bool:
    asked = any(config.get("random_forest_zd_interpolation", {}).values())
    return asked and any(i.facts.get("training_dirs") for i in inputs if i.kind is ArtifactKind.MODELS)


def _of_other_runs(path: Path, facts: Facts) -> list[str]:
    """Simulated files are named otherwise, and tell no run."""
    try:
        run = parse_run_file(path.name).run
    except DataError:
        return []
    if facts["simulation"] or facts["obs_ids"] == [run]:
        return []
    held = ", ".join(map(str, facts["obs_ids"]))
    return [f"it holds events of run {held}, not {run}"]


class _Reconstruction:
    """What the rows say, gathered block by block."""

    def __init__(self) -> None:
        self.not_finite = dict.fromkeys(RECONSTRUCTED, 0)
        self.no_energy = 0
        self.low, self.high = np.inf, -np.inf
        self.extrapolated, self.beyond = 0, 0.0
        self.alt_sum, self.alt_n = 0.0, 0
        self.az_sin, self.az_cos = 0.0, 0.0
        self.times: list[tuple[float, float]] = []
        self.breaks: list[list[float]] = []

    def add(self, block: dict[str, npt.NDArray[Any]]) -> None:
        for name in RECONSTRUCTED:
            self.not_finite[name] += int((~np.isfinite(block[name])).sum())
        self.no_energy += int((block["reco_energy"] <= 0).sum())
        self.low = min(self.low, float(np.nanmin(block["gammaness"], initial=np.inf)))
        self.high = max(self.high, float(np.nanmax(block["gammaness"], initial=-np.inf)))
        if "w0" in block:
            beyond = np.maximum(-block["w0"], block["w0"] - 1)
            self.extrapolated += int((beyond > 0).sum())
            self.beyond += float(beyond[beyond > 0].sum(dtype=float))
        self.alt_sum += float(np.sum(block["alt_tel"], dtype=float))
        self.alt_n += len(block["alt_tel"])
        self.az_sin += float(np.sum(np.sin(block["az_tel"]), dtype=float))
        self.az_cos += float(np.sum(np.cos(block["az_tel"]), dtype=float))
        if "dragon_time" in block and "event_type" in block:
            times = block["dragon_time"][block["event_type"] == _SHOWER]
            if len(times):
                after = [self.times[-1][1]] if self.times else []
                self.breaks += dl3_times.breaks(np.append(after, times)).tolist()
                self.times.append((float(times.min()), float(times.max())))

    def findings(self, events: int) -> list[str]:
        found = [f"{n} of {events} values of {name} are not finite" for name, n in self.not_finite.items() if n]
        if self.no_energy:
            found.append(f"{self.no_energy} of {events} values of reco_energy are not positive")
        if self.low < _GAMMANESS[0] or self.high > _GAMMANESS[1]:
            found.append(
                f"gammaness goes from {self.low:.3f} to {self.high:.3f}: the pointing is far outside the training nodes"
            )
        if self.beyond > _BEYOND * events:
            found.append(
                f"the events are {self.beyond / events:.1f} times the distance between two training nodes beyond the "
                "outermost one: lstchain takes those on the event's side of culmination only, and extrapolates"
            )
        return found

    def facts(self) -> Facts:
        facts: Facts = {
            "gammaness_min": round(self.low, 5),
            "gammaness_max": round(self.high, 5),
            "extrapolated": self.extrapolated,
            "zd_deg": round(90 - float(np.rad2deg(self.alt_sum / max(1, self.alt_n))), 5),
            # of directions, where lstchain's mean is one of numbers: half of 359 and 1 is 180
            "az_mean_deg": round(float(np.rad2deg(np.arctan2(self.az_sin, self.az_cos))) % 360, 5),
        }
        if self.times:
            # of showers only: lstchain's effective time counts those (get_effective_time)
            facts |= {"t_start": min(t[0] for t in self.times), "t_stop": max(t[1] for t in self.times)}
            facts["breaks_unix_s"] = self.breaks
        return facts
