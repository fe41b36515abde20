"""People's decisions about runs, laid over the verdicts of a profile: pure functions, no storage."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import numpy as np

from lstops.errors import ConfigError
from lstops.quality.judge import Judgement, Verdict
from lstops.quality.tables import BoolArray, IntArray, SubrunTable
from lstops.words import checked_words


class OverlayAction(str, Enum):
    """What a person decided about a run."""

    INCLUDE = "include"
    EXCLUDE = "exclude"
    DROP_SUBRUNS = "drop-subruns"


@dataclass(frozen=True)
class OverlayRecord:
    """A person's decision about a run, with who, why and when.

    Parameters
    ----------
    id : int
        Of the record in the catalogue.
    run_number : int
    action : OverlayAction
    author, reason : str
    created_at : datetime
        UTC.
    subruns : tuple of int
        The subruns that are dropped; empty for the other actions.
    revoked_at : datetime or None
        None while the decision holds.
    revoked_by, revoked_reason : str
        Who revoked it and why.
    """

    id: int
    run_number: int
    action: OverlayAction
    author: str
    reason: str
    created_at: datetime
    subruns: tuple[int, ...] = ()
    revoked_at: datetime | None = None
    revoked_by: str = ""
    revoked_reason: str = ""

    @property
    def active(self) -> bool:
        """Whether the decision holds."""
        return self.revoked_at is None

    @property
    def words(self) -> str:
        """The decision as a sentence for a person."""
        done = {
            OverlayAction.INCLUDE: "included",
            OverlayAction.EXCLUDE: "excluded",
            OverlayAction.DROP_SUBRUNS: f"without subruns {subrun_words(self.subruns)}",
        }[self.action]
        said = f"{done}, by {self.author} on {self.created_at:%Y-%m-%d}: {self.reason}"
        if self.revoked_at is not None:
            said += f" (revoked by {self.revoked_by} on {self.revoked_at:%Y-%m-%d}: {self.revoked_reason})"
        return said


#: Active decisions by run number.
Overlay = Mapping[int, Sequence[OverlayRecord]]


@dataclass(frozen=True)
class EffectiveVerdict:
    """What holds for a run: the profile's verdict with people's decisions laid over it.

    Parameters
    ----------
    verdict : Verdict
        The profile's, untouched.
    records : tuple of OverlayRecord
        Active decisions about the run.
    selected : bool
        Whether the run is taken.
    """

    verdict: Verdict
    records: tuple[OverlayRecord, ...]
    selected: bool

    @property
    def run_number(self) -> int:
        """Number of the run."""
        return self.verdict.run_number

    @property
    def dropped_subruns(self) -> tuple[int, ...]:
        """Subruns that a person took out, ascending."""
        return tuple(sorted({subrun for record in self.records for subrun in record.subruns}))

    @property
    def decision(self) -> str:
        """People's decisions in words; empty if there are none."""
        return decision_words(self.records)

    @property
    def reasons(self) -> tuple[str, ...]:
        """What speaks against the run: cuts it fails (also if it is included in spite of them), and an exclusion."""
        excluded = (record.words for record in self.records if record.action is OverlayAction.EXCLUDE)
        return (*self.verdict.reasons, *excluded)


def decision_words(records: Iterable[OverlayRecord]) -> str:
    """Return decisions about one run as words; empty for none."""
    return "; ".join(record.words for record in records)


def holds(selected: bool, records: Iterable[OverlayRecord]) -> bool:
    """Return whether a run is taken, from what the profile says and the decisions that hold for the run."""
    actions = {record.action for record in records if record.active}
    return (selected or OverlayAction.INCLUDE in actions) and OverlayAction.EXCLUDE not in actions


def with_overlay(verdict: Verdict, records: Iterable[OverlayRecord]) -> EffectiveVerdict:
    """Lay the active decisions about a run over its verdict: excluded beats the profile, and so does included."""
    active = tuple(record for record in records if record.active and record.run_number == verdict.run_number)
    return EffectiveVerdict(verdict, active, holds(verdict.selected, active))


def asked_cuts(judgement: Judgement) -> frozenset[str]:
    """Return the cuts that are part of the question: dates, region, zenith range, and limits that the request sets.

    A person who includes a run says that it is good, not that it was taken on the day that somebody else asks for.
    """
    asked = set(judgement.request.changes())
    return frozenset(
        cut.name
        for cut in judgement.profile.cuts
        if cut.kind != "limits" or any(limit.variable in asked for limit in cut.limits)
    )


