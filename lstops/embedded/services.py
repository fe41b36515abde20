"""PostgreSQL and Airflow together, as ``lstops services`` and the tests start them."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lstops.embedded import pool
from lstops.embedded.airflow_env import AirflowFolders, read_passwords
from lstops.embedded.airflow_services import ComponentStatus, EmbeddedAirflow
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.embedded.rest import AirflowClient


@dataclass(frozen=True)
class ServicesStatus:
    """State of all embedded services.

    Parameters
    ----------
    components : tuple of ComponentStatus
        PostgreSQL first, then Airflow's four.
    url : str or None
        Address of the web page, None if it never ran.
    """

    components: tuple[ComponentStatus, ...]
    url: str | None

    @property
    def healthy(self) -> bool:
        """Whether everything runs and is well."""
        return all(component.pid is not None and component.healthy for component in self.components)


class Services:
    """The embedded PostgreSQL and Airflow below one home folder.

    Parameters
    ----------
    home : pathlib.Path
        The folder, for instance ``~/.lstops``; made when needed.
    folders : AirflowFolders, optional
        Other DAG and plugin folders than the repository's.
    extra_env : mapping of str to str, optional
        More environment for Airflow's processes and their tasks.
    """

    def __init__(
        self, home: Path, folders: AirflowFolders | None = None, extra_env: Mapping[str, str] | None = None
    ) -> None:
        self.home = home.expanduser().resolve()
        self.postgres = EmbeddedPostgres(self.home)
        self.airflow = EmbeddedAirflow(
            self.postgres, folders or AirflowFolders.of_repository(self.home), extra_env=extra_env
        )

    def start(self) -> ServicesStatus:
        """Start what does not run and wait until all is healthy."""
        with self._locked():
            if self.postgres.start():
                # processes that lost their database seem well for a while and then end one by one
                self.airflow.stop()
            self.airflow.start()
            with self.client("admin") as client:
                pool.ensure_pool(client, pool.slots_for(self.airflow.environment()))
        return self.status()

    def stop(self) -> bool:
        """Stop everything; returns False if nothing was running."""
        with self._locked():
            stopped = self.airflow.stop()
            return self.postgres.stop() or stopped

    def status(self) -> ServicesStatus:
        """Return the state of all services without changing anything."""
        if not self.home.exists() or self.postgres.ports.get("airflow-api") is None:
            return ServicesStatus((ComponentStatus("postgres", self.postgres.pid(), False),), None)
        pid = self.postgres.pid()
        postgres = ComponentStatus("postgres", pid, pid is not None)
        return ServicesStatus((postgres, *self.airflow.status()), self.airflow.url)

    def client(self, user: str = "admin") -> AirflowClient:
        """Return a REST client logged in as one of the generated users (admin, op, viewer)."""
        passwords = read_passwords(self.airflow.folders.passwords)
        return AirflowClient(self.airflow.url, user, passwords[user])

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Let only one process at a time start or stop the services of this home."""
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "services.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
