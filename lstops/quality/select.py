"""Answering a request over many nights: the selected runs, their hours, their NSB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstops.nsb.sample import SampleNsb, sample_nsb
from lstops.quality.judge import Judgement, judge
from lstops.quality.profiles import Profile
from lstops.quality.quantities import NOTEBOOK_COLUMNS, RunTable, run_quantities
from lstops.quality.request import SelectionRequest
from lstops.quality.tables import DatacheckNight, SubrunTable, unique_nights

#: The cut that the notebook leaves out of `mask_no_drdi_rate_cut`.
_RATE_CUT = "drdi_rate_selection"
#: Columns of the run table that the notebook's output holds, in its order.
_QUANTITIES = (
    "mean_r422",
    "std_r422",
    "fraction_around_mode_r422",
    "mean_intensity_at_reference_rate_pe",
    "mean_light_yield",
    "mean_index",
    "std_index",
    "mean_fit_p_value",
    "mean_intensity_threshold_pe",
    "mean_intensity_at_peak_rate_pe",
    "mean_ra_deg",
    "mean_dec_deg",
    "std_dec_deg",
    "mean_coszd",
    "picture_threshold_pe",
    "mean_diffuse_nsb_std_pe",
    "n_subruns",
    "max_lsc",
    "elapsed_time_s",
)


@dataclass(frozen=True, eq=False)
class Sample:
    """What is loaded to select from.

    Parameters
    ----------
    table : RunTable
        In ascending order of run number.
    subruns : SubrunTable
        In the order of the nights.
    n_nights : int
    n_without_flatfield : int
        Nights without a flatfield table.
    """

    table: RunTable
    subruns: SubrunTable
    n_nights: int
    n_without_flatfield: int

    @classmethod
    def of(cls, nights: Sequence[DatacheckNight]) -> Sample:
        """Put nights together, each only once.

        Raises
        ------
        DataError
            If two files disagree about a night, or a run appears in two nights.
        """
        once = unique_nights(nights)
        table = RunTable.concatenate([run_quantities(night) for night in once])
        return cls(
            table.take(np.argsort(table.run_number, kind="stable")),
            SubrunTable.concatenate([night.subruns for night in once]),
            len(once),
            sum(night.flatfield is None for night in once),
        )


@dataclass(frozen=True, eq=False)
class Selection:
    """The answer to a request.

    Parameters
    ----------
    judgement : Judgement
    hours : float
        Observation time of the selected runs.
    nsb : SampleNsb
    """

    judgement: Judgement
    hours: float
    nsb: SampleNsb

    @property
    def runs(self) -> list[int]:
        """Numbers of the selected runs."""
        numbers: list[int] = self.judgement.table.run_number[self.judgement.selected].tolist()
        return numbers


def select(
    table: RunTable, subruns: SubrunTable, profile: Profile, request: SelectionRequest | None = None
) -> Selection:
    """Select runs.

    Parameters
    ----------
    table : RunTable
    subruns : SubrunTable
        All subruns of those runs, for the typical ones.
    profile : Profile
    request : SelectionRequest, optional

    Raises
    ------
    ConfigError
        If the request changes a limit that the profile does not have.
    """
    return selection_of(judge(table, profile, request), subruns)


def selection_of(judgement: Judgement, subruns: SubrunTable) -> Selection:
    """Return hours and NSB of the runs that a judgement selects.

    Parameters
    ----------
    judgement : Judgement
    subruns : SubrunTable
        As for `select`; run and subrun number, night, elapsed time and NSB are enough.
    """
    table, profile, selected = judgement.table, judgement.profile, judgement.selected
    nsb = sample_nsb(
        table.mean_diffuse_nsb_std_pe[selected],
        subruns,
        table.run_number[selected],
        ignore_unknown=profile.sample.ignore_runs_without_nsb,
        spread=profile.sample.spread_typical_subruns,
        n_typical=profile.sample.n_typical_subruns,
    )
    return Selection(judgement, float(np.nansum(table.elapsed_time_s[selected])) / 3600, nsb)


def document(sample: Sample, selection: Selection, nights: dict[str, Any]) -> dict[str, Any]:
    """Return the answer as JSON-like data, under the names of the notebook; null stands for NaN.

    Parameters
    ----------
    sample : Sample
    selection : Selection
    nights : dict
        Where the nights came from, repeated in the answer.
    """
    judgement = selection.judgement
    table, profile = judgement.table, judgement.profile
    answer: dict[str, Any] = {
        "nights": nights,
        "request": judgement.request.model_dump(mode="json", by_alias=True),
        "runlist": table.run_number.tolist(),
        "rundate": table.night.tolist(),
        "good_runs": selection.runs,
        "obs_hours": _number(selection.hours),
        "nsb_median": _number(selection.nsb.median_pe),
        "typical_subruns": [
            {"yyyymmdd": int(item.night), "run": item.run_number, "subrun": item.subrun, "nsb": item.diffuse_nsb_std_pe}
            for item in selection.nsb.typical
        ],
        "masks": {name: mask.tolist() for name, mask in judgement.masks.items()},
        "mask_no_drdi_rate_cut": judgement.selected_without(_RATE_CUT).tolist(),
        "n_subruns": len(sample.subruns),
        "missing_flatfield_tables": sample.n_without_flatfield,
    }
    for name in _QUANTITIES:
        answer[NOTEBOOK_COLUMNS[name]] = _numbers(getattr(table, name))
    if not profile.exact:
        rejected = np.flatnonzero(~judgement.selected).tolist()
        answer["profile"] = profile.name
        answer["recommendation"] = selection.nsb.recommendation.value
        answer["runs_without_nsb"] = selection.nsb.n_runs_without
        answer["reasons"] = {str(int(table.run_number[row])): judgement.verdict(row).reasons for row in rejected}
    return answer


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _numbers(values: NDArray[Any]) -> list[Any]:
    # JSON knows neither NaN nor infinity
    return [None if isinstance(item, float) and not math.isfinite(item) else item for item in values.tolist()]
