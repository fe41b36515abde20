"""Reads the lstchain JSON of a production, and says what in it no version of lstchain knows or can work with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from lstops.production.documents import InvalidProductionError, Problem, read_json, unknown_key
from lstops.production.lstchain_config import IRF_SECTIONS, RATE_KEY, RATIO_KEY, LstchainConfig

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

#: The sections with the image cleaning; where both are given, lstchain takes the second for real data only.
_CLEANING = ("tailcut", "tailcuts_clean_with_pedestal_threshold")
_THRESHOLDS = ("picture_thresh", "boundary_thresh")

# of a forest: the least value, and whether lstchain may also find null there
_FOREST_COUNTS = {"n_estimators": (1, False), "max_depth": (1, True), "n_jobs": (-1, True)}
_SWITCHES = (
    ("waveform_nsb_tuning", "nsb_tuning"),
    ("image_modifier", "increase_nsb"),
    ("image_modifier", "increase_psf"),
)


def read_lstchain_config(path: Path) -> LstchainConfig:
    """Read an lstchain JSON.

    Raises
    ------
    ConfigError
        If it cannot be read or is no lstchain configuration.
    """
    return validate_lstchain_config(read_json(path), path)


def validate_lstchain_config(content: dict[str, Any], where: Path | str) -> LstchainConfig:
    """Check that a mapping is an lstchain configuration.

    Raises
    ------
    InvalidProductionError
        If it is none, or has a key that no version of lstchain knows or a value that none can work with.
    """
    first: dict[str, Problem] = {}
    for problem in _problems(content):
        first.setdefault(problem.place, problem)  # what else is wrong at a place follows from the first
    if first:
        raise InvalidProductionError(where, list(first.values()))
    return LstchainConfig(content=content)


def _problems(content: Mapping[str, Any]) -> Iterator[Problem]:
    for key in content:
        if key not in KNOWN_KEYS and not key[:1].isupper():
            yield unknown_key(key, key, KNOWN_KEYS)
    if not any(key in content for key in _CLEANING):
        yield Problem(
            "no-lstchain-config",
            "file",
            "is no lstchain configuration: it has no image cleaning (tailcut)",
            "make one with `lstchain_dump_config --mc --output-file CONFIG.json`.",
        )
    for key in ("waveform_nsb_tuning", "image_modifier", *IRF_SECTIONS, *_CLEANING):
        if not isinstance(content.get(key), (dict, type(None))):
            yield _bad(key, "must be a section", f"make {key} a mapping of settings.")
    yield from _cleaning_problems(content)
    yield from _nsb_problems(content.get("waveform_nsb_tuning"))
    for key, value in content.items():
        if key.startswith("random_forest_") and key.endswith("_args"):
            yield from _forest_problems(key, value)
        elif key.endswith("_features"):
            yield from _feature_problems(key, value)
    yield from _switch_problems(content)
    yield from _filter_problems(content.get("EventSelector"))
    for place in _places_of_nan(content, ""):
        yield _bad(place, "nan is no value", "give a number, or remove the key.")


def _is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value of a JSON is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _bad(place: str, message: str, remedy: str) -> Problem:
    return Problem("bad-value", place, message, remedy)


def _cleaning_problems(content: Mapping[str, Any]) -> Iterator[Problem]:
    for key in _CLEANING:
        section = content.get(key)
        if not isinstance(section, dict):
            continue
        for name in _THRESHOLDS:
            value = section.get(name)
            if value is not None and not (_is_number(value) and 0 < value < 1000):
                words = f"{value!r} is no number of photoelectrons"
                yield _bad(f"{key}.{name}", words, "give a threshold such as 8 or 4.")
        picture, boundary = (section.get(name) for name in _THRESHOLDS)
        if _is_number(picture) and _is_number(boundary) and picture < boundary:
            words = f"{picture:g} is below boundary_thresh, {boundary:g}"
            yield _bad(f"{key}.picture_thresh", words, "give the higher threshold to the picture pixels.")
    used = next((key for key in _CLEANING if content.get(key)), None)
    used = used or next((key for key in _CLEANING if key in content), None)
    section = content.get(used) if used else None
    if isinstance(section, dict):
        for name in _THRESHOLDS:
            if name not in section:
                remedy = "add it: productions are told apart by their cleaning."
                yield Problem("missing-key", f"{used}.{name}", f"the key {name!r} is missing", remedy)


def _nsb_problems(section: Any) -> Iterator[Problem]:
    for key in (RATE_KEY, RATIO_KEY) if isinstance(section, dict) else ():
        value = section.get(key)
        if value is not None and not (_is_number(value) and 0 <= value <= 20):
            yield _bad(
                f"waveform_nsb_tuning.{key}",
                f"{value!r} is no possible extra NSB",
                "give a rate in GHz between 0 and 20 (the standard grid ends at 2.34).",
            )


def _forest_problems(key: str, forest: Any) -> Iterator[Problem]:
    if not isinstance(forest, dict):
        yield _bad(key, "must be a section", f"make {key} a mapping of settings.")
        return
    for name, (least, or_null) in _FOREST_COUNTS.items():
        value = forest.get(name)
        is_count = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if name in forest and not (is_count and value != 0) and not (or_null and value is None):
            yield _bad(f"{key}.{name}", f"{value!r} is no possible {name}", "give a whole number, e.g. 50.")


def _feature_problems(key: str, features: Any) -> Iterator[Problem]:
    if not isinstance(features, list) or not features or not all(isinstance(name, str) and name for name in features):
        yield _bad(key, "must be a list of names", f'write {key} like ["log_intensity", "width"].')
    elif len(set(features)) < len(features):
        yield _bad(key, "names a feature twice", "leave each feature in once.")


def _switch_problems(content: Mapping[str, Any]) -> Iterator[Problem]:
    for section, key in _SWITCHES:
        settings = content.get(section)
        if isinstance(settings, dict) and not isinstance(settings.get(key, False), bool):
            # lstchain asks whether the value is empty: "false" is not
            yield _bad(f"{section}.{key}", f"{settings[key]!r} is neither true nor false", "write true or false.")


def _filter_problems(section: Any) -> Iterator[Problem]:
    filters = section.get("filters", {}) if isinstance(section, dict) else {}
    if not isinstance(filters, dict):
        yield _bad("EventSelector.filters", "must be a section", "give each parameter its limits.")
        return
    for name, limits in filters.items():
        if not isinstance(limits, list) or len(limits) != 2 or not all(_is_number(limit) for limit in limits):
            yield _bad(f"EventSelector.filters.{name}", "must be two limits", f"write {name} like [0, Infinity].")


def _places_of_nan(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, float) and math.isnan(value):
        yield place
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _places_of_nan(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places_of_nan(item, f"{place}[{index}]")
