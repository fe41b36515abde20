"""Configurations that somebody gave: what the lint says of them, and what is planned of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sites import make_site
from typer.testing import CliRunner

from lstops.errors import ConfigError, DataError
from lstops.operations.planning import plan_request
from lstops.operations.production_run import plan_run, request_of
from lstops.production.cli import app
from lstops.production.config import LstmcpipeConfig, ProductionConfig, write_config
from lstops.production.findings import Severity
from lstops.production.grid import Particle, known_grid
from lstops.production.inventory import TRAINING, Dataset, Inventory, McFile
from lstops.production.level import chain_changes, lstmcpipe_config
from lstops.production.lint import lint_file
from lstops.production.lstchain_config import LstchainConfig
from lstops.production.outline import plan_level_ghz
from lstops.production.plan import TunedProductionRequest, forest_update
from lstops.production.pull_request import tuned_lstmcpipe_config
from lstops.production.request import ProductionRequest
from lstops.reduction.cuts import SECTIONS, load_cuts
from lstops.site.model import Site

from .test_production_lint import PROD, Change, Document, production, write
from .test_production_needs import crab

GRID = known_grid()
ENVIRONMENTS = {"0.10.12": {"lstchain_version": "0.10.12", "activate": "/nonexistent/activate"}}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """With the raw events of the configuration."""
    for name in ("LSTOPS_DATABASE_URL", "LSTOPS_HOME"):
        monkeypatch.delenv(name, raising=False)
    nightly = {"pipeline_version": "v0.12", "lstchain_version": "0.10.12"}
    made = make_site(tmp_path / "site", environments=ENVIRONMENTS, nightly=nightly)
    for step in production()["stages"]["r0_to_dl1"]:
        folder = made.base / step["input"].removeprefix("/fefs/aswg/data/")
        folder.mkdir(parents=True)
        (folder / f"{folder.parent.name}run1.simtel.gz").touch()
    return made


def given(tmp_path: Path, change: Change = lambda pipe, chain: None, **options: Any) -> ProductionRequest:
    folder = tmp_path / PROD
    folder.mkdir(exist_ok=True)
    return ProductionRequest(config=write(folder, change), **options)


def wrong_label(pipe: Document, chain: Document) -> None:
    chain["waveform_nsb_tuning"]["nsb_tuning_rate_GHz"] = 0.15


def wrong_everywhere(pipe: Document, chain: Document) -> None:
    wrong_label(pipe, chain)
    for section in ("EventSelector", "DL3Cuts", "DataBinning"):
        del chain[section]
    pipe["stages_to_run"].append("dl2_to_sensitivity")
    pipe["stages"]["train_pipe"][0]["slurm_options"] = "-p long"


def test_a_right_configuration_is_planned_without_notes(site: Site, tmp_path: Path) -> None:
    (found,) = plan_request(site, given(tmp_path))
    assert found.plan is not None
    assert found.plan.context["production"] == PROD
    assert [note.partition(":")[0] for note in found.notes] == ["existing productions were not looked for"]
    (same,) = plan_request(site, given(tmp_path, name=PROD))
    assert same.plan == found.plan


def test_errors_of_the_lint_are_refused_with_code_place_and_remedy(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has 1 error: nsb-label-mismatch, .*0\.14.*0\.15.*\(remedy: ") as caught:
        plan_request(site, given(tmp_path, wrong_label))
    assert "--despite-errors" in caught.value.remedy
    with pytest.raises(ConfigError, match=r"has \d errors: stage-not-defined, stages_to_run\.dl2_to_sensitivity: "):
        plan_request(site, given(tmp_path, wrong_everywhere))


def test_despite_its_errors_a_configuration_is_planned_with_them_as_notes(site: Site, tmp_path: Path) -> None:
    (found,) = plan_request(site, given(tmp_path, wrong_everywhere, despite_errors=True))
    assert found.plan is not None
    codes = [note.partition(",")[0] for note in found.notes if "existing productions" not in note]
    assert {"error nsb-label-mismatch", "error stage-not-defined", "warning dead-key"} <= set(codes)
    assert codes == sorted(codes, key=lambda code: not code.startswith("error")), "errors come first"


def test_the_command_line_has_the_switch(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(json.dumps(site.model_dump(mode="json")))
    monkeypatch.setenv("LSTOPS_SITE", str(file))
    path = str(given(tmp_path, wrong_label).config)
    refused = CliRunner().invoke(app, ["plan", path, "--dry-run"])
    assert isinstance(refused.exception, ConfigError)
    done = CliRunner().invoke(app, ["plan", path, "--dry-run", "--despite-errors"])
    assert done.exit_code == 0
    assert "- error nsb-label-mismatch" in done.output


NOISE = {"dl1_noise_tune_data_run": "/fefs/aswg/data/real/DL1/x.h5", "dl1_noise_tune_mc_run": "/fefs/x.simtel.gz"}


@pytest.mark.parametrize(
    ("added", "message", "remedy"),
    [
        (NOISE, "its Monte Carlo would not be tuned", "--night or --runs"),
        ({"workflow_kind": "hiperta"}, "is a production of hiperta", "run it with lstmcpipe"),
        ({"workflow_kind": "ctapipe"}, "is a production of ctapipe", "run it with lstmcpipe"),
    ],
)
def test_what_no_step_would_do_is_refused(
    site: Site, tmp_path: Path, added: Document, message: str, remedy: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan_request(site, given(tmp_path, lambda pipe, chain: pipe.update(added), despite_errors=True))
    assert remedy in caught.value.remedy


def test_another_name_than_the_configuration_s_is_refused(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"the configuration makes {PROD}, not foo"):
        plan_request(site, given(tmp_path, name="foo"))


def test_a_missing_version_names_the_option(site: Site, tmp_path: Path) -> None:
    def unversioned(pipe: Document, chain: Document) -> None:
        pipe["source_environment"]["conda_env"] = "lst"

    with pytest.raises(ConfigError, match="does not say which lstchain") as caught:
        plan_request(site, given(tmp_path, unversioned))
    assert "--lstchain" in caught.value.remedy


def errors_of(pipe: LstmcpipeConfig, chain: Document, folder: Path) -> list[str]:
    path = folder / f"{pipe.prod_id}.yml"
    write_config(
        ProductionConfig(pipe=pipe, chain=LstchainConfig(content=chain)), path, folder / "lstchain_config.json"
    )
    return [f"{f.code} {f.message}" for f in lint_file(path).findings if f.severity is Severity.ERROR]


#: of the standard configuration of lstchain, which the changes are made to
FEATURES = {
    f"{what}_features": ["log_intensity", "width"]
    for what in ("energy_regression", "disp_regression", "disp_classification", "particle_classification")
}


def test_what_lstops_writes_for_lstmcpipe_has_no_errors(tmp_path: Path) -> None:
    site, line, cuts = make_site(tmp_path), GRID.line("dec_2276"), load_cuts()
    level = replace(crab(), production="v0.12.3_crab_nsb_tuning_0.14")
    (tmp_path / "level").mkdir()
    changed = {**FEATURES, **chain_changes(level, site)}
    assert errors_of(lstmcpipe_config(level, site, GRID), changed, tmp_path / "level") == []

    name = "20240115_v0.12.3_nsb_tuning_0.25"
    places = [
        *((Dataset.TRAIN, p, line.node_name(node, p)) for p in TRAINING for node in line.nodes),
        *((Dataset.TEST, Particle.GAMMA, node.name(GRID.test_prefix)) for node in GRID.test_nodes[:3]),
    ]
    inventory = Inventory(
        "base",
        "dec_2276",
        tuple(
            McFile(d, p, node, f"mc/DL1/AllSky/base/{d.value}/dec_2276/{p.value}/{node}/x.h5") for d, p, node in places
        ),
    )
    tuned = tuned_lstmcpipe_config(TunedProductionRequest(name, "0.12.3", (), cuts), site, inventory)
    chain = {"tailcut": {"picture_thresh": 8, "boundary_thresh": 4}, "image_modifier": {"increase_nsb": True}}
    chain |= {**FEATURES, **forest_update(site.production.forests)}
    chain |= {key: value for key, value in json.loads(cuts.text).items() if key in SECTIONS}
    (tmp_path / "tuned").mkdir()
    assert errors_of(tuned, chain, tmp_path / "tuned") == []


def a_ratio(pipe: Document, chain: Document) -> None:
    chain["waveform_nsb_tuning"] = {"nsb_tuning": True, "nsb_tuning_ratio": 0.5}


def test_a_level_that_the_configuration_does_not_say_is_given_or_asked_for(site: Site, tmp_path: Path) -> None:
    (unknown,) = plan_request(site, given(tmp_path, a_ratio, despite_errors=True))
    assert "does not say its NSB in GHz" in unknown.notes[0]
    (found,) = plan_request(site, given(tmp_path, a_ratio, despite_errors=True, levels_ghz=(0.31,)))
    assert not any("does not say" in note for note in found.notes)
    assert found.plan is not None
    assert (plan_level_ghz(found.plan), found.plan.context["nsb_level_given"]) == (0.31, True)


def test_a_level_beside_a_configuration_must_be_its_own(site: Site, tmp_path: Path) -> None:
    (said,) = plan_request(site, given(tmp_path))
    assert said.plan is not None
    level = plan_level_ghz(said.plan)
    assert level is not None
    (same,) = plan_request(site, given(tmp_path, levels_ghz=(level,)))
    assert same.plan is not None
    assert same.plan.plan_id == said.plan.plan_id
    with pytest.raises(ConfigError, match=rf"has {level:.2f} GHz, not 0\.77 GHz"):
        plan_request(site, given(tmp_path, levels_ghz=(0.77,)))
    with pytest.raises(ConfigError, match="has one level"):
        plan_request(site, given(tmp_path, levels_ghz=(0.1, 0.2)))


BASE_MODELS = "models/AllSky/20240101_v0.10.12_base/dec_2276"


def with_forests_of_another(pipe: Document, chain: Document) -> None:
    del pipe["stages"]["train_pipe"]
    pipe["stages_to_run"].remove("train_pipe")
    for step in pipe["stages"]["dl1_to_dl2"]:
        step["path_model"] = f"/fefs/aswg/data/{BASE_MODELS}"


def test_no_way_leads_to_a_plan_whose_forests_are_missing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = given(tmp_path, with_forests_of_another, despite_errors=True)
    form = request_of({"config": str(request.config), "despite_errors": True})
    monkeypatch.setattr("lstops.site.model.load_site", lambda _: site)
    command = ["plan", str(request.config), "--despite-errors"]

    def refused(message: str) -> None:
        with pytest.raises(DataError, match=message):
            plan_request(site, request)
        with pytest.raises(DataError, match=message):
            plan_run(site, form)
        assert isinstance(CliRunner().invoke(app, command).exception, DataError)
        assert not (site.base / site.work / "plans").exists(), "nothing is stored"

    refused(f"1 of 1 files or folders .* reads, and does not make, are not there; the first is {BASE_MODELS}")
    folder = site.base / BASE_MODELS
    folder.mkdir(parents=True)
    for name in ("reg_energy", "cls_gh", "reg_disp_norm"):
        (folder / f"{name}.sav").write_text("x")
    refused("cls_disp_sign")
    (folder / "cls_disp_sign.sav").write_text("x")
    assert plan_run(site, form)[0] is not None
    assert CliRunner().invoke(app, command).exit_code == 0
