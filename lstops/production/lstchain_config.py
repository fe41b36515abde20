"""The lstchain JSON of a production: how to compute. Read whole, with names for the parts that decide."""

from __future__ import annotations

import hashlib
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from lstops.production.documents import InvalidProductionError, Problem, read_json, unknown_key
from lstops.production.lstchain_values import CLEANING, is_number, value_problems
from lstops.step.model import Frozen

#: From this version on lstchain reads `nsb_tuning_rate_GHz` (r0_to_dl1.py), before it `nsb_tuning_ratio`.
RATE_KEY_SINCE = (0, 10, 12)
RATE_KEY, RATIO_KEY = "nsb_tuning_rate_GHz", "nsb_tuning_ratio"

#: What lstchain_create_irf_files takes its cuts and binning from.
IRF_SECTIONS = ("EventSelector", "DL3Cuts", "DataBinning")

#: Top-level keys of lstchain's own configurations, versions 0.7 to 0.12 (lstchain/data/*.json), and of the published
#: productions. Names that begin with a capital configure ctapipe components and are not listed.
KNOWN_KEYS = frozenset(
    {
        "allowed_tels",
        "calibration_product",
        "classification_features",
        "custom_calibration",
        "disp_classification_features",
        "disp_method",
        "disp_regression_features",
        "dynamic_cleaning",
        "energy_regression_features",
        "events_filters",
        "image_extractor",
        "image_extractor_for_muons",
        "image_modifier",
        "lh_fit_config",
        "mc_image_scaling_factor",
        "mc_nominal_source_x_deg",
        "mc_nominal_source_y_deg",
        "n_off_wobble",
        "n_training_events",
        "observation_mode",
        "particle_classification_features",
        "random_forest_classifier_args",
        "random_forest_disp_classifier_args",
        "random_forest_disp_regressor_args",
        "random_forest_energy_regressor_args",
        "random_forest_particle_classifier_args",
        "random_forest_regressor_args",
        "random_forest_weight_settings",
        "random_forest_zd_interpolation",
        "regression_features",
        "source_config",
        "source_dec",
        "source_dependent",
        "source_name",
        "source_ra",
        "tailcut",
        "tailcuts_clean_with_pedestal_threshold",
        "time_sampling_correction_path",
        "timestamps_pointing",
        "train_gamma_src_r_deg",
        "version",
        "volume_reducer",
        "waveform_nsb_tuning",
        "write_interleaved_events",
        "write_pe_image",
    }
)


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


def validate_lstchain_config(content: dict[str, Any], where: Path | str) -> LstchainConfig:
    """Check that a mapping is an lstchain configuration.

    Raises
    ------
    InvalidProductionError
        If it is none, or has a key that no version of lstchain knows or a value that none can work with.
    """
    problems = [unknown_key(key, key, KNOWN_KEYS) for key in content if key not in KNOWN_KEYS and not key[:1].isupper()]
    if not any(key in content for key in CLEANING):
        problems.append(
            Problem(
                "no-lstchain-config",
                "file",
                "is no lstchain configuration: it has no image cleaning (tailcut)",
                "make one with `lstchain_dump_config --mc --output-file CONFIG.json`.",
            )
        )
    for key in ("waveform_nsb_tuning", "image_modifier", *IRF_SECTIONS):
        if not isinstance(content.get(key), (dict, type(None))):
            problems.append(Problem("bad-value", key, "must be a section", f"make {key} a mapping of settings."))
    for key in CLEANING:
        problems.extend(_cleaning_problems(key, content.get(key)))
    problems.extend(_nsb_problems(content.get("waveform_nsb_tuning")))
    named = {problem.place for problem in problems}
    problems.extend(problem for problem in value_problems(content) if problem.place not in named)
    if problems:
        raise InvalidProductionError(where, problems)
    return LstchainConfig(content=content)


def _cleaning_problems(key: str, section: Any) -> list[Problem]:
    if section is None:
        return []
    if not isinstance(section, dict):
        return [Problem("bad-value", key, "must be a section", f"make {key} a mapping of settings.")]
    problems = []
    for name in ("picture_thresh", "boundary_thresh"):
        value = section.get(name)
        if value is not None and not (is_number(value) and 0 < value < 1000):
            words, remedy = f"{value!r} is no number of photoelectrons", "give a threshold such as 8 or 4."
            problems.append(Problem("bad-value", f"{key}.{name}", words, remedy))
    return problems


def _nsb_problems(section: Any) -> list[Problem]:
    if not isinstance(section, dict):
        return []
    problems = []
    for key in (RATE_KEY, RATIO_KEY):
        value = section.get(key)
        if value is not None and not (is_number(value) and 0 <= value <= 20):
            problems.append(
                Problem(
                    "bad-value",
                    f"waveform_nsb_tuning.{key}",
                    f"{value!r} is no possible extra NSB",
                    "give a rate in GHz between 0 and 20 (the standard grid ends at 2.34).",
                )
            )
    return problems


def read_lstchain_config(path: Path) -> LstchainConfig:
    """Read an lstchain JSON.

    Raises
    ------
    ConfigError
        If it cannot be read or is no lstchain configuration.
    """
    return validate_lstchain_config(read_json(path), path)
