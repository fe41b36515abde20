"""The GADF index of a bundle: checked against the files, with relative paths only."""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lstops.errors import ProductInvalid
from lstops.publish.model import HDU_INDEX, OBS_INDEX

_REMEDY = "make the index again (`lstchain_create_dl3_index_files` over exactly these files), then publish."


@dataclass(frozen=True)
class IndexContent:
    """What an index says: file name and HDU name of each row, and the observations."""

    hdus: tuple[tuple[int, str, str], ...]
    observations: tuple[int, ...]


def portable_index(path: Path) -> bytes:
    """The index file with paths relative to itself, as gzip bytes that depend on nothing but the content.

    lstchain writes the folder it worked in into BASE_DIR and FILE_DIR; that is a staging folder which is gone by now.
    When it was made is in its manifest.

    Raises
    ------
    ProductInvalid
        If the file is no index.
    """
    from astropy.io import fits

    try:
        with fits.open(path) as hdus:
            table = hdus[1]
            for key in ("BASE_DIR", "CREATED"):
                table.header.remove(key, ignore_missing=True)
            if "FILE_DIR" in table.columns.names:
                table.data["FILE_DIR"] = "."
            buffer = io.BytesIO()
            hdus.writeto(buffer)
    except (OSError, IndexError, ValueError, AttributeError) as error:
        raise ProductInvalid(f"{path} is no FITS index: {error}.", _REMEDY) from error
    return gzip.compress(buffer.getvalue(), mtime=0)


def read_index(hdu_index: bytes, obs_index: bytes) -> IndexContent:
    """Read both index files from their (compressed) content.

    Raises
    ------
    ProductInvalid
        If a column is missing, or a row points out of the bundle.
    """
    from astropy.io import fits

    try:
        with fits.open(io.BytesIO(gzip.decompress(hdu_index))) as hdus:
            rows = hdus[1].data
            content = tuple((int(r["OBS_ID"]), str(r["FILE_NAME"]).strip(), str(r["HDU_NAME"]).strip()) for r in rows)
            folders = {str(r["FILE_DIR"]).strip() for r in rows}
        with fits.open(io.BytesIO(gzip.decompress(obs_index))) as hdus:
            observations = tuple(int(i) for i in hdus[1].data["OBS_ID"])
    except (OSError, IndexError, KeyError, AttributeError, ValueError) as error:
        raise ProductInvalid(f"the index ({HDU_INDEX}, {OBS_INDEX}) cannot be read: {error}.", _REMEDY) from error
    if folders - {"."}:
        raise ProductInvalid(f"{HDU_INDEX} points to other folders: {sorted(folders - {'.'})}.", _REMEDY)
    return IndexContent(content, observations)


def check_index(content: IndexContent, files: Sequence[Path]) -> None:
    """Compare an index with the DL3 files: the same files, the same observations, every HDU there.

    Raises
    ------
    ProductInvalid
        With all findings.
    """
    from astropy.io import fits

    findings = []
    present = {f.name: f for f in files}
    named = {name for _, name, _ in content.hdus}
    if missing := sorted(named - set(present)):
        findings.append(f"the index names files that are not there: {', '.join(missing)}")
    if foreign := sorted(set(present) - named):
        findings.append(f"files are not in the index: {', '.join(foreign)}")
    if sorted(content.observations) != sorted({obs for obs, _, _ in content.hdus}):
        findings.append(
            f"the two index files differ: observations {sorted(content.observations)} "
            f"and {sorted({obs for obs, _, _ in content.hdus})}"
        )
    for name in sorted(named & set(present)):
        try:
            with fits.open(present[name]) as hdus:
                there = {hdu.name for hdu in hdus}
                events = [hdu for hdu in hdus if hdu.name == "EVENTS"]
                obs_id = int(events[0].header["OBS_ID"]) if events else None
        except (OSError, KeyError, ValueError) as error:
            findings.append(f"{name} cannot be read: {error}")
            continue
        rows = [(obs, hdu) for obs, file, hdu in content.hdus if file == name]
        if lost := sorted({hdu for _, hdu in rows} - there):
            findings.append(f"{name} lacks {', '.join(lost)}")
        if {obs for obs, _ in rows} != {obs_id}:
            findings.append(f"{name} is observation {obs_id}, the index says {sorted({obs for obs, _ in rows})}")
    if findings:
        raise ProductInvalid(f"the DL3 index is not consistent: {'; '.join(findings)}.", _REMEDY)
