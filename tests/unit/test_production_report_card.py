"""Report cards and gates: the published analysis passes, each number beyond its limit is named and stops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sites import make_site

from lstops.errors import ConfigError, DataError, ProductInvalid
from lstops.operations.registration import require_good
from lstops.production.card_plan import CardSettings, card_path, with_report_cards
from lstops.production.gates import Gates, failures, load_gates, require_no_worse, require_passed, shortfalls
from lstops.production.grid import Particle
from lstops.production.inventory import Dataset, Inventory, McFile
from lstops.production.plan import TunedProductionRequest, plan_tuned_production
from lstops.production.report_card import (
    EnergyBin,
    NodeCard,
    ReportCard,
    Roc,
    parse_reference,
    read_report_card,
    reference_text,
)
from lstops.reduction.cuts import load_cuts
from lstops.report.card_page import card_page
from lstops.step.model import Plan

LINE, NAME = "dec_2276", "20240115_v0.12.3_crab_nsb_tuning_0.25"
GATES = load_gates("standard")
ROC = Roc(
    proton_zd_deg=10, n_gammas=900, n_protons=900, auc=0.9, auc_error=0.01, false_positive=(0, 1), true_positive=(0, 1)
)


def published() -> ReportCard:
    """The published analysis as a report card."""
    reference = parse_reference(reference_text())
    nodes = tuple(
        NodeCard(
            node=f"irf_{node.zd_deg}", zd_deg=node.zd_deg, az_deg=180.0, n_events=1_000_000, bins=node.bins, roc=ROC
        )
        for node in reference.nodes
    )
    return ReportCard(
        production=NAME,
        line=LINE,
        lstchain_version="0.12.3",
        nsb_level_ghz=0.25,
        nodes=nodes,
        importances=reference.importances,
    )


def changed(card: ReportCard, **numbers: float | None) -> ReportCard:
    """The card with other numbers in the first node's bin at 1 TeV."""
    first = card.nodes[0]
    bins = tuple(b.model_copy(update=numbers) if b.low_tev < 1 < b.high_tev else b for b in first.bins)
    return card.model_copy(update={"nodes": (first.model_copy(update={"bins": bins}), *card.nodes[1:])})


def with_roc(card: ReportCard, roc: Roc | None) -> ReportCard:
    return card.model_copy(update={"nodes": tuple(node.model_copy(update={"roc": roc}) for node in card.nodes)})


def texts(card: ReportCard, gates: Gates = GATES) -> list[str]:
    return [failure.text for failure in failures(card, gates)]


@pytest.mark.parametrize("name", ["standard", "small"])
def test_the_published_analysis_passes(name: str) -> None:
    assert texts(published(), load_gates(name)) == []


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ({"bias": -0.31}, "energy bias -0.310 +- 0.000 (limit 0.2)"),
        ({"bias": 0.31, "bias_error": 0.02}, "energy bias 0.310 +- 0.020 (limit 0.2)"),
        ({"resolution": 0.5}, "energy resolution 0.500"),
        ({"angular_resolution_deg": 0.45}, "angular resolution 0.450 +- 0.000 deg (limit 0.4 deg)"),
        ({"effective_area_m2": 900.0}, "effective area 900 m2 (limit 10000 m2)"),
        ({"effective_area_m2": None}, "effective area unknown"),
        ({"resolution": None}, "energy resolution unknown"),
    ],
)
def test_a_number_beyond_its_limit_is_named(numbers: dict[str, float | None], named: str) -> None:
    found = texts(changed(published(), **numbers))
    assert len(found) == 1
    assert named in found[0]
    assert found[0].endswith("at zenith distance 10.0 deg, azimuth 180.0 deg, 0.796-1.26 TeV")


def test_within_its_statistical_error_a_number_is_not_beyond_the_limit() -> None:
    assert texts(changed(published(), bias=0.25, bias_error=0.02)) == []


def test_no_roc_curve_is_no_success() -> None:
    card = with_roc(published(), None).model_copy(update={"roc_note": "the protons are gone"})
    assert len(texts(card)) == len(card.nodes)
    assert "area below the ROC curve unknown" in texts(card)[0]
    assert "the protons are gone" in texts(card)[0]
    poor = with_roc(published(), ROC.model_copy(update={"auc": 0.6}))
    assert "area below the ROC curve 0.600 +- 0.010 (limit 0.75)" in texts(poor)[0]


