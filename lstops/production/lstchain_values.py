"""Values of an lstchain configuration that no version of lstchain can work with, or would read as something else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from lstops.production.documents import Problem

#: The sections with the image cleaning; where both are given, lstchain takes the second for real data only.
CLEANING = ("tailcut", "tailcuts_clean_with_pedestal_threshold")

# of a forest: the least value, and whether lstchain may also find null there
_FOREST_COUNTS = {"n_estimators": (1, False), "max_depth": (1, True), "n_jobs": (-1, True)}
_SWITCHES = (
    ("waveform_nsb_tuning", "nsb_tuning"),
    ("image_modifier", "increase_nsb"),
    ("image_modifier", "increase_psf"),
)


def is_number(value: Any) -> TypeGuard[int | float]:
    """Whether a value of a JSON is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def value_problems(content: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the values of a document whose keys are right."""
    for key, value in content.items():
        if key.startswith("random_forest_") and key.endswith("_args"):
            yield from _forest_problems(key, value)
        elif key.endswith("_features"):
            yield from _feature_problems(key, value)
    yield from _switch_problems(content)
    yield from _filter_problems(content.get("EventSelector"))
    yield from _threshold_problems(content)
    for place in _places_of_nan(content, ""):
        yield _bad(place, "nan is no value", "give a number, or remove the key.")


def _bad(place: str, message: str, remedy: str) -> Problem:
    return Problem("bad-value", place, message, remedy)


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
        if not isinstance(limits, list) or len(limits) != 2 or not all(is_number(limit) for limit in limits):
            yield _bad(f"EventSelector.filters.{name}", "must be two limits", f"write {name} like [0, Infinity].")


def _threshold_problems(content: Mapping[str, Any]) -> Iterator[Problem]:
    for key in CLEANING:
        section = content.get(key)
        if not isinstance(section, dict):
            continue
        picture, boundary = section.get("picture_thresh"), section.get("boundary_thresh")
        if is_number(picture) and is_number(boundary) and picture < boundary:
            yield _bad(
                f"{key}.picture_thresh",
                f"{picture:g} is below boundary_thresh, {boundary:g}",
                "give the higher threshold to the picture pixels.",
            )
    used = next((key for key in CLEANING if content.get(key)), next((key for key in CLEANING if key in content), None))
    section = content.get(used) if used else None
    if isinstance(section, dict):
        for name in ("picture_thresh", "boundary_thresh"):
            if name not in section:
                remedy = "add it: productions are told apart by their cleaning."
                yield Problem("missing-key", f"{used}.{name}", f"the key {name!r} is missing", remedy)


def _places_of_nan(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, float) and math.isnan(value):
        yield place
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _places_of_nan(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _places_of_nan(item, f"{place}[{index}]")
