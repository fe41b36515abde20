"""Write the GADF index of DL3 files.

`python -m lstops.science.dl3_index --dl3 FOLDER --output FOLDER`

lstchain notes the path from the index to each file. Inside a step the files are links in one folder and the index is
staged in another, so the links are repeated beside the index while it is written: in the end it says ".".
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lstops.errors import DataError
from lstops.science.command import exit_with

_PATTERN = "dl3*.fits"


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
