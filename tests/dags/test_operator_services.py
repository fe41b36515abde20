"""The operator in a real Airflow (scheduler, triggerer, API server, PostgreSQL) over the local scheduler."""

from __future__ import annotations

import json
import os
import re
import signal
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster.toy import local_cluster, make_site, one_stage, shell, toy_plan, toy_step

from lstops.cluster.client import ClusterClient, open_client
from lstops.cluster.records import Owner, all_records
from lstops.cluster.stage import prepare, submit, wanted_resources
from lstops.embedded.airflow_env import AirflowFolders
from lstops.embedded.errors import ServiceError
from lstops.embedded.rest import AirflowClient, TaskInstance
from lstops.embedded.services import Services
from lstops.night import Night
from lstops.site.layout import Layout
from lstops.site.model import Site, load_site
from lstops.step.model import ArtifactKind, Input, Plan, Stage, Step

# every wait is for a condition; the limits only end what hangs, on a machine many times slower than this one's like
pytestmark = pytest.mark.timeout(900)

DAG = textwrap.dedent(
    '''
    """One stage of the plan that the run names; in the second DAG the worker itself waits."""
    from datetime import timedelta

    from airflow.sdk import DAG

    from lstops.airflow.notifier import FailureNotifier
    from lstops.airflow.operator import PlanStageOperator

    with DAG("stage", schedule=None, default_args={"on_failure_callback": FailureNotifier("SITE")}):
        PlanStageOperator(
            task_id="one", plan_id="{{ dag_run.conf['plan_id'] }}", stage="one", site="SITE", wait_s=0, retries=1
        )

    with DAG("patient", schedule=None):
        PlanStageOperator(
            task_id="one",
            plan_id="{{ dag_run.conf['plan_id'] }}",
            stage="one",
            site="SITE",
            wait_s=3000,
            retries=2,
            retry_delay=timedelta(seconds=1),
        )
    '''
)

APPROVAL = textwrap.dedent(
    """
    from airflow.sdk import DAG, task

    from lstops.airflow.approval import CostApproval

    with DAG("approval", schedule=None, default_args={"retries": 1}):

        @task
        def preview(**context):
            needed = context["dag_run"].conf["needed"]
            return {"title": "toy: 5000 CPU hours", "text": "| stage | CPU (h) |", "needed": needed}

        @task
        def compute():
            print("computed")

        @task
        def register():
            print("registered")

        def price(name):
            return "{{ ti.xcom_pull(task_ids='preview')['" + name + "'] }}"

        approve = CostApproval(task_id="approve", subject=price("title"), body=price("text"), needed=price("needed"))
        preview() >> approve >> compute() >> register()
    """
)


LINES = textwrap.dedent(
    """
    from airflow.sdk import DAG, task

    from lstops.airflow.declaring import AFTER_HOLES, line_stages
    from lstops.airflow.notifier import FailureNotifier

    with DAG("lines", schedule=None, default_args={"on_failure_callback": FailureNotifier("SITE")}):

        @task
        def lines(**context):
            return context["dag_run"].conf["lines"]

        @task(trigger_rule=AFTER_HOLES)
        def register():
            print("reached the end")

        line_stages("{{ dag_run.conf['plan_id'] }}", lines(), ("dl1ab", "train", "dl2")) >> register()
    """
)


