"""The responses that a run is reduced with: of either layout, with the cut set that they were made with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sites import make_site

from lstops.catalog.tables import ProductionRow
from lstops.errors import DataError
from lstops.operations.matching import irf_nodes
from lstops.reduction.cuts import load_cuts
from lstops.site.layout import Layout
from lstops.step.manifest import ArtifactRecord, FileState, Manifest, ManifestStore, full_state
from lstops.step.model import ArtifactKind

DONE_HERE: dict[str, Any] = {
    "kind": "irf", "label": "x", "subject": "x", "environment": "0.12.3", "versions": {}, "plan_id": "p",
    "plan_context": {}, "index": 0, "host": "h", "job": "", "started": "", "ended": "", "wall_s": 0, "cpu_s": 0,
    "max_rss_mb": 0, "log": "",
}  # fmt: skip
TOP = "mc/IRF/AllSky/P/TestingDataset"
STD, SMALL = load_cuts("standard"), load_cuts("small")
CHAIN = {k: v for k, v in json.loads(STD.text).items() if k in ("EventSelector", "DL3Cuts", "DataBinning")}
SWITCHES = tuple(f"--{n.replace('_', '-')}" for n, on in json.loads(STD.text)["IRFFITSWriter"].items() if on is True)


OWN, FOREIGN = "0" * 64, "f" * 64


def record(kind: ArtifactKind, path: str, sha256: str) -> ArtifactRecord:
    return ArtifactRecord(name="x", kind=kind, path=path, state=FileState(size=1, mtime_ns=1, sha256=sha256))


def response(
    layout: Layout, path: str, cuts: str | None = None, words: tuple[str, ...] = SWITCHES, forests: str = OWN
) -> None:
    target = layout.absolute(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(path)
    made = ArtifactRecord(
        name="irf", kind=ArtifactKind.IRF, path=path, state=full_state(target),
        facts={"zd_deg": 10.0, "az_deg": 175.0, "b_delta_deg": 50.0, "empty_bins_tev": []},
    )  # fmt: skip
    files = {"cuts.json": cuts} if cuts else {}
    commands = [["lstchain_create_irf_files", *words]]
    dl2 = record(ArtifactKind.DL2, f"mc/DL2/{path}.h5", "2" * 64)
    models = record(ArtifactKind.MODELS, f"models/AllSky/{'P' if forests == OWN else 'Q'}/dec_2276", forests)
    store = ManifestStore(layout.manifests)
    for inputs, outputs in (((models,), (dl2,)), ((dl2,), (made,))):
        document = {**DONE_HERE, "key": path, "files": files, "commands": commands}
        store.write(Manifest.model_validate({**document, "inputs": inputs, "outputs": outputs}))


def production(config: dict[str, Any] | None = None, **facts: str) -> ProductionRow:
    return ProductionRow(
        name="P", line="dec_2276", irf_dir=TOP, config=config or {}, facts=facts,
        models_path="models/AllSky/P/dec_2276", models_sha256=OWN,
    )  # fmt: skip


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    site = make_site(tmp_path)
    return Layout(site.base, site.work)


def test_a_folder_for_each_node_in_the_order_of_the_file_names(layout: Layout) -> None:
    response(layout, f"{TOP}/dec_2276/Gamma/node_b/irf_P_a.fits.gz")
    response(layout, f"{TOP}/dec_2276/Gamma/node_a/irf_P_b.fits.gz")
    response(layout, f"{TOP}/dec_3476/Gamma/node_a/irf_P_c.fits.gz")
    response(layout, f"{TOP}/dec_2276/GammaDiffuse/node_a/irf_P_d.fits.gz")
    nodes = irf_nodes(layout, production(CHAIN), STD)
    assert [node.path.rpartition("/")[2] for node in nodes] == ["irf_P_a.fits.gz", "irf_P_b.fits.gz"]


def test_the_cut_set_of_the_step_counts(layout: Layout) -> None:
    response(layout, f"{TOP}/irf_1.fits.gz", cuts=STD.text)
    (node,) = irf_nodes(layout, production(cuts_sha256="other"), STD)
    assert node.cuts_sha256 == STD.digest


def test_without_one_what_the_production_was_registered_with(layout: Layout) -> None:
    response(layout, f"{TOP}/irf_1.fits.gz")
    (node,) = irf_nodes(layout, production(cuts_sha256=SMALL.digest), STD)
    assert node.cuts_sha256 == SMALL.digest


def other_cuts(layout: Layout, config: dict[str, Any], *words: str) -> str:
    """What of a response of lstmcpipe is other than in the standard cut set."""
    response(layout, f"{TOP}/irf_1.fits.gz", words=words)
    (node,) = irf_nodes(layout, production(config), STD)
    assert node.cuts_sha256 is None
    return node.other_cuts


def test_of_lstmcpipe_the_configuration_and_the_options_of_its_command(layout: Layout) -> None:
    assert other_cuts(layout, json.loads(json.dumps(CHAIN, sort_keys=True)), *SWITCHES) == ""
    point_like = "IRFFITSWriter.point_like false, not true"
    assert point_like in other_cuts(layout, CHAIN)
    assert other_cuts(layout, CHAIN, *SWITCHES, "--gh-efficiency", "0.9") == "DL3Cuts.gh_efficiency 0.9, not 0.7"
    assert other_cuts(layout, CHAIN, *SWITCHES, "--DL3Cuts.max_gh_cut=0.9") == "DL3Cuts.max_gh_cut 0.9, not 0.98"
    # with energy-dependent cuts the global one counts for nothing
    assert other_cuts(layout, CHAIN, *SWITCHES, "--global-gh-cut=0.3", "--gh-efficiency=0.70") == ""


def test_what_a_configuration_of_lstmcpipe_does_not_say_lstchain_decides(layout: Layout) -> None:
    """As seven of the ten published productions: no cut on the intensity, other efficiencies."""
    said = other_cuts(layout, {}, *SWITCHES)
    assert "EventSelector.filters.intensity none, not [50.0, Infinity]" in said
    assert "DL3Cuts.gh_efficiency 0.95, not 0.7" in said
    assert "DL3Cuts.theta_containment 0.68, not 0.7" in said
    assert "DataBinning" not in said


def test_a_response_that_is_gone_is_not_passed_over(layout: Layout) -> None:
    """The triangle around a pointing would have another corner, without a word."""
    for number in (1, 2, 3):
        response(layout, f"{TOP}/irf_{number}.fits.gz", cuts=STD.text)
    assert len(irf_nodes(layout, production(), STD)) == 3
    layout.absolute(f"{TOP}/irf_2.fits.gz").unlink()
    with pytest.raises(DataError, match=r"1 response\(s\) of P are gone \(irf_2\.fits\.gz\)"):
        irf_nodes(layout, production(), STD)


def test_the_responses_of_another_production_are_refused_whatever_their_folder_and_name(layout: Layout) -> None:
    response(layout, f"{TOP}/irf_P_1.fits.gz", cuts=STD.text)
    response(layout, f"{TOP}/irf_P_2.fits.gz", cuts=STD.text, forests=FOREIGN)
    with pytest.raises(
        DataError, match=r"irf_P_2\.fits\.gz was made with the forests models/AllSky/Q/dec_2276"
    ) as told:
        irf_nodes(layout, production(), STD)
    assert "not with those of P (models/AllSky/P/dec_2276" in told.value.what
    assert "register it again" in told.value.remedy
