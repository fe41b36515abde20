"""Whether a registered production already is what a request asks for, or nearly so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lstops.nsb.tailcuts import noise_mismatch_percent
from lstops.site.model import ForestSettings, Trainer
from lstops.step.model import Frozen

#: Levels are named with two decimals, so a smaller difference cannot be told (GHz).
SAME_LEVEL_GHZ = 0.005


class Method(str, Enum):
    """Where the extra NSB is put in, and whether its rate is given or measured with data."""

    WAVEFORM = "waveform"
    TUNED_WAVEFORM = "waveform, tuned to data"
    IMAGE = "image"


class _Identity(Frozen):
    """What productions of one line are compared by.

    Attributes
    ----------
    trainer : Trainer
        Left out of the digest if it is lstchain.
    """

    trainer: Trainer = Trainer.LSTCHAIN

    @property
    def digest(self) -> str:
        """SHA-256 of the settings."""
        hidden = {"trainer"} if self.trainer is Trainer.LSTCHAIN else set[str]()
        return hashlib.sha256(self.model_dump_json(exclude=hidden).encode()).hexdigest()

    @property
    def lstchain_digest(self) -> str:
        """The digest of the same with lstchain's own trainer: what accelerated forests are compared with."""
        return self.model_copy(update={"trainer": Trainer.LSTCHAIN}).digest


class Retraining(_Identity):
    """All that makes forests retrained from DL1 that is there differ.

    Attributes
    ----------
    training_sha256 : tuple of str
        Contents of the merged gammas and protons.
    config_sha256 : str
        Of the lstchain configuration, see `configuration_digest`: features, hyper-parameters, seeds, NSB, cleaning.
    """

    lstchain_version: str
    line: str
    training_sha256: tuple[str, ...]
    config_sha256: str
    cuts_sha256: str


class Settings(_Identity):
    """All that makes two productions of one line differ, but the NSB level and the test nodes.

    Attributes
    ----------
    source : str
        What it starts from: the folder of the raw events, or the base production.
    training_nodes : tuple of str
    """

    lstchain_version: str
    line: str
    tailcut: str
    cuts_sha256: str
    forests: ForestSettings
    method: Method
    source: str
    training_nodes: tuple[str, ...]


def configuration_digest(config: Mapping[str, Any]) -> str:
    """SHA-256 of an lstchain configuration; the number of processes of a training changes nothing."""
    kept = {
        name: {k: v for k, v in section.items() if k != "n_jobs"} if isinstance(section, Mapping) else section
        for name, section in config.items()
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Existing:
    """A registered production of one line."""

    name: str
    line: str
    level_ghz: float
    settings_sha256: str
    test_nodes: tuple[str, ...]


class Fit(str, Enum):
    """How an existing production and a request go together."""

    EQUAL = "equal"
    LACKS_NODES = "lacks test nodes"
    OTHER_LEVEL = "other NSB level"
    NONE = "none"


@dataclass(frozen=True)
class Reuse:
    """What is there already.

    Attributes
    ----------
    production : str or None
        The existing one; None if nothing fits.
    mismatch_percent : float
        Difference of the pixels' noise, see `lstops.nsb.tailcuts`; 0 unless the level differs.
    missing_nodes : tuple of str
        Test nodes of the request that it lacks.
    """

    fit: Fit
    production: str | None = None
    mismatch_percent: float = 0.0
    missing_nodes: tuple[str, ...] = ()

    def text(self) -> str:
        """For a person."""
        if self.fit is Fit.EQUAL:
            return f"{self.production} is the same production: nothing needs to be computed"
        if self.fit is Fit.LACKS_NODES:
            return (
                f"{self.production} is the same but for {len(self.missing_nodes)} test node(s): only those are planned"
            )
        if self.fit is Fit.OTHER_LEVEL:
            noise = f"its pixel noise differs by {self.mismatch_percent:+.1f} %"
            return f"{self.production} is the same but for its NSB: {noise}"
        return "no registered production is the same"


def find_existing(
    settings: Settings | Retraining,
    level_ghz: float,
    test_nodes: Sequence[str],
    existing: Sequence[Existing],
    tolerance_ghz: float,
) -> Reuse:
    """The best that is there.

    Parameters
    ----------
    tolerance_ghz : float
        Up to this difference another level is offered.
    """
    same = [e for e in existing if e.line == settings.line and e.settings_sha256 == settings.digest]
    found = [_compare(e, level_ghz, test_nodes) for e in same if abs(e.level_ghz - level_ghz) <= tolerance_ghz]
    order = list(Fit)
    return min(
        found,
        key=lambda r: (order.index(r.fit), abs(r.mismatch_percent), len(r.missing_nodes), r.production or ""),
        default=Reuse(Fit.NONE),
    )


def _compare(existing: Existing, level_ghz: float, test_nodes: Sequence[str]) -> Reuse:
    missing = tuple(node for node in test_nodes if node not in existing.test_nodes)
    if abs(existing.level_ghz - level_ghz) >= SAME_LEVEL_GHZ:
        mismatch = noise_mismatch_percent(level_ghz, existing.level_ghz)
        return Reuse(Fit.OTHER_LEVEL, existing.name, mismatch, missing)
    return Reuse(Fit.LACKS_NODES if missing else Fit.EQUAL, existing.name, 0.0, missing)
