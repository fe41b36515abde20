"""The embedded services are real: a PostgreSQL server and four Airflow processes, started and killed here."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest

from lstops.embedded import postgres as postgres_module
from lstops.embedded.airflow_env import AirflowFolders, airflow_environment
from lstops.embedded.errors import ServiceError
from lstops.embedded.ports import PortBook
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.embedded.processes import PidRecord
from lstops.embedded.rest import AirflowClient
from lstops.embedded.runas import RunAs, reachable_by_others, spare_capability
from lstops.embedded.secretfile import SecretFile
from lstops.embedded.services import Services, ServicesStatus

pytestmark = pytest.mark.timeout(900)

TINY_DAG = textwrap.dedent(
    '''
    """A DAG that needs nothing."""
    from airflow.sdk import dag, get_current_context, task


    @dag(schedule=None)
    def tiny():
        @task
        def say():
            word = get_current_context()["dag_run"].conf["word"]
            print(f"the word is {word}")
            if word == "bad":
                raise ValueError("a bad word")

        say()


    tiny()
    '''
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    postgres = EmbeddedPostgres(tmp_path / "home")
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[Services]:
    """Postgres and Airflow with one small DAG."""
    home = tmp_path_factory.mktemp("services")
    for folder in ("dags", "plugins"):
        (home / folder).mkdir()
    (home / "dags" / "tiny.py").write_text(TINY_DAG)
    running = Services(
        home,
        AirflowFolders(home, repository / "airflow.cfg", home / "dags", home / "plugins"),
        {"LSTOPS_PROBE": "seen"},
    )
    try:
        running.start()
        yield running
    finally:
        running.stop()


def query(postgres: EmbeddedPostgres, database: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(postgres.url(database, driver="postgresql"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def processes_of(home: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and (
                str(home / "postgres") in process.cmdline() or process.environ().get("LSTOPS_HOME") == str(home)
            ):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def alive(process: psutil.Process) -> bool:
    """Whether a process can still do anything: a zombie that nobody collected cannot."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def healthy(services: Services) -> ServicesStatus:
    """The state once all is well: on a busy machine a heartbeat or an answer may be late for a moment."""
    end = time.monotonic() + 300
    while not (found := services.status()).healthy:
        assert time.monotonic() < end, found
        time.sleep(1)
    return found


def pids(status: ServicesStatus) -> dict[str, int | None]:
    return {component.name: component.pid for component in status.components}


# -- PostgreSQL ----------------------------------------------------------------------------------------------------


def test_starting_twice_is_one_server(server: EmbeddedPostgres) -> None:
    pid = server.pid()
    assert server.start() is False
    assert EmbeddedPostgres(server.home).pid() == pid
    for database in ("airflow", "lstops"):
        assert query(server, database, "SELECT current_user, current_database()") == [(database, database)]