@dataclass
class World:
    """A running Airflow with a site."""

    services: Services
    airflow: AirflowClient
    site: Site
    site_file: Path
    client: ClusterClient

    def start(self, name: str, script: str, number: int, dag: str = "stage") -> str:
        """Start a run of a plan of one step, which has an hour."""
        step = toy_step(number, shell(script), time_min=60)
        plan = toy_plan(self.site, Stage(name="one", steps=(step,)))
        self.airflow.trigger(dag, name, {"plan_id": plan.plan_id})
        return name

    def task(self, run: str) -> TaskInstance:
        return self.airflow.task_instances("stage", run)[0]

    def until(self, condition: Callable[[], Any], timeout_s: float = 300.0) -> Any:
        end = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < end, "it does not happen"
            time.sleep(0.5)
        return found

    def deferred(self, run: str) -> str:
        """Wait until the triggerer waits for a run's job, and has looked at it; returns the job.

        The state alone says less: what a person does before the triggerer has taken a wait up reaches no trigger.
        """
        self.until(lambda: self.task(run).state == "deferred")
        found = self.until(lambda: re.search(r"job (\d+): \d+ (?:running|waiting)", self.airflow.log(self.task(run))))
        return str(found[1])

    def ended(self, run: str) -> str:
        return str(self.until(lambda: (s := self.airflow.run("stage", run)).finished and s.state))

    def jobs(self, run: str) -> list[str]:
        """Jobs that were submitted for a run."""
        records = all_records(Layout(self.site.base, self.site.work))
        return [record.job for record in records if record.owner and record.owner.run_id == run and record.job]

    def states(self, job: str) -> list[str]:
        return [row.state for row in self.client.account(job) if not row.task.step]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    site_file = make_site(folder, local_cluster(slots=4, poll_s=1.0))
    home = folder / "home"
    for name in ("dags", "plugins"):
        (home / name).mkdir(parents=True)
    (home / "dags" / "stage.py").write_text(DAG.replace("SITE", str(site_file)))
    (home / "dags" / "approval.py").write_text(APPROVAL)
    (home / "dags" / "lines.py").write_text(LINES.replace("SITE", str(site_file)))
    (home / "dags" / "orphans.py").write_text((repository / "dags" / "orphans.py").read_text())
    (home / "plugins" / "lstops_plugin.py").write_text((repository / "plugins" / "lstops_plugin.py").read_text())
    services = Services(
        home,
        AirflowFolders(home, repository / "airflow.cfg", home / "dags", home / "plugins"),
        {"LSTOPS_SITE": str(site_file), "LSTOPS_ORPHANS_SCHEDULE": ""},
    )
    site = load_site(site_file)
    try:
        services.start()
        airflow = services.client("admin")
        for dag in ("stage", "patient", "orphans", "approval", "lines"):
            airflow.wait_for_dag(dag)
            airflow.unpause(dag)
        yield World(services, airflow, site, site_file, open_client(site))
        airflow.close()
    finally:
        services.stop()


def test_several_runs_wait_at_once_and_none_is_falsely_failed(world: World) -> None:
    runs = [world.start(f"several-{n}", "sleep 1; $COPY", n) for n in range(4)]
    assert [world.ended(run) for run in runs] == ["success"] * 4
    # an event right after the deferral can cost a try (see SETTLE_S), never a second job
    assert all(world.task(run).try_number <= 2 for run in runs)
    assert [len(world.jobs(run)) for run in runs] == [1] * 4
    assert (world.site.base / "out/3.txt").read_text() == "hello\n"
    log = world.airflow.log(world.task(runs[0]))
    assert "0 of 1 steps are up to date, 1 to do" in log
    assert "1 of 1 done" in log


def test_a_task_marked_failed_cancels_its_job(world: World) -> None:
    run = world.start("marked", "sleep 3000", 10)
    job = world.deferred(run)
    world.airflow.mark(world.task(run), "failed")
    world.until(lambda: world.states(job) == [f"CANCELLED by {os.getuid()}"])
    assert world.ended(run) == "failed"


def test_a_cleared_task_cancels_its_job_and_starts_another(world: World) -> None:
    script = 'cd "$(dirname "$0")"; test -e flag || { touch begun; sleep 3000; }; $COPY'
    run = world.start("cleared", script, 20)
    job = world.deferred(run)
    world.until((world.site.base / "begun").exists)
    (world.site.base / "flag").touch()
    world.airflow.clear("stage", run)
    world.until(lambda: world.states(job) == [f"CANCELLED by {os.getuid()}"])
    assert world.ended(run) == "success"
    assert (world.site.base / "out/20.txt").exists()
    assert world.states(job) == [f"CANCELLED by {os.getuid()}"]


