"""The source check finds what was thrown, and says what is wrong when it cannot."""

from __future__ import annotations

import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

gammapy = pytest.importorskip("gammapy", reason="needs the science environment")

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from lstchain.high_level import create_hdu_index_hdu  # noqa: E402
from synthetic_dl3 import CRAB, Observation, wobbled, write_folder, write_run  # noqa: E402
from unit import published_site  # noqa: E402

from lstops.publish.bundle import build_bundle  # noqa: E402
from lstops.publish.publisher import publish  # noqa: E402
from lstops.report.night import source_facts  # noqa: E402
from lstops.report.source import read_source_check  # noqa: E402
from lstops.science.source_check import main  # noqa: E402
from lstops.science.source_reference import known_source  # noqa: E402
from lstops.science.source_runs import off_regions  # noqa: E402
from lstops.step.model import ArtifactKind  # noqa: E402

SIMULATED = {
    "ra_deg": CRAB[0], "dec_deg": CRAB[1], "norm_per_tev_cm2_s": 2 * 3.23e-11, "index": -2.47, "curvature": -0.24
}  # fmt: skip
OTHER = {**SIMULATED, "ra_deg": 166.1, "norm_per_tev_cm2_s": 1e-11}
TRUTH = {"source": OTHER, "sources": [OTHER, SIMULATED]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("dl3"), wobbled(boost=2.0))


def run(dl3: Path, out: Path, *more: str, ra: float = CRAB[0], dec: float = CRAB[1]) -> int:
    return main(
        [
            "--dl3",
            str(dl3),
            "--source-name",
            'Crab "$x"',
            f"--ra-deg={ra}",
            f"--dec-deg={dec}",
            "--out",
            str(out),
            *more,
        ]
    )


def test_flux_of_a_known_source(folder: Path, tmp_path: Path) -> None:
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(TRUTH))
    page = tmp_path / "check.html"
    assert (
        run(
            folder, tmp_path / "check.json", "--truth", str(truth), "--plots", f"{tmp_path}/plots/", "--page", str(page)
        )
        == 0
    )
    check = read_source_check(tmp_path / "check.json")
    assert check.ratio is not None
    assert check.ratio_error is not None
    assert check.ratio_error < 0.05
    assert abs(check.ratio - 1) < 3 * check.ratio_error
    assert check.agrees
    assert check.synthetic
    assert "Synthetic data." in page.read_text()
    assert check.significance > 60
    assert check.live_time_s == pytest.approx(2400)
    assert check.spectrum is not None
    assert check.spectrum.alpha == pytest.approx(2.47, abs=3 * check.spectrum.alpha_error)
    assert check.reference_flux == pytest.approx(9.52e-10, rel=0.01)
    assert [r.run_id for r in check.runs] == [2001, 2002, 2003, 2004]
    assert {r.n_off_regions for r in check.runs} == {3}
    assert check.theta2.on[0] > 10 * check.theta2.off[0]
    assert check.plots == ("theta2.png", "spectrum.png", "light_curve.png")
    for name in check.plots:
        content = (tmp_path / "plots" / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) < 100_000

    # a quick look at each run: every event is in the map or outside of it, the source where it is thrown
    assert [look.run_id for look in check.looks] == [2001, 2002, 2003, 2004]
    for look, place in zip(check.looks, ((0, -0.4), (-0.4, 0), (0, 0.4), (0.4, 0)), strict=True):
        n_events = len(fits.getdata(folder / f"dl3_LST-1.Run{look.run_id:05d}.fits", "EVENTS"))
        assert sum(map(sum, look.counts)) + look.outside == n_events
        assert look.source_deg == pytest.approx(place, abs=0.01)
        rows = np.array(look.counts)
        north, east = (look.map_edges_deg[i] + 0.05 for i in np.unravel_index(rows.argmax(), rows.shape))
        assert (east, north) == pytest.approx(place, abs=0.15)
        seconds = sum(r.rate_hz / (r.rate_error_hz**2 or 1) for r in look.rates)
        assert seconds == pytest.approx(600, rel=0.01)
        assert all(0 < r.zenith_deg < 20 for r in look.rates)
        assert look.theta2.on[0] > 10 * look.theta2.off[0]
    assert [p.run_id for p in check.light_curve] == [2001, 2002, 2003, 2004]
    pulls = [(p.flux - 9.52e-10) / p.flux_error for p in check.light_curve]
    assert max(map(abs, pulls)) < 4
    assert check.light_curve[0].stop_unix_s - check.light_curve[0].start_unix_s == pytest.approx(600, abs=1)
    assert check.reference_points == ()
    text = page.read_text()
    assert text.count("<img ") == 3 + 4
    assert "Crab &#34;$x&#34;" in text
    assert "http" not in text.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "").replace("http-equiv", "")


