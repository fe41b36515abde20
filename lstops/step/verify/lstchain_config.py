"""lstchain's JSON configurations.

`expect` of an output may hold `sections` (names that must be there) and `values` ("section.key": value).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lstops.errors import DataError
from lstops.step.model import Output
from lstops.step.verify.common import MAKE_AGAIN, Facts, InputFacts, refuse

#: blocks whose numbers are worth having in the manifest
_TUNING = ("waveform_nsb_tuning", "image_modifier")


def inspect(path: Path) -> Facts:
    """Names of the sections, and the NSB tuning.

    Raises
    ------
    DataError
        If it is no JSON object or has no sections.
    """
    document = read_config(path)
    facts: Facts = {"sections": sorted(document)}
    for name in _TUNING:
        if isinstance(document.get(name), dict):
            facts[name] = document[name]
    return facts


def check(output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts:
    """Same as `inspect`, with what is expected.

    Raises
    ------
    DataError
        If a section is missing or a value differs.
    """
    facts = inspect(path)
    document = read_config(path)
    findings = [f"section {name!r} is missing" for name in output.expect.get("sections", ()) if name not in document]
    for dotted, wanted in output.expect.get("values", {}).items():
        found = _value(document, dotted)
        if found != wanted:
            findings.append(f"{dotted} is {found!r}, not {wanted!r}")
    refuse(path, findings, "correct the configuration or the step that writes it.")
    return facts


def read_config(path: Path) -> dict[str, Any]:
    """The whole configuration.

    Raises
    ------
    DataError
        If it is no JSON object or has no sections.
    """
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}).", MAKE_AGAIN) from error
    if not isinstance(document, dict) or not document:
        raise DataError(f"{path} is no JSON object with sections.", MAKE_AGAIN)
    return document


def _value(document: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        if not isinstance(document, dict) or key not in document:
            return None
        document = document[key]
    return document
