"""Selection profiles: the cuts, as files in `config/profiles`."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from lstops.errors import ConfigError
from lstops.night.model import Night
from lstops.paths import config_dir
from lstops.plain_yaml import load_plain
from lstops.quality.quantities import RunTable
from lstops.site.model import describe

_UNITS = RunTable.units()
_ModelT = TypeVar("_ModelT", bound=BaseModel)


def _night_number(value: Any) -> Any:
    if value is None or isinstance(value, Night):
        return value
    try:
        return Night.parse(str(value))
    except ConfigError as error:
        raise ValueError(str(error)) from error


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Relation(str, Enum):
    """How a quantity is compared with its limit."""

    ABOVE = "above"
    BELOW = "below"
    NOT_ABOVE = "not_above"
    FROM = "from"
    UP_TO = "up_to"

    @property
    def words(self) -> str:
        """The relation as part of a sentence."""
        return {"above": "above", "below": "below", "not_above": "at most", "from": "at least", "up_to": "at most"}[
            self.value
        ]


class Limit(_Model):
    """One condition on one run-wise quantity.

    Exactly one of `above`, `below` and `not_above` is given. `above` and `below` are strict, and an unknown (NaN)
    quantity fails; `not_above` lets an unknown quantity pass. A limit of null is switched off until a request sets it.
    """

    quantity: str
    above: float | None = None
    below: float | None = None
    not_above: float | None = None
    unit: str = ""
    #: what failing it means, in words for a person
    failure: str
    #: the notebook's name of the limit, by which a request can change it
    variable: str | None = None
    #: first and last night for which it holds
    since: Night | None = None
    until: Night | None = None
    source: str = ""

    _nights = field_validator("since", "until", mode="before")(_night_number)

    @model_validator(mode="after")
    def _check(self) -> Limit:
        if self.quantity not in _UNITS:
            raise ValueError(f"unknown quantity {self.quantity!r}; known: {', '.join(_UNITS)}")
        if self.unit != _UNITS[self.quantity]:
            raise ValueError(
                f"{self.quantity} is in {_UNITS[self.quantity] or 'no unit'!r}, the limit in {self.unit or 'no unit'!r}"
            )
        if len(self.model_fields_set & {"above", "below", "not_above"}) != 1:
            raise ValueError(f"give exactly one of above, below, not_above for {self.quantity}")
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"the limit on {self.quantity} holds since {self.since} until {self.until}")
        return self

    @property
    def relation(self) -> Relation:
        """How the quantity is compared."""
        given = self.model_fields_set & {"above", "below", "not_above"}
        return Relation(next(iter(given)))

    @property
    def value(self) -> float | None:
        """The limit, None if switched off."""
        return {Relation.ABOVE: self.above, Relation.BELOW: self.below, Relation.NOT_ABOVE: self.not_above}[
            self.relation
        ]


class Cut(_Model):
    """A named cut: a request's dates, sky region or zenith range, or limits that all have to hold."""

    name: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    kind: Literal["dates", "sky_region", "zenith", "limits"] = "limits"
    #: of a zenith cut: which mean of the cosine of the zenith distance is compared
    quantity: Literal["mean_coszd", "mean_cos_zenith"] = "mean_cos_zenith"
    limits: tuple[Limit, ...] = ()
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> Cut:
        if (self.kind == "limits") != bool(self.limits):
            raise ValueError(
                f"cut {self.name!r} of kind {self.kind} {'needs' if not self.limits else 'takes no'} limits"
            )
        return self


class Mend(_Model):
    """A slip of the notebook that a profile mends."""

    name: str
    was: str
    now: str


class SampleRules(_Model):
    """How the NSB of the selected sample is found."""

    #: leave out runs without NSB from the median, instead of letting one make it unknown
    ignore_runs_without_nsb: bool = True
    #: take typical subruns from as many runs as possible, and by the selected runs alone
    spread_typical_subruns: bool = True
    n_typical_subruns: int = Field(default=5, gt=0)


