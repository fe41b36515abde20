"""The site file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from sites import make_site

from lstops.errors import ConfigError
from lstops.nsb.tailcuts import Tailcut
from lstops.operations.site_check import check_resources
from lstops.production.grid import parse_node
from lstops.site.layout import Layout, nsb_dir, parse_nsb_dir, parse_run_file, slug
from lstops.site.model import Site, load_site

SSH = {"HOST": "login", "PORT": "22", "USER": "u", "KEY_FILE": "/k", "KNOWN_HOSTS": "/h"}


@pytest.mark.parametrize("name", ["local", "slurm-lab", "la-palma"])
def test_the_site_files_that_come_along(repository: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LSTOPS_HOME", "/home/x")
    monkeypatch.setenv("LSTOPS_VENV_SCIENCE", "/venv")
    monkeypatch.setenv("LSTOPS_BASE_PRODUCTION", "p")
    monkeypatch.setenv("LSTOPS_TUNING_SIMTEL", "mc/one.simtel.gz")
    for key, value in SSH.items():
        monkeypatch.setenv(f"LSTOPS_SSH_{key}", value)
    site = load_site(repository / "config/sites" / f"{name}.yaml")
    assert site.environment("0.12.3").version == "lstchain 0.12.3"
    assert check_resources(site).ok, check_resources(site).result
    with pytest.raises(ConfigError, match=r"no science environment for lstchain '9\.9'.*use one of \['0\.12\.3'\]"):
        site.environment("9.9")


def document(tmp_path: Path) -> dict[str, object]:
    content: dict[str, object] = make_site(tmp_path).model_dump(mode="json")
    return content


def load(tmp_path: Path, content: object) -> Site:
    path = tmp_path / "site.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_site(path)


def test_round_trip(tmp_path: Path) -> None:
    assert load(tmp_path, document(tmp_path)) == make_site(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bse": "/x"}, "bse: Extra inputs"),
        ({"base": "relative"}, "must be an absolute path"),
        ({"nightly": {"pipeline_version": "v0.12", "lstchain_version": "7"}}, "'7' is none of the environments"),
        ({"base": "${LSTOPS_NOT_SET}"}, "environment variable LSTOPS_NOT_SET, which is not set"),
        (
            {
                "cluster": {
                    "name": "c",
                    "scheduler": "slurm",
                    "default_partition": "short",
                    "partitions": {"short": {"max_time_min": 30, "max_mem_mb": 100, "max_cpus": 1}},
                },
                "resources": {"train": {"time_min": 60, "mem_mb": 50}},
            },
            "resources.train.time_min is 60, partition 'short' allows 30",
        ),
    ],
)
def test_wrong_site_files_name_the_key(tmp_path: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, {**document(tmp_path), **change})


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [", "x"])
def test_what_is_no_site_file(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"site\.yaml"):
        load(tmp_path, text)


def test_no_site_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LSTOPS_SITE", raising=False)
    with pytest.raises(ConfigError, match="set LSTOPS_SITE"):
        load_site()
    with pytest.raises(ConfigError, match="cannot read the site file /nonexistent"):
        load_site("/nonexistent")


def test_names_both_ways() -> None:
    assert Tailcut(8, 4).directory == "tailcut84"
    assert Tailcut(10, 5).directory == "tailcut1005"
    assert parse_nsb_dir(nsb_dir(0.14)) == 0.14
    assert parse_node("node_corsika_theta_10.000_az_100.5_")[1].az_deg == 100.5
    assert parse_node("node_theta_6_az_180_")[1].zd_deg == 6
    found = parse_run_file("dl1_LST-1.Run02001.0003.h5")
    assert (found.kind, found.run, found.subrun) == ("dl1", 2001, 3)
    assert parse_run_file("dl3_LST-1.Run02001.fits").subrun is None


def test_source_names_become_one_folder() -> None:
    assert slug("Crab") == "Crab"
    assert slug("../../etc/passwd") == "etc_passwd"
    assert slug(" 1ES 0229+200 'b\" ") == "1ES_0229+200_b"
    with pytest.raises(ConfigError, match="no letter or digit"):
        slug("../..")


def test_paths_stay_below_the_base(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    with pytest.raises(ConfigError, match="below"):
        layout.absolute("../x")
    with pytest.raises(ConfigError, match="is not below"):
        layout.relative(Path("/etc"))


@pytest.mark.parametrize("work", ["../x", "/abs", "a/../../b", ".", "", "lstops/", "a\nb"])
def test_the_work_area_is_a_folder_below_the_base(tmp_path: Path, work: str) -> None:
    with pytest.raises(ConfigError, match="work: "):
        load(tmp_path, {**document(tmp_path), "work": work})


@pytest.mark.parametrize(("key", "value"), [("base_production", "../x"), ("tuning_simtel", "/etc/passwd")])
def test_paths_of_the_production_stay_below_the_base(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load(tmp_path, {**document(tmp_path), "production": {"base_production": "base", key: value}})