def test_the_server_wants_the_password_and_listens_on_loopback_only(server: EmbeddedPostgres) -> None:
    port = server.ports.get("postgres")
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        psycopg2.connect(host="127.0.0.1", port=port, user="postgres", password="guess", dbname="postgres")
    with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
        psycopg2.connect(host="127.0.0.1", port=port, user="airflow", dbname="airflow")
    process = psutil.Process(server.pid() or 0)
    assert {c.laddr.ip for c in process.net_connections("all") if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    assert server.secrets.path.stat().st_mode & 0o777 == 0o600
    assert (server.home / "postgres").stat().st_mode & 0o077 == 0
    assert not list(server.home.glob("*password*")), "the password file for initdb is gone"


def test_roles_do_not_see_each_others_tables(server: EmbeddedPostgres) -> None:
    query(server, "lstops", "CREATE TABLE secret_plan AS SELECT 1 AS x")
    url = server.url("airflow", driver="postgresql").replace("/airflow", "/lstops").replace("//lstops", "//airflow")
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:  # noqa: SIM117
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("SELECT * FROM secret_plan")


def test_committed_rows_survive_a_kill_with_clients_connected(server: EmbeddedPostgres) -> None:
    query(server, "lstops", "CREATE TABLE night AS SELECT 20201120 AS id")
    with closing(psycopg2.connect(server.url("lstops", driver="postgresql"))) as connection:
        pid = server.pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        psutil.Process(pid).wait(120)
        assert server.pid() is None
        assert (server.home / "postgres" / "postmaster.pid").exists(), "the stale lock is there"
        assert server.start() is True
        with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    assert query(server, "lstops", "SELECT id FROM night") == [(20201120,)]


def test_a_killed_server_that_nobody_collected_is_replaced(server: EmbeddedPostgres) -> None:
    server.stop()
    zombie = subprocess.Popen(["true"])
    while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
        pass
    (server.home / "postgres" / "postmaster.pid").write_text(f"{zombie.pid}\n{server.home}/postgres\n")
    try:
        assert server.start() is True
    finally:
        zombie.wait()


def test_a_lock_whose_pid_belongs_to_another_program_is_no_obstacle(server: EmbeddedPostgres) -> None:
    lock = server.home / "postgres" / "postmaster.pid"
    lines = lock.read_text().split("\n")
    server.stop()
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    assert server.start() is True


def test_a_lost_pid_file_does_not_start_a_second_server(server: EmbeddedPostgres) -> None:
    pid = server.pid()
    (server.home / "run" / "postgres.pid").unlink()
    server.start()
    assert server.pid() == pid


def test_a_long_path_with_spaces_works(tmp_path: Path) -> None:
    postgres = EmbeddedPostgres(tmp_path / ("a long name " * 12).strip() / "deeper and deeper")
    try:
        postgres.start()
        assert query(postgres, "lstops", "SELECT 1") == [(1,)]
    finally:
        postgres.stop()
    assert processes_of(postgres.home) == []


def test_a_taken_port_is_replaced(server: EmbeddedPostgres) -> None:
    server.stop()
    before = server.ports.get("postgres")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", before))
        other.listen()
        server.start()
        assert server.ports.get("postgres") != before
        assert query(server, "lstops", "SELECT 1") == [(1,)]


def test_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "diary.txt").write_text("mine")
    with pytest.raises(ServiceError, match="neither empty nor a PostgreSQL data folder"):
        EmbeddedPostgres(tmp_path).start()
    assert os.listdir(tmp_path / "postgres") == ["diary.txt"]


def test_data_of_another_major_version_are_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServiceError, match="made by PostgreSQL 9, but version 18"):
        EmbeddedPostgres(tmp_path).start()


def test_an_interrupted_initdb_is_repeated(tmp_path: Path) -> None:
    staged = tmp_path / "postgres.new"
    staged.mkdir()
    (staged / "PG_VERSION").write_text("18\n")
    postgres = EmbeddedPostgres(tmp_path)
    try:
        postgres.start()
        assert query(postgres, "airflow", "SELECT 1") == [(1,)]
    finally:
        postgres.stop()
    assert not staged.exists()


def test_a_normal_user_can_run_it() -> None:
    if os.geteuid() != 0:
        pytest.skip("all the other tests here run as a normal user already")
    if not reachable_by_others(postgres_module.binaries()):
        pytest.skip(f"a normal user cannot reach {postgres_module.binaries()}")
    folder = Path(tempfile.mkdtemp(prefix="lstops-normal-user-", dir="/tmp"))
    nobody = 65534
    os.chown(folder, nobody, nobody)
    child = os.fork()
    if child == 0:
        # whatever happens, the child must not come back into pytest
        status = 1
        try:
            os.setgroups([])
            os.setgid(nobody)
            os.setuid(nobody)
            postgres = EmbeddedPostgres(folder / "home")
            postgres.start()
            rows = query(postgres, "lstops", "SELECT 1")
            owner = (folder / "home" / "postgres").stat().st_uid
            postgres.stop()
            status = 0 if rows == [(1,)] and owner == nobody else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    try:
        assert os.waitstatus_to_exitcode(status) == 0
        assert processes_of(folder / "home") == []
    finally:
        shutil.rmtree(folder)