class SubrunRules(_Model):
    """Which subruns of a run are good (see `lstops.quality.intervals`)."""

    min_r422: float = Field(gt=0, description="events/(s p.e.)")
    max_deviation_r422: float = Field(gt=0, description="distance from the centre of the fullest window")
    index: tuple[float, float]
    min_good_time_s: float = Field(default=60.0, ge=0, description="a run with less is lost")
    min_good_fraction: float = Field(default=0.5, ge=0, le=1, description="a run of which less is good is lost")


class Profile(_Model):
    """A set of cuts under a name."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    title: str
    source: str
    #: whether the profile reproduces the output of a published selection, keys included
    exact: bool = False
    sample: SampleRules = SampleRules()
    subruns: SubrunRules | None = None
    mends: tuple[Mend, ...] = ()
    cuts: tuple[Cut, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Profile:
        names = [cut.name for cut in self.cuts]
        if len(set(names)) < len(names):
            raise ValueError(f"cuts named twice: {sorted({name for name in names if names.count(name) > 1})}")
        return self

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the limits that a request can change."""
        return tuple(limit.variable for cut in self.cuts for limit in cut.limits if limit.variable)


def load_profile(name_or_path: str | Path, config: Path | None = None) -> Profile:
    """Load a profile by its name (a file of `config/profiles`) or from a path.

    Parameters
    ----------
    name_or_path : str or Path
        `standard`, or the path of a YAML file.
    config : Path, optional
        Configuration directory; found by `lstops.paths.config_dir` if not given.

    Raises
    ------
    ConfigError
        If there is no such profile, or its file is wrong (every mistake is named with its place).
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        folder = config_dir(config) / "profiles"
        path = folder / f"{name_or_path}.yaml"
        if not path.is_file():
            known = ", ".join(sorted(item.stem for item in folder.glob("*.yaml"))) or "none"
            raise ConfigError(f"There is no profile {str(name_or_path)!r} in {folder}.", f"Choose one of: {known}.")
    try:
        content = load_plain(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the profile {path}: {error.strerror}.", "Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The profile {path} is not YAML: {error}", "Correct the file.") from error
    profile = validated(Profile, content, f"profile {path}")
    if profile.name != path.stem:
        raise ConfigError(
            f"The profile {path} calls itself {profile.name!r}.", "Give the file and the profile the same name."
        )
    return profile


def validated(model: type[_ModelT], content: Any, what: str) -> _ModelT:
    """Return `content` as a model, or raise a ConfigError that names every mistake and its place."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"Wrong {what}: {describe(error)}.", "Correct the places named.") from error


def changed(profile: Profile, settings: dict[str, float | bool]) -> Profile:
    """Return the profile with limits changed by the names of their variables.

    A number replaces the limit; False switches it off and True leaves it as it is.

    Raises
    ------
    ConfigError
        For a name that no limit has.
    """
    unknown = sorted(set(settings) - set(profile.variables))
    if unknown:
        raise ConfigError(
            f"Profile {profile.name!r} has no limit called {', '.join(unknown)}.",
            f"It has: {', '.join(sorted(set(profile.variables)))}.",
        )
    cuts = []
    for cut in profile.cuts:
        limits = [_with_value(limit, settings) for limit in cut.limits]
        cuts.append(cut.model_copy(update={"limits": tuple(limits)}))
    return profile.model_copy(update={"cuts": tuple(cuts)})


def _with_value(limit: Limit, settings: dict[str, float | bool]) -> Limit:
    if limit.variable is None or limit.variable not in settings:
        return limit
    value = settings[limit.variable]
    if value is True:
        return limit
    if value is False or (limit.relation is Relation.NOT_ABOVE and math.isnan(value)):
        return limit.model_copy(update={limit.relation.value: None})
    return limit.model_copy(update={limit.relation.value: float(value)})
