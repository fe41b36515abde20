"""IRF, DL3 and index files: good ones pass, truncated, empty, emptied and inconsistent ones are refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from lstops.errors import DataError, ProductInvalid
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify import InputFacts, inspect, verify

from . import products


def output(kind: ArtifactKind, *counts_from: str, **expect: object) -> Output:
    return Output(name="out", kind=kind, path="x", counts_from=counts_from, expect=expect)


def test_facts_of_an_irf(tmp_path: Path) -> None:
    path = products.irf(tmp_path / "irf.fits.gz")
    facts = verify(
        output(ArtifactKind.IRF, useful_energy_tev=[0.05, 5], zd_deg=10.0, az_deg=175.0, point_like=True), path, []
    )
    assert facts["zd_deg"] == 10
    assert facts["gh_efficiency"] == 0.7
    assert facts["tables"] == ["AEFF_2D", "EDISP_2D", "RAD_MAX_2D"]
    assert facts["energy_bins"] == facts["filled_bins"] == 15
    assert facts["empty_bins_tev"] == []


@pytest.mark.parametrize("suffix", [".fits", ".fits.gz"])
@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.4, 0.6, 0.8, 0.95, 0.9999])
def test_truncated_fits_is_refused(tmp_path: Path, suffix: str, fraction: float) -> None:
    path = products.irf(tmp_path / f"irf{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    with pytest.raises(DataError) as caught:
        inspect(ArtifactKind.IRF, path)
    assert str(path) in caught.value.what
    assert caught.value.remedy


def test_every_cut_of_a_plain_fits_is_refused(tmp_path: Path) -> None:
    """Also cuts exactly at the border of two HDUs, where what is left is a whole FITS file."""
    path = products.dl3(tmp_path / "dl3.fits")
    content = path.read_bytes()
    for size in range(0, len(content), 2880):
        path.write_bytes(content[:size])
        with pytest.raises(DataError):
            inspect(ArtifactKind.DL3, path)
    path.write_bytes(content)
    assert inspect(ArtifactKind.DL3, path)["events"] == 50


def test_zeros_in_a_gzip(tmp_path: Path) -> None:
    path = tmp_path / "irf.fits.gz"
    path.write_bytes(gzip.compress(bytes(28800)))
    with pytest.raises(DataError):
        inspect(ArtifactKind.IRF, path)
    path.write_bytes(bytes(28800))
    with pytest.raises(DataError, match="cannot be read as FITS"):
        inspect(ArtifactKind.IRF, path)


def test_collapsing_area_is_refused(tmp_path: Path) -> None:
    area = np.geomspace(100, 1e5, 15)
    area[8] = 0
    path = products.irf(tmp_path / "irf.fits", area=area)
    with pytest.raises(ProductInvalid, match=r"zero in 1 true-energy bin.*0\.398-0\.631 TeV.*collapse"):
        verify(output(ArtifactKind.IRF), path, [])
    with pytest.raises(ProductInvalid, match="collapse") as caught:
        verify(output(ArtifactKind.IRF, useful_energy_tev=[0.1, 5]), path, [])
    assert "simulate more events" in caught.value.remedy
    # outside the useful range an empty bin does no harm
    assert verify(output(ArtifactKind.IRF, useful_energy_tev=[1, 5]), path, [])["filled_bins"] == 14


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"area": np.zeros(15)}, "EFFECTIVE AREA: all 15 values are zero"),
        ({"area": np.full(15, np.nan)}, "EFFECTIVE AREA: 15 of 15 are not finite"),
        ({"area": np.full(15, -1.0)}, "EFFECTIVE AREA: 15 of 15 are negative"),
        ({"matrix": np.zeros((1, 30, 15))}, "ENERGY DISPERSION: all 450 values are zero"),
        ({"energy": np.geomspace(10, 0.01, 16)}, "axis ENERG is not in order"),
        ({"energy": [*np.geomspace(0.01, 10, 15), np.inf]}, "axis ENERG is not finite"),
        ({"drop": ["ENERGY DISPERSION"]}, "no table of class EDISP_2D"),
        ({"drop": ["EFFECTIVE AREA"]}, "no table of class AEFF_2D"),
        ({"drop": ["GH_CUTS"]}, "GH_EFF in the header, but no table GH_CUTS"),
        ({"drop": ["RAD_MAX"]}, "TH_CONT in the header, but no table RAD_MAX_2D"),
        ({"header": {"HDUCLASS": "OGIP"}}, "HDUCLASS is 'OGIP', not GADF"),
        ({"header": {"HDUCLAS3": ""}}, "HDUCLAS3 is '', not POINT-LIKE"),
    ],
)
def test_wrong_responses(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        inspect(ArtifactKind.IRF, products.irf(tmp_path / "irf.fits", **changes))
    assert reason in caught.value.what


def test_irf_of_another_node(tmp_path: Path) -> None:
    path = products.irf(tmp_path / "irf.fits")
    with pytest.raises(ProductInvalid, match=r"zd_deg is 10\.0, that of the node is 23\.0"):
        verify(output(ArtifactKind.IRF, zd_deg=23.0), path, [])
    assert verify(output(ArtifactKind.IRF, az_deg=-185.0), path, [])["az_deg"] == 175


def test_facts_of_a_dl3(tmp_path: Path) -> None:
    facts = verify(
        output(ArtifactKind.DL3, run=2001, object="Crab", min_live_fraction=0.9),
        products.dl3(tmp_path / "dl3.fits"),
        [],
    )
    assert (facts["events"], facts["obs_id"], facts["object"], facts["gti"]) == (50, 2001, "Crab", 1)
    assert facts["livetime_s"] == 98.0
    assert facts["irf_zd_deg"] == 10


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"times": []}, "not one event passed the cuts"),
        ({"times": [99.0, 150.0, 191.0]}, "2 of 3 events lie outside the good time intervals"),
        ({"gti": ([100.0, 150.0], [160.0, 190.0])}, "GTI intervals are empty, overlap"),
        ({"gti": ([150.0, 100.0], [190.0, 145.0])}, "are not in order"),
        ({"gti": ([100.0, 145.0], [140.0, 190.0])}, "ONTIME is 99.5, the good time intervals say 85.000 s"),
        ({"gti": ([], [])}, "GTI has no intervals"),
        ({"gti": ([100.0, 160.0], [140.0, 190.0])}, "events lie outside"),
        ({"events": {"ENERGY": np.full(50, np.nan)}}, "50 of 50 values of ENERGY are not finite"),
        ({"events_header": {"LIVETIME": 120.0}}, "cannot be"),
        ({"events_header": {"DEADC": 0.5}}, "is not ONTIME"),
        ({"drop": ["GTI"]}, "no table GTI"),
        ({"drop": ["EVENTS"]}, "no table EVENTS"),
        ({"drop": ["ENERGY DISPERSION"]}, "no table of class EDISP_2D"),
    ],
)
def test_wrong_dl3(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        inspect(ArtifactKind.DL3, products.dl3(tmp_path / "dl3.fits", **changes))
    assert reason in caught.value.what


def test_dl3_against_its_plan_and_data(tmp_path: Path) -> None:
    whole = {"gti": ([100.0], [199.5])}
    path = products.dl3(tmp_path / "dl3.fits", header={"ZEN_PNT": 23.0}, **whole)
    with pytest.raises(ProductInvalid, match=r"OBS_ID is 2001, not run 2002.*OBJECT is 'Crab', not 'M 1'"):
        verify(output(ArtifactKind.DL3, run=2002, object="M 1"), path, [])
    with pytest.raises(ProductInvalid, match="below 99%: events are missing"):
        verify(output(ArtifactKind.DL3, min_live_fraction=0.99), path, [])
    dl2 = products.dl2(tmp_path / "dl2.h5")
    data = InputFacts("dl2", ArtifactKind.DL2, dl2, verify(output(ArtifactKind.DL2), dl2, []))
    with pytest.raises(ProductInvalid, match="nearest node instead of interpolating"):
        verify(output(ArtifactKind.DL3, "dl2", irf_zenith_tolerance_deg=0.05), path, [data])
    assert verify(output(ArtifactKind.DL3, "dl2", irf_zenith_tolerance_deg=15), path, [data])["ontime_s"] == 99.5
    ontime = {"ONTIME": 50.0, "LIVETIME": 50.0, "DEADC": 1.0}
    short = products.dl3(tmp_path / "short.fits", events_header=ontime, **whole)
    with pytest.raises(ProductInvalid, match=r"ONTIME is 50.000 s, the data .* span 99.500 s"):
        verify(output(ArtifactKind.DL3, "dl2"), short, [data])
    assert verify(output(ArtifactKind.DL3, "dl2", whole_run=False), short, [data])["livetime_s"] == 50


def test_a_source_elsewhere_in_the_field(tmp_path: Path) -> None:
    """gammapy takes the responses of the nearest offset without a word."""
    for ra_deg, words in ((84.2, "0.93"), (83.2, "0.00")):
        path = products.dl3(tmp_path / f"{words}.fits", events_header={"RA_OBJ": ra_deg, "DEC_OBJ": 22.0})
        with pytest.raises(ProductInvalid, match=rf"Crab is {words} deg from the pointing, .* of 0\.30 to 0\.50 deg"):
            verify(output(ArtifactKind.DL3), path, [])
    near = products.dl3(tmp_path / "near.fits", events_header={"RA_OBJ": 83.72, "DEC_OBJ": 22.0})
    assert verify(output(ArtifactKind.DL3), near, [])["irf_offset_deg"] == [0.3, 0.5]


def test_azimuths_on_both_sides_of_north(tmp_path: Path) -> None:
    """lstchain takes 180 deg for the mean of 359 and 1."""
    azimuth = np.deg2rad(np.where(np.arange(200) < 100, 359.0, 1.0))
    dl2 = products.dl2(tmp_path / "dl2.h5", az_tel=azimuth)
    data = InputFacts("dl2", ArtifactKind.DL2, dl2, verify(output(ArtifactKind.DL2), dl2, []))
    for noted in (np.rad2deg(azimuth.mean()), 0.0):
        pointing = {"MEAN_ZEN": "10.0 deg", "MEAN_AZ": f"{noted} deg", "B_DELTA": "60.0 deg"}
        path = products.dl3(tmp_path / f"{noted:.0f}.fits", gti=([100.0], [199.5]), pointing=pointing)
        if noted:
            with pytest.raises(ProductInvalid, match=r"for azimuth 180\.0 deg, .* pointed to (0|360)\.0 deg"):
                verify(output(ArtifactKind.DL3, "dl2"), path, [data])
        else:
            assert verify(output(ArtifactKind.DL3, "dl2"), path, [data])["mean_az_deg"] == 0


#: unix time of the epoch of the DL3 files below
EPOCH = (58392 - 40587) * 86400.0


def partial_dl3(path: Path, **header: object) -> Path:
    """A run of 100 s without its subrun of 140 to 150 s."""
    times = np.concatenate([np.linspace(100, 140, 30), np.linspace(150, 200, 30)])
    consistent = {"ONTIME": 90.0, "LIVETIME": 81.0, "DEADC": 0.9, "TSTART": 100.0, "TSTOP": 200.0, "SUBDROP": "4"}
    return products.dl3(path, times=times, gti=([100.0, 150.0], [140.0, 200.0]), events_header=consistent | header)


def facts_of(kind: ArtifactKind, name: str, start: float, stop: float) -> InputFacts:
    return InputFacts(name, kind, Path(name), {"events": 10**6, "t_start": EPOCH + start, "t_stop": EPOCH + stop})


def test_a_dl3_without_a_subrun(tmp_path: Path) -> None:
    whole = facts_of(ArtifactKind.DL2, "dl2", 100, 200)
    asked = output(ArtifactKind.DL3, "dl2", whole_run=False, dropped_subruns=[4])
    path = partial_dl3(tmp_path / "dl3.fits")
    facts = verify(asked, path, [whole, facts_of(ArtifactKind.DL1, "dl1", 140, 150)])
    assert facts["gti"] == 2
    assert facts["gti_s"] == pytest.approx(90)
    assert facts["dropped_subruns"] == [4]
    for start, stop, reason in ((140, 150.2, r"0\.200 s of the dropped dl1"), (145, 147, r"90\.000 s, 98\.000 s")):
        with pytest.raises(ProductInvalid, match=reason):
            verify(asked, path, [whole, facts_of(ArtifactKind.DL1, "dl1", start, stop)])
    for wanted in ([], [5], [4, 5]):
        with pytest.raises(ProductInvalid, match=r"without the subruns \[4\], not without"):
            verify(output(ArtifactKind.DL3, whole_run=False, dropped_subruns=wanted), path, [])
    with pytest.raises(ProductInvalid, match=r"without the subruns none, not without \[4\]"):
        verify(asked, products.dl3(tmp_path / "whole.fits"), [])


def test_an_interruption_of_the_data(tmp_path: Path) -> None:
    """The time that lstchain's one interval takes for observed, and the one without its hole."""
    times = products.T0 + np.concatenate([np.arange(0, 40, 0.5), np.arange(50, 100, 0.5)])
    dl2 = products.dl2(tmp_path / "dl2.h5", n=180, dragon_time=times)
    found = verify(output(ArtifactKind.DL2), dl2, [])
    assert found["breaks_unix_s"] == [[products.T0 + 39.5, products.T0 + 50]]
    data = InputFacts("dl2", ArtifactKind.DL2, dl2, found)
    header = {"ONTIME": 89.0, "LIVETIME": 80.1, "DEADC": 0.9, "TSTART": 100.0, "TSTOP": 199.5}
    events = np.concatenate([np.linspace(100, 139, 30), np.linspace(150, 199, 30)])
    one = products.dl3(tmp_path / "one.fits", times=events, gti=([100.0], [199.5]), events_header=header)
    with pytest.raises(ProductInvalid, match=r"the good time is 99\.500 s, 89\.000 s of the run are left"):
        verify(output(ArtifactKind.DL3, "dl2"), one, [data])
    intervals = ([100.0, 150.0], [139.5, 199.5])
    two = products.dl3(tmp_path / "two.fits", times=events, gti=intervals, events_header=header)
    assert verify(output(ArtifactKind.DL3, "dl2"), two, [data])["gti"] == 2


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"ONTIME": 90.2, "LIVETIME": 81.0}, "ONTIME is 90.2, the good time intervals say 90.000 s"),
        ({"LIVETIME": 80.8}, "LIVETIME is 80.8, the good time intervals say 81.000 s"),
        ({"TSTOP": 190.0}, "TSTOP is 190.0"),
        ({"TSTART": float("1e9")}, "TSTART is"),
    ],
)
def test_times_that_disagree_by_more_than_a_tenth_of_a_second(
    tmp_path: Path, header: dict[str, object], reason: str
) -> None:
    with pytest.raises(DataError) as caught:
        inspect(ArtifactKind.DL3, partial_dl3(tmp_path / "dl3.fits", **header))
    assert reason in caught.value.what


