"""Datacheck files, subrun-, run- and night-wise.

`expect` of an output may hold `tables`: names of tables that must be there with rows (for a night-wise file for
instance "runsummary" and "cosmics_intensity_spectrum"; the latter is written by lstchain_cherenkov_transparency only).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lstops.step.model import Output
from lstops.step.verify.common import Facts, InputFacts, refuse
from lstops.step.verify.hdf5 import opened


def inspect(path: Path) -> Facts:
    """Number of rows of each table.

    Raises
    ------
    DataError
        If it is damaged or has no table with rows.
    """
    with opened(path) as file:
        # pandas writes the group NAME with a table called "table" in it
        found = {
            node._v_pathname.strip("/").removesuffix("/table"): int(node.nrows)
            for node in file.walk_nodes("/", "Table")
        }
    refuse(path, [] if any(found.values()) else ["it holds no table with rows"])
    return {"tables": dict(sorted(found.items()))}


def check(output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts:
    """Same as `inspect`, with the tables that are expected.

    Raises
    ------
    DataError
        If an expected table is missing or empty.
    """
    facts = inspect(path)
    absent = [name for name in output.expect.get("tables", ()) if not facts["tables"].get(name)]
    refuse(path, [f"table {name} is missing or empty" for name in absent])
    return facts