def test_a_node_without_events_fails() -> None:
    card = published()
    empty = card.nodes[0].model_copy(update={"bins": ()})
    assert "no energy bin with 100 events or more" in texts(card.model_copy(update={"nodes": (empty,)}))[0]
    assert texts(card.model_copy(update={"nodes": ()})) == ["the report card has no test node"]


def test_worse_than_the_production_before_of_the_same_level() -> None:
    card, level = published(), 0.25
    worse = card.nodes[0].model_copy(
        update={
            "bins": tuple(
                EnergyBin.model_validate({**b.model_dump(), "resolution": (b.resolution or 0) * 1.3})
                for b in card.nodes[0].bins
            )
        }
    )
    new = card.model_copy(update={"nodes": (worse, *card.nodes[1:])})
    same = new.model_copy(update={"previous": card.as_previous()})
    assert [t.split(" at ")[0] for t in texts(same)] == [f"energy resolution worse than that of {NAME} by 30% +- 0%"]
    other = card.as_previous().model_copy(update={"nsb_level_ghz": level + 0.3})
    assert texts(new.model_copy(update={"previous": other})) == []


@pytest.mark.parametrize(
    ("factors", "named"),
    [
        ({"resolution": 1.2}, "energy resolution worse than that of trusted by 20% +- "),
        ({"angular_resolution_deg": 1.2}, "angular resolution worse than that of trusted by 20% +- "),
        ({"effective_area_m2": 0.8}, "effective area worse than that of trusted by 20% +- "),
        ({"bias": 2.0}, "energy bias larger than that of trusted by "),
    ],
)
def test_accelerated_forests_may_be_no_worse_than_trusted_ones(factors: dict[str, float], named: str) -> None:
    trusted = published().model_copy(update={"production": "trusted"})
    renamed = tuple(node.model_copy(update={"node": f"irf_fast_{i}"}) for i, node in enumerate(trusted.nodes))
    assert shortfalls(trusted.model_copy(update={"nodes": renamed}), trusted, GATES) == (), "nodes are directions"
    first = trusted.nodes[0]

    def scaled(b: EnergyBin, power: int) -> EnergyBin:
        numbers = {name: (getattr(b, name) or 0.0) * factor**power for name, factor in factors.items()}
        return b.model_copy(update=numbers)

    for power, expected in ((1, 1), (-1, 0)):
        node = first.model_copy(update={"bins": tuple(scaled(b, power) for b in first.bins)})
        card = trusted.model_copy(update={"nodes": (node, *trusted.nodes[1:])})
        found = [failure.text for failure in shortfalls(card, trusted, GATES)]
        assert len(found) == expected, found
        assert all(text.startswith(named) for text in found)


def test_within_the_statistical_error_accelerated_forests_are_as_good() -> None:
    trusted = with_roc(published(), ROC).model_copy(update={"production": "trusted"})
    inside, outside = (with_roc(trusted, ROC.model_copy(update={"auc": auc})) for auc in (0.86, 0.85))
    assert shortfalls(inside, trusted, GATES) == ()
    with pytest.raises(
        ProductInvalid, match=r"lstchain trained for trusted: area below the ROC curve less .* by 0\.050"
    ):
        require_no_worse(outside, trusted, GATES)


def test_what_cannot_be_compared_is_not_as_good() -> None:
    trusted = published().model_copy(update={"production": "trusted"})
    fewer = trusted.model_copy(update={"nodes": trusted.nodes[1:]})
    assert shortfalls(trusted, fewer, GATES)[0].text.startswith("trusted has no node at zenith distance 10.0 deg")
    for one, other in ((with_roc(trusted, None), trusted), (trusted, with_roc(trusted, None))):
        found = shortfalls(one, other, GATES)
        assert len(found) == len(trusted.nodes)
        assert "cannot be compared with trusted" in found[0].text
    assert shortfalls(trusted.model_copy(update={"nodes": ()}), trusted, GATES)


def test_the_refusal_names_numbers_and_a_remedy() -> None:
    with pytest.raises(ProductInvalid) as caught:
        require_passed(with_roc(published(), None), GATES)
    assert "is not registered, its report card fails: area below the ROC curve unknown" in caught.value.what
    assert "config/gates" in caught.value.remedy


