"""The EventIO writer, byte by byte (what pyeventio reads is tested in tests/science)."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstops.simulate.eventio import pack_object, string, unsigned_varint, varint, varint_array


def _read_varints(data: bytes) -> list[int]:
    """An independent reader of signed variable-length numbers of up to three bytes."""
    values, i = [], 0
    while i < len(data):
        first = data[i]
        extra = 0 if first < 0x80 else 1 if first < 0xC0 else 2
        raw = first & (0x7F >> extra)
        for k in range(extra):
            raw = raw << 8 | data[i + 1 + k]
        i += 1 + extra
        values.append(-(raw >> 1) - 1 if raw & 1 else raw >> 1)
    return values


@given(st.lists(st.integers(-(2**20), 2**20 - 1)))
def test_varints_come_back(values: list[int]) -> None:
    data = varint_array(np.array(values, dtype=np.int64))
    assert _read_varints(data) == values
    assert data == b"".join(map(varint, values))


@pytest.mark.parametrize("value", [2**21, 2**30])
def test_a_number_that_does_not_fit_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        unsigned_varint(value)
    with pytest.raises(ValueError, match="too large"):
        varint_array(np.array([value]))


def test_header_of_a_top_level_object() -> None:
    data = pack_object(2010, 3, -7, b"abcd", top=True, only_subobjects=True)
    marker, type_, ident, length = struct.unpack("<IIiI", data[:16])
    assert marker == 0xD41F8A37
    assert type_ & 0xFFFF == 2010
    assert type_ >> 20 == 3
    assert ident == -7
    assert length == 4 | 1 << 30
    assert data[16:] == b"abcd"


def test_sub_object_has_no_marker() -> None:
    assert len(pack_object(2011, 1, 1, b"")) == 12


def test_string_has_its_length() -> None:
    assert string("LST") == b"\x03\x00LST"
