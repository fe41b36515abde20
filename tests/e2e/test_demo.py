"""The main job from end to end: real Airflow, PostgreSQL, lstchain; locally, and over SSH and SLURM."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lstops.embedded.services import Services
from lstops.embedded.slurm_lab import SlurmLab
from lstops.embedded.slurm_lab import why_not as no_slurm

from .conftest import REPOSITORY, Demo, copy_inputs

#: as root in a container, and without any connection of the browser's own
QUIET = (
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)
CRAB = ("83.6324", "22.0174")


def bundle(demo: Demo) -> Path:
    found = sorted(demo.base.glob("DL3/20240115/*/*/*/Crab/current"))
    assert len(found) == 1
    return found[0]


def read_by_a_stranger(folder: Path) -> dict[str, Any]:
    python = REPOSITORY / ".venv-lstchain" / "bin" / "python"
    script = Path(__file__).with_name("stranger.py")
    done = subprocess.run(
        [str(python), str(script), str(folder), *CRAB], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def check_physics(demo: Demo) -> None:
    """A copy of the bundle in another place, read by gammapy and held against the standards of its formats."""
    truth = json.loads((demo.base / "truth.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        shutil.copytree(bundle(demo), copy, copy_function=shutil.copyfile)
        copy.chmod(0o750)
        result = read_by_a_stranger(copy)
    assert result["findings"] == []
    good = [run for run in truth["runs"] if run.get("expected_verdict") == "good"]
    assert result["observations"] == len(good)
    assert result["livetime_s"] == pytest.approx(sum(run["elapsed_s"] for run in good), rel=0.1)
    assert result["sqrt_ts"] > 10
    ratio = result["flux_above_100gev_per_cm2_s"] / truth["source"]["flux_above_100gev_per_cm2_s"]
    assert 0.65 < ratio < 1.35, f"flux above 100 GeV is {ratio:.2f} of the truth"


def check_files(demo: Demo) -> None:
    """Every file of the bundle is what its list of checksums says, and nothing else is there."""
    folder = bundle(demo)
    listed = dict(reversed(line.split("  ", 1)) for line in (folder / "SHA256SUMS").read_text().splitlines())
    for name, digest in listed.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert present - set(listed) <= {"SHA256SUMS"}


def check_verdicts(demo: Demo) -> None:
    truth = json.loads((demo.base / "truth.json").read_text())
    text = demo.lstops("night", "20240115")
    for run in truth["runs"]:
        if run["run_type"] == "DATA":
            assert str(run["run_id"]) in text
    published = {p.name for p in bundle(demo).glob("dl3_LST-1.Run*.fits")}
    wanted = {f"dl3_LST-1.Run{r['run_id']:05d}.fits" for r in truth["runs"] if r.get("expected_verdict") == "good"}
    assert published == wanted


def manifests(demo: Demo) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in (demo.base / "lstops" / "manifests").rglob("*.json")}


def test_local(local_demo: Demo) -> None:
    check_verdicts(local_demo)
    check_files(local_demo)
    check_physics(local_demo)
    assert "web page" in local_demo.output
    assert "goes on with" in local_demo.output, "the interrupted run was taken up"
    assert "nothing" in local_demo.lstops("audit").lower()
    password = json.loads((local_demo.home / "airflow" / "passwords.json").read_text())["admin"]
    assert password not in local_demo.output


def test_nothing_is_left_in_staging(local_demo: Demo) -> None:
    assert list((local_demo.base / "lstops" / "staging").glob("*")) == []


def test_no_secret_in_what_the_demo_wrote(local_demo: Demo) -> None:
    secrets = [
        line.split("=", 1)[1] for line in (local_demo.home / "secrets.env").read_text().splitlines() if "=" in line
    ]
    secrets += list(json.loads((local_demo.home / "airflow" / "passwords.json").read_text()).values())
    texts = [*local_demo.base.rglob("*.json"), *local_demo.base.rglob("*.sh"), *local_demo.home.rglob("*.log")]
    assert texts
    for path in texts:
        content = path.read_text(errors="replace")
        assert not any(secret in content for secret in secrets if len(secret) > 8), path


def test_again_makes_nothing_again(local_demo: Demo) -> None:
    before, version = manifests(local_demo), bundle(local_demo).resolve()
    local_demo.again()
    assert manifests(local_demo) == before
    assert bundle(local_demo).resolve() == version


def test_one_changed_input_remakes_only_what_it_touches(local_demo: Demo) -> None:
    """A DL2 file that somebody damaged is made again, and with it its DL3, but no other run's."""
    before = manifests(local_demo)
    victim = sorted(local_demo.base.glob("DL2/20240115/*/*/*/dl2_LST-1.Run*.h5"))[0]
    victim.chmod(0o640)
    victim.write_bytes(victim.read_bytes()[:1000])
    local_demo.again()
    after = manifests(local_demo)
    changed = {Path(p).name for p in after if before.get(p) != after[p]}
    assert f"{victim.name}.json" in changed
    run = victim.name.split(".")[1]
    assert {name for name in changed if "Run" in name and run not in name} == set()
    check_physics(local_demo)


