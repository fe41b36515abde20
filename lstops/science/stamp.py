"""Write into a product what it was made with, for whoever has only the file.

`python -m lstops.science.stamp [--cuts CUTS] FILE KEY=VALUE ...`

A FITS file gets the keys as keywords of its primary header and of EVENTS, an HDF5 file as attributes LSTOPS_KEY of its
root group; with them goes the version of lstops (LSTOPS, LSTOPS_VERSION). Contents are not touched.

Of a cut set the digest is written (CUTSHA) and, if it is that of one run, its intensity cut in p.e. (INTCUT).

From a FITS file the moment at which it was made is taken out (it is in the manifest): made again from the same inputs,
the file has the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import lstops
from lstops.errors import DataError
from lstops.science.command import exit_with

#: keywords of FITS; lstchain and GADF use none of those that `reduction.plan` names
_KEY = re.compile(r"^[A-Z][A-Z0-9]{0,7}$")
_HDUS = ("PRIMARY", "EVENTS")
#: a text that does not fit into a card goes on in the next one, which LONGSTRN announces (OGIP)
_CARD = 68
#: where lstchain and pyirf note when they wrote a table
_WHEN = ("CREATED", "DATE")


def stamp(path: Path, values: Mapping[str, str | float]) -> None:
    """Write keys and values into a FITS or HDF5 file.

    Raises
    ------
    DataError
        If a key cannot be a keyword, the file cannot be read, or it has such a keyword already.
    """
    if wrong := [key for key in values if not _KEY.match(key)]:
        raise DataError(f"{wrong[0]!r} cannot be a keyword.", "use at most eight capital letters and digits.")
    try:
        if path.suffix == ".h5":
            _hdf5(path, values)
        else:
            _fits(path, {"LSTOPS": lstops.__version__, **values})
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error}", "look at the command before this one.") from error


def _hdf5(path: Path, values: Mapping[str, str | float]) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        for key, value in {"VERSION": lstops.__version__, **values}.items():
            file.attrs[f"LSTOPS_{key}"] = value


def _fits(path: Path, values: Mapping[str, str | float]) -> None:
    from astropy.io import fits

    raw = path.read_bytes()
    packed = path.suffix == ".gz"
    with fits.open(io.BytesIO(gzip.decompress(raw) if packed else raw)) as hdus:
        named = [hdus[name].header for name in _HDUS if name in hdus]
        if taken := sorted({key for header in named for key in values if key in header}):
            raise DataError(f"{path} has the keyword {taken[0]} already.", "name the value differently.")
        for header in named:
            if any(len(str(value)) > _CARD for value in values.values()):
                header["LONGSTRN"] = "OGIP 1.0"
            header.update(values)
        for hdu in hdus:
            for key in _WHEN:
                hdu.header.remove(key, ignore_missing=True)
        buffer = io.BytesIO()
        hdus.writeto(buffer)
    path.write_bytes(gzip.compress(buffer.getvalue(), mtime=0) if packed else buffer.getvalue())


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("values", nargs="*", type=_pair, metavar="KEY=VALUE")
    parser.add_argument("--cuts", type=Path, help="cut set that it was made with")
    options = parser.parse_args(argv)
    stamp(options.file, {**dict(options.values), **(about_cuts(options.cuts) if options.cuts else {})})


def about_cuts(path: Path) -> dict[str, str | float]:
    """What a product says of the cut set that it was made with."""
    text = path.read_text()
    said: dict[str, str | float] = {"CUTSHA": hashlib.sha256(text.encode()).hexdigest()}
    of_run = json.loads(text).get("lstops", {}).get("intensity")
    return said | ({"INTCUT": float(of_run["limit_pe"])} if of_run else {})


if __name__ == "__main__":
    exit_with(main)
