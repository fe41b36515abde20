"""Observations of a DL3 folder: which can be used for a source, and why the others cannot."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstops.errors import DataError

ENERGY_RANGE_TEV = (0.05, 20.0)
#: farther than this from the pointing LST-1 records nothing (half of its field of view is 2.25 deg)
_FIELD_DEG = 2.2
#: closer than this to the pointing there is no room for a region beside the source
_ON_AXIS_DEG = 0.05
_MAX_OFF_REGIONS = 5
#: radius of the regions for responses of full enclosure (deg): most of a point source, and room for three off regions
FULL_ENCLOSURE_DEG = 0.25
_FILE_INDEX = ("hdu-index.fits.gz", "obs-index.fits.gz")


@dataclass(frozen=True)
class Usable:
    """An observation with the place of the source in it.

    Attributes
    ----------
    region_deg : float or None
        Radius of the regions if the responses are not point-like; None: the theta cut of the responses.
    """

    observation: Any
    pointing: Any
    offset_deg: float
    n_off: int
    region_deg: float | None = None


def off_regions(offset_deg: float, rad_max_deg: float) -> int:
    """How many regions of radius `rad_max_deg` fit on the circle through the source without touching each other.

    The source's own region is one of the circle's n + 1; neighbours are 2 offset sin(pi / (n + 1)) apart. Odd numbers
    only: they contain the position opposite to the source.
    """
    if offset_deg <= rad_max_deg:
        return 0
    fitting = int(math.pi / math.asin(rad_max_deg / offset_deg)) - 1
    return max(n for n in range(1, _MAX_OFF_REGIONS + 1, 2) if n <= max(fitting, 1))


def open_observations(folder: Path) -> tuple[list[Any], dict[int, str]]:
    """Observations of a DL3 folder through its index, and the runs without IRFs (which gammapy leaves out).

    Raises
    ------
    DataError
        If the index is missing or does not fit the files.
    """
    from gammapy.data import DataStore

    missing = [name for name in _FILE_INDEX if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder} has no index ({', '.join(missing)} missing).", "run lstchain_create_dl3_index_files there."
        )
    try:
        store = DataStore.from_dir(folder)
        listed = {int(i) for i in store.obs_table["OBS_ID"]}
        observations = list(store.get_observations(required_irf="point-like"))
        for observation in observations:
            len(observation.events.table)  # reads the file: what the index promises must be there
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise DataError(f"{folder} cannot be read through its index: {error}.", "make the index again.") from error
    if not listed:
        raise DataError(f"the index of {folder} lists no observation.", "make DL3 files first, then the index.")
    lacking = listed - {int(o.obs_id) for o in observations}
    return observations, dict.fromkeys(sorted(lacking), "it has no point-like IRFs")


def sort_out(observations: list[Any], position: Any) -> tuple[list[Usable], dict[int, str]]:
    """The observations that can be used for a source at `position`, and why the others cannot, by run."""
    usable, skipped = [], {}
    for observation in observations:
        run = int(observation.obs_id)
        pointing = observation.get_pointing_icrs(observation.tmid)
        offset = float(pointing.separation(position).deg)
        radius, of_region = _radius_deg(observation)
        n_off = 0 if offset < _ON_AXIS_DEG else off_regions(offset, radius)
        if len(observation.events.table) == 0:
            skipped[run] = "it has no events"
        elif offset > _FIELD_DEG:
            skipped[run] = f"the source is {offset:.1f} deg from the pointing, outside the field of view"
        elif n_off == 0:
            skipped[run] = f"the source is {offset:.2f} deg from the pointing: no room for a background region"
        else:
            usable.append(Usable(observation, pointing, offset, n_off, of_region))
    return usable, skipped


def _radius_deg(observation: Any) -> tuple[float, float | None]:
    """Largest radius of the regions, and the radius itself where there is no theta cut."""
    rad_max = _rad_max(observation)
    if rad_max is None:
        if not (observation.aeff.is_pointlike or observation.psf is None):
            return FULL_ENCLOSURE_DEG, FULL_ENCLOSURE_DEG
        raise DataError(
            f"run {observation.obs_id} has no theta cut (RAD_MAX).", "make its IRFs point-like with a theta cut."
        )
    axis = rad_max.axes["energy"]
    low, high = ENERGY_RANGE_TEV
    used = (axis.edges_max.to_value("TeV") > low) & (axis.edges_min.to_value("TeV") < high)
    return float(rad_max.quantity.to_value("deg")[used].max()), None


def _rad_max(observation: Any) -> Any:
    try:
        return observation.rad_max
    except ValueError:  # neither a table RAD_MAX nor a header key
        return None
