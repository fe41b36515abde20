"""Names of targets and where they are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lstops.errors import ConfigError
from lstops.paths import config_dir
from lstops.plain_yaml import load_plain
from lstops.quality.profiles import validated

_SEXAGESIMAL = re.compile(
    r"(\d{1,2})[h:\s]\s*(\d{1,2})[m:\s]\s*(\d{1,2}(?:\.\d*)?)s?(?:\s*,\s*|\s+|(?=[-+]))"
    r"([-+]?)(\d{1,2})[d°:\s]\s*(\d{1,2})[m'′:\s]\s*(\d{1,2}(?:\.\d*)?)[s\"″]?"
)


@dataclass(frozen=True)
class Position:
    """A place in the sky.

    Parameters
    ----------
    name : str
        Of the target list, or the text that gave the coordinates.
    ra_deg, dec_deg : float
        ICRS.
    """

    name: str
    ra_deg: float
    dec_deg: float


class Target(BaseModel):
    """An entry of the target list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    aliases: tuple[str, ...] = ()
    ra_deg: float = Field(ge=0, lt=360, allow_inf_nan=False)
    dec_deg: float = Field(ge=-90, le=90, allow_inf_nan=False)


class TargetList(BaseModel):
    """The targets of a site."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[Target, ...]

    @model_validator(mode="after")
    def _check(self) -> TargetList:
        owner: dict[str, str] = {}
        for target in self.targets:
            for name in (target.name, *target.aliases):
                if owner.setdefault(_plain(name), target.name) != target.name:
                    raise ValueError(f"{name!r} names both {owner[_plain(name)]!r} and {target.name!r}")
        return self

    def find(self, text: str) -> Position:
        """Return where a target is.

        Parameters
        ----------
        text : str
            A name or alias, or right ascension and declination in degrees, "83.63 22.01", or in hours and degrees,
            "05:34:32 +22:00:52" (also "05h34m32s +22d00m52s" and with blanks).

        Raises
        ------
        ConfigError
            For an unknown name and for impossible coordinates.
        """
        target = self._named(text)
        return Position(target.name, target.ra_deg, target.dec_deg) if target else self._position(text)

    def spelling(self, text: str) -> str:
        """Return the one way to write a target: its name in the list; of anything else the text with single blanks."""
        target = self._named(text)
        return target.name if target else " ".join(text.replace(",", " ").split())

    def _named(self, text: str) -> Target | None:
        wanted = _plain(text)
        known = (t for t in self.targets if wanted in map(_plain, (t.name, *t.aliases)))
        return next(known, None)

    def _position(self, text: str) -> Position:
        found = _coordinates(text)
        if found is None:
            names = {_plain(name): target.name for target in self.targets for name in (target.name, *target.aliases)}
            near = dict.fromkeys(names[name] for name in get_close_matches(_plain(text), names, n=4, cutoff=0.5))
            known = near or dict.fromkeys(target.name for target in self.targets)
            raise ConfigError(
                f"The target {text!r} is unknown.",
                f"{'Did you mean' if near else 'Choose one of'}: {', '.join(known)}? "
                'Or give "ra dec", in degrees (83.63 22.01) or hours and degrees (05:34:32 +22:00:52).',
            )
        ra_deg, dec_deg = found
        if not (0 <= ra_deg < 360 and -90 <= dec_deg <= 90):
            raise ConfigError(
                f"There is no right ascension {ra_deg} with declination {dec_deg} (degrees).",
                "Give 0 to 360 and -90 to 90 degrees.",
            )
        return Position(text, ra_deg, dec_deg)


def load_targets(path: Path | None = None) -> TargetList:
    """Load a target list; that of the configuration directory if no file is named.

    Raises
    ------
    ConfigError
        If the file is missing or wrong.
    """
    path = path or config_dir() / "targets.yaml"
    try:
        content = load_plain(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"Cannot read the target list {path}: {error.strerror}.", "Check the path.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"The target list {path} is not YAML: {error}", "Correct the file.") from error
    return validated(TargetList, content, f"target list {path}")


def _plain(name: str) -> str:
    # a hyphen between letters or digits is a matter of taste ("Mrk-421"), before digits of a designation it is a sign
    text = re.sub(r"[\s_]+", "", name).casefold()
    return re.sub(r"(?<=[a-z])-(?=[0-9a-z])", "", text)


def _coordinates(text: str) -> tuple[float, float] | None:
    """Return right ascension and declination in degrees; None if the text is no pair of coordinates."""
    if match := _SEXAGESIMAL.fullmatch(text.strip()):
        hours, minutes, seconds, sign, degrees, arcmin, arcsec = match.groups()
        if max(float(part) for part in (minutes, seconds, arcmin, arcsec)) >= 60:
            raise ConfigError(
                f"{text!r} is no position: minutes and seconds go to 60.", "Give it like 05:34:32 +22:00:52."
            )
        ra_deg = 15 * (int(hours) + int(minutes) / 60 + float(seconds) / 3600)
        dec_deg = int(degrees) + int(arcmin) / 60 + float(arcsec) / 3600
        return ra_deg, -dec_deg if sign == "-" else dec_deg
    parts = text.replace(",", " ").split()
    if len(parts) != 2:
        return None
    try:
        return float(parts[0]), float(parts[1])
    except ValueError:
        return None
