"""Cut sets: one JSON for the instrument response and for the data, so that the two can never differ."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lstops.errors import ConfigError
from lstops.paths import config_dir
from lstops.reduction.cut_settings import Settings, mistakes, settings_of
from lstops.site.layout import slug

#: what lstchain_create_irf_files and lstchain_create_dl3_file read
SECTIONS = ("EventSelector", "DL3Cuts", "DataBinning")
_OWN = "lstops"
STANDARD = "standard"


@dataclass(frozen=True)
class CutSet:
    """Selection cuts and binning.

    Attributes
    ----------
    name : str
        Names the folders of IRFs and DL3 ("std_cuts").
    text : str
        The JSON that both tools read. It also holds the switches of the IRF tool (section IRFFITSWriter: point-like,
        energy-dependent cuts), so that nothing of the cuts is on a command line.
    useful_energy_tev : (low, high)
        True energies in TeV between which the effective area of every node must be filled.
    point_like : bool
        Kind of the responses.
    intensity_per_run : bool
        Whether the lower limit of the intensity is that of each run, and the responses are made anew with it (see
        `lstops.science.run_responses`).
    """

    name: str
    text: str
    useful_energy_tev: tuple[float, float]
    point_like: bool
    intensity_per_run: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def settings(self) -> Settings:
        """What the tools read of it."""
        return settings_of(json.loads(self.text))


def parse_cuts(text: str, where: str) -> CutSet:
    """Read a cut set.

    Raises
    ------
    ConfigError
        If the JSON or its section `lstops` is wrong, or a section is missing.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{where} is not JSON: {error}.", "start from config/cuts/standard.json.") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{where} is no JSON object.", "start from config/cuts/standard.json.")
    missing = [name for name in (_OWN, *SECTIONS) if not isinstance(document.get(name), dict)]
    if missing:
        raise ConfigError(
            f"{where} lacks the section(s) {', '.join(missing)}.", "start from config/cuts/standard.json."
        )
    if wrong := mistakes(document):
        raise ConfigError(f"{where}: {'; '.join(wrong)}.", "correct it; config/cuts/standard.json has all that counts.")
    own = document[_OWN]
    name, useful = own.get("name"), own.get("useful_energy_tev")
    if not isinstance(name, str) or slug(name) != name:
        raise ConfigError(f"{where}: lstops.name {name!r} cannot name a folder.", "use letters, digits, . _ + and -.")
    per_run = own.get("intensity_per_run", False)
    _check_per_run(document, per_run, where)
    point_like = bool(document.get("IRFFITSWriter", {}).get("point_like", False))
    return CutSet(name, text, _range(useful, where), point_like, per_run)


def each_run(cuts: CutSet) -> CutSet:
    """The cut set with an intensity cut of each run, whatever it says itself.

    Raises
    ------
    ConfigError
        If it has no limits of the intensity for all runs.
    """
    _check_per_run(json.loads(cuts.text), True, cuts.name)
    return replace(cuts, intensity_per_run=True)


def _check_per_run(document: dict[str, Any], per_run: Any, where: str) -> None:
    intensity = document["EventSelector"].get("filters", {}).get("intensity")
    if not isinstance(per_run, bool) or (per_run and not (isinstance(intensity, list) and len(intensity) == 2)):
        raise ConfigError(
            f"{where}: lstops.intensity_per_run is {per_run!r}, EventSelector.filters.intensity {intensity!r}.",
            "write true or false, and the two limits of the intensity for all runs.",
        )


def load_cuts(name: str | Path = STANDARD) -> CutSet:
    """Read a cut set by name (a file of `config/cuts`) or path.

    Raises
    ------
    ConfigError
        If there is none, or it is wrong.
    """
    path = Path(name) if Path(name).suffix == ".json" else config_dir() / "cuts" / f"{name}.json"
    try:
        return parse_cuts(path.read_text(), str(path))
    except OSError as error:
        raise ConfigError(
            f"cannot read the cut set {path}: {error.strerror}.", "use a file of config/cuts, or a path to a JSON file."
        ) from error


def _range(value: Any, where: str) -> tuple[float, float]:
    good = (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(v, int | float) and math.isfinite(v) for v in value)
        and 0 < value[0] < value[1]
    )
    if not good:
        raise ConfigError(
            f"{where}: lstops.useful_energy_tev {value!r} is no range.",
            "write two energies in TeV, such as [0.1, 2.0].",
        )
    return float(value[0]), float(value[1])
