"""A night-wise datacheck written by lstchain passes; cut short it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lstops.errors import DataError, ProductInvalid
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify import inspect, verify

TABLES = ("runsummary", "cosmics", "cosmics_intensity_spectrum", "pedestals", "flatfield", "pixwise_runsummary")


@pytest.fixture
def night(shared: Path) -> Path:
    return shared / "data/quality/lstchain-written/DL1_datacheck_20240115.h5"


def test_whole(night: Path) -> None:
    output = Output(name="night", kind=ArtifactKind.DATACHECK, path="x", expect={"tables": list(TABLES)})
    facts = verify(output, night, [])
    assert facts["tables"]["runsummary"] == 2
    missing = Output(name="night", kind=ArtifactKind.DATACHECK, path="x", expect={"tables": ["muons"]})
    with pytest.raises(ProductInvalid, match="table muons is missing or empty"):
        verify(missing, night, [])


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.999])
def test_cut_short(night: Path, tmp_path: Path, fraction: float) -> None:
    content = night.read_bytes()
    broken = tmp_path / night.name
    broken.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(DataError, match="truncated"):
        inspect(ArtifactKind.DATACHECK, broken)
