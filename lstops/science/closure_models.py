"""Random forests under a bright sky: those that were tuned to it, and those that were not."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstops.errors import DataError, JobFailure
from lstops.report.closure import Gammas, ModelsClosure, models_closure
from lstops.step.verify import CONFIG_IN_MODELS

#: Bins of true energy (TeV)
BIAS_EDGES_TEV = tuple(np.geomspace(0.03, 3.0, 9).tolist())
#: Events away from the source (deg), well outside the theta cut
_AWAY_DEG = 0.35
_PARAMETERS = "dl2/event/telescope/parameters/LST_LSTCam"
#: The event selection of config/cuts/standard.json
_LEAST_INTENSITY_PE, _LARGEST_R, _LEAST_WL = 50.0, 1.0, 0.01
_SHOWER = 32


@dataclass(frozen=True)
class Models:
    """A production and the NSB level (GHz) in the names of its DL2 folders."""

    production: str
    level_ghz: float


def compare_models(
    base: Path, night: str, source: tuple[float, float], models: Mapping[str, Models], tuned: str
) -> dict[str, ModelsClosure]:
    """Apply models to the tuned production's test gammas, which none of them has seen, and to the bright night.

    Parameters
    ----------
    source : (float, float)
        Right ascension and declination (deg) of the night's source.
    tuned : str
        Key of the models whose test gammas have the sky of the night.

    Raises
    ------
    DataError
        If files of a production are missing.
    JobFailure
        If lstchain cannot apply the models.
    """
    bright = _test_files(base / "mc/DL1/AllSky", models[tuned].production)
    found = {}
    for name, about in models.items():
        own = _gammas(_test_files(base / "mc/DL2/AllSky", about.production))
        with tempfile.TemporaryDirectory() as scratch:
            seen = own if name == tuned else _gammas(_apply(base, about.production, bright, Path(scratch)))
        away = _away_from_source(base, night, about, source)
        found[name] = models_closure(about.production, own, seen, away, BIAS_EDGES_TEV)
    return found


def _test_files(top: Path, production: str) -> list[Path]:
    files = sorted((top / production / "TestingDataset" / "Gamma").rglob("*.h5"))
    if not files:
        raise DataError(f"there are no test gammas of {production} below {top}.", "run the production to its end.")
    return files


def _apply(base: Path, production: str, files: list[Path], scratch: Path) -> list[Path]:
    """DL2 of test gammas with the models of another production."""
    folders = [path for path in (base / "models/AllSky" / production).iterdir() if path.is_dir()]
    if len(folders) != 1:
        raise DataError(f"{production} has {len(folders)} folders of models, not one.", "train it on one line.")
    for path in files:
        command = ["lstchain_dl1_to_dl2", "-f", str(path), "-p", str(folders[0]), "-o", str(scratch)]
        done = subprocess.run(
            [*command, "-c", str(folders[0] / CONFIG_IN_MODELS)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise JobFailure(f"{' '.join(command)} failed: {done.stderr[-1000:]}", "look at the models.")
    return sorted(scratch.glob("dl2*.h5"))


def _gammas(files: list[Path]) -> Gammas:
    tables = [_read(path) for path in files]
    true, reco, gammaness = (
        np.concatenate([t[name] for t in tables]) for name in ("mc_energy", "reco_energy", "gammaness")
    )
    return Gammas(true, reco, gammaness)


def _read(path: Path) -> Any:
    """The events of a DL2 file that pass the event selection."""
    import tables

    with tables.open_file(str(path)) as file:
        events = file.get_node(f"/{_PARAMETERS}").read()
    kept = (events["intensity"] >= _LEAST_INTENSITY_PE) & (events["r"] <= _LARGEST_R) & (events["wl"] >= _LEAST_WL)
    return events[kept & (events["event_type"] == _SHOWER)]


def _away_from_source(base: Path, night: str, about: Models, source: tuple[float, float]) -> NDArray[Any]:
    """Gammaness of the night's events whose direction is not that of the source."""
    import astropy.units as u
    from astropy.coordinates import AltAz, SkyCoord
    from astropy.time import Time
    from ctapipe_io_lst.constants import LST1_LOCATION

    files = sorted((base / "DL2" / night).glob(f"*/*/nsb_tuning_{about.level_ghz:.2f}/dl2_*.h5"))
    if not files:
        raise DataError(
            f"there is no DL2 of {night} at {about.level_ghz:.2f} GHz.", "run the request with these models."
        )
    found = []
    for path in files:
        events = _read(path)
        frame = AltAz(obstime=Time(events["dragon_time"], format="unix", scale="utc"), location=LST1_LOCATION)
        seen = SkyCoord(az=events["reco_az"] * u.rad, alt=events["reco_alt"] * u.rad, frame=frame)
        centre = SkyCoord(*source, unit="deg").transform_to(frame)
        found.append(events["gammaness"][seen.separation(centre).deg > _AWAY_DEG])
    return np.concatenate(found)
