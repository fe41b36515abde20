"""The four Airflow processes: API server, scheduler, DAG processor, triggerer.

``airflow standalone`` would start them too, but leaves orphans when it is ended, so each one is a daemon of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lstops.embedded.airflow_env import (
    AirflowFolders,
    airflow_environment,
    ensure_airflow_secrets,
    interpreter_path,
)
from lstops.embedded.errors import ServiceError, log_tail
from lstops.embedded.ports import LOOPBACK
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.embedded.processes import Daemon

#: name -> arguments of the airflow command. Logs are on one disk, so nobody needs to serve them
COMPONENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
#: component -> its key in the answer of /api/v2/monitor/health; the API server answers itself
HEALTH_KEYS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}
#: 10 to 47 s were seen; a machine with two cores and a load of 15 needs minutes
HEALTHY_TIMEOUT_S = 420.0
MIGRATE_TIMEOUT_S = 600.0
#: the scheduler waits for its running tasks without an end; after this its session is ended
STOP_GRACE_S = 12.0


@dataclass(frozen=True)
class ComponentStatus:
    """State of one process.

    Parameters
    ----------
    name : str
        The component.
    pid : int or None
        Its process, None if it does not run.
    healthy : bool
        Whether Airflow's own health check says so.
    """

    name: str
    pid: int | None
    healthy: bool


class EmbeddedAirflow:
    """Airflow on the embedded PostgreSQL.

    Parameters
    ----------
    postgres : EmbeddedPostgres
        The database server; it has to run before `start`.
    folders : AirflowFolders
        Configuration, DAGs, plugins and where to write.
    extra_env : mapping of str to str, optional
        More environment for the processes and their tasks (the site file, for instance).
    """

    def __init__(
        self, postgres: EmbeddedPostgres, folders: AirflowFolders, extra_env: Mapping[str, str] | None = None
    ) -> None:
        self.postgres = postgres
        self.folders = folders
        self.extra_env = dict(extra_env or {})

    @property
    def url(self) -> str:
        """Address of the web page and of the REST interface."""
        port = self.postgres.ports.get("airflow-api")
        if port is None:
            raise ServiceError(f"No Airflow was ever started in {self.folders.home}.", "lstops services start")
        return f"http://{LOOPBACK}:{port}"

    def environment(self) -> dict[str, str]:
        """Return the environment of the processes, for commands that have to see the same Airflow."""
        port = self.postgres.ports.get("airflow-api") or self.postgres.ports.claim("airflow-api")
        env = airflow_environment(self.folders, port, self.postgres.secrets.path, os.environ, self.extra_env)
        return env | {"PATH": interpreter_path(env, sys.executable)}

    def prepare(self) -> None:
        """Make secrets and bring the database to this Airflow's version; cheap when that is done already."""
        self.folders.airflow_home.mkdir(parents=True, exist_ok=True)
        ensure_airflow_secrets(self.folders, self.postgres.secrets)
        if self._migrated():
            return
        self.run_cli(["db", "migrate"], timeout_s=MIGRATE_TIMEOUT_S)
        stamp = {"airflow": version("apache-airflow-core"), "revision": self._revision()}
        self._stamp_path.write_text(json.dumps(stamp) + "\n")

    def start(self, wait: bool = True) -> bool:
        """Start the processes that do not run, and wait until all are healthy.

        Parameters
        ----------
        wait : bool
            Whether to wait.

        Returns
        -------
        bool
            True if anything was started.

        Raises
        ------
        ServiceError
            If a process ends, or is not healthy in time; the message has the end of its log.
        """
        daemons = self._daemons()
        if not any(daemon.running() for daemon in daemons.values()):
            self.postgres.ports.claim("airflow-api")
        self.prepare()
        daemons = self._daemons()
        started = [daemon.start() for daemon in daemons.values()]
        if wait:
            self.wait_healthy()
        return any(started)

    def stop(self) -> bool:
        """End all processes and their children. Returns False if none was running."""
        # the scheduler first: it must not start tasks whose API server is gone
        order = ["scheduler", "triggerer", "dag-processor", "api-server"]
        if not self.folders.airflow_home.exists():
            return False
        daemons = self._daemons()
        for name in order:
            process = daemons[name].running()
            if process is not None:
                process.send_signal(signal.SIGTERM)
        return any([daemons[name].stop(grace_s=STOP_GRACE_S) for name in order])

    def restart_component(self, name: str) -> None:
        """Start one component again after it ended (fault tests kill them)."""
        self._daemons()[name].start()

    def daemon(self, name: str) -> Daemon:
        """Return one component's process."""
        return self._daemons()[name]

    def status(self) -> list[ComponentStatus]:
        """Return the state of the four processes."""
        health = self._health()
        result = []
        for name, daemon in self._daemons().items():
            process = daemon.running()
            result.append(ComponentStatus(name, process.pid if process else None, _is_healthy(name, health)))
        return result

    def wait_healthy(self, timeout_s: float = HEALTHY_TIMEOUT_S) -> None:
        """Wait until Airflow's health check is content with all four components.

        Raises
        ------
        ServiceError
            If one ends meanwhile or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        daemons = self._daemons()
        while True:
            for daemon in daemons.values():
                if not daemon.running():
                    raise daemon.died()
            health = self._health()
            waiting = [name for name in COMPONENTS if not _is_healthy(name, health)]
            if not waiting:
                return
            if time.monotonic() > deadline:
                logs = "\n".join(f"{n}: {log_tail(daemons[n].log_path, lines=5)}" for n in waiting)
                raise ServiceError(
                    f"Not healthy after {timeout_s:.0f} s: {', '.join(waiting)}.\n{logs}\n",
                    f"See the logs in {self.folders.airflow_home}; on a busy machine start again.",
                )
            time.sleep(0.5)

    def run_cli(self, arguments: Sequence[str], timeout_s: float = 120.0) -> str:
        """Run an ``airflow`` command in this environment and return what it printed.

        Raises
        ------
        ServiceError
            If it fails or takes too long.
        """
        argv = [sys.executable, "-m", "airflow", *arguments]
        try:
            done = subprocess.run(
                argv, env=self.environment(), capture_output=True, text=True, check=False, timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceError(
                f"airflow {' '.join(arguments)} took more than {timeout_s:.0f} s.", "Try again on a less busy machine."
            ) from error
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
            raise ServiceError(
                f"airflow {' '.join(arguments)} ended with status {done.returncode}:\n{tail}\n", "See its output above."
            )
        return done.stdout

    def _daemons(self) -> dict[str, Daemon]:
        env = self.environment()
        airflow = [sys.executable, "-m", "airflow"]
        return {
            name: Daemon(name, [*airflow, *arguments], self.folders.airflow_home, env)
            for name, arguments in COMPONENTS.items()
        }

    @property
    def _stamp_path(self) -> Path:
        return self.folders.airflow_home / "migrated.json"

    def _migrated(self) -> bool:
        """Return True if the database has the revision that the last migration by this Airflow version left.

        Asking Airflow itself (``airflow db check-migrations``) costs as much as the migration.
        """
        try:
            stamp = json.loads(self._stamp_path.read_text())
        except (FileNotFoundError, ValueError):
            return False
        revision = self._revision()
        expected = {"airflow": version("apache-airflow-core"), "revision": revision}
        return revision is not None and bool(stamp == expected)

    def _revision(self) -> str | None:
        import contextlib

        import psycopg2

        url = self.postgres.url("airflow", driver="postgresql")
        with contextlib.closing(psycopg2.connect(url, connect_timeout=5)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('alembic_version')")
            if cursor.fetchone() in (None, (None,)):
                return None
            cursor.execute("SELECT version_num FROM alembic_version")
            row = cursor.fetchone()
            return str(row[0]) if row else None

    def _health(self) -> dict[str, Any]:
        return _health(self.url)


def component_healthy(api_url: str, name: str) -> bool:
    """Return whether the API server at an address says that a component is well."""
    return _is_healthy(name, _health(api_url))


def _health(api_url: str) -> dict[str, Any]:
    import httpx

    try:
        answer = httpx.get(f"{api_url}/api/v2/monitor/health", timeout=5.0, trust_env=False)
        return dict(answer.json()) if answer.is_success else {}
    except (httpx.TransportError, ValueError):
        # not up yet; whether it still runs is asked apart
        return {}


def _is_healthy(name: str, health: Mapping[str, Any]) -> bool:
    key = HEALTH_KEYS.get(name, "metadatabase")
    part = health.get(key)
    return isinstance(part, dict) and part.get("status") == "healthy"
