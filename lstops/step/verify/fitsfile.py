"""Reading FITS files completely, so that a truncated one is never taken for a whole one."""

from __future__ import annotations

import gzip
import io
import warnings
import zlib
from pathlib import Path

from astropy.io import fits

from lstops.errors import DataError
from lstops.step.verify.common import MAKE_AGAIN


def read(path: Path) -> fits.HDUList:
    """All HDUs of a FITS file (plain or gzip), data loaded into memory.

    Raises
    ------
    DataError
        If it is missing, empty, truncated at any place, or damaged.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist or is not a file.", "restore it, or run the step that makes it.")
    raw = path.read_bytes()
    if not raw:
        raise DataError(f"{path} is empty (0 bytes).", MAKE_AGAIN)
    try:
        if path.name.endswith(".gz"):
            raw = gzip.decompress(raw)
        # astropy only warns of a file that ends too early
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            hdus = fits.open(io.BytesIO(raw), memmap=False, lazy_load_hdus=False)
            places = [hdu.fileinfo() for hdu in hdus]
            for hdu in hdus:
                # loads the data: a table cut short raises here
                _ = hdu.data
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError) as error:
        raise DataError(f"{path} cannot be read as FITS ({error}): it is truncated or damaged.", MAKE_AGAIN) from error
    cut = [str(w.message) for w in caught if "truncated" in str(w.message).lower()]
    expected = max((place["datLoc"] + place["datSpan"] for place in places), default=0)
    if cut or expected != len(raw):
        raise DataError(f"{path} is truncated or damaged: {len(raw)} bytes, {expected} announced.", MAKE_AGAIN)
    if not hdus or not raw.startswith(b"SIMPLE"):
        raise DataError(f"{path} is not a FITS file.", MAKE_AGAIN)
    return hdus


def by_class(hdus: fits.HDUList, name: str) -> list[fits.BinTableHDU]:
    """HDUs whose most specific GADF class (HDUCLAS4, else HDUCLAS1) is `name`."""
    return [h for h in hdus if h.header.get("HDUCLAS4", h.header.get("HDUCLAS1")) == name]


def by_name(hdus: fits.HDUList, name: str) -> fits.BinTableHDU | None:
    """The table HDU called `name`, or None."""
    return next((h for h in hdus if h.name == name and isinstance(h, fits.BinTableHDU)), None)
