"""The `options` of steps, which lstmcpipe gives to lstchain's scripts as they are: as words, checked by name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from functools import lru_cache

from lstops.errors import ConfigError
from lstops.production.documents import nearest

#: Options of lstchain_create_irf_files (tools/lstchain_create_irf_files.py, 0.7 to 0.12) that take a value.
_IRF_VALUES = frozenset(
    {
        "allowed-tels",
        "alpha-containment",
        "fixed-gh-cut",
        "fixed-theta-cut",
        "gh-efficiency",
        "global-alpha-cut",
        "global-gh-cut",
        "global-theta-cut",
        "irf-obs-time",
        "l",
        "log-file",
        "log-file-level",
        "log-level",
        "provenance-log",
        "scale-true-energy",
        "theta-containment",
    }
)
_IRF_NUMBERS = _IRF_VALUES - {"allowed-tels", "l", "log-file", "log-file-level", "log-level", "provenance-log"}
_IRF_FLAGS = frozenset(
    {
        "debug",
        "energy-dependent-alpha",
        "energy-dependent-gh",
        "energy-dependent-theta",
        "overwrite",
        "point-like",
        "q",
        "quiet",
        "source-dep",
        "v",
        "verbose",
    }
)
#: What the step's own keys say already.
_IRF_TAKEN = frozenset(
    {
        "c",
        "config",
        "e",
        "g",
        "input-electron-dl2",
        "input-gamma-dl2",
        "input-proton-dl2",
        "o",
        "output-irf-file",
        "p",
    }
)
# traitlets takes every setting of these classes by its full name, too
_IRF_TRAIT = re.compile(r"^(?:EventSelector|DL3Cuts|DataBinning)\.\w+$|^IRFFITSWriter\.(?!input_|output_)\w+$")


@lru_cache(maxsize=64)
def option_words(options: str) -> tuple[str, ...]:
    """Options as words; those of a thousand steps are the same.

    Raises
    ------
    ConfigError
        If a quote is not closed.
    """
    try:
        return tuple(shlex.split(options))
    except ValueError as error:
        raise ConfigError(f"{options!r} cannot be read: {error}.", "close the quote, or remove it.") from None


def merge_options(options: str) -> tuple[str, bool]:
    """The pattern of the files to merge, and whether to leave images out.

    Raises
    ------
    ConfigError
        For options that a plan does not carry over.
    """
    pattern, no_images, words = "*.h5", False, list(option_words(options))
    while words:
        word = words.pop(0)
        if word in ("--pattern", "-p") and words:
            pattern = words.pop(0)
        elif word == "--no-image":
            no_images = True
        elif word not in ("--no-progress", "--skip-checks"):  # every merge of a plan has these
            raise ConfigError(
                f"the option {word!r} of lstchain_merge_hdf5_files cannot be planned.",
                "use --pattern PATTERN and --no-image only.",
            )
    if pattern.startswith("/") or ".." in pattern.split("/"):
        raise ConfigError(f"the pattern {pattern!r} leaves the folder.", "give a pattern below the input folder.")
    return pattern, no_images


@lru_cache(maxsize=64)
def irf_options(options: str) -> tuple[str, ...]:
    """The words for lstchain_create_irf_files.

    Raises
    ------
    ConfigError
        For options that it does not have, or that the step itself gives.
    """
    words = option_words(options)
    rest = iter(words)
    for word in rest:
        name, _, value = word.lstrip("-").partition("=")
        if not word.startswith("-") or not name:
            raise ConfigError(f"{word!r} belongs to no option of lstchain_create_irf_files.", "remove it.")
        _check_irf_option(word.partition("=")[0], name, value, rest)
    return words


def _check_irf_option(word: str, name: str, value: str, rest: Iterator[str]) -> None:
    if name in _IRF_TAKEN:
        raise ConfigError(
            f"{word} is given by the step's input and output already.", f"remove {word}, or correct input and output."
        )
    if name in _IRF_VALUES:
        value = value or next(rest, "")
        if not value or value.startswith("--") or (name in _IRF_NUMBERS and not _is_number(value)):
            wanted = "number" if name in _IRF_NUMBERS else "value"
            raise ConfigError(f"{word} needs a {wanted}" + (f", not {value!r}." if value else "."), "add it.")
    elif name not in _IRF_FLAGS and not _IRF_TRAIT.match(name):
        best = nearest(name, _IRF_VALUES | _IRF_FLAGS)
        raise ConfigError(
            f"lstchain_create_irf_files has no option {word}" + (f", the nearest is --{best}." if best else "."),
            f"write --{best}, or remove it." if best else "remove it.",
        )


def _is_number(text: str) -> bool:
    try:
        return float(text) == float(text)
    except ValueError:
        return False
