"""What `lstchain_find_tailcuts` found out about a run."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from lstops.errors import DataError
from lstops.nsb.tailcuts import Tailcut, extra_nsb_ghz, tailcut_for

_NUMBER = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?|nan)"
# The tool writes them only into its log (lstchain/scripts/lstchain_find_tailcuts.py).
_RATE = re.compile(rf"Additional NSB rate \(over dark MC\):\s*{_NUMBER}")
_QUANTILE = re.compile(rf"Median of 95% quantile of pedestal charge:\s*{_NUMBER}")
_REMEDY = "Run lstchain_find_tailcuts for the run again, or exclude the run with a reason."


@dataclass(frozen=True)
class RunNsb:
    """The night-sky background of a run.

    Parameters
    ----------
    run_number : int
    extra_ghz : float
        NSB above that of the dark Monte Carlo, in GHz of photoelectrons; negative for a darker sky.
    tailcut : Tailcut
        The cleaning level that belongs to it.
    quantile_pe : float or None
        95 % quantile of the pedestal charge, if it is known.
    """

    run_number: int
    extra_ghz: float
    tailcut: Tailcut
    quantile_pe: float | None = None

    @classmethod
    def from_quantile(cls, run_number: int, quantile_pe: float) -> RunNsb:
        """Derive level and cleaning from the pedestal charge."""
        return cls(run_number, extra_nsb_ghz(quantile_pe), tailcut_for(quantile_pe), quantile_pe)


def read_tailcut_finder(run_number: int, config: Path, log: Path) -> RunNsb:
    """Read the result of the tailcut finder.

    Parameters
    ----------
    run_number : int
    config : Path
        `dl1ab_RunNNNNN.json`, the cleaning.
    log : Path
        `log_find_tailcuts_RunNNNNN.log`, the only place where the tool leaves the NSB.

    Raises
    ------
    DataError
        If a file is missing or does not hold what it should. Such a run is quarantined; the night goes on.
    """
    try:
        cleaning = json.loads(_text(config))["tailcuts_clean_with_pedestal_threshold"]
        tailcut = Tailcut(int(cleaning["picture_thresh"]), int(cleaning["boundary_thresh"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{config} holds no cleaning levels: {error!r}.", _REMEDY) from error
    text = _text(log)
    rate = _last_number(_RATE, text)
    if rate is None:
        raise DataError(f"{log} does not tell the NSB of run {run_number}; the tool did not finish.", _REMEDY)
    return RunNsb(run_number, rate, tailcut, _last_number(_QUANTILE, text))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", _REMEDY) from error


def _last_number(pattern: re.Pattern[str], text: str) -> float | None:
    found = pattern.findall(text)
    if not found or found[-1] == "nan":
        return None
    return float(found[-1])
