"""Real simulated events through R0 -> DL1 and both NSB tuning tools, as steps; and what cannot be processed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tiny import SIMTEL, site_at

from lstops.errors import JobFailure
from lstops.production.grid import known_grid
from lstops.production.level import LevelRequest
from lstops.production.simtel_plan import SimtelRequest, Tuning, event_source, plan_r0_to_dl1
from lstops.production.waveform_plan import plan_waveform_tuning
from lstops.reduction.cuts import load_cuts
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import ManifestStore
from lstops.step.model import Plan
from lstops.step.report import Ending, StepReport
from lstops.step.runner import run_step

pytest.importorskip("lstchain", reason="needs the science environment")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return site_at(tmp_path)


def plan_of(name: str, shared: Path, site: Site, max_events: int | None = None) -> Plan:
    target = site.base / "mc/simtel" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(shared / "data/simtel" / name, target)
    request = SimtelRequest("real", "0.12.3", (f"mc/simtel/{name}",), "mc/DL1/real", update=event_source(max_events))
    return plan_r0_to_dl1(request, site)


def facts(plan: Plan, index: int, site: Site) -> dict[str, object]:
    manifest = ManifestStore(Layout(site.base, site.work).manifests).read(plan.steps()[index].primary.path)
    assert manifest is not None
    return manifest.outputs[0].facts


@pytest.mark.parametrize(
    ("name", "max_events", "events"),
    [("history_meta_75.simtel.zst", None, 1), ("lst_muons.simtel.zst", 30, 30)],
)
def test_what_works(shared: Path, site: Site, name: str, max_events: int | None, events: int) -> None:
    plan = plan_of(name, shared, site, max_events)
    assert [run_step(plan, i, site).ending for i in (0, 1)] == [Ending.DONE] * 2
    found = facts(plan, 1, site)
    assert found["events"] == events
    assert found["simulation"] is True
    assert found["images"] is True


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("test_lasercal_v3.simtel.gz", "Might be truncated"),
        ("aux_traces_2030.simtel.zst", "No object named"),
        ("camsettings_v6.simtel.zst", "No object named"),
        ("gamma_prod6_tel_event_header_v4.simtel.zst", "No object named"),
        ("extracted_pedestals.simtel.zst", "has no attribute 'energy'"),
        ("lst_muons.simtel.zst", "TypeError"),
    ],
)
def test_what_cannot_work_fails_with_its_cause_and_leaves_nothing(
    shared: Path, site: Site, name: str, cause: str
) -> None:
    plan = plan_of(name, shared, site)
    layout = Layout(site.base, site.work)
    run_step(plan, 0, site)
    with pytest.raises(JobFailure, match=r"lstchain_mc_r0_to_dl1 ended with exit status 1"):
        run_step(plan, 1, site)
    report = StepReport.model_validate_json(layout.step_report(plan.plan_id, 1).read_bytes())
    assert report.ending is Ending.FAILED
    assert report.subject == name
    assert cause in report.log_tail
    assert report.remedy
    assert not layout.absolute(plan.steps()[1].primary.path).exists()
    assert not list(layout.staging.iterdir())
    assert ManifestStore(layout.manifests).read(plan.steps()[1].primary.path) is None


@pytest.mark.parametrize(("level", "block", "key"), [
    ("waveform", "waveform_nsb_tuning", "nsb_tuning_rate_GHz"),
    ("image", "image_modifier", "extra_noise_in_dim_pixels"),
])  # fmt: skip
def test_both_tuning_tools_and_then_dl1(
    tiny_site: Path, subrun: str, bright_subrun: str, level: str, block: str, key: str
) -> None:
    site = site_at(tiny_site)
    data = bright_subrun if level == "waveform" else subrun
    request = SimtelRequest(
        f"tuned-{level}", "0.12.3", (SIMTEL,), f"mc/DL1/tuned-{level}", tuning=Tuning(data, SIMTEL, level)
    )
    plan = plan_r0_to_dl1(request, site)
    assert [run_step(plan, i, site).ending for i in (0, 1)] == [Ending.DONE] * 2
    # 0.30 GHz were put into the night, 0.60 into the bright subrun, over simulations of about 0.25 GHz
    tuned = facts(plan, 0, site)[block]
    assert isinstance(tuned, dict)
    assert 0 < tuned[key] < 1
    assert facts(plan, 1, site)["events"] == 1
    if level == "waveform":
        # the rate that the tool found is in the waveforms of real sim_telarray events
        assert pixel_noise(plan, site) > 1.05 * pixel_noise(untuned(site), site)


def test_the_rate_of_several_subruns_is_in_the_raw_events_of_a_production(tiny_site: Path, bright_subrun: str) -> None:
    site, grid = site_at(tiny_site), known_grid()
    line = replace(grid.line("dec_2276"), nodes=grid.line("dec_2276").nodes[:1])
    asked = LevelRequest("tuned_waveforms", "0.12.3", 0.3, (line,), grid.test_nodes[:1], load_cuts())

    def lister(folder: str, pattern: str) -> list[str]:
        return [SIMTEL] if SIMTEL.endswith(pattern.rpartition(".")[2]) else []

    plan = plan_waveform_tuning(asked, (bright_subrun, bright_subrun), site, grid, lister)
    assert [stage.name for stage in plan.stages][:2] == ["tune", "r0_to_dl1"]
    assert [run_step(plan, i, site).ending for i in (0, 1)] == [Ending.DONE] * 2
    tuned = facts(plan, 0, site)["waveform_nsb_tuning"]
    assert isinstance(tuned, dict)
    record = json.loads((site.base / plan.steps()[0].outputs[1].path).read_text())
    assert record["section"] == "waveform_nsb_tuning"
    # lstchain's tool draws the noise anew each time, so that even one subrun does not give one number
    measured = [one["nsb_tuning_rate_GHz"] for one in record["subruns"]]
    assert len(measured) == 2
    found = record["values"]["nsb_tuning_rate_GHz"]
    assert found["value"] == tuned["nsb_tuning_rate_GHz"] == pytest.approx(sum(measured) / 2)
    assert found["spread"] == pytest.approx(abs(measured[0] - measured[1]) / 2**0.5)
    assert 0 < found["value"] < 1
    config = json.loads((site.base / plan.steps()[0].primary.path).read_text())
    assert config["tailcut"]["picture_thresh"] == asked.tailcut.picture_pe
    assert facts(plan, 1, site)["events"] == 1


def untuned(site: Site, **update: object) -> Plan:
    """The same real event with the configuration of `update`, made."""
    request = SimtelRequest("plain", "0.12.3", (SIMTEL,), f"mc/DL1/plain-{len(update)}", update=update)
    plan = plan_r0_to_dl1(request, site)
    assert {run_step(plan, i, site).ending for i in (0, 1)} <= {Ending.DONE, Ending.UP_TO_DATE}
    return plan


def pixel_noise(plan: Plan, site: Site) -> float:
    """Spread (p.e.) of the charges of a file below their median: pixels without a signal, where the noise is."""
    import numpy as np
    import tables

    with tables.open_file(site.base / plan.steps()[1].primary.path) as file:
        charges = file.root.dl1.event.telescope.image.LST_LSTCam.col("image")
    low, middle = np.percentile(charges, [16, 50])
    return float(middle - low)


def test_noise_in_the_waveforms_of_real_events_grows_with_the_rate(tiny_site: Path) -> None:
    """The variance of a pixel's charge is that of the dark simulation and what the extra photoelectrons add."""
    site = site_at(tiny_site)
    tuning = {"nsb_tuning": True, "nsb_tuning_rate_GHz": 1.0}
    dark, bright = pixel_noise(untuned(site), site), pixel_noise(untuned(site, waveform_nsb_tuning=tuning), site)
    # 1 GHz in the 8 ns of the integration window, with the spread of a single photoelectron: about 2.6 p.e. more,
    # added in quadrature (1.28 p.e. grew to 2.86 p.e.)
    assert 1.5 < (bright**2 - dark**2) ** 0.5 < 4.0
