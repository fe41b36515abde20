"""The telescope's units of time: a night, a run, a subrun."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import Any

from lstops.errors import ConfigError

_YYYYMMDD = re.compile(r"[0-9]{8}")


@dataclass(frozen=True, order=True)
class Night:
    """A night of observation, named by the date before midnight.

    A night lasts from noon to noon UTC; La Palma lies so close to Greenwich that no observation crosses a noon.

    Parameters
    ----------
    date : datetime.date
        The date before midnight.
    """

    date: date

    @classmethod
    def parse(cls, text: str | int) -> Night:
        """Read `YYYYMMDD` or `YYYY-MM-DD`.

        Raises
        ------
        ConfigError
            If the text is no date in one of these forms.
        """
        compact = str(text).strip()
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", compact):
            compact = compact.replace("-", "")
        if _YYYYMMDD.fullmatch(compact):
            try:
                return cls(date(int(compact[:4]), int(compact[4:6]), int(compact[6:])))
            except ValueError:
                pass  # eight digits, but no day of the calendar: reported below
        raise ConfigError(f"{text!r} is not a night.", "Write the date before midnight as YYYYMMDD, such as 20240115.")

    @classmethod
    def of(cls, time: datetime | float | Any) -> Night:
        """Return the night in which `time` lies.

        Parameters
        ----------
        time : datetime, float or astropy.time.Time
            A time with its zone, or seconds since 1970 (UTC), or an astropy time.

        Raises
        ------
        ConfigError
            For a datetime without a zone (the night would depend on the machine) and for what is no time.
        """
        if isinstance(time, (int, float)) and not isinstance(time, bool):
            try:
                utc = datetime.fromtimestamp(time, timezone.utc)
            except (ValueError, OverflowError, OSError) as error:
                raise ConfigError(f"{time!r} is not a time: {error}.", "Give seconds since 1970-01-01 UTC.") from error
        elif isinstance(time, datetime):
            utc = time
        elif hasattr(time, "utc") and hasattr(time, "to_datetime"):
            utc = time.utc.to_datetime(timezone=timezone.utc)
        else:
            raise ConfigError(f"{time!r} is not a time.", "Give a datetime with zone, unix seconds or an astropy Time.")
        if utc.tzinfo is None:
            raise ConfigError(f"The time {utc} has no time zone.", "Add one, such as timezone.utc.")
        return cls((utc.astimezone(timezone.utc) - timedelta(hours=12)).date())

    def __str__(self) -> str:
        return f"{self.date:%Y%m%d}" if self.date.year >= 1000 else f"{self.date.year:04d}{self.date:%m%d}"

    def __int__(self) -> int:
        return self.date.year * 10000 + self.date.month * 100 + self.date.day

    @property
    def iso(self) -> str:
        """The night as `YYYY-MM-DD`."""
        return self.date.isoformat()

    @property
    def start(self) -> datetime:
        """The noon (UTC) at which the night begins."""
        return datetime(self.date.year, self.date.month, self.date.day, 12, tzinfo=timezone.utc)

    @property
    def end(self) -> datetime:
        """The noon (UTC) at which the night ends, which belongs to the next night."""
        return self.start + timedelta(days=1)

    def shift(self, days: int) -> Night:
        """Return the night `days` later (earlier if negative)."""
        return Night(self.date + timedelta(days=days))


class RunType(str, Enum):
    """What a run was taken for, as the run summary says."""

    DATA = "DATA"
    PEDCALIB = "PEDCALIB"
    DRS4 = "DRS4"
    ERROR = "ERROR"
    #: a word that lstops does not know; the run is listed but never processed
    OTHER = "OTHER"

    @classmethod
    def parse(cls, text: str) -> RunType:
        """Return the type named by `text`, `OTHER` for unknown words."""
        try:
            return cls(text.strip().upper())
        except ValueError:
            return cls.OTHER


@dataclass(frozen=True, order=True)
class Subrun:
    """One file of a run, about 10 s of data."""

    run: int
    number: int

    def __str__(self) -> str:
        return f"Run{self.run:05d}.{self.number:04d}"


@dataclass(frozen=True)
class RunSource:
    """What a run was pointed at, as the observers entered it: the source, not the pointing direction.

    Parameters
    ----------
    name : str
        As entered, blanks and quotes included.
    ra_deg, dec_deg : float or None
        Source coordinates (ICRS), None when the catalogue has none.
    """

    name: str
    ra_deg: float | None
    dec_deg: float | None


@dataclass(frozen=True)
class Run:
    """One run of a night.

    Parameters
    ----------
    number : int
    night : Night
    run_type : RunType
    n_subruns : int
    start : datetime or None
        Start of the run, None if the data acquisition left none (UTC).
    source : RunSource or None
        None for calibration runs and where the catalogue has no row for the run.
    type_text : str
        The run type as written, of interest for `RunType.OTHER`.
    """

    number: int
    night: Night
    run_type: RunType
    n_subruns: int
    start: datetime | None = None
    source: RunSource | None = None
    type_text: str = ""

    def __str__(self) -> str:
        return f"Run{self.number:05d}"

    @property
    def is_sky(self) -> bool:
        """Whether the run observed the sky (and not a calibration device)."""
        return self.run_type is RunType.DATA

    @property
    def subruns(self) -> tuple[Subrun, ...]:
        """All subruns of the run, in order."""
        return tuple(Subrun(self.number, number) for number in range(self.n_subruns))
