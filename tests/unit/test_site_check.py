"""`lstops site check`: each thing that can be wrong is named with what helps. Environments are stand-ins here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from sites import DOCUMENT, make_site

import lstops
from lstops.cli import main
from lstops.operations.site_check import Finding, check_site
from lstops.site.model import Site

VERSIONS = {"lstchain": "0.12.3", "lstops": lstops.__version__}
SIMTEL = "mc/one.simtel.gz"


def environment(folder: Path, versions: Mapping[str, str] | None) -> dict[str, Any]:
    """A science environment that says it has these versions; with None its python fails."""
    (folder / "bin").mkdir(parents=True)
    # as conda's: nothing is there before `conda activate`
    (folder / "activate").write_text(f'conda() {{ [ "$2" = "the one" ] && PATH="{folder}/bin:$PATH"; }}\n')
    python = folder / "bin/python"
    told = f"cat <<'E'\n{json.dumps(versions)}\nE" if versions is not None else "echo broken >&2; exit 1"
    python.write_text(f"#!/bin/sh\necho a banner\n{told}\n")
    python.chmod(0o755)
    return {"lstchain_version": "0.12.3", "activate": str(folder / "activate"), "conda_env": "the one"}


def site_below(folder: Path, versions: Mapping[str, str] | None = VERSIONS, **changes: Any) -> Site:
    base = folder / "the site's base"
    line = base / "mc/DL1/AllSky/base/TrainingDataset"
    for particle in ("GammaDiffuse", "Protons"):
        node = line / "dec_2276" / particle / "node_theta_10.0_az_100.0_"
        node.mkdir(parents=True)
        (node / "dl1_one.h5").touch()
    (base / SIMTEL).touch()
    production = {**DOCUMENT["production"], "tuning_simtel": SIMTEL}
    return make_site(
        base,
        **{"environments": {"0.12.3": environment(folder / "an env", versions)}, "production": production, **changes},
    )


def wrong(site: Site) -> list[Finding]:
    return [finding for finding in check_site(site) if not finding.ok]


def test_a_good_site_has_nothing_to_say(tmp_path: Path) -> None:
    site = site_below(tmp_path)
    assert wrong(site) == []
    found = {finding.subject: finding.result for finding in check_site(site)}
    assert found["base on this machine"] == "the same folder, writable"
    assert found["lstchain 0.12.3 on this machine"] == f"lstchain 0.12.3, lstops {lstops.__version__}"
    assert found["base production"] == "base: 2 DL1 files for dec_2276"
    assert found["local scheduler on this machine"] == "answers; 0 jobs of lstops in the queue"


@pytest.mark.parametrize(
    ("versions", "changes", "result", "remedy"),
    [
        (None, {}, "broken", "correct `activate`"),
        ({**VERSIONS, "lstchain": "0.11.0"}, {}, "has lstchain 0.11.0, not 0.12.3", "correct `lstchain_version`"),
        ({"lstchain": "0.12.3"}, {}, "has lstops (none)", "install lstops' core"),
        ({**VERSIONS, "lstops": "0.0.1"}, {}, "has lstops 0.0.1", "install lstops' core"),
        (VERSIONS, {"cuts": "nowhere"}, "nowhere", ""),
        (VERSIONS, {"production": {"base_production": "other", "tuning_simtel": SIMTEL}}, "no training files", "name"),
        (VERSIONS, {"production": {"base_production": "base"}}, "no simulation to tune with", "tuning_simtel"),
        (VERSIONS, {"production": {"base_production": "base", "tuning_simtel": "mc/two"}}, "mc/two is not", "correct"),
        (VERSIONS, {"resources": {"train": {"mem_mb": 10**7}}}, "train asks for mem_mb 10000000, config/esc", "raise"),
        (VERSIONS, {"notify": {"webhook": {"address_variable": "NO_HOOK"}}}, "NO_HOOK holds no web address", "set"),
    ],
)  # fmt: skip
def test_one_thing_wrong_is_one_finding(
    tmp_path: Path, versions: dict[str, str] | None, changes: dict[str, Any], result: str, remedy: str
) -> None:
    (found,) = wrong(site_below(tmp_path, versions, **changes))
    assert result in found.result
    assert remedy in found.remedy
    assert found.remedy


def test_an_accelerator_that_is_promised_must_be_there(tmp_path: Path) -> None:
    promised = {**environment(tmp_path / "other", VERSIONS), "accelerator": True}
    (found,) = wrong(site_below(tmp_path, environments={"0.12.3": promised}))
    assert found.result == "has no scikit-learn-intelex"
    there = {**environment(tmp_path / "third", {**VERSIONS, "scikit-learn-intelex": "2026.2.0"}), "accelerator": True}
    assert wrong(site_below(tmp_path / "x", environments={"0.12.3": there})) == []


def test_no_more_than_the_partition_has(tmp_path: Path) -> None:
    partitions = {"short": {"max_time_min": 240, "max_mem_mb": 64000, "max_cpus": 4}}
    cluster = {"name": "c", "scheduler": "local", "default_partition": "short", "partitions": partitions}
    (found,) = wrong(site_below(tmp_path, cluster=cluster, resources={"dl2": {"time_min": 240}}))
    assert found.result == "dl2 asks for time_min 240, all that partition short has"


def test_a_host_that_cannot_be_reached(tmp_path: Path) -> None:
    ssh = {"host": "127.0.0.1", "port": 1, "user": "x", "key_file": "/no/key", "known_hosts": "/no/hosts"}
    site = site_below(tmp_path, cluster={"name": "c", "scheduler": "slurm", "ssh": ssh})
    found = {finding.subject: finding for finding in check_site(site)}
    assert not found["slurm scheduler at 127.0.0.1"].ok
    assert found["lstchain 0.12.3"].result == "not looked at"
    assert found["base production"].ok, "the rest is looked at all the same"


def test_the_command_fails_if_anything_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = site_below(tmp_path, cuts="nowhere")
    path = tmp_path / "site.yaml"
    path.write_text(yaml.safe_dump(site.model_dump(mode="json", exclude_unset=True)))
    assert main(["site", "check", "--site", str(path)]) == 1
    assert "wrong settings" in capsys.readouterr().out
