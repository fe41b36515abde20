"""The lstchain JSON of a production: how to compute. Held whole, with names for the parts that decide."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from typing import Any

from pydantic import ConfigDict, Field

from lstops.step.model import Frozen

#: From this version on lstchain reads `nsb_tuning_rate_GHz` (r0_to_dl1.py), before it `nsb_tuning_ratio`.
RATE_KEY_SINCE = (0, 10, 12)
RATE_KEY, RATIO_KEY = "nsb_tuning_rate_GHz", "nsb_tuning_ratio"

#: What lstchain_create_irf_files takes its cuts and binning from.
IRF_SECTIONS = ("EventSelector", "DL3Cuts", "DataBinning")


def version_tuple(version: str) -> tuple[int, ...]:
    """Numbers of a version: "0.10.12" is (0, 10, 12)."""
    return tuple(int(number) for number in re.findall(r"\d+", version))


def version_in_name(name: str) -> str | None:
    """Version of lstchain that a production's name claims: "0.10.12" of 20240918_v0.10.12_allsky_nsb_tuning_0.14."""
    found = re.search(r"(?:^|_)v(\d+\.\d+(?:\.\d+)*)(?=_|$)", name)
    return found.group(1) if found else None


def rate_key(lstchain_version: str) -> str:
    """The key from which this version of lstchain reads the extra NSB."""
    return RATE_KEY if version_tuple(lstchain_version) >= RATE_KEY_SINCE else RATIO_KEY


class NsbTuning(Frozen):
    """`waveform_nsb_tuning`: extra NSB added to the waveforms in r0_to_dl1.

    Attributes
    ----------
    enabled : bool
        Whether any is added.
    rate_ghz : float or None
        Value of `nsb_tuning_rate_GHz` (GHz of photoelectrons a pixel).
    ratio : float or None
        Value of `nsb_tuning_ratio`, read before lstchain 0.10.12.
    """

    enabled: bool = False
    rate_ghz: float | None = None
    ratio: float | None = None

    def effective(self, lstchain_version: str | None) -> float | None:
        """What this version of lstchain would add: 0 when off, None when its key is missing."""
        if not self.enabled:
            return 0.0
        if lstchain_version is None:
            return self.rate_ghz if self.rate_ghz is not None else self.ratio
        return self.rate_ghz if rate_key(lstchain_version) == RATE_KEY else self.ratio


class LstchainConfig(Frozen):
    """A whole lstchain configuration.

    Attributes
    ----------
    content : dict
        The document as read; treat as read-only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    content: dict[str, Any] = Field(repr=False)

    @cached_property
    def canonical(self) -> str:
        """The same text for the same content, whatever the order and the spaces of the file."""
        return json.dumps(self.content, sort_keys=True, separators=(",", ":"))

    @property
    def digest(self) -> str:
        """SHA-256 of the content."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()

    @property
    def nsb(self) -> NsbTuning:
        """The waveform NSB tuning; off where the section is absent."""
        section = self.content.get("waveform_nsb_tuning") or {}
        return NsbTuning(
            enabled=bool(section.get("nsb_tuning", False)),
            rate_ghz=section.get(RATE_KEY),
            ratio=section.get(RATIO_KEY),
        )

    @property
    def modifies_images(self) -> bool:
        """Whether dl1ab would add noise or blur images."""
        modifier = self.content.get("image_modifier") or {}
        return bool(modifier.get("increase_nsb") or modifier.get("increase_psf"))

    @property
    def adds_image_noise(self) -> bool:
        """Whether dl1ab would add NSB to images."""
        return bool((self.content.get("image_modifier") or {}).get("increase_nsb"))

    @property
    def forests(self) -> dict[str, dict[str, Any]]:
        """Hyper-parameters by forest (`random_forest_*_args`)."""
        return {
            key: value
            for key, value in self.content.items()
            if key.startswith("random_forest_") and key.endswith("_args") and isinstance(value, dict)
        }

    @property
    def features(self) -> dict[str, list[str]]:
        """Feature names, in order, by forest (`*_features`)."""
        return {key: value for key, value in self.content.items() if key.endswith("_features")}

    @property
    def missing_irf_sections(self) -> tuple[str, ...]:
        """Sections that making IRFs needs and this document lacks."""
        return tuple(section for section in IRF_SECTIONS if not self.content.get(section))

    def to_text(self) -> str:
        """JSON as lstchain writes it."""
        return json.dumps(self.content, indent=4) + "\n"
