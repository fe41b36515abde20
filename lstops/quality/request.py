"""What a person asks of the selection: source, dates, zenith range, changed limits."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lstops.errors import ConfigError
from lstops.quality.profiles import validated

#: Dates that stand for no bound (as in the notebook).
NO_FIRST_DATE, NO_LAST_DATE = 0, 29990101
# Limits that a request changes by a field of its own; the variables are the notebook's.
_NSB = "max_diffuse_nsb_std"
_THRESHOLD = "max_intensity_at_half_peak_rate"
_NUMBER = re.compile(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?|(?:np\.)?nan)\s*(?:\*\s*u\.deg)?\s*")


class SelectionRequest(BaseModel):
    """A request to the run selection.

    All ranges of numbers are in ascending order. Dates are nights as whole numbers YYYYMMDD, both included; 0 and
    29990101 stand for no bound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    source_ra_deg: float | None = Field(default=None, ge=0, lt=360, allow_inf_nan=False)
    source_dec_deg: float | None = Field(default=None, ge=-90, le=90, allow_inf_nan=False)
    angle_to_source_deg: tuple[float, float] = (0.35, 0.45)
    zenith_deg: tuple[float, float] = (0.0, 75.0)
    dates: tuple[int, int] = (NO_FIRST_DATE, NO_LAST_DATE)
    max_diffuse_nsb_std_pe: float | None = None
    max_intensity_at_half_peak_rate_pe: float | None = None
    #: limits of the profile by the notebook's names; numbers, or text as it stands in the notebook
    settings: dict[str, bool | float | str | None] = Field(default_factory=dict, alias="set")

    @field_validator("settings")
    @classmethod
    def _check_settings(cls, value: dict[str, bool | float | str | None]) -> dict[str, bool | float | str | None]:
        for name, item in value.items():
            _parsed(name, item)
        return value

    @model_validator(mode="after")
    def _check(self) -> SelectionRequest:
        if (self.source_ra_deg is None) != (self.source_dec_deg is None):
            raise ValueError("source_ra_deg and source_dec_deg are given together or not at all")
        for name in ("angle_to_source_deg", "zenith_deg", "dates"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"{name} is the wrong way round: {low} is not below {high}")
        low, high = self.zenith_deg
        if low < 0 or high > 180:
            raise ValueError(f"zenith_deg reaches beyond 0 to 180: {low}, {high}")
        return self

    @property
    def source_deg(self) -> tuple[float, float] | None:
        """Right ascension and declination of the source, None for the whole sky."""
        if self.source_ra_deg is None or self.source_dec_deg is None:
            return None
        return self.source_ra_deg, self.source_dec_deg

    def changes(self) -> dict[str, float | bool]:
        """Return the limits that the request changes, by the names of their variables."""
        own = {_NSB: self.max_diffuse_nsb_std_pe, _THRESHOLD: self.max_intensity_at_half_peak_rate_pe}
        changes: dict[str, float | bool] = {name: value for name, value in own.items() if value is not None}
        return changes | {name: _parsed(name, value) for name, value in self.settings.items()}


def load_request(path: Path) -> SelectionRequest:
    """Read a request from a JSON file.

    Raises
    ------
    ConfigError
        If the file is missing, is no JSON object or is wrong (every mistake is named with its place).
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the request {path}: {error.strerror}.", "Check the path.") from error
    except ValueError as error:
        raise ConfigError(f"The request {path} is not JSON: {error}.", "Correct the file.") from error
    return validated(SelectionRequest, content, f"request {path}")


def _parsed(name: str, value: bool | float | str | None) -> float | bool:
    """Return a setting as a number or a truth value; the notebook's settings are Python text such as `0.01 * u.deg`."""
    if isinstance(value, (bool, int, float)):
        return value
    text = str(value).strip()
    if text in ("True", "False"):
        return text == "True"
    if text == "None":
        return False
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"set.{name}: {value!r} is neither a number nor True or False")
    return float(match.group(1).removeprefix("np."))
