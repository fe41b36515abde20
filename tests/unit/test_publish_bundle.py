"""Planning of a bundle: what goes in, and what is refused before anything is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import yaml
from astropy.table import Table
from astropy.time import Time

from lstops.errors import ConfigError, DataError, ProductInvalid
from lstops.publish.bundle import build_bundle
from lstops.publish.model import CUTS, OBSCORE, PROV, PROVENANCE, RUNS, PublishedFile
from lstops.publish.provenance import manifests_in
from lstops.publish.texts import bundle_json, citation, readme
from lstops.site.layout import Layout

from .prov_check import prov_findings
from .published_site import CANDIDATES, make_request, make_site, write_index

#: the mandatory columns (REC-ObsCore-v1.1-20170509, table 1)
OBSCORE_1_1 = """
dataproduct_type calib_level obs_collection obs_id obs_publisher_did access_url access_format access_estsize
target_name s_ra s_dec s_fov s_region s_resolution s_xel1 s_xel2 t_min t_max t_exptime t_resolution t_xel
em_min em_max em_res_power em_xel o_ucd pol_states pol_xel facility_name instrument_name
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make_site(tmp_path / "base")


def test_provenance_goes_from_the_dl3_down_to_dl1_and_models(layout: Layout) -> None:
    bundle = build_bundle(make_request(), layout)
    tree = json.loads(bundle.written[PROVENANCE])
    dl3 = tree["files"][f"{CANDIDATES}/dl3_LST-1.Run02001.fits"]
    dl2 = tree["files"][tree["steps"][dl3["made_by"]]["inputs"][0]["path"]]
    last = tree["steps"][dl2["made_by"]]
    used = [record["path"] for record in last["inputs"]]
    assert used == ["DL1/dl1_LST-1.Run02001.h5", "models/AllSky/prod_a/dec_2276"]
    assert all(tree["files"][path]["made_by"] is None for path in used)
    assert tree["files"]["models/AllSky/prod_a/dec_2276"]["sha256"]
    assert tree["software"]["lstchain"] == ["0.12.3"]
    assert last["files"]["config.json"] == '{"a": 1}'
    assert tree["configurations"][dl2["made_by"]]["config.json"] == hashlib.sha256(b'{"a": 1}').hexdigest()


def test_the_provenance_file_gives_the_manifests_back(layout: Layout, tmp_path: Path) -> None:
    bundle = build_bundle(make_request(), layout)
    (tmp_path / PROVENANCE).write_bytes(bundle.written[PROVENANCE])
    assert sorted(manifests_in(tmp_path / PROVENANCE), key=str) == sorted(bundle.manifests, key=str)
    (tmp_path / PROVENANCE).write_text('{"schema": 1}')
    with pytest.raises(DataError, match="cannot be read as provenance"):
        manifests_in(tmp_path / PROVENANCE)


def test_prov_json_is_what_the_submission_says(layout: Layout) -> None:
    document = json.loads(build_bundle(make_request(), layout).written[PROV])
    assert prov_findings(document) == []
    assert len(document["activity"]) == 5  # 2 DL2, 2 DL3, index
    made = {r["prov:entity"] for r in document["wasGeneratedBy"].values()}
    labels = {name: e["prov:label"] for name, e in document["entity"].items()}
    assert sum(labels[name].startswith(CANDIDATES) for name in made) == 4  # 2 DL3 and the two index files