def test_the_least_capability_is_taken() -> None:
    assert spare_capability(0) is None
    assert spare_capability(1 << 1) == "dac_override"
    assert spare_capability(1 << 1 | 1 << 2) == "dac_read_search"
    assert RunAs().wrap(["postgres"]) == ["postgres"]
    assert "--ambient-caps=-all" in RunAs(5, 6).wrap(["postgres"])
    assert "--ambient-caps=-all,+dac_override" in RunAs(5, 6, "dac_override").wrap(["postgres"])


# -- small parts ---------------------------------------------------------------------------------------------------


def test_secrets_readable_by_others_are_refused(tmp_path: Path) -> None:
    secrets = SecretFile(tmp_path / "secrets.env")
    secrets.ensure({"A_KEY": lambda: "value=with=equals"})
    assert SecretFile(secrets.path).ensure({"A_KEY": lambda: "other"}) == {"A_KEY": "value=with=equals"}
    secrets.path.chmod(0o644)
    with pytest.raises(ServiceError, match=r"mode 644: others can read.*chmod 600"):
        secrets.read()


def test_a_damaged_secrets_file_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "secrets.env"
    path.touch(0o600)
    path.write_text("A=1\nrubbish\n")
    with pytest.raises(ServiceError, match=r"secrets\.env, line 2 is not KEY=value"):
        SecretFile(path).read()


def test_a_damaged_port_book_is_named(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text("[1, 2]")
    with pytest.raises(ServiceError, match=r"ports\.json does not hold ports by name"):
        PortBook(tmp_path / "ports.json").claim("api")


def test_a_pid_file_means_one_process_only(tmp_path: Path) -> None:
    me = psutil.Process()
    PidRecord(me.pid, me.create_time()).write(tmp_path / "pid")
    record = PidRecord.read(tmp_path / "pid")
    assert record is not None
    assert record.process() == me
    assert PidRecord(me.pid, me.create_time() - 60).process() is None, "another process had this pid before"
    (tmp_path / "pid").write_text('{"pid": 1')
    assert PidRecord.read(tmp_path / "pid") is None


def test_the_environment_holds_no_secret_and_no_foreign_setting(tmp_path: Path) -> None:
    folders = AirflowFolders(tmp_path, tmp_path / "airflow.cfg", tmp_path / "dags", tmp_path / "plugins")
    inherited = {"AIRFLOW__CORE__EXECUTOR": "CeleryExecutor", "AIRFLOW_CONN_SITE": "ssh://x", "no_proxy": "a.example"}
    env = airflow_environment(folders, 1234, tmp_path / "secrets.env", inherited, {"LSTOPS_SITE": "site.yaml"})
    assert "AIRFLOW__CORE__EXECUTOR" not in env
    assert env["AIRFLOW_CONN_SITE"] == "ssh://x"
    assert env["LSTOPS_SITE"] == "site.yaml"
    assert env["NO_PROXY"] == "a.example,127.0.0.1,localhost"
    assert "AIRFLOW__CORE__FERNET_KEY" not in env
    assert str(tmp_path / "secrets.env") in env["AIRFLOW__CORE__FERNET_KEY_CMD"]


def test_a_client_without_server_says_so() -> None:
    with AirflowClient("http://127.0.0.1:9", "admin", "x") as client, pytest.raises(ServiceError, match="not answer"):
        client.runs("tiny")


def test_airflow_needs_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"airflow\.cfg is missing.*Clone the repository"):
        AirflowFolders.of_repository(tmp_path, repository=tmp_path)


# -- Airflow -------------------------------------------------------------------------------------------------------


