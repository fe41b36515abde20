"""Compares products by what they hold: every table and array, element by element."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

# nodes that say when and from which paths, not what
_CIRCUMSTANCES = ("/provenance", "/source_filenames")


def _equal(one: np.ndarray, other: np.ndarray, rtol: float = 0.0) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.names:
        return all(_equal(one[name], other[name], rtol) for name in one.dtype.names)
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    return np.allclose(one, other, rtol=rtol, atol=0.0, equal_nan=True)


def hdf5_differences(one: Path, other: Path) -> tuple[int, list[str]]:
    """Number of tables and arrays compared, and the names of those that differ or are missing in one of the files."""
    import tables

    found: list[dict[str, np.ndarray]] = []
    for path in (one, other):
        with warnings.catch_warnings(), tables.open_file(str(path)) as file:
            # texts of ctapipe's provenance, which PyTables cannot read
            warnings.filterwarnings("ignore", message="problems loading leaf")
            leaves = [n for n in file.walk_nodes("/", "Leaf") if not n._v_pathname.startswith(_CIRCUMSTANCES)]
            found.append({leaf._v_pathname: np.asarray(leaf.read()) for leaf in leaves})
    names = sorted(set(found[0]) | set(found[1]))
    differ = [n for n in names if n not in found[0] or n not in found[1] or not _equal(found[0][n], found[1][n])]
    return len(names), differ


#: keywords that say when, from where or (ours) with what a file was made, or (ours) what GADF demands and lstchain
#: leaves out; lstchain takes the angle to the geomagnetic field of the moment at which it runs
_SAID = re.compile(
    r"^(CREATED|DATE|B_DELTA|CREATOR|FILENAME|CONTACT|LSTOPS|MODELS|MODELSHA|CUTSET|CUTSHA|IRFNODES|IRF[NS]\d{4}|"
    r"LONGSTRN|INTCUT|RADESYS|EQUINOX)$"
)


def _header(hdu: Any) -> dict[str, Any]:
    return {key: value for key, value in hdu.header.items() if not _SAID.match(key)}


def fits_differences(one: Path, other: Path, rtol: float = 0.0) -> tuple[int, list[str]]:
    """Number of HDUs compared, and the names of those whose data (by more than `rtol`), columns or keywords differ."""
    from astropy.io import fits

    with fits.open(one) as left, fits.open(other) as right:
        names = [hdu.name for hdu in left]
        assert names == [hdu.name for hdu in right]
        pairs = list(zip(left, right, strict=True))
        differ = [a.name for a, b in pairs if not _equal(np.asarray(a.data), np.asarray(b.data), rtol)]
        differ += [f"header of {a.name}" for a, b in pairs if _header(a) != _header(b)]
        return len(names), differ
