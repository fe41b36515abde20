"""Real simulated events through R0 -> DL1 and both NSB tuning tools, as steps of plans on a real SLURM."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from cluster.toy import finish, make_site, send, slurm_cluster

from lstops.cluster.client import open_client
from lstops.cluster.stage import StageContext
from lstops.embedded.slurm_lab import SlurmLab
from lstops.embedded.slurm_lab import why_not as no_slurm
from lstops.production.simtel_plan import SimtelRequest, Tuning, event_source, plan_r0_to_dl1
from lstops.site.model import Site, load_site
from lstops.step.model import Plan
from lstops.step.plans import save_plan

from .conftest import REPOSITORY, Demo

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1200)]
SUBRUN = "DL1/20240115/v0.12/tailcut84/dl1_LST-1.Run02001.0000.h5"


@pytest.fixture(scope="module")
def site(local_demo: Demo, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if reason := no_slurm():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("real")
    with SlurmLab.temporary() as lab:
        # one node of two processors: the machine has no more
        access = lab.start(nodes=1, cpus=2, memory_mb=8000)
        path = make_site(folder, slurm_cluster(access))
        document = yaml.safe_load(path.read_text())
        document["environments"]["0.12.3"]["activate"] = str(REPOSITORY / ".venv-lstchain/bin/activate")
        path.write_text(yaml.safe_dump(document))
        site = load_site(path)
        for file in (shared / "data/simtel").iterdir():
            (site.base / "simtel").mkdir(exist_ok=True)
            shutil.copyfile(file, site.base / "simtel" / file.name)
        (site.base / SUBRUN).parent.mkdir(parents=True)
        shutil.copyfile(local_demo.base / SUBRUN, site.base / SUBRUN)
        yield site


def compute(site: Site, plan: Plan, name: str) -> tuple[set[str], dict[str, str]]:
    """Run all stages as arrays; returns the subjects that are done and what was wrong with the others."""
    save_plan(plan, site)
    client = open_client(site)
    done: set[str] = set()
    wrong: dict[str, str] = {}
    for stage in plan.stages:
        context = StageContext.load(site, plan.plan_id, stage.name)
        judgement = finish(context, client, send(context, client, f"lstops-{name}-{stage.name}"), timeout_s=400)
        done |= {context.step(i).subject for i in judgement.done}
        wrong |= {trouble.subject: f"{trouble.what}\n{trouble.log_tail}" for trouble in judgement.beyond_help}
        for index in judgement.done:
            assert all((site.base / output.path).exists() for output in context.step(index).outputs)
        for trouble in judgement.beyond_help:
            assert trouble.remedy
            assert not any((site.base / output.path).exists() for output in context.step(trouble.index).outputs)
    client.close()
    return done, wrong


def test_files_that_work_and_files_that_cannot(site: Site) -> None:
    """One array: the good ones are done, each of the others ends with its cause and leaves nothing."""
    causes = {
        "aux_traces_2030.simtel.zst": "No object named",
        "camsettings_v6.simtel.zst": "No object named",
        "gamma_prod6_tel_event_header_v4.simtel.zst": "No object named",
        "extracted_pedestals.simtel.zst": "has no attribute 'energy'",
    }
    good = ("history_meta_75.simtel.zst", "lst_muons.simtel.zst")
    files = tuple(f"simtel/{name}" for name in (*good, *causes))
    plan = plan_r0_to_dl1(SimtelRequest("real", "0.12.3", files, "mc/DL1/real", update=event_source(30)), site)
    done, wrong = compute(site, plan, "real")
    assert set(good) <= done
    assert set(wrong) == set(causes)
    for name, cause in causes.items():
        assert cause in wrong[name]
    assert list((site.base / "lstops/staging").glob("*")) == []


def test_a_file_that_ends_too_early(site: Site) -> None:
    """Its end is reached only without a limit of events."""
    name = "test_lasercal_v3.simtel.gz"
    request = SimtelRequest("cut", "0.12.3", (f"simtel/{name}",), "mc/DL1/cut", update=event_source(None))
    done, wrong = compute(site, plan_r0_to_dl1(request, site), "cut")
    assert name not in done
    assert "Might be truncated" in wrong[name]


@pytest.mark.parametrize("level", ["waveform", "image"])
def test_both_tuning_tools(site: Site, level: str) -> None:
    simtel = "simtel/history_meta_75.simtel.zst"
    request = SimtelRequest(
        f"tuned-{level}", "0.12.3", (simtel,), f"mc/DL1/tuned-{level}", tuning=Tuning(SUBRUN, simtel, level)
    )
    done, wrong = compute(site, plan_r0_to_dl1(request, site), f"tuned-{level}")
    assert wrong == {}
    assert "history_meta_75.simtel.zst" in done
