"""Kinds of cuts and responses with the real lstchain: each makes DL3 that gammapy can use, and both sides agree."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from chain import CRAB, CUTS, product, request, run_all

from lstops.reduction.cut_settings import DEFAULTS
from lstops.reduction.cuts import CutSet, parse_cuts
from lstops.reduction.jobs import RunJob
from lstops.reduction.plan import plan_night
from lstops.report.source import read_source_check
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Output
from lstops.step.report import Ending
from lstops.step.verify import InputFacts, inspect, verify

pytest.importorskip("lstchain", reason="needs the science environment")

from astropy.io import fits
from gammapy.data import DataStore

from lstops.science import dl3_index, source_check, stamp
from lstops.science.command import run_script
from lstops.science.dl3 import make_dl3
from lstops.science.good_time import DroppedSubrun, Span
from lstops.science.run_responses import TOOL, recommended_pe

GLOBAL_GAMMANESS, GLOBAL_THETA_DEG = 0.4, 0.2


def cut_set(point_like: bool, gammaness_by_energy: bool, theta_by_energy: bool) -> CutSet:
    document = json.loads(CUTS.text)
    document["IRFFITSWriter"] = {
        "point_like": point_like, "energy_dependent_gh": gammaness_by_energy, "energy_dependent_theta": theta_by_energy,
    }  # fmt: skip
    document["DL3Cuts"] |= {"global_gh_cut": GLOBAL_GAMMANESS, "global_theta_cut": GLOBAL_THETA_DEG}
    return parse_cuts(json.dumps(document), "test")


@pytest.fixture(scope="module")
def dl2(job: RunJob, site: Site, layout: Layout) -> Path:
    plan = plan_night(request(job), site)
    run_all(plan, site)
    return layout.absolute(plan.stage("dl2").steps[0].primary.path)


@pytest.mark.parametrize(
    ("point_like", "gammaness_by_energy", "theta_by_energy"),
    [(True, True, True), (True, True, False), (True, False, True), (True, False, False), (False, True, False),
     (False, False, False)],
)  # fmt: skip
def test_each_kind_of_cuts_and_responses(
    job: RunJob, dl2: Path, layout: Layout, tmp_path: Path, point_like: bool, gammaness_by_energy: bool,
    theta_by_energy: bool,
) -> None:  # fmt: skip
    cuts = cut_set(point_like, gammaness_by_energy, theta_by_energy)
    settings, folder, out = tmp_path / "cuts.json", tmp_path / "irf", tmp_path / "dl3"
    settings.write_text(cuts.text)
    folder.mkdir()
    out.mkdir()
    nodes = []
    for node in job.irfs:
        path = folder / Path(node.path).name
        assert node.gamma_dl2 is not None
        run_script(TOOL, ["-g", layout.absolute(node.gamma_dl2), "-o", path, "--config", settings])
        stamp.main([str(path), f"--cuts={settings}"])
        expect = {"useful_energy_tev": list(cuts.useful_energy_tev), "point_like": point_like}
        facts = verify(Output(name="irf", kind=ArtifactKind.IRF, path="x", expect=expect), path, [])
        assert (facts["gh_cut"] is None) == gammaness_by_energy
        assert (facts["rad_max_deg"] is None) == (theta_by_energy or not point_like)
        nodes.append(InputFacts(path.name, ArtifactKind.IRF, path, facts))
    target = out / dl2.name.replace("dl2", "dl3").replace(".h5", ".fits")
    words = ["-i", folder, "-p", "irf*.fits.gz", "--source-name=Crab", f"--source-ra={CRAB[0]}deg",
             f"--source-dec={CRAB[1]}deg", "--config", settings]  # fmt: skip
    make_dl3(dl2, [], target, tmp_path, list(map(str, words)))
    stamp.main([str(target), f"--cuts={settings}"])
    data = InputFacts("dl2", ArtifactKind.DL2, dl2, inspect(ArtifactKind.DL2, dl2))
    expect = {"useful_energy_tev": list(cuts.useful_energy_tev), "irf_zenith_tolerance_deg": 0.05}
    output = Output(name="dl3", kind=ArtifactKind.DL3, path="x", counts_from=("dl2",), expect=expect)
    assert len(verify(output, target, [data, *nodes])["irf_nodes"]) == 3

    indexed = tmp_path / "indexed"
    indexed.mkdir()
    dl3_index.write_index(out, indexed)
    shutil.copy(target, indexed)
    needed = ["aeff", "edisp", *([] if point_like else ["psf"])]
    (observation,) = DataStore.from_dir(indexed).get_observations(required_irf=needed)
    assert observation.aeff.is_pointlike is point_like
    rad_max = observation.rad_max
    assert (rad_max is None) is not point_like
    if rad_max is not None:
        assert (rad_max.data.size > 1) is theta_by_energy
        assert theta_by_energy or rad_max.quantity.to_value("deg") == pytest.approx(GLOBAL_THETA_DEG)
    if not gammaness_by_energy:
        assert observation.events.table["GAMMANESS"].min() >= GLOBAL_GAMMANESS
    check = tmp_path / "check.json"
    coordinates = [f"--ra-deg={CRAB[0]}", f"--dec-deg={CRAB[1]}"]
    assert source_check.main(["--dl3", str(indexed), "--source-name", "Crab", *coordinates, "--out", str(check)]) == 0
    found = read_source_check(check)
    assert found.region_deg == (None if point_like else 0.25)
    # the simulated Crab is 40 times brighter; whatever the cuts are, they must not change the flux
    assert found.ratio == pytest.approx(40, abs=5 * found.ratio_error)


def test_an_intensity_cut_of_each_run(job: RunJob, site: Site, layout: Layout) -> None:
    """Responses and data have the same cut, that of the run, and say so; the rest is as ever."""
    import tables

    document = json.loads(CUTS.text)
    document["lstops"] |= {"name": "per_run", "intensity_per_run": True}
    document["EventSelector"]["filters"]["intensity"] = [20, float("inf")]
    cuts = parse_cuts(json.dumps(document), "test")
    assert cuts.intensity_per_run
    plan = plan_night(request(replace(job, source="Crab per run"), cuts=cuts), site)
    assert run_all(plan, site)[1] is Ending.DONE
    dl3, *responses, settings = (product(layout, output.path) for output in plan.stage("dl3").steps[0].outputs)
    said = json.loads(layout.absolute(settings.path).read_text())
    limit = said["EventSelector"]["filters"]["intensity"][0]
    assert said["lstops"]["intensity"]["limit_pe"] == limit
    assert said["lstops"]["intensity"]["cut_set"] == cuts.digest
    assert limit >= 50
    assert said["DL3Cuts"] == document["DL3Cuts"]
    header = fits.getheader(layout.absolute(dl3.path), "EVENTS")
    assert (header["INTCUT"], header["CUTSHA"], header["CUTSET"]) == (limit, settings.state.sha256, "per_run")
    assert len(responses) >= 3
    for record in responses:
        primary = fits.getheader(layout.absolute(record.path))
        assert (primary["CUTSHA"], primary["INTCUT"]) == (settings.state.sha256, limit)
    assert {n["file"] for n in dl3.facts["irf_nodes"]} <= {Path(r.path).name for r in responses}
    with tables.open_file(str(layout.absolute(plan.stage("dl2").steps[0].primary.path))) as file:
        events = file.root.dl2.event.telescope.parameters.LST_LSTCam.read()
    kept = np.isin(events["event_id"], fits.getdata(layout.absolute(dl3.path), "EVENTS")["EVENT_ID"])
    assert events["intensity"][kept].min() >= limit
    assert (events["intensity"] < limit).any()


def test_subruns_that_are_left_out_have_no_say_in_the_intensity_cut(dl2: Path, tmp_path: Path) -> None:
    """As if all that is dim had been taken in one subrun, which is dropped."""
    import tables

    with tables.open_file(str(dl2)) as file:
        events = file.root.dl2.event.telescope.parameters.LST_LSTCam.read()
    dim = DroppedSubrun(1, np.unique(events["event_id"][events["intensity"] < 150]), Span(0, 1))
    whole, rest = recommended_pe(dl2), recommended_pe(dl2, [dim])
    assert whole is not None
    assert rest is None or rest > 1.3 * whole


def test_responses_of_other_cuts_than_those_of_the_data_are_refused(
    job: RunJob, site: Site, layout: Layout, tmp_path: Path
) -> None:
    from lstops.errors import ProductInvalid

    plan = plan_night(request(job), site)
    run_all(plan, site)
    record = product(layout, plan.stage("dl3").steps[0].primary.path)
    copy = tmp_path / "dl3_LST-1.Run02001.fits"
    shutil.copyfile(layout.absolute(record.path), copy)
    with fits.open(copy, mode="update") as hdus:
        hdus[0].header["CUTSHA"] = "0" * 64
    nodes = [InputFacts(Path(n.path).name, ArtifactKind.IRF, layout.absolute(n.path), product(layout, n.path).facts)
             for n in job.irfs]  # fmt: skip
    with pytest.raises(ProductInvalid, match=r"made with the cut set 000000000000, its responses irf.*fits.gz with"):
        verify(Output(name="dl3", kind=ArtifactKind.DL3, path="x"), copy, nodes)


def test_what_lstchain_takes_where_nothing_is_said() -> None:
    """A response of lstmcpipe is compared with the cut set by these."""
    from lstchain.io import event_selection
    from lstchain.tools.lstchain_create_irf_files import IRFFITSWriter

    for section, values in DEFAULTS.items():
        tool = IRFFITSWriter() if section == "IRFFITSWriter" else getattr(event_selection, section)()
        assert {name: getattr(tool, name) for name in values} == values