def test_the_crab_is_compared_with_published_points(tmp_path: Path) -> None:
    dl3 = write_folder(tmp_path / "dl3", wobbled(live_s=200.0))
    assert run(dl3, tmp_path / "check.json") == 0
    check = read_source_check(tmp_path / "check.json")
    assert check.reference_points_name == "Crab Nebula (LST-1 2023)"
    assert len(check.reference_points) > 20
    # thrown was MAGIC's spectrum, which is 10 % below LST-1's at some energies
    assert check.points_ratio == pytest.approx(0.95, abs=0.15)
    assert known_source(*CRAB) == "crab"
    assert known_source(CRAB[0] + 0.1, CRAB[1]) is None


def test_without_truth_the_flux_is_in_crabs(folder: Path, tmp_path: Path) -> None:
    assert run(folder, tmp_path / "check.json") == 0
    check = read_source_check(tmp_path / "check.json")
    assert check.ratio == pytest.approx(2.0, abs=0.15)
    assert check.agrees is False
    assert check.reference_name == "Crab Nebula (MAGIC 2015)"
    assert not check.synthetic


def test_a_source_of_which_nobody_knows_the_flux_is_only_measured(folder: Path, tmp_path: Path) -> None:
    """In Crabs, but not held against them: any active galaxy would be a surprise every night."""
    beside, truth = CRAB[1] + 0.08, tmp_path / "truth.json"
    truth.write_text(json.dumps(TRUTH))
    for more in ([], ["--truth", str(truth)]):
        assert run(folder, tmp_path / "check.json", *more, dec=beside) == 0
        check = read_source_check(tmp_path / "check.json")
        assert check.reference_name == "Crab Nebula (MAGIC 2015)"
        assert (check.expected, check.agrees, check.reference_points) == (False, None, ())
        assert "in units" in dict(source_facts(check))
    assert run(folder, tmp_path / "check.json", "--boost", "2") == 0
    assert read_source_check(tmp_path / "check.json").agrees


def test_a_weak_source_fixes_the_shape(tmp_path: Path) -> None:
    dl3 = write_folder(tmp_path / "dl3", [Observation(2001, live_s=40, boost=0.6)])
    assert run(dl3, tmp_path / "check.json") == 0
    check = read_source_check(tmp_path / "check.json")
    assert "beta" not in check.free
    assert check.ratio == pytest.approx(0.6, abs=4 * check.ratio_error)


def test_a_short_run_without_a_background_event_counts(tmp_path: Path) -> None:
    runs = [
        Observation(2001, live_s=15, boost=2, background_hz=0),
        Observation(2002, 180.0, live_s=30, boost=2, background_hz=10),
    ]
    assert run(write_folder(tmp_path / "dl3", runs), tmp_path / "check.json") == 0
    check = read_source_check(tmp_path / "check.json")
    bare, other = check.runs
    assert (bare.counts_off, bare.excess) == (0, bare.counts_on)
    assert bare.alpha == pytest.approx(other.alpha)
    assert bare.significance > 4
    assert check.excess == pytest.approx(bare.excess + other.excess)
    alone = write_folder(tmp_path / "alone", runs[:1])
    assert run(alone, tmp_path / "alone.json") == 0
    assert read_source_check(tmp_path / "alone.json").significance == pytest.approx(bare.significance)


def test_no_source_gives_no_spectrum(tmp_path: Path) -> None:
    dl3 = write_folder(tmp_path / "dl3", [Observation(2001, boost=1e-4), Observation(2002, 180.0, boost=1e-4)])
    assert run(dl3, tmp_path / "check.json") == 0
    check = read_source_check(tmp_path / "check.json")
    assert abs(check.significance) < 4
    assert check.spectrum is None
    assert check.agrees is None
    assert "too small" in check.note


def test_a_run_without_events_is_skipped_and_named(folder: Path, tmp_path: Path) -> None:
    dl3 = tmp_path / "dl3"
    shutil.copytree(folder, dl3)
    write_run(dl3, Observation(2002, 90.0), with_events=False)
    assert run(dl3, tmp_path / "check.json") == 0
    check = read_source_check(tmp_path / "check.json")
    assert check.skipped == {2002: "it has no events"}
    assert [r.run_id for r in check.runs] == [2001, 2003, 2004]


def test_no_events_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dl3 = write_folder(tmp_path / "dl3", [Observation(2001, live_s=10)])
    write_run(dl3, Observation(2001), with_events=False)
    assert run(dl3, tmp_path / "check.json") == 65
    assert "run 2001: it has no events" in capsys.readouterr().err
    assert not (tmp_path / "check.json").exists()


