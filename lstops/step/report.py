"""How an attempt at a step ended, for the operator, the report and the shifter; written whatever happened."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from pydantic import ValidationError

from lstops.step.manifest import write_atomically
from lstops.step.model import Frozen


class Ending(str, Enum):
    """Outcome of one attempt."""

    DONE = "done"
    UP_TO_DATE = "up-to-date"
    FAILED = "failed"


class StepReport(Frozen):
    """Outcome of one attempt at a step.

    Attributes
    ----------
    error : str
        Name of the error class ("DataError", "ProductInvalid", "JobFailure", "StorageError"...), empty if none.
    what, remedy : str
        As the error says.
    log_tail : str
        Last lines of the commands' output, where a command failed.
    signal : int
        Number of the signal that killed a command (or the step's own process), 0 if none did.
    max_rss_mb : float
        Peak memory of the step's commands, 0 if none was run.
    """

    plan_id: str
    index: int
    label: str
    subject: str
    ending: Ending
    error: str = ""
    what: str = ""
    remedy: str = ""
    log_tail: str = ""
    signal: int = 0
    max_rss_mb: float = 0.0
    job: str = ""
    host: str = ""
    started: str = ""
    ended: str = ""


def write_report(path: Path, report: StepReport) -> None:
    """Store a report."""
    write_atomically(path, report.model_dump_json(indent=1))


def read_report(path: Path) -> StepReport | None:
    """The report, or None where there is none or it is damaged."""
    try:
        return StepReport.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
