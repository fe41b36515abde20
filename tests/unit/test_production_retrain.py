"""Forests retrained from the DL1 of a production: new products under a new name, nothing of the old one touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sites import make_site

from lstops.errors import ConfigError
from lstops.production.card_plan import CardSettings, with_report_cards
from lstops.production.gates import load_gates
from lstops.production.grid import Particle
from lstops.production.inventory import Dataset, Inventory, McFile
from lstops.production.plan import TunedProductionRequest, plan_tuned_production
from lstops.production.report_card import reference_text
from lstops.production.retrain import plan_retraining
from lstops.reduction.cuts import load_cuts
from lstops.science.mc_config import updated_mc_config
from lstops.site.model import ForestSettings, Site
from lstops.step.model import ArtifactKind, Plan

FORESTS = ForestSettings(n_estimators=7)
LINE, OLD, NEW = "dec_2276", "20240115_v0.12.3_crab_nsb_tuning_0.25", "20240116_v0.12.3_crab_deeper"


def source(site: Site) -> Plan:
    files = tuple(
        McFile(dataset, particle, f"node_theta_{node}_", f"mc/{particle.value}/node_theta_{node}_/dl1_run{i}.h5")
        for dataset, particle, nodes in (
            (Dataset.TRAIN, Particle.GAMMA_DIFFUSE, ("10.0_az_100.0", "35.0_az_100.0")),
            (Dataset.TRAIN, Particle.PROTONS, ("10.0_az_100.0", "35.0_az_100.0")),
            (Dataset.TEST, Particle.GAMMA, ("10.0_az_175.0", "35.0_az_355.0")),
        )
        for node in nodes
        for i in (1, 2)
    )
    request = TunedProductionRequest(OLD, "0.12.3", ("DL1/x.h5",), load_cuts("small"), "mc/x.simtel.zst")
    plan = plan_tuned_production(request, site, Inventory("base", LINE, files))
    return plan.model_copy(update={"context": {**plan.context, "nsb_level_ghz": 0.25, "tailcut": "tailcut84"}})


def outputs(plan: Plan) -> set[str]:
    return {output.path for step in plan.steps() for output in step.outputs}


def test_everything_from_the_forests_on_is_new_and_the_dl1_is_the_old(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    old = source(site)
    plan = plan_retraining(old, LINE, NEW, FORESTS, site)
    assert {stage.name: len(stage.steps) for stage in plan.stages} == {"tune": 1, "train": 1, "dl2": 2, "irf": 2}
    assert not outputs(plan) & outputs(old)
    assert all(f"/{NEW}/" in path or path.endswith(f"/{NEW}.json") for path in outputs(plan))
    made = outputs(plan)
    for step in plan.steps():
        for item in step.inputs:
            is_dl1 = item.kind in (ArtifactKind.DL1, ArtifactKind.DL1_MERGED)
            assert item.path in (outputs(old) if is_dl1 or step.kind == "config" else made), (step.label, item.path)
    assert (plan.context["production"], plan.context["retrained_from"]) == (NEW, OLD)
    assert (plan.context["nsb_level_ghz"], plan.context["tailcut"]) == (0.25, "tailcut84")
    update = json.loads(plan.stage("tune").steps[0].files["update.json"])
    assert update["random_forest_energy_regressor_args"]["n_estimators"] == FORESTS.n_estimators
    (train,) = plan.stage("train").steps
    assert train.primary.expect["training_dirs"] is True
    assert any("lstops.science.complete_models" in argv for argv in train.commands)


def test_the_same_gates(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    plan = plan_retraining(source(site), LINE, NEW, FORESTS, site)
    plan = with_report_cards(plan, CardSettings(load_gates("standard"), reference_text()), site)
    (card,) = plan.stage("report").steps
    assert card.primary.path == f"mc/DL1/AllSky/{NEW}/report_card_{LINE}.json"


@pytest.mark.parametrize(("line", "name"), [(LINE, OLD), (LINE, "../x"), (LINE, ""), ("dec_3476", NEW)])
def test_what_cannot_be_retrained(tmp_path: Path, line: str, name: str) -> None:
    site = make_site(tmp_path)
    with pytest.raises(ConfigError):
        plan_retraining(source(site), line, name, FORESTS, site)


def test_the_configuration_is_that_of_the_source_with_other_forests(tmp_path: Path) -> None:
    base, update = tmp_path / "base.json", tmp_path / "update.json"
    base.write_text('{"image_modifier": {"increase_nsb": true}, "random_forest_x_args": {"n_jobs": 4, "max_depth": 3}}')
    update.write_text('{"random_forest_x_args": {"max_depth": 30}}')
    assert updated_mc_config(update, base) == {
        "image_modifier": {"increase_nsb": True}, "random_forest_x_args": {"n_jobs": 4, "max_depth": 30},
    }  # fmt: skip
    base.write_text("[1]")
    with pytest.raises(ConfigError, match="is no JSON object"):
        updated_mc_config(update, base)
