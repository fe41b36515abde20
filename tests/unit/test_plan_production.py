"""The plan of a tuned production: complete, without collisions, and refused when the base production has holes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sites import make_site

from lstops.errors import ConfigError, DataError
from lstops.production.grid import Node, Particle
from lstops.production.inventory import Dataset, Inventory, McFile, scan_inventory
from lstops.production.plan import TunedProductionRequest, plan_tuned_production
from lstops.reduction.cuts import load_cuts, parse_cuts
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Plan

LINE = "dec_2276"
BASE = "20240601_v0.12.3_sim_dark"
NEW = "20240115_v0.12.3_crab_nsb_tuning_0.25"
TRAIN = ("10.000_az_100.000", "10.000_az_257.000", "35.000_az_100.000")
TEST = ("10.0_az_175.0", "35.0_az_355.0")


def mc(dataset: Dataset, particle: Particle, node: str, i: int = 1) -> McFile:
    prefix = "node_corsika_theta" if particle is Particle.GAMMA_DIFFUSE else "node_theta"
    folder = f"{prefix}_{node}_"
    return McFile(dataset, particle, folder, f"mc/base/{particle.value}/{folder}/dl1_simtel_run{i}.h5")


def inventory(train: tuple[str, ...] = TRAIN, test: tuple[str, ...] = TEST, per_node: int = 2) -> Inventory:
    files = [
        mc(Dataset.TRAIN, particle, node, i)
        for particle in (Particle.GAMMA_DIFFUSE, Particle.PROTONS)
        for node in train
        for i in range(per_node)
    ]
    files += [mc(Dataset.TEST, Particle.GAMMA, node, i) for node in test for i in range(per_node)]
    return Inventory(BASE, LINE, tuple(files))


def request(**changes: object) -> TunedProductionRequest:
    return replace(
        TunedProductionRequest(NEW, "0.12.3", ("DL1/dl1_LST-1.Run02001.0000.h5",), load_cuts(), "mc/x.simtel.zst"),
        **changes,  # type: ignore[arg-type]
    )


@pytest.fixture
def plan(site: Site) -> Plan:
    return plan_tuned_production(request(), site, inventory())


def test_stages_in_order_and_none_is_quarantined(plan: Plan) -> None:
    assert {s.name: len(s.steps) for s in plan.stages} == {
        "tune": 1, "dl1ab": 8, "merge": 4, "train": 1, "dl2": 2, "irf": 2,
    }  # fmt: skip
    assert not any(stage.quarantine for stage in plan.stages)
    assert all(step.environment == "0.12.3" for step in plan.steps())


def test_every_input_is_a_base_file_or_made_before(plan: Plan) -> None:
    made: set[str] = set()
    base = {f.path for f in inventory().files} | {"DL1/dl1_LST-1.Run02001.0000.h5", "mc/x.simtel.zst"}
    for stage in plan.stages:
        for step in stage.steps:
            assert {i.path for i in step.inputs} <= base | made, step.label
        made |= {o.path for step in stage.steps for o in step.outputs}


def test_every_file_of_every_node_reaches_the_forests(plan: Plan) -> None:
    for particle, index in ((Particle.GAMMA_DIFFUSE, 0), (Particle.PROTONS, 1)):
        merge = plan.stage("merge").steps[index]
        assert len(merge.inputs) == len(TRAIN) * 2
        assert merge.primary.counts_from == tuple(i.name for i in merge.inputs)
        names = [i.path.rsplit("/", 1)[1] for i in merge.inputs]
        assert len(set(names)) == len(names), "files of equal names in several nodes must not hide each other"
        assert particle.value in merge.primary.path
    train = plan.stage("train").steps[0]
    assert [w for w in train.commands[1] if "," in w] == ["10.000,100.000", "10.000,257.000", "35.000,100.000"]
    assert train.primary.expect == {"training_dirs": True}


def test_irfs_of_all_nodes_in_one_folder_with_the_cut_set(plan: Plan) -> None:
    steps = plan.stage("irf").steps
    assert len({s.primary.path.rsplit("/", 1)[0] for s in steps}) == 1
    for step in steps:
        assert step.files == {"cuts.json": load_cuts().text}
        assert step.primary.path.rsplit("/", 1)[1].startswith("irf")
        assert step.primary.expect["useful_energy_tev"] == list(load_cuts().useful_energy_tev)
    assert [s.primary.expect["zd_deg"] for s in steps] == [10.0, 35.0]


def test_forest_settings_are_in_the_configuration(tmp_path: Path) -> None:
    site = make_site(
        tmp_path, production={"base_production": "b", "forests": {"n_estimators": 7, "max_depth": 5, "n_jobs": 1}}
    )
    tune = plan_tuned_production(request(), site, inventory()).stage("tune").steps[0]
    update = json.loads(tune.files["update.json"])
    assert {section["n_estimators"] for section in update.values()} == {7}
    assert len(update) == 4


def test_single_test_files_are_not_merged(site: Site) -> None:
    plan = plan_tuned_production(request(), site, inventory(per_node=1))
    assert len(plan.stage("merge").steps) == 2
    made = {o.path for s in plan.stage("dl1ab").steps for o in s.outputs}
    assert all(s.inputs[0].path in made for s in plan.stage("dl2").steps)


def test_the_same_request_gives_the_same_plan(site: Site, plan: Plan) -> None:
    shuffled = Inventory(BASE, LINE, tuple(reversed(inventory().files)))
    again = plan_tuned_production(request(), site, shuffled)
    assert again.plan_id == plan.plan_id
    assert Plan.from_json(plan.to_json()).plan_id == plan.plan_id
    other = plan_tuned_production(request(cuts=load_cuts("small")), site, inventory())
    assert other.plan_id != plan.plan_id


def test_a_missing_node_is_named(site: Site) -> None:
    whole = inventory()
    without = [f for f in whole.files if not (f.particle is Particle.PROTONS and "10.000_az_100" in f.node)]
    with pytest.raises(ConfigError, match=r"no protons at theta_10\.000_az_100\.000"):
        plan_tuned_production(request(), site, Inventory(BASE, LINE, tuple(without)))
    wanted = (Node.of("6.000", "180.000"), Node.of("10", "100"))
    with pytest.raises(ConfigError, match=r"no diffuse gammas at theta_6\.000_az_180\.000\."):
        plan_tuned_production(request(nodes=wanted), site, whole)


def test_what_cannot_be_planned(site: Site) -> None:
    with pytest.raises(ConfigError, match="no test nodes"):
        plan_tuned_production(request(), site, inventory(test=()))
    with pytest.raises(ConfigError, match="no training nodes"):
        plan_tuned_production(request(), site, inventory(train=()))
    with pytest.raises(ConfigError, match="no simulation to tune") as caught:
        plan_tuned_production(request(simtel=None), site, inventory())
    assert "tuning_simtel" in caught.value.remedy
    with pytest.raises(ConfigError, match=r"no science environment for lstchain '0\.9'"):
        plan_tuned_production(request(lstchain_version="0.9"), site, inventory())
    with pytest.raises(ConfigError, match="not below the site's base"):
        plan_tuned_production(request(simtel="/elsewhere/x.simtel.zst"), site, inventory())


def test_scanning_a_tree(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    wanted = []
    for particle, node in ((Particle.GAMMA_DIFFUSE, "node_corsika_theta_10.000_az_100.000_"),
                           (Particle.PROTONS, "node_theta_10.000_az_100.000_")):  # fmt: skip
        wanted.append(f"{layout.mc_dl1_train(BASE, LINE, particle.value, node)}/dl1_a.h5")
    wanted.append(f"{layout.mc_dl1_test(BASE, 'Gamma', 'node_theta_35.0_az_355.0_')}/dl1_b.h5")
    others = [wanted[0].replace("dl1_a", "dl1_x_merged"), wanted[0].replace("dl1_a", ".hidden"),
              layout.mc_dl1_train_merged(BASE, LINE, "Protons")]  # fmt: skip
    for path in (*wanted, *others):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = scan_inventory(layout, BASE, LINE)
    assert sorted(f.path for f in found.files) == sorted(wanted)
    assert list(found.nodes(Dataset.TEST, Particle.GAMMA)) == ["node_theta_35.0_az_355.0_"]
    with pytest.raises(DataError, match="no training files of dec_9999"):
        scan_inventory(layout, BASE, "dec_9999")


def test_cut_sets() -> None:
    cuts = load_cuts()
    assert (cuts.name, cuts.point_like) == ("std_cuts", True)
    assert cuts.digest != load_cuts("small").digest
    with pytest.raises(ConfigError, match="cannot read the cut set"):
        load_cuts("absent")
    for text, reason in (
        ("{", "not JSON"),
        ("[]", "no JSON object"),
        ("{}", r"lacks the section\(s\) lstops, EventSelector"),
        (cuts.text.replace("std_cuts", "a b"), "cannot name a folder"),
        (cuts.text.replace("[0.1, 2.0]", "[2.0, 0.1]"), "is no range"),
    ):
        with pytest.raises(ConfigError, match=reason):
            parse_cuts(text, "cuts.json")


@given(
    st.lists(st.sampled_from([f"{z}.000_az_{a}.000" for z in (6, 10, 23) for a in (100, 180, 257)]),
             min_size=1, unique=True),
    st.integers(1, 3),
)  # fmt: skip
def test_any_inventory_gives_a_plan_without_collisions(nodes: list[str], per_node: int) -> None:
    site = make_site(Path("/nonexistent"))
    plan = plan_tuned_production(request(), site, inventory(tuple(nodes), per_node=per_node))
    outputs = [o.path for s in plan.steps() for o in s.outputs]
    assert len(set(outputs)) == len(outputs)
    assert sum(o.kind is ArtifactKind.DL1 for s in plan.steps() for o in s.outputs) == per_node * (2 * len(nodes) + 2)
