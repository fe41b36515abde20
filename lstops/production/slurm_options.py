"""SLURM options as configurations of lstmcpipe write them, as resources of a step."""

from __future__ import annotations

import re

from lstops.errors import ConfigError
from lstops.production.stages import SlurmOptions
from lstops.step.model import Resources

_MEM = re.compile(r"^(\d+)\s*([KMGT]?)B?$", re.IGNORECASE)
_MB = {"K": 1 / 1024, "": 1.0, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
_TIME = re.compile(r"^(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d+){0,2})$")


def mem_mb(value: str | int) -> int:
    """Memory in MB: sbatch takes "80GB", "160G", and numbers as MB.

    Raises
    ------
    ConfigError
        If it is no amount of memory.
    """
    match = _MEM.match(str(value))
    if not match:
        raise ConfigError(f"{value!r} is no amount of memory.", "write it like 80GB or 6000 (MB).")
    return max(1, round(int(match[1]) * _MB[match[2].upper()]))


def time_min(value: str | int) -> int:
    """Time limit in minutes, rounded up: sbatch takes "MM", "MM:SS", "HH:MM:SS", "D-HH", "D-HH:MM", "D-HH:MM:SS".

    Raises
    ------
    ConfigError
        If it is no time limit.
    """
    match = _TIME.match(str(value))
    if not match:
        raise ConfigError(f"{value!r} is no time limit.", "write it like 11:30:00 or 03-00:00:00.")
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        total = 60 * (24 * int(match["days"]) + hours) + minutes + seconds / 60
    elif len(parts) == 3:
        total = 60 * parts[0] + parts[1] + parts[2] / 60
    else:
        minutes, seconds = (*parts, 0)[:2]
        total = minutes + seconds / 60
    return max(1, -int(-total // 1))


def resources(options: SlurmOptions | None, default: Resources) -> Resources:
    """The default resources of a kind of step, with what the configuration asks for instead."""
    if options is None:
        return default
    change: dict[str, int | str] = {}
    if options.mem is not None:
        change["mem_mb"] = mem_mb(options.mem)
    if options.time is not None:
        change["time_min"] = time_min(options.time)
    if options.cpus_per_task is not None:
        change["cpus"] = int(options.cpus_per_task)
    if options.partition is not None:
        change["partition"] = str(options.partition)
    return default.model_copy(update=change)