def test_gates_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="use one of: small, standard"):
        load_gates("nothing")
    (tmp_path / "gates").mkdir()
    (tmp_path / "gates/wrong.yaml").write_text("energy_tev: [2, 1]\nmin_evnets: 3\n")
    monkeypatch.setenv("LSTOPS_CONFIG", str(tmp_path))
    with pytest.raises(ConfigError, match="min_evnets") as caught:
        load_gates("wrong")
    assert "no range of energies" in caught.value.what


def test_a_file_that_is_no_report_card(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_report_card(tmp_path / "card.json")
    (tmp_path / "card.json").write_text('{"production": 3}')
    with pytest.raises(DataError, match="is no report card"):
        read_report_card(tmp_path / "card.json")


def test_the_page_shows_verdict_numbers_and_figures() -> None:
    reference = parse_reference(reference_text())
    page = card_page(published(), reference, GATES)
    assert "All numbers are within the limits." in page
    assert page.count("<img ") == 5 + len(reference.importances)
    assert "arXiv:2306.12960" in page
    assert "true%20energy%20%28TeV%29" in page or "true energy (TeV)" in page or "true%20energy%20(TeV)" in page
    bad = card_page(changed(published(), bias=0.5), reference, GATES)
    assert "1 number beyond the limits" in bad
    assert "energy bias 0.500" in bad


# -- the plan ----------------------------------------------------------------------------------------------------------
def tuned_plan(base: Path, cards: bool = True) -> Plan:
    files = [
        McFile(dataset, particle, f"node_theta_{node}_", f"mc/{particle.value}/node_theta_{node}_/dl1_run{i}.h5")
        for dataset, particle, nodes in (
            (Dataset.TRAIN, Particle.GAMMA_DIFFUSE, ("10.0_az_100.0", "35.0_az_100.0")),
            (Dataset.TRAIN, Particle.PROTONS, ("10.0_az_100.0", "35.0_az_100.0")),
            (Dataset.TEST, Particle.GAMMA, ("10.0_az_175.0", "35.0_az_355.0")),
        )
        for node in nodes
        for i in range(2)
    ]
    site = make_site(base)
    request = TunedProductionRequest(NAME, "0.12.3", ("DL1/x.h5",), load_cuts("small"), "mc/x.simtel.zst")
    plan = plan_tuned_production(request, site, Inventory("base", LINE, tuple(files)))
    settings = CardSettings(GATES, reference_text(), {LINE: "mc/old/report_card.json"})
    return with_report_cards(plan, settings, site) if cards else plan


def test_the_card_is_the_last_step_and_reads_all_test_nodes(tmp_path: Path) -> None:
    plan = tuned_plan(tmp_path)
    assert plan.stages[-1].name == "report"
    (step,) = plan.stages[-1].steps
    kinds = [item.kind.value for item in step.inputs]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "models": 1, "lstchain-config": 1, "dl1-merged": 1, "dl2": 2, "irf": 2, "file": 1,
    }  # fmt: skip
    assert [output.path for output in step.outputs] == [
        card_path(NAME, LINE), card_path(NAME, LINE).replace(".json", ".html"),
    ]  # fmt: skip
    about = json.loads(step.files["about.json"])
    assert about["cuts"]["DL3Cuts"]["gh_efficiency"] == 0.7
    assert about["gates"] == GATES.model_dump(mode="json")


def test_a_plan_that_trains_nothing_has_no_card(tmp_path: Path) -> None:
    plan = tuned_plan(tmp_path, cards=False)
    bare = plan.model_copy(update={"stages": plan.stages[:3]})
    assert with_report_cards(bare, CardSettings(GATES, reference_text()), make_site(tmp_path)) is bare


def test_the_registration_reads_the_card(tmp_path: Path) -> None:
    site, plan = make_site(tmp_path), tuned_plan(tmp_path)
    card = tmp_path / card_path(NAME, LINE)
    card.parent.mkdir(parents=True)
    card.write_text(published().model_dump_json())
    assert require_good(site, plan) == {LINE: card_path(NAME, LINE)}
    card.write_text(changed(published(), resolution=0.9).model_dump_json())
    with pytest.raises(ProductInvalid, match=r"energy resolution 0\.900"):
        require_good(site, plan)
    assert require_good(site, tuned_plan(tmp_path, cards=False)) == {}