def test_all_services_are_healthy_and_a_second_start_changes_nothing(services: Services) -> None:
    before = pids(healthy(services))
    assert list(before) == ["postgres", "api-server", "scheduler", "dag-processor", "triggerer"]
    assert pids(services.start()) == before


def test_a_run_is_triggered_once_and_its_log_can_be_read(services: Services) -> None:
    with services.client() as client:
        client.wait_for_dag("tiny")
        assert client.import_errors() == {}
        client.unpause("tiny")
        first = client.trigger("tiny", "run-1", {"word": "mirror"})
        assert client.trigger("tiny", "run-1", {"word": "other"}).conf == first.conf == {"word": "mirror"}
        assert client.wait_for_run("tiny", "run-1", timeout_s=600).state == "success"
        assert [run.run_id for run in client.runs("tiny")] == ["run-1"]
        (instance,) = client.task_instances("tiny", "run-1")
        assert (instance.task_id, instance.state) == ("say", "success")
        assert "the word is mirror" in client.log(instance)


def test_an_unknown_dag_is_named_with_the_servers_reason(services: Services) -> None:
    with services.client() as client, pytest.raises(ServiceError, match=r"dags/nosuch/.*as admin: status 404"):
        client.trigger("nosuch", "run-1")


def test_a_viewer_may_look_but_not_trigger(services: Services) -> None:
    with services.client("admin") as admin:
        admin.wait_for_dag("tiny")
    with services.client("viewer") as viewer:
        assert "tiny" in viewer.dags()
        with pytest.raises(ServiceError, match="as viewer: status 403"):
            viewer.trigger("tiny", "run-by-viewer", {"word": "x"})


def test_a_wrong_password_is_named(services: Services) -> None:
    with AirflowClient(services.airflow.url, "admin", "wrong") as client:  # noqa: SIM117
        with pytest.raises(ServiceError, match="does not accept the password of user admin"):
            client.dags()


def test_no_process_has_a_secret_in_its_environment(services: Services) -> None:
    secrets = [*services.postgres.secrets.read().values()]
    secrets += json.loads(services.airflow.folders.passwords.read_text()).values()
    environments = [process.environ() for process in processes_of(services.home)]
    assert len(environments) >= 5
    leaks = {k for env in environments for k, v in env.items() if any(secret in v for secret in secrets)}
    assert leaks == set()
    assert services.airflow.folders.passwords.stat().st_mode & 0o777 == 0o600
    assert any(env.get("LSTOPS_PROBE") == "seen" for env in environments)


def test_a_killed_scheduler_is_started_again_without_orphans(services: Services) -> None:
    daemon = services.airflow.daemon("scheduler")
    process = daemon.running()
    assert process is not None
    workers = set(process.children(recursive=True))
    process.kill()
    process.wait(120)
    assert not services.status().healthy
    services.start()
    healthy(services)
    assert not any(alive(worker) for worker in workers)


def test_all_restart_after_their_database_was_killed(services: Services) -> None:
    before = pids(services.status())
    url = services.postgres.url("airflow")
    pid = services.postgres.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    psutil.Process(pid).wait(120)
    services.start()
    assert not set(before.values()) & set(pids(healthy(services)).values()), "none goes on with broken connections"
    assert services.postgres.url("airflow") == url


def test_stop_leaves_no_process_and_start_is_quick_afterwards(services: Services) -> None:
    leaders = [psutil.Process(component.pid) for component in services.status().components]
    everything = {*leaders, *(child for leader in leaders for child in leader.children(recursive=True))}
    assert len(everything) > len(leaders)
    assert services.stop() is True
    assert [process for process in everything if alive(process)] == []
    assert processes_of(services.home) == []
    assert services.stop() is False
    assert not services.status().healthy
    revision = (services.airflow.folders.airflow_home / "migrated.json").stat().st_mtime_ns
    url = services.airflow.url
    services.start()
    healthy(services)
    assert services.airflow.url == url
    assert (services.airflow.folders.airflow_home / "migrated.json").stat().st_mtime_ns == revision, "no new migration"
