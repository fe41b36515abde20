"""GADF index files (hdu-index.fits.gz, obs-index.fits.gz).

The step's inputs of kind DL3 are the runs that the index must name, no more and no fewer: lstchain leaves out a file
that it cannot read, with a line in its log.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from lstops.step.model import ArtifactKind, Output
from lstops.step.verify.common import Facts, InputFacts, refuse
from lstops.step.verify.fitsfile import by_name, read

_TABLES = ("HDU INDEX", "OBS INDEX")
_NEEDED = ("EVENTS", "GTI")


def inspect(path: Path) -> Facts:
    """Runs of an index file; an HDU index must name files that are beside it.

    Raises
    ------
    DataError
        If it is damaged or empty, or a named file is missing.
    """
    facts, findings = _examine(path)
    findings += [
        f"it names {name}, which is not beside it"
        for name in facts.get("files", [])
        if not (path.parent / name).exists()
    ]
    refuse(path, findings, "make the index again.")
    return facts


def check(output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts:
    """Facts of an index that was just made.

    Raises
    ------
    DataError
        If it is damaged or empty, or does not name exactly the runs of the step's DL3 inputs.
    """
    facts, findings = _examine(path)
    runs = [i for i in inputs if i.kind is ArtifactKind.DL3]
    if runs:
        wanted_runs = sorted(int(i.facts["obs_id"]) for i in runs)
        if facts.get("obs_ids") != wanted_runs:
            findings.append(f"it names the runs {facts.get('obs_ids')}, not {wanted_runs}")
        wanted_files = sorted(i.path.name for i in runs)
        if "files" in facts and facts["files"] != wanted_files:
            findings.append(f"it names the files {facts['files']}, not {wanted_files}")
    refuse(path, findings, "make the index again from the runs that are whole.")
    return facts


def _examine(path: Path) -> tuple[Facts, list[str]]:
    hdus = read(path)
    index = next((t for t in (by_name(hdus, name) for name in _TABLES) if t is not None), None)
    if index is None:
        return {}, [f"no table {' or '.join(_TABLES)}"]
    if not len(index.data) or "OBS_ID" not in index.columns.names:
        return {}, [f"{index.name} names no run"]
    facts: Facts = {"table": index.name, "obs_ids": sorted({int(n) for n in np.ravel(index.data["OBS_ID"])})}
    return (facts, []) if index.name != "HDU INDEX" else _hdus(index, facts)


def _hdus(index: fits.BinTableHDU, facts: Facts) -> tuple[Facts, list[str]]:
    findings = []
    names = [str(n).strip() for n in index.data["FILE_NAME"]]
    folders = {str(n).strip() for n in index.data["FILE_DIR"]}
    if folders - {".", ""}:
        findings.append(f"it points to other folders ({sorted(folders)}), files must be beside it")
    for file in sorted(set(names)):
        present = {str(h).strip() for n, h in zip(names, index.data["HDU_NAME"], strict=True) if n == file}
        absent = [needed for needed in _NEEDED if needed not in present]
        if absent or len(present) <= len(_NEEDED):
            findings.append(f"of {file} it names {sorted(present)} only")
    return facts | {"files": sorted(set(names))}, findings
