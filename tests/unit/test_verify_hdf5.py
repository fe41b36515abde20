"""DL1, DL2 and datacheck: good files pass with the right facts, every kind of damage is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tables

from lstops.errors import DataError, ProductInvalid
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify import InputFacts, inspect, verify

from . import products


def output(kind: ArtifactKind, *counts_from: str, **expect: object) -> Output:
    return Output(name="out", kind=kind, path="x", counts_from=counts_from, expect=expect)


def given(name: str, kind: ArtifactKind, path: Path) -> InputFacts:
    return InputFacts(name, kind, path, inspect(kind, path))


@pytest.fixture
def dl1(tmp_path: Path) -> Path:
    return products.dl1(tmp_path / "dl1_LST-1.Run02001.h5", images=True)


def test_facts_of_dl1(dl1: Path) -> None:
    facts = verify(output(ArtifactKind.DL1, images=True), dl1, [])
    assert facts["events"] == facts["cleaned"] == 200
    assert facts["images"] is True
    assert facts["simulation"] is False
    assert facts["lstchain_version"] == "0.12.3"
    assert facts["obs_ids"] == [2001]
    assert facts["zd_deg"] == pytest.approx(10)
    assert facts["az_deg"] == pytest.approx(120)
    assert facts["t_stop"] - facts["t_start"] == pytest.approx(99.5)


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.02, 0.25, 0.5, 0.9, 0.999])
def test_truncated_hdf5_is_refused(dl1: Path, fraction: float) -> None:
    content = dl1.read_bytes()
    dl1.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(DataError, match=r"truncated|empty \(0 bytes\)") as caught:
        inspect(ArtifactKind.DL1, dl1)
    assert str(dl1) in caught.value.what
    assert caught.value.remedy
    with pytest.raises(ProductInvalid):
        verify(output(ArtifactKind.DL1), dl1, [])


def test_zeros_and_other_formats_are_refused(tmp_path: Path) -> None:
    for name, content in (("zeros.h5", bytes(5000)), ("text.h5", b"PK\x03\x04" + bytes(100))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as HDF5"):
            inspect(ArtifactKind.DL1, tmp_path / name)
    with pytest.raises(DataError, match="does not exist"):
        inspect(ArtifactKind.DL1, tmp_path / "absent.h5")


def test_a_hole_in_the_data_is_found(tmp_path: Path) -> None:
    path = products.dl1(tmp_path / "dl1.h5", n=20000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(4096)
    path.write_bytes(content)
    with pytest.raises(ProductInvalid, match="cannot be read as HDF5"):
        verify(output(ArtifactKind.DL1), path, [])


def test_empty_table_and_missing_table(tmp_path: Path, dl1: Path) -> None:
    empty = products.dl1(tmp_path / "empty.h5", n=0)
    with pytest.raises(DataError, match="no rows: not one event"):
        inspect(ArtifactKind.DL1, empty)
    with tables.open_file(str(dl1), "a") as file:
        file.remove_node(products.DL1, recursive=True)
    with pytest.raises(DataError, match=f"no table {products.DL1}"):
        inspect(ArtifactKind.DL1, dl1)


def test_emptied_images_and_missing_version(dl1: Path) -> None:
    with tables.open_file(str(dl1), "a") as file:
        file.get_node(products.IMAGE, products.NAME).remove_rows(100, 200)
        del file.root._v_attrs["LSTCHAIN_VERSION"]
    with pytest.raises(DataError) as caught:
        inspect(ArtifactKind.DL1, dl1)
    assert "100 images for 200 events" in caught.value.what
    assert "LSTCHAIN_VERSION is missing" in caught.value.what


def test_nothing_survived_the_cleaning(tmp_path: Path) -> None:
    path = products.dl1(tmp_path / "dl1.h5", width=np.full(200, np.nan, "f4"))
    assert inspect(ArtifactKind.DL1, path)["events"] == 200
    with pytest.raises(ProductInvalid, match="no image of 200 survived the cleaning"):
        verify(output(ArtifactKind.DL1), path, [])


def test_expected_images_and_simulation(tmp_path: Path, dl1: Path) -> None:
    with pytest.raises(ProductInvalid, match="must not hold images"):
        verify(output(ArtifactKind.DL1, images=False), dl1, [])
    with pytest.raises(ProductInvalid, match="must hold simulated events"):
        verify(output(ArtifactKind.DL1, simulation=True), dl1, [])
    without = products.mc_dl1(tmp_path / "mc.h5", run_configs=0)
    with pytest.raises(DataError, match="run_config is missing or empty"):
        inspect(ArtifactKind.DL1, without)


def test_merged_count_is_the_sum(tmp_path: Path) -> None:
    inputs = [
        given(f"dl1-{i}", ArtifactKind.DL1, products.mc_dl1(tmp_path / f"dl1_{i}.h5", n=n))
        for i, n in enumerate((30, 70))
    ]
    merged = output(ArtifactKind.DL1_MERGED, "dl1-0", "dl1-1")
    assert verify(merged, products.mc_dl1(tmp_path / "good.h5", n=100, run_configs=2), inputs)["runs"] == 2
    with pytest.raises(ProductInvalid, match="holds 70 events, its 2 input"):
        verify(merged, products.mc_dl1(tmp_path / "lost.h5", n=70), inputs)


def test_dl2_counts_what_can_be_reconstructed(tmp_path: Path) -> None:
    width = np.full(200, 0.1, "f4")
    width[:15] = np.nan
    source = given("dl1", ArtifactKind.DL1, products.dl1(tmp_path / "dl1.h5", width=width))
    facts = verify(output(ArtifactKind.DL2, "dl1"), products.dl2(tmp_path / "dl2.h5", n=185), [source])
    assert (facts["events"], facts["dropped"]) == (185, 15)
    assert facts["interpolated"] is True
    assert facts["zd_deg"] == pytest.approx(10)
    with pytest.raises(ProductInvalid, match="holds 184 events, but 185"):
        verify(output(ArtifactKind.DL2, "dl1"), products.dl2(tmp_path / "lost.h5", n=184), [source])


def test_dl2_filters_of_the_configuration_count(tmp_path: Path) -> None:
    source = given("dl1", ArtifactKind.DL1, products.dl1(tmp_path / "dl1.h5", intensity=np.arange(200.0)))
    config = tmp_path / "config.json"
    config.write_text('{"events_filters": {"intensity": [50, Infinity]}}')
    inputs = [source, InputFacts("config", ArtifactKind.LSTCHAIN_CONFIG, config, {})]
    good = products.dl2(tmp_path / "dl2.h5", n=150)
    assert verify(output(ArtifactKind.DL2, "dl1"), good, inputs)["dropped"] == 50
    with pytest.raises(ProductInvalid, match="but 200 of its input"):
        verify(output(ArtifactKind.DL2, "dl1"), good, [source])


@pytest.mark.parametrize("column", ["reco_energy", "reco_alt", "reco_az", "gammaness"])
def test_dl2_without_finite_reconstruction(tmp_path: Path, column: str) -> None:
    values = np.full(200, 0.5)
    values[-1] = np.nan
    path = products.dl2(tmp_path / "dl2.h5", **{column: values})
    with pytest.raises(ProductInvalid, match=f"1 of 200 values of {column} are not finite"):
        verify(output(ArtifactKind.DL2), path, [])
    with pytest.raises(DataError, match=f"lacks the column {column}"):
        inspect(ArtifactKind.DL2, products.dl2(tmp_path / "without.h5", **{column: None}))


def test_dl2_stub_and_extrapolation(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no table /dl2"):
        inspect(ArtifactKind.DL2, products.dl1(tmp_path / "stub.h5"))
    far = products.dl2(tmp_path / "far.h5", gammaness=np.linspace(0, 1.3, 200))
    with pytest.raises(ProductInvalid, match="far outside the training nodes"):
        verify(output(ArtifactKind.DL2), far, [])
    # a little beyond the outermost node near culmination is told, not refused
    near = products.dl2(tmp_path / "near.h5", w0=np.where(np.arange(200) < 50, 1.28, 0.5))
    assert verify(output(ArtifactKind.DL2), near, [])["extrapolated"] == 50
    for w0 in (2.4, -1.4):
        path = products.dl2(tmp_path / f"{w0}.h5", w0=np.full(200, w0))
        with pytest.raises(ProductInvalid, match=r"1\.4 times the distance .* side of culmination"):
            verify(output(ArtifactKind.DL2), path, [])


def test_dl2_of_another_run_than_its_name_says(tmp_path: Path) -> None:
    path = products.dl2(tmp_path / "dl2_LST-1.Run02002.h5")
    with pytest.raises(ProductInvalid, match="holds events of run 2001, not 2002"):
        verify(output(ArtifactKind.DL2), path, [])
    assert verify(output(ArtifactKind.DL2), path.rename(tmp_path / "dl2_LST-1.Run02001.h5"), [])["obs_ids"] == [2001]


def test_dl2_must_be_interpolated_when_the_models_can(tmp_path: Path) -> None:
    flat = products.dl2(tmp_path / "flat.h5", w0=None, w1=None)
    config = tmp_path / "lstchain_config.json"
    config.write_text('{"random_forest_zd_interpolation": {"interpolate_energy": true}}')
    models = InputFacts("models", ArtifactKind.MODELS, tmp_path, {"training_dirs": [[10, 100], [35, 100]]})
    with pytest.raises(ProductInvalid, match="not interpolated in zenith"):
        verify(output(ArtifactKind.DL2), flat, [models])
    assert verify(output(ArtifactKind.DL2, interpolated=False), flat, [models])["interpolated"] is False


def test_datacheck(tmp_path: Path) -> None:
    path = tmp_path / "DL1_datacheck_20240115.h5"
    with tables.open_file(str(path), "w") as file:
        file.create_table("/", "runsummary", obj=np.zeros(3, dtype=[("runnumber", "i8")]))
        file.create_table("/", "cosmics", obj=np.zeros(0, dtype=[("runnumber", "i8")]))
    assert inspect(ArtifactKind.DATACHECK, path) == {"tables": {"cosmics": 0, "runsummary": 3}}
    with pytest.raises(ProductInvalid, match="table cosmics is missing or empty"):
        verify(output(ArtifactKind.DATACHECK, tables=["runsummary", "cosmics"]), path, [])
