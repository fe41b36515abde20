"""Reading and writing the two documents of a production: YAML for lstmcpipe, JSON for lstchain.

lstmcpipe reads YAML 1.2 (ruamel), where `10:00:00` and `2024-01-22` are texts and `010` is ten; PyYAML's own rules are
those of YAML 1.1, where a time limit would become a number of seconds. So the loader here resolves scalars by 1.2.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from lstops.errors import ConfigError

# the C parser reads the largest real configuration (26 410 lines) about ten times faster
_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BaseDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _Loader(_BaseLoader):  # type: ignore[misc]
    """YAML 1.2 scalars; a key given twice is an error, as for lstmcpipe."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # which the constructor refuses
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_integer(self, node: Any) -> int:
        text = self.construct_scalar(node)
        return int(text, 0) if text.lstrip("+-")[:2] in ("0x", "0o") else int(text)


# tag, pattern, characters that such a scalar can begin with ("" for the empty one)
_SCALARS: tuple[tuple[str, re.Pattern[str], list[str]], ...] = (
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), [*"~nN", ""]),
    ("int", re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    (
        "float",
        re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$"),
        list("-+0123456789."),
    ),
    ("merge", re.compile(r"^<<$"), ["<"]),
)
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _pattern, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)

# ruamel takes these for whole numbers too
_NUMBER_FOR_RUAMEL = re.compile(r"^[-+]?(?:0[ob])?[0-9_]+$")


class _Dumper(_BaseDumper):  # type: ignore[misc]
    """Quotes what any reader would not read back as text; PyYAML itself quotes by YAML 1.1 only."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, value: str) -> Any:
    quote = _NUMBER_FOR_RUAMEL.match(value) or any(pattern.match(value) for _, pattern, _ in _SCALARS)
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="'" if quote else None)


_Dumper.add_representer(str, _text)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that makes a document unreadable as a production.

    Attributes
    ----------
    code : str
        Stable, as in the findings of `lstops production lint`.
    place : str
        Where in the document, e.g. ``stages.merge_dl1[3].ouput``.
    """

    code: str
    place: str
    message: str
    remedy: str


class InvalidProductionError(ConfigError):
    """A configuration that is not one; `problems` lists every cause."""

    def __init__(self, where: Path | str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        shown = self.problems[:5]
        more = f" (and {len(self.problems) - len(shown)} more)" if len(self.problems) > len(shown) else ""
        super().__init__(
            f"{where}: " + "; ".join(f"{p.place}: {p.message}" for p in shown) + more + ".",
            " ".join(dict.fromkeys(p.remedy for p in shown)),
        )


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that looks most like a wrong one, or None if nothing is near."""
    found = get_close_matches(word.lower(), list(known), n=1, cutoff=0.55)
    return found[0] if found else None


def unknown_key(place: str, key: str, known: Iterable[str]) -> Problem:
    """A wrong key, with the nearest right one."""
    names = sorted(known)
    best = nearest(key, names)
    return Problem(
        "unknown-key",
        place,
        f"unknown key {key!r}" + (f", the nearest right one is {best!r}" if best else ""),
        f"write {best!r} instead of {key!r}, or remove it." if best else f"remove it; known keys: {', '.join(names)}.",
    )


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a model as the document writes them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel] | None, key: int | str) -> type[BaseModel] | None:
    """The model of the field `key`, seen through Optional and tuple; None where there is no single one."""
    if model is None or isinstance(key, int):
        return model
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            pending, found = [field.annotation], []
            while pending:
                kind = pending.pop()
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    found.append(kind)
                pending.extend(get_args(kind))
            return found[0] if len(found) == 1 else None
    return None


# how pydantic calls the kinds of a value that may be of several
_UNION_TAGS = ("str", "int", "float", "bool", "dict[str,any]")


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Translate pydantic's errors; a wrong key comes with the nearest right one."""
    problems: dict[str, Problem] = {}
    for item in error.errors(include_url=False):
        place = last = ""
        holder: type[BaseModel] | None = model
        at: type[BaseModel] | None = model
        for key in item["loc"]:
            if at is None and key in _UNION_TAGS:
                continue  # the kind that pydantic tried, not a key of the document
            place += f"[{key}]" if isinstance(key, int) else f".{key}" if place else str(key)
            last = f"{last}[{key}]" if isinstance(key, int) else str(key)
            holder, at = at, _model_at(at, key)
        place = place or "file"
        if item["type"] == "extra_forbidden":
            problem = unknown_key(place, last, keys_of(holder) if holder else ())
        elif item["type"] == "missing":
            problem = Problem("missing-key", place, f"the key {last!r} is missing", f"add {last!r}.")
        elif item["type"] == "tuple_type":
            problem = Problem("not-a-list", place, "must be a list", f"begin each entry of {last} with a dash.")
        else:
            given = "" if isinstance(item["input"], (dict, list)) else f", not {item['input']!r}"
            before = f"{problems[place].message.removesuffix(given)} or " if place in problems else ""
            message = f"{before}{item['msg'].removeprefix('Input should be ') if before else item['msg']}{given}"
            problem = Problem("bad-value", place, message, f"correct the value of {last or 'the document'}.")
        problems[place] = problem
    return list(problems.values())


# far beyond any configuration, and well below where Python's own recursion ends
_DEEPEST = 100


def _read_text(path: Path, code: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}.", "correct the path.") from error
    except UnicodeDecodeError as error:
        problem = Problem(code, "file", f"is not a text file: {error}", "give the configuration, not a data file.")
        raise InvalidProductionError(path, [problem]) from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping by the rules of YAML 1.2.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no YAML, holds a key twice or is no mapping.
    """
    try:
        # the loader is a SafeLoader: it makes plain data only
        document = yaml.load(_read_text(path, "not-yaml"), Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidProductionError(path, [Problem("not-yaml", "file", str(error), "correct the file.")]) from error
    return _mapping(document, path, "YAML")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ConfigError
        If the file cannot be read, is no JSON or no object, or holds a key twice.
    """
    try:
        document = json.loads(_read_text(path, "not-json"), object_pairs_hook=_unique)
        _check_depth(document)
    except (ValueError, RecursionError) as error:
        raise InvalidProductionError(path, [Problem("not-json", "file", str(error), "correct the file.")]) from error
    return _mapping(document, path, "JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON; of two values of one key Python would take the last one in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return found


def _check_depth(document: Any) -> None:
    level = [document]
    for _ in range(_DEEPEST):
        level = [
            item
            for value in level
            if isinstance(value, (dict, list))
            for item in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise ValueError(f"has values in more than {_DEEPEST} others")


def _mapping(document: Any, path: Path, kind: str) -> dict[str, Any]:
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        problem = Problem("bad-value", "file", f"is no {kind} mapping of names to values", "give a configuration file.")
        raise InvalidProductionError(path, [problem])
    return document


def yaml_text(document: dict[str, Any], comment: str = "") -> str:
    """YAML that ruamel (1.2) and PyYAML (1.1) read alike; `comment` lines come first."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    body: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=100_000, allow_unicode=True)
    return head + body


def write_atomically(path: Path, text: str, overwrite: bool = False) -> None:
    """Write a text file so that nobody ever sees half of it.

    Raises
    ------
    ConfigError
        If it exists and `overwrite` is not set, or cannot be written.
    """
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            if overwrite:
                os.replace(file.name, path)
                # the context manager removes its file; leave it an empty one to remove
                Path(file.name).touch()
            else:
                os.link(file.name, path)  # fails if the target exists, without a moment between look and write
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already.", "choose another name; published files stay.") from error
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}.", "check the folder and its permissions.") from error
