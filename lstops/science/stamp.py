"""Write into a product what it was made with, for whoever has only the file.

`python -m lstops.science.stamp FILE KEY=VALUE ...`

A FITS file gets the keys as keywords of its primary header and of EVENTS, an HDF5 file as attributes LSTOPS_KEY of its
root group; with them goes the version of lstops (LSTOPS, LSTOPS_VERSION). Contents are not touched.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import lstops
from lstops.errors import DataError
from lstops.science.command import exit_with

#: keywords of FITS; lstchain and GADF use none of those that `reduction.plan` names
_KEY = re.compile(r"^[A-Z][A-Z0-9]{0,7}$")
_HDUS = ("PRIMARY", "EVENTS")


def stamp(path: Path, values: Mapping[str, str]) -> None:
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


def _hdf5(path: Path, values: Mapping[str, str]) -> None:
    import h5py

    with h5py.File(path, "r+") as file:
        for key, value in {"VERSION": lstops.__version__, **values}.items():
            file.attrs[f"LSTOPS_{key}"] = value


def _fits(path: Path, values: Mapping[str, str]) -> None:
    from astropy.io import fits

    with fits.open(path) as hdus:
        taken = {f"{name}: {key}" for name in _HDUS if name in hdus for key in values if key in hdus[name].header}
    if taken:
        raise DataError(f"{path} has the keyword {min(taken)} already.", "name the value differently.")
    with fits.open(path, mode="update") as hdus:
        for hdu in (hdus[name] for name in _HDUS if name in hdus):
            for key, value in values.items():
                hdu.header[key] = value


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
    options = parser.parse_args(argv)
    stamp(options.file, dict(options.values))


if __name__ == "__main__":
    exit_with(main)
