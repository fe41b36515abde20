"""SLURM options as configurations of lstmcpipe write them, as resources of a step."""

from __future__ import annotations

import re
from collections.abc import Callable

from lstops.errors import ConfigError
from lstops.production.stages import SlurmOptions
from lstops.step.model import Resources

_MEM = re.compile(r"^(\d+)\s*([KMGT]?)B?$", re.IGNORECASE)
_MB = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
# as many as SLURM can count (a word, four bytes), and a petabyte
_MOST_CPUS, _MOST_MIN, _MOST_MB = 65_533, 2**32 - 3, 10**9
_CPUS = re.compile(r"^[1-9][0-9]{0,4}$")
_PARTITION = re.compile(r"^[\w.,-]+\Z")
_TIME = re.compile(r"^(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})$")


def mem_mb(value: str | int) -> int:
    """Memory in MB: sbatch takes "80GB", "160G", and numbers as MB.

    Raises
    ------
    ConfigError
        If it is no amount of memory.
    """
    match = _MEM.match(str(value))
    amount = int(match[1]) * _MB[match[2].upper()] if match else 0
    if not 0 < amount <= _MOST_MB:
        raise ConfigError(f"{value!r} is no amount of memory.", "write it like 80GB or 6000 (MB).")
    return max(1, round(amount))


def time_min(value: str | int) -> int:
    """Time limit in minutes, rounded up: sbatch takes "MM", "MM:SS", "HH:MM:SS", "D-HH", "D-HH:MM", "D-HH:MM:SS".

    Raises
    ------
    ConfigError
        If it is no time limit.
    """
    match = _TIME.match(str(value))
    if not match:
        raise _no_time(value)
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        total = 60 * (24 * int(match["days"]) + hours) + minutes + seconds / 60
    elif len(parts) == 3:
        total = 60 * parts[0] + parts[1] + parts[2] / 60
    else:
        minutes, seconds = (*parts, 0)[:2]
        total = minutes + seconds / 60
    if not 0 < total <= _MOST_MIN:
        raise _no_time(value)
    return -int(-total // 1)


def _no_time(value: str | int) -> ConfigError:
    return ConfigError(f"{value!r} is no time limit.", "write it like 11:30:00 or 03-00:00:00.")


def _cpus(value: str | int) -> int:
    match = _CPUS.match(str(value))
    if not match or int(match[0]) > _MOST_CPUS:
        raise ConfigError(f"{value!r} is no number of CPUs.", "write a whole number, e.g. 16.")
    return int(match[0])


def _partition(value: str | int) -> str:
    if not _PARTITION.match(str(value)):
        raise ConfigError(f"{str(value)!r} is no partition.", "write its name, e.g. long.")
    return str(value)


#: What a plan reads: key as for sbatch, field of the resources, how to read it.
_READ: tuple[tuple[str, str, Callable[[str | int], int | str]], ...] = (
    ("mem", "mem_mb", mem_mb),
    ("time", "time_min", time_min),
    ("cpus-per-task", "cpus", _cpus),
    ("partition", "partition", _partition),
)


def read_options(options: SlurmOptions) -> tuple[dict[str, int | str], dict[str, ConfigError]]:
    """The resources that options ask for, and by key what is wrong with the others."""
    change: dict[str, int | str] = {}
    wrong: dict[str, ConfigError] = {}
    for key, field, read in _READ:
        value = getattr(options, key.replace("-", "_"))
        try:
            if value is not None:
                change[field] = read(value)
        except ConfigError as error:
            wrong[key] = error
    return change, wrong


def is_unlimited(key: str, value: object) -> bool:
    """Whether a value means for sbatch that there is no limit, or all of a machine."""
    return (key == "time" and str(value).upper() in ("UNLIMITED", "INFINITE", "-1", "0")) or (
        key == "mem" and str(value) == "0"
    )


def resources(options: SlurmOptions | None, default: Resources, place: str) -> Resources:
    """The default resources of a kind of step, with what the configuration asks for instead.

    Raises
    ------
    ConfigError
        Naming place and key, if a value is none that can be planned.
    """
    if options is None:
        return default
    change, wrong = read_options(options)
    for key, error in wrong.items():
        raise ConfigError(f"{place}.extra_slurm_options.{key}: {error.what}", error.remedy)
    return default.model_copy(update=change)
