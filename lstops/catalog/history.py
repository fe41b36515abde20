"""The whole history of runs, as columns: what a request with new cuts is answered from, without opening a data check.

::

    with catalog_session() as session:
        history = load_history(session, since=Night.parse("20191201"))
        selection = select_history(session, history, load_profile("standard"), request)
        subruns = load_subruns(session, runs=[1739])
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from lstops.night import Night
from lstops.quality.profiles import Profile
from lstops.quality.quantities import RunTable
from lstops.quality.request import SelectionRequest
from lstops.quality.select import Selection
from lstops.quality.tables import BoolArray, FloatArray, IntArray, SubrunTable


@dataclass(frozen=True, eq=False)
class History:
    """Runs of many nights. All columns have the table's length and order.

    Parameters
    ----------
    table : RunTable
        Run-wise quantities, in ascending order of run number.
    source_name : tuple of str
        What the observers entered; empty if the run catalogue does not tell.
    source_ra_deg, source_dec_deg : array of float, shape (n_runs,)
        NaN where unknown.
    run_type : tuple of str
    run_start : tuple of (datetime or None)
        Of the run summary.
    nights : tuple of Night
        Nights of the range that the catalogue holds, in order; also those without runs.
    n_without_flatfield : int
        How many of them have no flatfield table.
    """

    table: RunTable
    source_name: tuple[str, ...]
    source_ra_deg: FloatArray
    source_dec_deg: FloatArray
    run_type: tuple[str, ...]
    run_start: tuple[datetime | None, ...]
    nights: tuple[Night, ...]
    n_without_flatfield: int

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: BoolArray | IntArray) -> History:
        """Return the history with only some runs (mask or row numbers)."""
        raise NotImplementedError


def load_history(session: Session, since: Night | None = None, until: Night | None = None) -> History:
    """Load the run-wise quantities of all nights from `since` until `until`, both included.

    Raises
    ------
    ConfigError
        If the range is the wrong way round.
    """
    raise NotImplementedError


def load_subruns(
    session: Session,
    runs: Collection[int] | None = None,
    nights: Collection[Night] | None = None,
    columns: Sequence[str] | None = None,
) -> SubrunTable:
    """Load subrun-wise columns, night by night, in the order of the data check files.

    Parameters
    ----------
    runs : collection of int, optional
        Only subruns of these runs; only their nights are read.
    nights : collection of Night, optional
        Only these nights. Neither `runs` nor `nights`: everything (some 270 MB per 1000 nights).
    columns : sequence of str, optional
        Names of `SubrunTable`; only these are read, the others are NaN (0 for whole numbers).

    Raises
    ------
    DataError
        If the catalogue has no subruns of a night, because it was ingested by an older lstops.
    """
    raise NotImplementedError


def select_history(
    session: Session, history: History, profile: Profile, request: SelectionRequest | None = None
) -> Selection:
    """Select from the history: the same answer as `lstops.quality.select.select` gives from the files.

    Of the subruns only the columns and nights are loaded that the typical subruns need.

    Raises
    ------
    ConfigError
        If the request changes a limit that the profile does not have.
    """
    raise NotImplementedError