def test_a_killed_triggerer_cancels_nothing_and_the_wait_goes_on(world: World) -> None:
    run = world.start("killed", "sleep 40; $COPY", 30)
    job = world.deferred(run)
    pid = next(c.pid for c in world.services.status().components if c.name == "triggerer")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    world.services.start()
    assert world.ended(run) == "success"
    assert world.states(job) == ["COMPLETED"]
    assert world.jobs(run) == [job]


def test_a_deleted_run_cancels_its_job(world: World) -> None:
    """Airflow deletes no run that is under way: it is marked failed first."""
    run = world.start("deleted", "sleep 3000", 35)
    job = world.deferred(run)
    path = f"/dags/stage/dagRuns/{run}"
    with pytest.raises(ServiceError, match="cannot be deleted in running state"):
        world.airflow.request("DELETE", path)
    assert world.states(job) == ["RUNNING"]
    world.airflow.request("PATCH", path, json={"state": "failed"})
    world.airflow.request("DELETE", path)
    world.until(lambda: world.states(job) == [f"CANCELLED by {os.getuid()}"])


def test_a_killed_scheduler_and_api_server_lose_nothing(world: World) -> None:
    run = world.start("headless", "sleep 30; $COPY", 36)
    job = world.deferred(run)
    for component in world.services.status().components:
        if component.name in ("scheduler", "api-server"):
            assert component.pid is not None
            os.kill(component.pid, signal.SIGKILL)
    # the job ends meanwhile, and half a minute passes
    time.sleep(30)
    world.until(lambda: world.states(job) == ["COMPLETED"])
    world.services.start()
    assert world.ended(run) == "success"
    assert world.jobs(run) == [job]


def test_a_lost_database_loses_and_doubles_nothing(world: World) -> None:
    """PostgreSQL is killed while the triggerer waits for one job and a worker for another; both end meanwhile."""
    script = 'until test -e "$(dirname "$0")/{flag}"; do sleep 0.3; done; $COPY'
    deferred = world.start("no-database", script.format(flag="now"), 41)
    patient = world.start("no-database", script.format(flag="now"), 42, "patient")
    world.deferred(deferred)
    world.until(lambda: len(jobs := world.jobs(deferred)) == 2 and jobs)
    jobs = sorted(world.jobs(deferred))
    world.until(lambda: [world.states(job) for job in jobs] == [["RUNNING"]] * 2)
    pid = world.services.postgres.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    (world.site.base / "now").touch()
    world.until(lambda: [world.states(job) for job in jobs] == [["COMPLETED"]] * 2)
    # long enough for processes to notice and to give up
    time.sleep(30)
    world.services.start()
    for dag, run in (("stage", deferred), ("patient", patient)):
        world.until(lambda dag=dag, run=run: world.airflow.run(dag, run).finished)
        assert world.airflow.run(dag, run).state == "success"
    assert sorted(world.jobs(deferred)) == jobs


def test_a_killed_worker_loses_and_doubles_nothing(world: World) -> None:
    script = 'until test -e "$(dirname "$0")/go"; do sleep 0.3; done; $COPY'
    run = world.start("orphaned", script, 39, "patient")

    def first() -> TaskInstance:
        return world.airflow.task_instances("patient", run)[0]

    job = world.until(lambda: next(iter(world.jobs(run)), ""))
    world.until(lambda: world.states(job) == ["RUNNING"])
    path = f"/dags/patient/dagRuns/{run}/taskInstances/one"
    os.kill(world.until(lambda: world.airflow.request("GET", path)["pid"]), signal.SIGKILL)
    world.until(lambda: first().try_number == 2 and first().state == "running")
    (world.site.base / "go").touch()
    world.until(lambda: world.airflow.run("patient", run).finished)
    assert first().state == "success", world.airflow.log(first())
    assert world.jobs(run) == [job]
    assert world.states(job) == ["COMPLETED"]