def effective_selection(judgement: Judgement, overlay: Overlay, asked: Collection[str] = ()) -> BoolArray:
    """Return which runs are taken once people's decisions are laid over a judgement.

    Parameters
    ----------
    judgement : Judgement
    overlay : mapping of int to sequence of OverlayRecord
        Active decisions.
    asked : collection of str, optional
        Cuts that an included run has to pass all the same, see `asked_cuts`.

    Returns
    -------
    array of bool, shape (n_runs,)
    """
    selected = judgement.selected.copy()
    for row in np.flatnonzero(np.isin(judgement.table.run_number, np.array(sorted(overlay), dtype=np.int64))).tolist():
        taken = holds(bool(selected[row]), overlay[int(judgement.table.run_number[row])])
        selected[row] = taken and all(judgement.masks[name][row] for name in asked)
    return selected


def dropped(subruns: SubrunTable, overlay: Overlay) -> BoolArray:
    """Tell which subruns people dropped.

    Returns
    -------
    array of bool, shape (n_subruns,)
    """
    mask = np.zeros(len(subruns), dtype=bool)
    for run, records in overlay.items():
        numbers: IntArray = np.array(
            [subrun for record in records if record.active for subrun in record.subruns], dtype=np.int64
        )
        if len(numbers):
            mask |= (subruns.run_number == run) & np.isin(subruns.subrun, numbers)
    return mask


def dropped_time(subruns: SubrunTable, overlay: Overlay) -> dict[int, float]:
    """Return the time of the subruns that people dropped, in seconds by run number; 0 where they dropped none."""
    gone = dropped(subruns, overlay)
    return {run: float(np.nansum(subruns.elapsed_time_s[gone & (subruns.run_number == run)])) for run in overlay}


def check_new(record: OverlayRecord, active: Iterable[OverlayRecord], known_subruns: Collection[int]) -> None:
    """Refuse a decision that says nothing or contradicts one that holds.

    Parameters
    ----------
    record : OverlayRecord
        The new decision.
    active : iterable of OverlayRecord
        Decisions about the run that hold.
    known_subruns : collection of int
        All subruns of the run.

    Raises
    ------
    ConfigError
        If author or reason are not one line of text, subruns are not of the run or all of it, or the decision repeats
        or contradicts another.
    """
    run = record.run_number
    checked_words(f"a decision about run {run}", record.author, record.reason)
    if record.subruns and record.action is not OverlayAction.DROP_SUBRUNS:
        raise ConfigError(f"To {record.action.value} run {run} takes no subruns.", "Leave them out.")
    before = [other for other in active if other.run_number == run]
    opposite = {OverlayAction.INCLUDE: OverlayAction.EXCLUDE, OverlayAction.EXCLUDE: OverlayAction.INCLUDE}
    for other in before:
        if opposite.get(record.action) is other.action:
            raise ConfigError(
                f"Run {run} is already {other.words}.",
                f'Revoke that decision first: lstops overlay revoke {other.id} --reason "...".',
            )
        if record.action is other.action and record.action is not OverlayAction.DROP_SUBRUNS:
            raise ConfigError(f"Run {run} is already {other.words}.", "Nothing needs to be done.")
    if record.action is not OverlayAction.DROP_SUBRUNS:
        return
    if unknown := sorted(set(record.subruns) - set(known_subruns)):
        raise ConfigError(
            f"Run {run} has no subruns {subrun_words(unknown)}.", f"It has {subrun_words(known_subruns) or 'none'}."
        )
    gone = {subrun for other in before for subrun in other.subruns}
    if set(record.subruns) <= gone:
        raise ConfigError(
            f"The subruns {subrun_words(record.subruns) or '(none)'} of run {run} are dropped already.",
            "Name the subruns to drop, such as 3,7-12.",
        )
    if gone | set(record.subruns) >= set(known_subruns):
        raise ConfigError(f"Nothing would be left of run {run}.", "Exclude the run instead.")


def parse_subruns(text: str) -> tuple[int, ...]:
    """Read subrun numbers such as "3,7-12".

    Returns
    -------
    tuple of int
        Ascending, each once.

    Raises
    ------
    ConfigError
        If the text is none.
    """
    numbers: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)) or len(part) > 15:
            raise ConfigError(f"{text!r} are no subruns.", "Give numbers and ranges, such as 3,7-12.")
        low, high = int(first), int(last or first)
        if high < low or high > 99_999:
            raise ConfigError(
                f"{part} is no range of subruns.", "Give the lower number first, such as 7-12; the most is 99999."
            )
        numbers.update(range(low, high + 1))
    return tuple(sorted(numbers))


def subrun_words(subruns: Iterable[int]) -> str:
    """Return subrun numbers as text that `parse_subruns` reads: "3,7-12"."""
    parts: list[list[int]] = []
    for number in sorted(set(subruns)):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in parts)
