"""Write the GADF index of DL3 files.

`python -m lstops.science.dl3_index --dl3 FOLDER --output FOLDER`

lstchain notes the path from the index to each file. Inside a step the files are links in one folder and the index is
staged in another, so the links are repeated beside the index while it is written: in the end it says ".".

lstchain's observation index lacks the keywords that say what its times and zenith distances refer to, which GADF
demands and gammapy's check asks for; they are those of the events.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lstops.errors import DataError
from lstops.science.command import exit_with

_PATTERN = "dl3*.fits"
_OBS_INDEX = "obs-index.fits.gz"
#: GADF 0.3, "Time" and "Earth location": the same for all observations of a telescope
_REFERENCE = ("MJDREFI", "MJDREFF", "TIMEUNIT", "TIMESYS", "TIMEREF", "GEOLON", "GEOLAT", "ALTITUDE")


def write_index(dl3: Path, output: Path) -> None:
    """Write hdu-index.fits.gz and obs-index.fits.gz into `output`.

    Raises
    ------
    DataError
        If there are no DL3 files or lstchain's tool fails.
    """
    from lstchain.tools.lstchain_create_dl3_index_files import FITSIndexWriter

    files = sorted(dl3.glob(_PATTERN))
    if not files:
        raise DataError(f"{dl3} holds no {_PATTERN}.", "give the folder of the DL3 files.")
    links = []
    try:
        for file in files:
            link = output / file.name
            link.symlink_to(file.resolve())
            links.append(link)
        status = _run(FITSIndexWriter(), ["-d", str(output), "-p", _PATTERN, "-o", str(output), "--overwrite"])
    finally:
        for link in links:
            link.unlink()
    if status:
        raise DataError(f"lstchain could not write the index of {len(files)} files.", "read the log above this line.")
    complete(output / _OBS_INDEX, files)


def complete(index: Path, files: Sequence[Path]) -> None:
    """Write the references of time and place into an observation index.

    Raises
    ------
    DataError
        If the files do not agree about them: their times cannot be in one table.
    """
    from astropy.io import fits

    found: dict[str, dict[str, object]] = {}
    for file in files:
        header = fits.getheader(file, "EVENTS")
        found[file.name] = {key: header[key] for key in _REFERENCE if key in header}
    first = next(iter(found.values()))
    if other := [name for name, values in found.items() if values != first]:
        raise DataError(
            f"{other[0]} has other references of time and place than {files[0].name}.", "index them separately."
        )
    with fits.open(index, mode="update") as hdus:
        hdus[1].header.update(first)


def _run(tool: object, argv: list[str]) -> int:
    """ctapipe's tools always leave through SystemExit."""
    try:
        tool.run(argv=argv)  # type: ignore[attr-defined]
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Index DL3 files.")
    parser.add_argument("--dl3", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    write_index(args.dl3, args.output)


if __name__ == "__main__":
    exit_with(main)