def test_what_nobody_waits_for_is_cancelled(world: World) -> None:
    """A worker that died with its database row, as after the metadata database was restored from an old copy."""
    waiting = world.start("waiting", "sleep 3000", 37)
    kept = world.deferred(waiting)
    context = one_stage(world.site_file, [toy_step(38, shell("sleep 3000"))])
    owner = Owner(dag_id="stage", run_id="never", task_id="one")
    resources = wanted_resources(context, (0,))
    record = prepare(context, "lstops-" + "d" * 20, (0,), resources, {}, owner=owner)
    record, _ = submit(context, world.client, record)
    world.airflow.trigger("orphans", "now", {})
    world.airflow.wait_for_run("orphans", "now")
    (orphans,) = world.airflow.task_instances("orphans", "now")
    assert orphans.state == "success"
    world.until(lambda: world.states(record.job) == [f"CANCELLED by {os.getuid()}"])
    assert world.states(kept) == ["RUNNING"]
    log = world.airflow.log(orphans)
    assert f"cancelled job {record.job} ({record.name}" in log
    assert "its task stage.one of never is not there any more" in log
    world.airflow.mark(world.task(waiting), "failed")
    world.until(lambda: world.states(kept) == [f"CANCELLED by {os.getuid()}"])


def scheduler_has_seen(world: World, *words: str) -> bool:
    """Whether it has read the state of a task whose process has ended."""
    log = (world.services.home / "airflow/scheduler.log").read_text()
    return any("TaskInstance Finished:" in line and all(word in line for word in words) for line in log.splitlines())


def approval_states(world: World, run: str) -> dict[str, str | None]:
    return {task.task_id: task.state for task in world.airflow.task_instances("approval", run)}


def test_what_is_cheap_needs_nobody(world: World) -> None:
    world.airflow.trigger("approval", "cheap", {"needed": "no"})
    assert world.airflow.wait_for_run("approval", "cheap").state == "success"
    assert set(approval_states(world, "cheap").values()) == {"success"}


@pytest.mark.parametrize(("answer", "then"), [("Approve", "success"), ("Reject", "skipped")])
def test_a_person_is_asked_with_the_price(world: World, answer: str, then: str) -> None:
    world.airflow.trigger("approval", answer, {"needed": "yes"})
    world.until(lambda: approval_states(world, answer)["approve"] == "awaiting_input")
    path = f"/dags/approval/dagRuns/{answer}/taskInstances/approve/-1/hitlDetails"
    asked = world.airflow.request("GET", path)
    assert (asked["subject"], asked["body"]) == ("toy: 5000 CPU hours", "| stage | CPU (h) |")
    assert approval_states(world, answer)["compute"] is None, "nothing is computed before the answer"

    # Airflow forgets an answer that comes before its scheduler has seen that the task waits, and asks again
    world.until(lambda: scheduler_has_seen(world, f"task_id=approve, run_id={answer},", "state=awaiting_input,"))
    world.airflow.request("PATCH", path, json={"chosen_options": [answer], "params_input": {}})
    world.until(lambda: world.airflow.run("approval", answer).finished)
    assert world.airflow.run("approval", answer).state == "success"
    states = approval_states(world, answer)
    assert (states["compute"], states["register"]) == (then, then)


def two_lines(world: World) -> Plan:
    """A stage of two nodes a line, one of which always fails; what both need waits for the file `go`."""

    def step(number: int, branch: str, script: str, *reads: int) -> Step:
        made = toy_step(number, shell(script), f"out/{reads[0]}.txt" if reads else "in.txt")
        more = (Input(name=f"more{n}", kind=ArtifactKind.FILE, path=f"out/{n}.txt") for n in reads[1:])
        return made.model_copy(update={"branch": branch, "inputs": (*made.inputs, *more)})

    slow = 'until test -e "$(dirname "$0")/go-on"; do sleep 0.3; done; $COPY'
    first = [step(50, "a", "exit 5"), step(51, "a", "$COPY"), step(52, "b", "$COPY"), step(53, "common", slow)]
    train = [step(60, "a", "$COPY", 50, 51), step(61, "b", "$COPY", 52)]
    last = [step(70, "a", "$COPY", 60, 53), step(71, "b", "$COPY", 61, 53)]
    stages = {"dl1ab": first, "train": train, "dl2": last}
    return toy_plan(world.site, *(Stage(name=name, steps=tuple(steps)) for name, steps in stages.items()))