def test_source_outside_the_field(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, tmp_path / "check.json", ra=166.11, dec=38.2) == 65
    assert "outside the field of view" in capsys.readouterr().err


def test_source_on_axis_leaves_no_background(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dl3 = write_folder(tmp_path / "dl3", [Observation(2001, live_s=60, offset_deg=0.0)])
    assert run(dl3, tmp_path / "check.json") == 65
    assert "no room for a background region" in capsys.readouterr().err


def test_missing_index(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "dl3_LST-1.Run02001.fits", tmp_path)
    assert run(tmp_path, tmp_path / "check.json") == 65
    assert "has no index (hdu-index.fits.gz, obs-index.fits.gz missing)" in capsys.readouterr().err


def test_index_of_a_file_that_is_gone(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dl3 = tmp_path / "dl3"
    shutil.copytree(folder, dl3)
    (dl3 / "dl3_LST-1.Run02003.fits").unlink()
    assert run(dl3, tmp_path / "check.json") == 65
    assert "cannot be read through its index" in capsys.readouterr().err


def test_irfs_that_lack_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dl3 = write_folder(tmp_path / "dl3", [Observation(2001, live_s=10), Observation(2002, live_s=10)])
    drop(dl3, "RAD_MAX")
    assert run(dl3, tmp_path / "check.json") == 65
    assert "run 2001 has no theta cut (RAD_MAX)" in capsys.readouterr().err
    drop(dl3, "EFFECTIVE AREA")
    assert run(dl3, tmp_path / "check.json") == 65
    assert "run 2001: it has no point-like IRFs; run 2002" in capsys.readouterr().err


def drop(dl3: Path, name: str) -> None:
    """Take an HDU out of every file and the index."""
    paths = sorted(dl3.glob("dl3*.fits"))
    for path in paths:
        with fits.open(path, memmap=False) as hdus:
            del hdus[name]
            hdus.writeto(path, overwrite=True)
    create_hdu_index_hdu(paths, dl3 / "hdu-index.fits.gz", overwrite=True)


def test_a_published_bundle_works_wherever_it_is_copied(tmp_path: Path) -> None:
    layout = published_site.make_site(tmp_path / "base")
    candidates = layout.absolute(published_site.CANDIDATES)
    shutil.rmtree(candidates)
    write_folder(candidates, wobbled(live_s=60.0, boost=20.0)[:2])
    records = [
        published_site.record(layout, kind, f"{published_site.CANDIDATES}/{name}")
        for kind, name in (
            (ArtifactKind.DL3, "dl3_LST-1.Run02001.fits"),
            (ArtifactKind.DL3, "dl3_LST-1.Run02002.fits"),
            (ArtifactKind.DL3_INDEX, "hdu-index.fits.gz"),
            (ArtifactKind.DL3_INDEX, "obs-index.fits.gz"),
        )
    ]
    shutil.rmtree(layout.manifests / published_site.CANDIDATES)
    for k in range(2):
        published_site.write_manifest(layout, f"DL3 {k}", [], [records[k]])
    published_site.write_manifest(layout, "index", records[:2], records[2:])
    done = publish(build_bundle(published_site.make_request(), layout), layout)
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(layout.absolute(done.path), copy)
    for folder in (layout.absolute(done.path), copy):
        folder.chmod(0o750)
    shutil.rmtree(layout.base)
    assert run(copy, tmp_path / "check.json", "--boost", "20") == 0
    assert read_source_check(tmp_path / "check.json").agrees


@pytest.mark.parametrize(
    ("more", "ra", "status", "message"),
    [
        (("--truth", "/nowhere/truth.json"), CRAB[0], 65, "cannot read /nowhere/truth.json"),
        (("--boost", "-1"), CRAB[0], 78, "not positive"),
        ((), 400.0, 78, "no coordinates"),
    ],
)
def test_bad_arguments(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    ra: float,
    status: int,
    message: str,
) -> None:
    assert run(folder, tmp_path / "check.json", *more, ra=ra) == status
    assert message in capsys.readouterr().err


def test_a_truth_without_spectrum(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "truth.json").write_text('{"source": {"name": "Crab"}}')
    assert run(folder, tmp_path / "check.json", "--truth", str(tmp_path / "truth.json")) == 65
    assert "does not tell the source's spectrum" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("offset", "rad_max", "n"),
    [(0.4, 0.1, 5), (0.4, 0.25, 3), (0.4, 0.32, 1), (0.4, 0.39, 1), (0.4, 0.4, 0), (0.0, 0.1, 0)],
)
def test_off_regions_do_not_touch(offset: float, rad_max: float, n: int) -> None:
    assert off_regions(offset, rad_max) == n
    if n:
        assert 2 * offset * math.sin(math.pi / (n + 1)) >= 2 * rad_max