def test_index(tmp_path: Path) -> None:
    files = [products.dl3(tmp_path / f"dl3_LST-1.Run0200{i}.fits", run=2000 + i) for i in (1, 2)]
    inputs = [InputFacts(f"dl3-{i}", ArtifactKind.DL3, f, inspect(ArtifactKind.DL3, f)) for i, f in enumerate(files)]
    hdu, obs = products.indices(tmp_path, files, [2001, 2002])
    assert verify(output(ArtifactKind.DL3_INDEX), hdu, inputs)["files"] == [f.name for f in files]
    assert verify(output(ArtifactKind.DL3_INDEX), obs, inputs)["obs_ids"] == [2001, 2002]
    assert inspect(ArtifactKind.DL3_INDEX, hdu)["obs_ids"] == [2001, 2002]

    hdu, obs = products.indices(tmp_path, files[:1], [2001])
    for path in (hdu, obs):
        with pytest.raises(ProductInvalid, match=r"it names the runs \[2001\], not \[2001, 2002\]"):
            verify(output(ArtifactKind.DL3_INDEX), path, inputs)
    hdu, _ = products.indices(tmp_path, files, [2001, 2002], file_dir="../in-dl3")
    with pytest.raises(ProductInvalid, match="points to other folders"):
        verify(output(ArtifactKind.DL3_INDEX), hdu, inputs)
    hdu, _ = products.indices(tmp_path, files, [2001, 2002])
    files[1].unlink()
    with pytest.raises(DataError, match=r"Run02002\.fits, which is not beside it"):
        inspect(ArtifactKind.DL3_INDEX, hdu)
