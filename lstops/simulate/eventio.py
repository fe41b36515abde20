"""Write objects of the EventIO format (K. Bernloehr; layouts as read by pyeventio's simtel/objects.py)."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

SYNC_MARKER = b"\x37\x8a\x1f\xd4"
_ONLY_SUBOBJECTS = 1 << 30
_MAX_LENGTH = (1 << 30) - 1


def pack_object(
    type_: int, version: int, ident: int, payload: bytes, *, top: bool = False, only_subobjects: bool = False
) -> bytes:
    """One object: header and payload.

    Parameters
    ----------
    type_, version, ident : int
        EventIO type, version and identifier.
    payload : bytes
        Content, or the sub-objects one after the other.
    top : bool
        Whether it stands by itself in the file (with a synchronisation marker).

    Raises
    ------
    ValueError
        If the payload does not fit (1 GiB; the extension field is not written).
    """
    if len(payload) > _MAX_LENGTH:
        raise ValueError(f"EventIO object {type_} of {len(payload)} bytes is too long.")
    length = len(payload) | (_ONLY_SUBOBJECTS if only_subobjects else 0)
    header = struct.pack("<IiI", type_ | (version << 20), ident, length)
    return (SYNC_MARKER if top else b"") + header + payload


def string(text: str) -> bytes:
    """A string with a 16-bit length."""
    data = text.encode()
    return struct.pack("<h", len(data)) + data


def unsigned_varint(value: int) -> bytes:
    """An unsigned number of variable length (below 2^21)."""
    if value < 0x80:
        return bytes([value])
    if value < 0x4000:
        return bytes([0x80 | value >> 8, value & 0xFF])
    if value < 0x200000:
        return bytes([0xC0 | value >> 16, (value >> 8) & 0xFF, value & 0xFF])
    raise ValueError(f"{value} is too large for a variable-length number of three bytes.")


def varint(value: int) -> bytes:
    """A signed number of variable length."""
    return unsigned_varint(((-value - 1) << 1) | 1 if value < 0 else value << 1)


def var_string(text: str) -> bytes:
    """A string with a length of variable length."""
    data = text.encode()
    return unsigned_varint(len(data)) + data


def varint_array(values: npt.NDArray[Any]) -> bytes:
    """Signed numbers of variable length, one after the other (three bytes each at most)."""
    signed = values.astype(np.int64).ravel()
    folded = np.where(signed < 0, ((-signed - 1) << 1) | 1, signed << 1)
    if folded.size and folded.max() >= 0x200000:
        raise ValueError(f"{folded.max()} is too large for a variable-length number of three bytes.")
    size = np.where(folded < 0x80, 1, np.where(folded < 0x4000, 2, 3))
    end = np.cumsum(size)
    start = end - size
    out = np.zeros(int(end[-1]) if end.size else 0, dtype=np.uint8)
    one, two, three = (size == n for n in (1, 2, 3))
    out[start[one]] = folded[one]
    out[start[two]] = 0x80 | (folded[two] >> 8)
    out[start[two] + 1] = folded[two] & 0xFF
    out[start[three]] = 0xC0 | (folded[three] >> 16)
    out[start[three] + 1] = (folded[three] >> 8) & 0xFF
    out[start[three] + 2] = folded[three] & 0xFF
    return out.tobytes()


def floats(values: Any) -> bytes:
    """Single-precision numbers."""
    return np.asarray(values, dtype="<f4").tobytes()


def shorts(values: Any) -> bytes:
    """16-bit integers."""
    return np.asarray(values, dtype="<i2").tobytes()


def ints(*values: int) -> bytes:
    """32-bit integers."""
    return struct.pack(f"<{len(values)}i", *values)
