"""More memory or time for a step that ran out of it, along a table with ceilings (config/escalation.yaml)."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from lstops.cluster.failure import Cause, Failure
from lstops.errors import ConfigError
from lstops.paths import config_dir
from lstops.plain_yaml import load_plain
from lstops.site.cluster import Partition
from lstops.site.model import describe
from lstops.step.model import Frozen, Resources

_HEADROOM = 1.2


class Rise(Frozen):
    """How much more at each attempt, and where it ends. Memory in MB, time in minutes."""

    memory_factor: float = Field(default=1.6, gt=1)
    memory_ceiling_mb: int = Field(default=128000, ge=1)
    time_factor: float = Field(default=2.0, gt=1)
    time_ceiling_min: int = Field(default=2880, ge=1)


class Escalation(Frozen):
    """The table: one rule for all kinds of steps and exceptions by kind."""

    default: Rise = Rise()
    kinds: dict[str, Rise] = Field(default_factory=dict)

    def rise(self, kind: str) -> Rise:
        """The rule for a kind of step."""
        return self.kinds.get(kind, self.default)


def load_escalation(path: Path | None = None) -> Escalation:
    """Read the table: from `path`, else LSTOPS_ESCALATION, else the one that comes with lstops.

    Raises
    ------
    ConfigError
        If the file cannot be read or a value in it is wrong.
    """
    given = path or (Path(os.environ["LSTOPS_ESCALATION"]) if "LSTOPS_ESCALATION" in os.environ else None)
    where = given or config_dir() / "escalation.yaml"
    try:
        return Escalation.model_validate(load_plain(where.read_text()) or {})
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error)}", "correct these keys.") from error
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {where}: {error}.", "correct the file.") from error


def combine(wanted: Iterable[Resources]) -> Resources:
    """What one array must ask for so that each of its steps gets enough."""
    every = list(wanted)
    partitions = {r.partition for r in every}
    return Resources(
        cpus=max(r.cpus for r in every),
        mem_mb=max(r.mem_mb for r in every),
        time_min=max(r.time_min for r in every),
        partition=partitions.pop() if len(partitions) == 1 else None,
    )


def escalate(asked: Resources, failure: Failure, rise: Rise, limits: Partition | None) -> Resources | None:
    """What to ask for next time, or None if there is nothing more to have.

    Parameters
    ----------
    limits : Partition or None
        Of the partition in use, where the site file knows them.
    """
    if failure.cause is Cause.MEMORY:
        ceiling = min(rise.memory_ceiling_mb, limits.max_mem_mb if limits else rise.memory_ceiling_mb)
        wanted = max(asked.mem_mb * rise.memory_factor, (failure.peak_mb or 0) * _HEADROOM)
        mem_mb = min(math.ceil(wanted), ceiling)
        return asked.model_copy(update={"mem_mb": mem_mb}) if mem_mb > asked.mem_mb else None
    if failure.cause is Cause.TIME:
        ceiling = min(rise.time_ceiling_min, limits.max_time_min if limits else rise.time_ceiling_min)
        time_min = min(math.ceil(asked.time_min * rise.time_factor), ceiling)
        return asked.model_copy(update={"time_min": time_min}) if time_min > asked.time_min else None
    return asked