def test_the_run_list_holds_good_and_bad_runs_with_reasons(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / RUNS
    path.write_bytes(build_bundle(make_request(), layout).written[RUNS])
    table = Table.read(path, format="ascii.ecsv")
    assert list(table["run_id"]) == [2001, 2002, 2003]
    assert list(table["published"]) == [True, True, False]
    assert table["reasons"][2] == "clouds, of course"
    assert str(table["zenith"].unit) == "deg"
    assert table.meta["source"] == 'Crab "nebula"'


def test_the_obscore_table_is_what_the_standard_asks_for(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / OBSCORE
    path.write_bytes(build_bundle(make_request(), layout).written[OBSCORE])
    table = Table.read(path, format="ascii.ecsv")
    assert sorted(table.colnames) == sorted(OBSCORE_1_1.split())
    assert {name: str(table[name].unit) for name in table.colnames if table[name].unit} == {
        "access_estsize": "kbyte", "s_ra": "deg", "s_dec": "deg", "s_fov": "deg", "s_resolution": "arcsec",
        "t_min": "d", "t_max": "d", "t_exptime": "s", "t_resolution": "s", "em_min": "m", "em_max": "m",
    }  # fmt: skip
    assert all(table[name].meta["ucd"] and table[name].meta["utype"] for name in table.colnames)
    for name in ("calib_level", "obs_collection", "obs_id", "obs_publisher_did"):  # may not be NULL
        assert not np.any(np.ma.getmaskarray(table[name])), name
    row = table[0]
    assert (row["obs_id"], row["access_url"], row["dataproduct_type"]) == ("2001", "dl3_LST-1.Run02001.fits", "event")
    assert Time(row["t_min"], format="mjd").isot.startswith("2024-01-14T20:40:00")
    assert (row["t_max"] - row["t_min"]) * 86400 == pytest.approx(1200, abs=1e-3)
    energies = Table.read(layout.absolute(f"{CANDIDATES}/dl3_LST-1.Run02001.fits"), hdu="EVENTS")["ENERGY"]
    assert (row["em_min"] * u.m).to_value(u.TeV, u.spectral()) == pytest.approx(energies.max(), rel=1e-8)
    assert row["em_min"] < row["em_max"]


def test_the_same_request_gives_the_same_digest_and_any_change_another(layout: Layout) -> None:
    first = build_bundle(make_request(), layout)
    assert build_bundle(make_request(), layout).digest == first.digest
    assert build_bundle(make_request(cuts={"gammaness": 0.8}), layout).digest != first.digest
    assert build_bundle(make_request(rejected=()), layout).digest != first.digest
    assert json.loads(first.written[CUTS]) == {"gammaness": 0.7}


def test_extras_go_along_but_are_not_content(layout: Layout) -> None:
    check = layout.absolute("lstops/check.json")
    check.write_text("{}")
    plain, more = (
        build_bundle(make_request(), layout),
        build_bundle(make_request(extras=("lstops/check.json",)), layout),
    )
    assert "check.json" in {c.name for c in more.copied}
    assert more.digest == plain.digest


def test_readme_and_citation_tell_a_stranger_what_it_is() -> None:
    request = replace(make_request(), synthetic=True)
    files = [PublishedFile("dl3_LST-1.Run02001.fits", "0" * 64, 1)]
    text = readme(request, "v0003", "2024-01-16T10:00:00+00:00", files)
    assert "SYNTHETIC" in text
    assert 'Crab "nebula"' in text
    assert "sha256sum -c" in text
    cff = yaml.safe_load(citation(request, "v0003", "2024-01-16T10:00:00+00:00", "ab" * 32, {"lstchain": ["0.12.3"]}))
    assert [r["title"] for r in cff["references"] if r["type"] == "software"] == ["lstchain"]
    assert all({"type", "title", "authors"} <= set(r) for r in cff["references"])
    assert {"authors", "cff-version", "message", "title"} <= set(cff)
    assert cff["cff-version"] == "1.2.0"
    assert cff["version"] == "v0003"
    assert cff["date-released"] == "2024-01-16"


def test_the_readme_of_a_request_says_what_was_asked_for() -> None:
    files = [PublishedFile("dl3_LST-1.Run02001.fits", "0" * 64, 1)]
    asked = {"target": "Crab Nebula", "zd_max_deg": 35.0}
    words = (("Request", "Crab Nebula, zd 0 to 35 deg"), ("Models", "those that fit"))
    request = make_request(night="20240115-20240120", asked=asked, asked_words=words, point_like=False)
    text = readme(request, "v0001", "2024-01-16T10:00:00+00:00", files)
    assert "Request      Crab Nebula, zd 0 to 35 deg\nModels       those that fit\n" in text
    assert "Nights       20240115-20240120" in text
    assert "nights 20240115 to 20240120, v0001" in text.splitlines()[0]
    assert "1 published, 1 rejected, 1 good but not in this bundle" in text
    # gammapy's full-enclosure wants a background, which lstchain's responses have not
    assert 'required_irf=["aeff", "edisp", "psf"]' in text
    assert "point-like" not in text
    document = json.loads(bundle_json(request, "v0001", "2024-01-16T10:00:00+00:00", "ab" * 32, files))
    assert document["request"] == asked


def test_the_readme_tells_the_cuts_of_runs_from_the_check() -> None:
    names = ("cuts_Run02001.json", "check.json")
    files = [PublishedFile(name, "0" * 64, 1) for name in ("dl3_LST-1.Run02001.fits", *names)]
    text = readme(make_request(extras=tuple(f"lstops/x/{name}" for name in names)), "v0001", "2024-01-16", files)
    lines = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "the cuts of this run" in lines["cuts_Run02001.json"]
    assert "check of the source" in lines["check.json"]
    assert "a file of its own, whose sha256 is CUTSHA" in lines["cuts.json"]


def test_the_cut_set_is_the_very_one_that_the_headers_name(layout: Layout) -> None:
    text = '{"b": [1, Infinity],\n "a": 2}'
    request = replace(make_request(), cuts=text)
    assert build_bundle(request, layout).written["cuts.json"].decode() == text


def test_a_product_without_manifest_is_refused(layout: Layout) -> None:
    (layout.manifests / f"{CANDIDATES}/dl3_LST-1.Run02001.fits.json").unlink()
    with pytest.raises(DataError, match=r"Run02001.fits has no manifest"):
        build_bundle(make_request(), layout)


def test_a_product_that_changed_is_refused(layout: Layout) -> None:
    with layout.absolute(f"{CANDIDATES}/dl3_LST-1.Run02001.fits").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(DataError, match=r"Run02001.fits was changed after it was made"):
        build_bundle(make_request(), layout)


def test_a_product_made_from_something_remade_since_is_refused(layout: Layout) -> None:
    store = layout.manifests / "DL2/dl2_LST-1.Run02001.h5.json"
    manifest = json.loads(store.read_text())
    manifest["outputs"][0]["state"]["sha256"] = "f" * 64
    store.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="was made again after DL3 of run 2001 had used it"):
        build_bundle(make_request(), layout)


def test_an_index_of_other_files_is_refused(layout: Layout) -> None:
    with pytest.raises(ProductInvalid, match=r"the index names files that are not there: dl3_LST-1.Run02002.fits"):
        build_bundle(make_request(runs=(2001,)), layout)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"folder": "DL3/../../outside"}, ConfigError, "base"),
        ({"folder": "/etc/cron.d"}, ConfigError, "base"),
        ({"products": ()}, DataError, "nothing to publish"),
        ({"products": (f"{CANDIDATES}/dl3_LST-1.Run02009.fits",)}, ConfigError, "have no verdict"),
        ({"products": ("../dl3_LST-1.Run02001.fits",) * 2}, ConfigError, "twice"),
        ({"index": (f"{CANDIDATES}/hdu-index.fits.gz",)}, DataError, "lacks obs-index.fits.gz"),
        ({"extras": ("DL1/nothing.png",)}, DataError, "nothing.png does not exist"),
        ({"extras": (f"{CANDIDATES}/hdu-index.fits.gz",)}, ConfigError, "two files of the bundle are called hdu-index"),
    ],
)
def test_bad_requests(layout: Layout, changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build_bundle(make_request(**changes), layout)


def test_a_rejected_run_is_never_published(layout: Layout) -> None:
    request = make_request()
    verdicts = tuple(replace(r, selected=False) if r.run_id == 2002 else r for r in request.runs)
    with pytest.raises(ConfigError, match=r"\[2002\] were rejected"):
        build_bundle(replace(request, runs=verdicts), layout)


def test_a_destination_behind_a_link_out_of_the_base_is_refused(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    layout.absolute("DL3").symlink_to(tmp_path / "outside")
    with pytest.raises(ConfigError, match="leads outside"):
        build_bundle(make_request(), layout)


def test_a_damaged_index_is_named(layout: Layout) -> None:
    write_index(layout.absolute(CANDIDATES), [2001, 2002])
    with pytest.raises(DataError, match=r"hdu-index.fits.gz was changed after it was made"):
        build_bundle(make_request(), layout)
    for link in layout.manifests.rglob("*index*"):
        link.unlink()
    layout.absolute(f"{CANDIDATES}/hdu-index.fits.gz").write_bytes(b"not fits")
    with pytest.raises(ProductInvalid, match="is no FITS index"):
        build_bundle(make_request(), layout)
