"""The published IRFs of the Crab performance paper: readable, but not what lstchain can interpolate or gammapy read.

They were written by a study script with pyirf 0.6: several effective areas, no energy dispersion, no pointing. The
verifier must say exactly that, and find the area itself in order.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lstops.errors import DataError
from lstops.step.model import ArtifactKind
from lstops.step.verify import inspect
from lstops.step.verify.fitsfile import by_name, read

FILES = [
    f"irfs_zen_{zenith}_gh-eff_{efficiency}.fits.gz"
    for zenith in ("10.00", "23.63", "32.06", "43.20")
    for efficiency in ("0.4", "0.7", "0.9")
]


@pytest.fixture
def folder(shared: Path) -> Path:
    return shared / "data/crab-paper/3_pipeline/3.4_irfs/irfs"


def test_these_are_all(folder: Path) -> None:
    assert sorted(p.name for p in folder.glob("*.fits.gz")) == FILES


@pytest.mark.parametrize("name", FILES)
def test_refused_with_every_reason(folder: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        inspect(ArtifactKind.IRF, folder / name)
    reasons = caught.value.what.removeprefix(f"{folder / name}: ").removesuffix(".").split("; ")
    first = "EFFECTIVE_AREA_NO_CUTS"
    assert reasons == [
        f"3 tables of class AEFF_2D ({first}, EFFECTIVE_AREA_ANG_RES, EFFECTIVE_AREA), there must be one",
        "no table of class EDISP_2D",
        f"table of class AEFF_2D is called '{first}', lstchain needs 'EFFECTIVE AREA'",
        f"{first}: axis ENERG is not finite (0 to inf)",
        f"header of {first} lacks ZEN_PNT",
        f"header of {first} lacks AZ_PNT",
        f"header of {first} lacks B_DELTA",
        "no gammaness cut: neither GH_EFF nor GH_CUT in the header",
        "point-like without a radius: neither a table RAD_MAX_2D nor RAD_MAX in the header",
    ]


@pytest.mark.parametrize("name", FILES)
def test_the_area_itself_is_sound(folder: Path, name: str) -> None:
    table = by_name(read(folder / name), "EFFECTIVE_AREA")
    assert table is not None
    area = table.data["EFFAREA"][0, 0]
    assert area.shape == (17,)
    assert np.isfinite(area).all()
    assert (area > 0).all()
    # LST-1 collects 1e4 to 1e6 m2 in its core range whatever the cuts
    assert 3e4 < area.max() < 1e6


@pytest.mark.parametrize("fraction", [0.2, 0.7, 0.99])
def test_a_broken_download_is_another_reason(folder: Path, tmp_path: Path, fraction: float) -> None:
    content = (folder / FILES[0]).read_bytes()
    path = tmp_path / FILES[0]
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(DataError, match="truncated or damaged"):
        inspect(ArtifactKind.IRF, path)