def test_a_line_waits_for_its_own_inputs_and_a_hole_in_it_stops_no_other(world: World) -> None:
    plan = two_lines(world)
    world.airflow.trigger("lines", "two", {"plan_id": plan.plan_id, "lines": ["a", "b"]})

    def tasks() -> dict[str, TaskInstance]:
        found = world.airflow.task_instances("lines", "two")
        return {task.task_id + (f" {'ab'[task.map_index]}" if task.map_index >= 0 else ""): task for task in found}

    def state(name: str) -> str | None:
        return tasks()[name].state if name in tasks() else None

    # the test data of both are still being made
    world.until(lambda: state("line.train b") == "success")
    world.until(lambda: state("line.train a") == "failed")
    assert state("common.dl1ab") not in ("success", "failed")
    (world.site.base / "go-on").touch()
    assert world.until(lambda: (run := world.airflow.run("lines", "two")).finished and run).state == "success"
    states = {name: task.state for name, task in tasks().items()}
    assert states == {
        "lines": "success",
        "common.dl1ab": "success",
        "line.dl1ab a": "failed",
        "line.train a": "failed",
        "line.dl2 a": "failed",
        "line.dl1ab b": "success",
        "line.train b": "success",
        "line.dl2 b": "success",
        "register": "success",
    }
    assert (world.site.base / "out/51.txt").exists(), "the other node of the line is made"
    assert (world.site.base / "out/71.txt").exists()
    logs = {name: world.airflow.log(tasks()[f"line.{name} a"]) for name in ("dl1ab", "train", "dl2")}
    assert "1 of 2 steps of stage dl1ab of a are beyond help" in logs["dl1ab"]
    assert "1 of 1 steps of stage train of a wait for steps of earlier stages" in logs["train"]
    assert "out/50.txt is not finished" in logs["train"]
    # what only waits is no news
    assert ["LST-1: lines, line." in log for log in logs.values()] == [True, False, False]


def test_nothing_runs_where_nothing_was_begun(world: World) -> None:
    world.airflow.trigger("lines", "none", {"plan_id": "toy-0", "lines": None})
    assert world.airflow.wait_for_run("lines", "none").state == "failed"
    states = {task.task_id: task.state for task in world.airflow.task_instances("lines", "none")}
    assert states.pop("lines") == "failed"
    assert set(states.values()) == {"upstream_failed"}, states


def test_a_job_cancelled_by_somebody_else_stops_the_task(world: World) -> None:
    run = world.start("stopped", "sleep 3000", 40)
    job = world.deferred(run)
    world.client.cancel(job)
    assert world.ended(run) == "failed"
    assert world.jobs(run) == [job]
    log = world.airflow.log(world.task(run))
    assert "was cancelled by user" in log
    assert log.count("LST-1: stage, one failed") == 1


def test_reports_are_behind_the_login(world: World) -> None:
    layout = Layout(world.site.base, world.site.work)
    report = layout.absolute(layout.night_report(Night.parse("20240115")))
    report.parent.mkdir(parents=True)
    report.write_text("<p>the night</p>")
    address = f"{world.airflow.url}/lstops/reports/20240115"
    assert httpx.get(address, trust_env=False).status_code == 401
    allowed = httpx.get(address, headers={"Authorization": f"Bearer {world.airflow.token()}"}, trust_env=False)
    assert (allowed.status_code, allowed.text) == (200, "<p>the night</p>")
    views = [
        view for plugin in world.airflow.request("GET", "/plugins")["plugins"] for view in plugin["external_views"]
    ]
    assert [view["href"] for view in views] == ["/lstops/reports"]


def test_nothing_of_ours_is_left_in_the_queue(world: World) -> None:
    active = [row for row in world.client.queue_rows() if row.state_class.active]
    assert active == [], json.dumps([str(row) for row in active])