def test_fitsverify_finds_nothing(local_demo: Demo) -> None:
    """HEASARC's checker of FITS files, on every HDU of the bundle and of the responses."""
    if not shutil.which("fitsverify"):
        pytest.skip("no fitsverify (make test-system-deps)")
    files = sorted(bundle(local_demo).glob("*.fits*")) + sorted(local_demo.base.glob("mc/IRF/**/irf*.fits.gz"))
    assert len(files) > 5
    for path in files:
        done = subprocess.run(["fitsverify", str(path)], capture_output=True, text=True, check=False)
        # the names of these columns are GADF's
        warnings = [w for w in re.findall(r"\*\*\* Warning: *(.*)", done.stdout) if not re.search(r"(DATE|TIME)-", w)]
        assert re.search(r"Verification found \d+ warning\(s\) and 0 error\(s\)", done.stdout), done.stdout
        assert warnings == [], path


def test_web_page(local_demo: Demo, tmp_path: Path) -> None:
    """A person logs in and finds both DAGs finished."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("no /usr/bin/chromium (make test-system-deps)")
    services = Services(local_demo.home)
    password = json.loads(services.airflow.folders.passwords.read_text())["admin"]
    shots = Path(os.environ.get("LSTOPS_SCREENSHOTS", tmp_path))
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(chromium),
            args=[f"--{flag}" for flag in QUIET],
        )
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(120_000)
        page.goto(f"{services.airflow.url}/", wait_until="networkidle")
        page.fill("input[name=username]", "admin")
        page.fill("input[name=password]", password)
        page.keyboard.press("Enter")
        page.wait_for_url("**/")
        for dag in ("mc_production", "nightly"):
            page.goto(f"{services.airflow.url}/dags/{dag}", wait_until="networkidle")
            page.wait_for_selector(f"text={dag}")
            page.wait_for_timeout(2000)
            page.screenshot(path=str(shots / f"{dag}.png"))
            assert "success" in page.content().lower()
        browser.close()
    with services.client() as client:
        for dag in ("mc_production", "nightly"):
            assert {run.state for run in client.runs(dag)} == {"success"}


@pytest.mark.slurm
def test_slurm(
    local_demo: Demo, tmp_path_factory: pytest.TempPathFactory, demo_in: Callable[[Path, str], Demo]
) -> None:
    if reason := no_slurm():
        pytest.skip(reason)
    home = tmp_path_factory.mktemp("slurm-demo") / "home"
    home.mkdir()
    copy_inputs(local_demo.base, home / "site")
    demo = demo_in(home, "slurm")
    check_verdicts(demo)
    check_files(demo)
    check_physics(demo)
    lab = SlurmLab(Path((home / "slurm-lab.path").read_text()))
    states = set(lab.ssh("sacct -a -X -n -P -S now-1days -o State").split())
    assert states == {"COMPLETED"}
    assert lab.ssh("squeue -h -t all -o %i --states=PD,R").strip() == ""
