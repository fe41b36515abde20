"""The errors of lstops.

Every message says three things: what is wrong, where, and what to do about it. The remedy is an argument of its own,
so that reports and the web page can show it apart from the cause.
"""

from __future__ import annotations


class LstOpsError(Exception):
    """Base of all errors that lstops raises on purpose.

    Parameters
    ----------
    what : str
        What is wrong, naming the thing (file, run, host, key).
    remedy : str
        What a person can do about it.
    """

    #: exit status of the command line for this class (see sysexits(3))
    exit_code = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what} Remedy: {self.remedy}" if self.remedy else self.what


class ConfigError(LstOpsError):
    """A site file, profile, production configuration or request is wrong."""

    exit_code = 78


class DataError(LstOpsError):
    """An input file is missing, truncated or does not hold what it should."""

    exit_code = 65


class TransportError(LstOpsError):
    """A host cannot be reached, or a connection broke; the same call may work later."""

    exit_code = 75


class BusyError(LstOpsError):
    """Another process has what this one needs; the same call will work when it has ended."""

    exit_code = 75


class SubmitError(LstOpsError):
    """The scheduler refused a job; submitting the same again will not help."""

    exit_code = 69


class JobFailure(LstOpsError):  # noqa: N818 - the name of the design
    """A job or the command of a step ended without success."""

    exit_code = 70


class StepKilled(JobFailure):
    """The process that ran a step was killed before it could report."""


class ProductInvalid(LstOpsError):  # noqa: N818 - the name of the design
    """A product is there but its content is not what it has to be."""

    exit_code = 76


class StorageError(LstOpsError):
    """A file system is full, read-only or not writable."""

    exit_code = 73
