"""Simulated raw events (sim_telarray). Inputs only: lstops does not make them.

eventio is in the science environment only; elsewhere the beginning of the file is compared with what such files begin
with.
"""

from __future__ import annotations

import gzip
import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path

from lstops.errors import DataError
from lstops.step.model import Output
from lstops.step.verify import plain
from lstops.step.verify.common import Facts, InputFacts

_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP = b"\x1f\x8b"
#: synchronisation marker of eventio objects (pyeventio, eventio/constants.py)
_EVENTIO = (b"\x37\x8a\x1f\xd4", b"\xd4\x1f\x8a\x37")
_OBJECTS = 5


def inspect(path: Path) -> Facts:
    """Size of the file, and with eventio the types of its first objects.

    Raises
    ------
    DataError
        If it is empty, or does not begin as such a file does.
    """
    facts = plain.inspect(path)
    with path.open("rb") as stream:
        head = stream.read(4)
    try:
        if importlib.util.find_spec("eventio") is not None:
            from eventio import EventIOFile

            with EventIOFile(str(path)) as file:
                facts["objects"] = [type(o).__name__ for o in itertools.islice(file, _OBJECTS)]
            good = bool(facts["objects"])
        elif head.startswith(_GZIP):
            with gzip.open(path) as unpacked:
                good = unpacked.read(4) in _EVENTIO
        else:
            good = head in _EVENTIO or head == _ZSTD
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} cannot be read as simulated events ({error}).", "fetch the file again.") from error
    if not good:
        raise DataError(f"{path} holds no simulated events: it begins with {head!r}.", "fetch the file again.")
    return facts


def check(output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts:
    """Same as `inspect`."""
    return inspect(path)
