"""A small client of Airflow's REST interface: what the demo and the tests need of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from lstops.embedded.errors import ServiceError

TERMINAL_RUN_STATES = frozenset({"success", "failed"})
#: task instances a page; Airflow's own limit is 100
PAGE = 100


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG."""

    dag_id: str
    run_id: str
    state: str
    conf: Mapping[str, Any]
    logical_date: datetime | None

    @property
    def finished(self) -> bool:
        """Whether the run has ended, well or badly."""
        return self.state in TERMINAL_RUN_STATES


@dataclass(frozen=True)
class TaskInstance:
    """One task instance of a run; `state` is None before the scheduler has looked at it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    state: str | None
    try_number: int
    start: datetime | None
    end: datetime | None


class AirflowClient:
    """A logged-in client.

    Parameters
    ----------
    url : str
        Address of the API server, without a path.
    user, password : str
        Whom to log in as.
    timeout_s : float
        Limit of one request in seconds.
    """

    def __init__(self, url: str, user: str, password: str, timeout_s: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self.user = user
        self._password = password
        self._token: str | None = None
        # no proxy: the services are on this machine
        self._http = httpx.Client(base_url=self.url, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> AirflowClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def token(self) -> str:
        """Return the access token, logging in when there is none."""
        if self._token is None:
            answer = self._send("POST", "/auth/token", json={"username": self.user, "password": self._password})
            if answer.status_code == httpx.codes.UNAUTHORIZED:
                raise ServiceError(
                    f"Airflow at {self.url} does not accept the password of user {self.user}.",
                    "Take it from airflow/passwords.json below the home folder of the services.",
                )
            self._token = str(self._json(answer)["access_token"])
        return self._token

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request below ``/api/v2`` and return the decoded answer (None if it is empty).

        Raises
        ------
        ServiceError
            If the server cannot be reached or refuses; the message has the server's reason.
        """
        return self._json(self._authorized(method, path, **arguments))

    def unpause(self, dag_id: str, paused: bool = False) -> None:
        """Let the scheduler run a DAG (or not)."""
        self.request("PATCH", f"/dags/{_part(dag_id)}", json={"is_paused": paused})

    def is_paused(self, dag_id: str) -> bool:
        """Whether the scheduler leaves the runs of a DAG alone."""
        return bool(self.request("GET", f"/dags/{_part(dag_id)}")["is_paused"])

    def dags(self) -> list[str]:
        """Return the ids of all DAGs that the DAG processor has read."""
        return sorted(str(dag["dag_id"]) for dag in self._pages("/dags", "dags"))

    def import_errors(self) -> dict[str, str]:
        """Return the errors of DAG files that cannot be read, by file."""
        errors = self._pages("/importErrors", "import_errors")
        return {str(error["filename"]): str(error["stack_trace"]) for error in errors}

    def trigger(
        self,
        dag_id: str,
        run_id: str | None = None,
        conf: Mapping[str, Any] | None = None,
        partition_key: str | None = None,
    ) -> DagRun:
        """Start a run; where a run of this id exists already, that one is returned.

        Parameters
        ----------
        dag_id : str
            The DAG.
        run_id : str, optional
            Id of the run; without one Airflow makes it up and every call starts a new run.
        conf : mapping, optional
            Parameters of the run.
        partition_key : str, optional
            The partition (the night) that the run is about.
        """
        body: dict[str, Any] = {"logical_date": None, "conf": dict(conf or {})}
        if run_id is not None:
            body["dag_run_id"] = run_id
        if partition_key is not None:
            body["partition_key"] = partition_key
        answer = self._authorized("POST", f"/dags/{_part(dag_id)}/dagRuns", json=body)
        if answer.status_code == httpx.codes.CONFLICT and run_id is not None:
            return self.run(dag_id, run_id)
        return _dag_run(self._json(answer))

    def run(self, dag_id: str, run_id: str) -> DagRun:
        """Return a run with its present state."""
        return _dag_run(self.request("GET", f"/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}"))

    def runs(self, dag_id: str) -> list[DagRun]:
        """Return all runs of a DAG."""
        return [_dag_run(item) for item in self._pages(f"/dags/{_part(dag_id)}/dagRuns", "dag_runs")]

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return the task instances of a run, mapped ones one by one."""
        path = f"/dags/{_part(dag_id)}/dagRuns/{_part(run_id)}/taskInstances"
        return [_task_instance(item) for item in self._pages(path, "task_instances")]

    def log(self, instance: TaskInstance, try_number: int | None = None) -> str:
        """Return the log of a try of a task instance, one event a line."""
        path = (
            f"/dags/{_part(instance.dag_id)}/dagRuns/{_part(instance.run_id)}"
            f"/taskInstances/{_part(instance.task_id)}/logs/{try_number or max(instance.try_number, 1)}"
        )
        answer = self.request("GET", path, params={"map_index": instance.map_index, "full_content": True})
        content = answer["content"]
        if isinstance(content, str):
            return content
        return "\n".join(_log_line(event) for event in content)

    def clear(self, dag_id: str, run_id: str, task_ids: list[str] | None = None, only_failed: bool = False) -> None:
        """Let tasks of a run start again (all of them by default)."""
        body: dict[str, Any] = {"dry_run": False, "dag_run_id": run_id, "only_failed": only_failed}
        body["reset_dag_runs"] = True
        if task_ids is not None:
            body["task_ids"] = task_ids
        self.request("POST", f"/dags/{_part(dag_id)}/clearTaskInstances", json=body)

    def mark(self, instance: TaskInstance, state: str) -> None:
        """Set the state of a task instance by hand (``failed`` ends what it is doing)."""
        path = (
            f"/dags/{_part(instance.dag_id)}/dagRuns/{_part(instance.run_id)}/taskInstances/{_part(instance.task_id)}"
        )
        if instance.map_index >= 0:
            path += f"/{instance.map_index}"
        self.request("PATCH", path, json={"new_state": state})

    def wait_for_dag(self, dag_id: str, timeout_s: float = 300.0) -> None:
        """Wait until the DAG processor has read a DAG.

        Raises
        ------
        ServiceError
            If it has not in time; the message has the errors of the DAG files.
        """

        def known() -> bool:
            return self._authorized("GET", f"/dags/{_part(dag_id)}").status_code != httpx.codes.NOT_FOUND

        if not _until(known, timeout_s):
            raise ServiceError(
                f"Airflow does not know the DAG {dag_id} after {timeout_s:.0f} s; errors of files: "
                f"{self.import_errors() or 'none'}.",
                "Correct the DAG file, or look at dag-processor.log.",
            )

    def wait_for_run(self, dag_id: str, run_id: str, timeout_s: float = 600.0, interval_s: float = 1.0) -> DagRun:
        """Wait for the end of a run and return it.

        Raises
        ------
        ServiceError
            If it has not ended in time; the message has the states of its tasks.
        """
        if not _until(lambda: self.run(dag_id, run_id).finished, timeout_s, interval_s):
            states = {f"{t.task_id}[{t.map_index}]": t.state for t in self.task_instances(dag_id, run_id)}
            raise ServiceError(
                f"Run {run_id} of {dag_id} has not ended after {timeout_s:.0f} s; its tasks: {states}.",
                "Look at the logs of the tasks that run, or wait longer.",
            )
        return self.run(dag_id, run_id)

    def _authorized(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        for fresh in (False, True):
            if fresh:
                # the token expired, or the secrets were made anew
                self._token = None
            headers = {"Authorization": f"Bearer {self.token()}"}
            answer = self._send(method, f"/api/v2{path}", headers=headers, **arguments)
            if answer.status_code != httpx.codes.UNAUTHORIZED:
                break
        return answer

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise ServiceError(
                f"Airflow at {self.url} does not answer ({type(error).__name__}: {error}).",
                "Start it (lstops services start) or look at api-server.log.",
            ) from error

    def _json(self, answer: httpx.Response) -> Any:
        if answer.is_success:
            return answer.json() if answer.content else None
        request = answer.request
        raise ServiceError(
            f"{request.method} {request.url.path} as {self.user}: status {answer.status_code}, {answer.text[:600]}",
            "Check the name of the DAG, run or task, and that the user's role allows it.",
        )

    def _pages(self, path: str, key: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        while True:
            page = self.request("GET", path, params={"limit": PAGE, "offset": len(items)})
            items += page[key]
            if not page[key] or len(items) >= int(page["total_entries"]):
                return items


def _until(condition: Callable[[], bool], timeout_s: float, interval_s: float = 0.5) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_s)
    return True


def _log_line(event: Any) -> str:
    """One event of a task's log, with the exceptions it tells of."""
    if not isinstance(event, dict):
        return str(event)
    errors = [f"{error.get('exc_type')}: {error.get('exc_value')}" for error in event.get("error_detail") or []]
    return "\n".join([str(event.get("event", event)), *errors])


def _part(name: str) -> str:
    return quote(name, safe="")


def _time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value.replace("Z", "+00:00")) if value else None


def _dag_run(data: Mapping[str, Any]) -> DagRun:
    return DagRun(
        dag_id=data["dag_id"],
        run_id=data["dag_run_id"],
        state=data["state"],
        conf=data.get("conf") or {},
        logical_date=_time(data.get("logical_date")),
    )


def _task_instance(data: Mapping[str, Any]) -> TaskInstance:
    return TaskInstance(
        dag_id=data["dag_id"],
        run_id=data["dag_run_id"],
        task_id=data["task_id"],
        map_index=int(data["map_index"]),
        state=data["state"],
        try_number=int(data["try_number"]),
        start=_time(data.get("start_date")),
        end=_time(data.get("end_date")),
    )
