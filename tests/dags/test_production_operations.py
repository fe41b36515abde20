"""The tasks of `mc_production` on a real night, and what `nightly` asks for. Real PostgreSQL, no Airflow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tables
from unit.test_catalog import manifest

from lstops.catalog.blocks import pack_runs
from lstops.catalog.database import catalog_session
from lstops.catalog.nights import find_run, run_table
from lstops.catalog.productions import RegisteredProduction, register_production
from lstops.catalog.products import products, record_manifests
from lstops.catalog.requests import production_requests
from lstops.errors import ConfigError, DataError, ProductInvalid
from lstops.nsb.match import MatchKind
from lstops.operations.nightly import ingest, judge, layout_of
from lstops.operations.planned import store
from lstops.operations.planning import plan_request
from lstops.operations.production import nsb_of_sample, sample_of, typical_subruns
from lstops.operations.production_run import plan_run, prepare, preview, request_of
from lstops.operations.reduction import plan_reduction
from lstops.operations.registration import register
from lstops.operations.retraining import plan_run as retrain
from lstops.operations.run_match import match_run
from lstops.production.branches import DAG_STAGES
from lstops.production.needs import ZenithRange
from lstops.production.request import ProductionRequest
from lstops.site.model import ForestSettings, Site, Trainer
from lstops.step.manifest import ManifestStore
from lstops.step.plans import load_plan, save_plan

from .nights import NIGHT, run_catalog, run_summary, write, write_tailcuts
from .test_operations import server, site

__all__ = ["server", "site"]

RUNS = (1610, 1612)
FIELDS = ("night", "profile", "target", "line", "zenith_range", "nsb_ghz", "config", "name", "lstchain_version")
EMPTY: dict[str, object] = {**dict.fromkeys(FIELDS), "runs": []}
TRAIN = ("10.000_az_100.000", "35.000_az_100.000")
TEST = ("10.0_az_102.199", "32.059_az_175.158", "70.732_az_330.659")


@pytest.fixture
def night(site: Site) -> Site:
    """Two good runs of the Crab, their NSB measured, and the DL1 of a base production (empty files)."""
    run_summary(site, dict.fromkeys(RUNS, "DATA"))
    run_catalog(site, "Crab", list(RUNS))
    ingest(site, NIGHT)
    judge(site, NIGHT)
    layout, base = layout_of(site), site.production.base_production
    for run, level in zip(RUNS, (0.20, 0.24), strict=True):
        write_tailcuts(site, *layout.own_tailcuts(NIGHT, run), level)
    for particle, prefix in (("GammaDiffuse", "node_corsika_theta"), ("Protons", "node_theta")):
        for node in TRAIN:
            folder = layout.mc_dl1_train(base, "dec_2276", particle, f"{prefix}_{node}_")
            write(site, f"{folder}/dl1_{node}.h5", "x")
    for node in TEST:
        write(site, f"{layout.mc_dl1_test(base, 'Gamma', f'node_theta_{node}_')}/dl1_{node}.h5", "x")
    return site


def test_from_the_form_to_the_price(night: Site) -> None:
    request = request_of({**EMPTY, "night": str(NIGHT)})
    assert load_plan(layout_of(night).plan_file(prepare(night, request))).steps() == ()
    plan_id, notes = plan_run(night, request)
    assert plan_id is not None
    assert "lstmcpipe's all-sky level has 3375 submissions" in notes
    plan = load_plan(layout_of(night).plan_file(plan_id))
    assert tuple(stage.name for stage in plan.stages) == DAG_STAGES
    assert plan.context["nsb_level_ghz"] == pytest.approx(0.22)
    assert plan.context["sample_runs"] == list(RUNS)
    with catalog_session() as session:
        # what its steps will have in their manifests is what the catalogue reads
        made = manifest("model.sav", "1" * 64).model_copy(update={"plan_context": plan.context, "subject": "dec_2276"})
        assert record_manifests(session, [made]) == 1
        assert [row.production for row in products(session)] == [plan.context["production"]]
    price = preview(night, plan_id)
    assert price["needed"] == "no"
    assert "CPU (h)" in price["text"]
    strict = night.model_copy(update={"production": night.production.model_copy(update={"approval_cpu_h": 0.0})})
    assert preview(strict, plan_id)["needed"] == "yes"
    never = night.model_copy(update={"production": night.production.model_copy(update={"approval_cpu_h": None})})
    assert preview(never, plan_id)["needed"] == "no"


def test_dl1_of_another_version_is_refused_and_nothing_planned(night: Site) -> None:
    layout = layout_of(night)
    request = request_of({**EMPTY, "night": str(NIGHT)})
    sample = sample_of(night, NIGHT, ())
    (typical, *_) = typical_subruns(night, sample, nsb_of_sample(night, sample))
    path = layout.absolute(layout.dl1_subrun(NIGHT, "v0.12", "tailcut84", typical.run_number, typical.subrun))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tables.open_file(str(path), "w") as file:
        file.root._v_attrs["LSTCHAIN_VERSION"] = "0.12.1"
    plans = layout.plan_dir("x").parent
    before = sorted(plans.glob("*")) if plans.exists() else []
    with pytest.raises(DataError, match=r"was made by lstchain 0\.12\.1, the Monte Carlo would be by 0\.12\.3") as told:
        plan_run(night, request)
    assert "add lstchain 0.12.1 to `environments`" in told.value.remedy
    assert (sorted(plans.glob("*")) if plans.exists() else []) == before


def test_runs_and_a_zenith_range_leave_far_test_nodes_out(night: Site) -> None:
    request = request_of({**EMPTY, "runs": list(RUNS), "zenith_range": "0:20", "name": "mine"})
    assert load_plan(layout_of(night).plan_file(prepare(night, request))).steps() == ()
    plan_id, _ = plan_run(night, request)
    assert plan_id is not None
    context = load_plan(layout_of(night).plan_file(plan_id)).context
    assert context["production"] == "mine"
    (whole,) = plan_request(night, ProductionRequest(night=NIGHT))
    assert whole.plan is not None
    assert len(whole.plan.context["test_nodes"]) == 3
    (near,) = plan_request(night, ProductionRequest(night=NIGHT, target="Crab", zenith=ZenithRange(0, 20)))
    assert near.plan is not None


def test_a_production_that_lacks_test_nodes_gets_only_those_with_the_tuning_that_it_has(night: Site) -> None:
    (near,) = plan_request(night, ProductionRequest(night=NIGHT, zenith=ZenithRange(0, 20), name="near"))
    assert near.plan is not None
    store(night, (near,))
    context = {**near.plan.context, "subruns": ["DL1/of_another_night.h5"], "test_nodes": ["theta_10.0_az_102.199"]}
    old = near.plan.model_copy(update={"context": context})
    plan_id = save_plan(old, night).parent.name
    facts = {"settings_sha256": context["settings_sha256"]["dec_2276"], "test_nodes": context["test_nodes"]}
    with catalog_session() as session:
        register_production(
            session,
            RegisteredProduction(
                name="near", line="dec_2276", nsb_level_ghz=0.22, models_path="m", models_sha256="s", irf_dir="i",
                config={}, facts=facts, plan_id=plan_id, lstchain_version="0.12.3", tailcut="tailcut84",
            ),
        )  # fmt: skip
    (whole,) = plan_request(night, ProductionRequest(night=NIGHT))
    assert whole.plan is not None
    assert whole.plan.context["production"] == "near", "under its name, so that what is there is not made again"
    assert whole.plan.context["subruns"] == ["DL1/of_another_night.h5"]
    assert len(whole.plan.context["test_nodes"]) == 3
    assert any("near is the same but for 2 test node(s): only those are planned" in note for note in whole.notes)
    small = night.production.model_copy(update={"forests": ForestSettings(n_estimators=7)})
    with pytest.raises(ConfigError, match="near is registered on dec_2276"):
        plan_request(night.model_copy(update={"production": small}), ProductionRequest(night=NIGHT, name="near"))


def test_a_production_that_has_begun_goes_on_with_its_tuning(night: Site) -> None:
    (planned,) = plan_request(night, ProductionRequest(night=NIGHT))
    assert planned.plan is not None
    context = {**planned.plan.context, "subruns": ["DL1/of_another_night.h5"]}
    write(night, layout_of(night).mc_config(context["production"]), "{}")
    (config,) = planned.plan.stage("tune").steps
    made = manifest(config.primary.path, "1" * 64).model_copy(update={"plan_context": context})
    ManifestStore(layout_of(night).manifests).write(made)
    (again,) = plan_request(night, ProductionRequest(night=NIGHT))
    assert again.plan is not None
    assert again.plan.context["subruns"] == ["DL1/of_another_night.h5"]


def test_the_version_of_lstchain_is_the_one_that_is_asked_for(night: Site) -> None:
    environments = {**night.environments, "0.12.4": night.environments["0.12.3"]}
    two = night.model_copy(update={"environments": environments})
    (found,) = plan_request(two, request_of({**EMPTY, "night": str(NIGHT), "lstchain_version": "0.12.4"}))
    assert found.plan is not None
    assert found.plan.lstchain_version == "0.12.4"
    assert "_v0.12.4_" in found.plan.context["production"]
    assert {step.environment for step in found.plan.steps() if step.kind == "train"} == {"0.12.4"}
    with pytest.raises(ConfigError, match=r"0\.9\.1"):
        plan_request(night, ProductionRequest(night=NIGHT, lstchain_version="0.9.1"))


def test_an_accelerated_production_is_another_one(night: Site) -> None:
    (plain,) = plan_request(night, ProductionRequest(night=NIGHT))
    (fast,) = plan_request(night, request_of({**EMPTY, "night": str(NIGHT), "trainer": "accelerated"}))
    assert plain.plan is not None
    assert fast.plan is not None
    one, other = plain.plan.context, fast.plan.context
    assert other["production"] == f"{one['production']}_accelerated"
    assert (one.get("trainer"), other["trainer"]) == (None, "accelerated")
    assert other["compare"]["dec_2276"] == {"settings_sha256": one["settings_sha256"]["dec_2276"], "production": ""}
    (train,) = [step for step in fast.plan.steps() if step.kind == "train"]
    assert "lstops.science.train_accelerated" in train.commands[0]
    environments = {version: e.model_copy(update={"accelerator": False}) for version, e in night.environments.items()}
    with pytest.raises(ConfigError, match="has no accelerator"):
        plan_request(
            night.model_copy(update={"environments": environments}),
            ProductionRequest(night=NIGHT, trainer=Trainer.ACCELERATED),
        )


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({}, "names no source"),
        ({"night": "20191121", "nsb_ghz": 0.1}, "--night and --nsb"),
        ({"nsb_ghz": 0.1}, "which part of the sky"),
        ({"nsb_ghz": 0.1, "line": "dec_2276", "zenith_range": "35:0"}, "no range"),
    ],
)
def test_forms_that_say_nothing_or_two_things(form: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        request_of({**EMPTY, **form})


def test_an_unfinished_production_is_refused_by_its_node(night: Site) -> None:
    plan_id, _ = plan_run(night, request_of({**EMPTY, "night": str(NIGHT)}))
    assert plan_id is not None
    with pytest.raises(
        ProductInvalid, match=r"is not registered: \d+ of \d+ steps are not done, at .*node theta_"
    ) as caught:
        register(night, plan_id)
    assert "lstops production holes" in caught.value.remedy


def test_retraining_needs_a_registered_production_with_its_dl1(night: Site) -> None:
    plan_id, _ = plan_run(night, request_of({**EMPTY, "night": str(NIGHT)}))
    assert plan_id is not None
    plan = load_plan(layout_of(night).plan_file(plan_id))
    form = {"production": plan.context["production"], "line": None, "name": "deeper"}
    with pytest.raises(DataError, match="is registered"):
        retrain(night, form)
    with catalog_session() as session:
        register_production(
            session,
            RegisteredProduction(
                name=form["production"], line="dec_2276", nsb_level_ghz=0.22, models_path="m", models_sha256="s",
                irf_dir="i", config={}, facts={}, plan_id=plan_id, lstchain_version="0.12.3", tailcut="tailcut84",
            ),
        )  # fmt: skip
    with pytest.raises(DataError, match=r"DL1 files of .* are gone"):
        retrain(night, form)
    for step in plan.steps():
        for output in step.outputs:
            if output.path.endswith(".h5"):
                layout_of(night).absolute(output.path).parent.mkdir(parents=True, exist_ok=True)
                layout_of(night).absolute(output.path).write_text("x")
    with pytest.raises(DataError, match=r"the first is .*lstchain_config_.*json \(lstchain-config\)"):
        retrain(night, form)
    write(night, layout_of(night).mc_config(form["production"]), "{}")
    for wrong, message in (
        ({"n_estimators": -3}, "n_estimators"),
        ({"trainer": "cuda"}, "is no trainer"),
        ({"name": form["production"]}, "cannot have the same name"),
    ):
        with pytest.raises(ConfigError, match=message):
            retrain(night, {**form, **wrong})
    new_id, _ = retrain(night, form)
    assert new_id is not None
    new = load_plan(layout_of(night).plan_file(new_id))
    assert len(new.context["settings_sha256"]["dec_2276"]) == 64
    fast_id, _ = retrain(night, {**form, "name": "fast", "trainer": "accelerated"})
    assert fast_id is not None
    fast = load_plan(layout_of(night).plan_file(fast_id)).context
    assert fast["compare"]["dec_2276"]["settings_sha256"] == new.context["settings_sha256"]["dec_2276"]
    assert fast["settings_sha256"] != new.context["settings_sha256"]
    assert tuple(stage.name for stage in new.stages) == DAG_STAGES
    assert {stage.name for stage in new.stages if stage.steps} == {"tune", "train", "dl2", "irf", "report"}
    with catalog_session() as session:
        facts = {"settings_sha256": new.context["settings_sha256"]["dec_2276"], "test_nodes": new.context["test_nodes"]}
        register_production(
            session,
            RegisteredProduction(
                name="deeper", line="dec_2276", nsb_level_ghz=0.22, models_path="n", models_sha256="t", irf_dir="i",
                config={}, facts=facts, plan_id=new_id, lstchain_version="0.12.3", tailcut="tailcut84",
            ),
            "candidate",
        )  # fmt: skip
    assert retrain(night, form)[0] == new_id, "its own production is planned again: what is there is not made again"
    assert retrain(night, {**form, "name": "again"}) == (
        None, "the forests of deeper are the same: nothing needs to be computed",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="deeper is registered on dec_2276, and its forests have other settings"):
        retrain(night, {**form, "n_estimators": 9})
    with pytest.raises(ConfigError, match="give `production`"):
        retrain(night, {"production": None, "line": None, "name": None})


def test_the_night_asks_once_for_what_is_missing(night: Site) -> None:
    match = match_run(night, RUNS[0])
    assert (match.match.kind, match.line, match.request) == (MatchKind.NO_PRODUCTION, None, None)
    for _ in range(2):
        plan_reduction(night, NIGHT)
    with catalog_session() as session:
        (request,) = production_requests(session)
        assert (request.runs, request.level_ghz, request.tailcut) == (list(RUNS), 0.22, "tailcut84")
    assert match_run(night, RUNS[0]).request == request.id


def test_a_run_whose_nsb_is_not_known(night: Site) -> None:
    with pytest.raises(DataError, match="the NSB of run 1613 was not measured") as caught:
        match_run(night, 1613)
    assert "start the DAG `nightly` for 2019-11-21" in caught.value.remedy
    with catalog_session() as session:
        row = find_run(session, 1613)
        (row.quantities,) = pack_runs(replace(run_table([row]), num_pedestals=np.zeros(1)))  # type: ignore[assignment]
    with pytest.raises(DataError, match="run 1613 has no interleaved pedestals") as caught:
        match_run(night, 1613)
    assert "leave it out" in caught.value.remedy


def test_every_verdict_on_a_run(night: Site, tmp_path: Path) -> None:
    def add(name: str, level: float, line: str = "dec_2276", **changes: str) -> None:
        values = {"lstchain_version": "0.12.3", "tailcut": "tailcut84", **changes}
        production = RegisteredProduction(
            name=name, line=line, nsb_level_ghz=level, models_path="m", models_sha256=name, irf_dir="i", config={},
            facts={}, plan_id="p", **values,
        )  # fmt: skip
        with catalog_session() as session:
            register_production(session, production)

    def verdict(**options: float) -> MatchKind:
        return match_run(night, RUNS[0], **options).match.kind  # type: ignore[arg-type]

    add("far", 0.20, "dec_min_2924")
    assert verdict() is MatchKind.LINE_TOO_FAR
    assert verdict(line_tolerance_deg=60.0) is MatchKind.EXACT
    add("version", 0.20, lstchain_version="0.10.0")
    assert verdict() is MatchKind.OTHER_VERSION
    add("cleaning", 0.50, tailcut="tailcut1005")
    assert verdict() is MatchKind.OTHER_TAILCUT
    add("dark", 0.0)
    assert verdict() is MatchKind.BETWEEN_LEVELS
    found = match_run(night, RUNS[0]).match
    assert [level.name for level in found.neighbours] == ["dark", "cleaning"]
    add("near", 0.15)
    assert verdict() is MatchKind.WITHIN_TOLERANCE
    add("equal", 0.20)
    assert verdict() is MatchKind.EXACT
