"""The operator over the local scheduler: what it returns, what it runs again, and how it fails."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from cluster import drive_operator
from cluster.toy import COPY, local_cluster, make_site, shell, toy_plan, toy_step, wait_end

from lstops.cluster.client import open_client
from lstops.cluster.records import JobRecord, jobs_dir
from lstops.site.layout import Layout
from lstops.site.model import Site, load_site
from lstops.step.model import Stage, Step

pytestmark = pytest.mark.timeout(900)


class Toy:
    """A site with a local scheduler."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.site_file = make_site(folder, local_cluster(slots=4))
        self.site: Site = load_site(self.site_file)
        self.plan_id = ""

    def plan(self, *steps: Step, quarantine: bool = False) -> None:
        self.plan_id = toy_plan(self.site, Stage(name="one", steps=steps, quarantine=quarantine)).plan_id

    def run(self, run_id: str = "run", **changes: Any) -> tuple[int, str]:
        """Execute the operator in a process of its own; returns exit status and output."""
        output = self.folder / "output"
        run = {"site": str(self.site_file), "plan_id": self.plan_id, "run_id": run_id, "kill_at": None}
        run |= {"store": str(self.folder / f"{run_id}.json"), "output": str(output), **changes}
        return drive_operator.drive([run])[0], output.read_text()

    def result(self, run_id: str = "run") -> dict[str, Any]:
        status, said = self.run(run_id)
        assert status == 0, said
        found: dict[str, Any] = json.loads(said.splitlines()[-1])["result"]
        return found

    @property
    def records(self) -> list[JobRecord]:
        folder = jobs_dir(Layout(self.site.base, self.site.work), self.plan_id)
        found = [JobRecord.model_validate_json(path.read_bytes()) for path in folder.glob("*.json")]
        return sorted(found, key=lambda record: record.submitted)

    def product(self, number: int) -> Path:
        return self.site.base / f"out/{number}.txt"


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def test_a_night_goes_on_without_its_broken_run(toy: Toy) -> None:
    steps = (toy_step(1), toy_step(2, shell("echo why it broke; exit 4")), toy_step(3, reads="missing.txt"))
    toy.plan(*steps, quarantine=True)
    found = toy.result()
    assert (found["done"], found["computed"], len(found["jobs"])) == ([0], 1, 1)
    broken, blocked = found["quarantined"]
    assert (broken["index"], broken["subject"], broken["cause"]) == (1, "run 2", "permanent")
    assert broken["what"] == "/bin/sh ended with exit status 4: why it broke."
    assert Path(broken["log"]).read_text()
    assert (blocked["subject"], blocked["cause"]) == ("run 3", "blocked")
    assert "missing.txt does not exist" in blocked["what"]
    assert toy.product(1).read_text() == "hello\n"


def test_a_production_fails_with_the_list(toy: Toy) -> None:
    toy.plan(toy_step(1), toy_step(2, shell("exit 4")), toy_step(3, reads="missing.txt"))
    status, said = toy.run()
    assert status == 1
    assert "AirflowFailException: 2 of 3 steps of stage one are beyond help" in said
    assert "copy 2 (run 2): /bin/sh ended with exit status 4. Remedy: read the end of" in said
    assert "copy 3 (run 3): missing.txt does not exist. Remedy: provide the input" in said
    # what works is done nevertheless
    assert toy.product(1).exists()


def test_only_the_step_that_ran_out_of_memory_runs_again_and_gets_more(toy: Toy) -> None:
    hog = f"{sys.executable} -c 'import time; x = bytearray(250 << 20); time.sleep(1.5)' && $COPY"
    toy.plan(toy_step(1, mem_mb=250), toy_step(2, shell(hog), mem_mb=250), toy_step(3, mem_mb=250))
    found = toy.result()
    assert (found["done"], found["quarantined"]) == ([0, 1, 2], [])
    first, second = toy.records
    assert (first.indices, second.indices) == ((0, 1, 2), (1,))
    assert first.outcomes == {0: "done", 1: "again: memory", 2: "done"}
    assert second.resources.mem_mb >= 400
    assert second.tries == {1: 2}


def test_nothing_to_do_costs_nothing(toy: Toy) -> None:
    toy.plan(toy_step(1), toy_step(2))
    assert toy.result()["computed"] == 2
    found = toy.result("another")
    assert (found["done"], found["computed"], found["jobs"]) == ([0, 1], 0, [])
    assert len(toy.records) == 1


def test_a_repaired_input_is_all_that_runs(toy: Toy) -> None:
    toy.plan(toy_step(1), toy_step(2, reads="late.txt"), quarantine=True)
    assert [trouble["cause"] for trouble in toy.result()["quarantined"]] == ["blocked"]
    (toy.site.base / "late.txt").write_text("late\n")
    # the same task, cleared: the same store
    found = toy.result()
    assert (found["done"], found["computed"], found["quarantined"]) == ([0, 1], 1, [])
    assert toy.records[-1].indices == (1,)
    assert toy.product(2).read_text() == "late\n"


def test_a_cleared_task_tries_a_broken_step_again(toy: Toy) -> None:
    toy.plan(toy_step(1, shell('test -e "$(dirname "$0")/repaired" && $COPY')), toy_step(2, COPY))
    assert toy.run()[0] == 1
    (toy.site.base / "repaired").touch()
    found = toy.result()
    assert found["done"] == [0, 1]
    assert [record.indices for record in toy.records] == [(0, 1), (0,)]


def test_a_plan_that_is_not_there(toy: Toy) -> None:
    toy.plan(toy_step(1))
    status, said = toy.run(plan_id="toy-0000000000000000")
    assert status == 1
    assert "ConfigError: cannot read the plan" in said


def test_a_damaged_record_is_not_guessed_at(toy: Toy) -> None:
    toy.plan(toy_step(1))
    status, _ = toy.run(kill_at=4)
    assert status == -9
    record = next(jobs_dir(Layout(toy.site.base, toy.site.work), toy.plan_id).glob("*.json"))
    record.write_text("{")
    status, said = toy.run()
    assert status == 1
    assert f"{record} is damaged" in said
    assert "then remove the file and clear the task" in said


def test_a_task_that_is_failed_while_it_submits_leaves_no_job(toy: Toy) -> None:
    toy.plan(toy_step(1, shell('test -e "$(dirname "$0")/second" || sleep 3000; $COPY'), time_min=60))
    status, said = toy.run(killed_while_submitting=True)
    assert status == 1
    assert "failed or cleared while it submitted" in said
    client = open_client(toy.site)
    (first,) = toy.records
    wait_end(client, first.job, 300)
    assert {row.state for row in client.account(first.job) if not row.task.step} == {f"CANCELLED by {os.getuid()}"}
    client.close()
    # cleared, it does not take our own scancel for a stranger's
    (toy.site.base / "second").touch()
    assert toy.result()["done"] == [0]
    assert [record.indices for record in toy.records] == [(0,), (0,)]


def test_tries_are_bounded_also_where_only_a_part_of_a_round_finds_room(toy: Toy) -> None:
    """The scheduler takes no array of two any more when both steps are tried again."""
    killer = shell("kill -9 $(ps -o ppid= -p $$) $$")
    toy.plan(toy_step(0, killer), toy_step(1, killer))
    status, said = toy.run(later_arrays_are_refused=True)
    assert status == 1
    assert "2 of 2 steps of stage one are beyond help" in said
    assert [record.indices for record in toy.records if record.job] == [(0, 1), (0,), (1,)]
    assert toy.records[-1].tries == {1: 2}


def test_a_retry_submits_nothing_that_somebody_cancelled(toy: Toy) -> None:
    """The attempt that waited has died before it could judge the end."""
    toy.plan(toy_step(1, shell('test -e "$(dirname "$0")/second" || sleep 3000; $COPY'), time_min=60))
    assert "TaskDeferred" in toy.run(wait_s=0.0)[1]
    (record,) = toy.records
    client = open_client(toy.site)
    client.cancel(record.job)
    wait_end(client, record.job, 300)
    client.close()
    status, said = toy.run()
    assert status == 1
    assert f"job {record.job} of stage one: the job was cancelled by user" in said
    assert [one.job for one in toy.records] == [record.job]
    # it is told; who clears the task now wants it done
    (toy.site.base / "second").touch()
    assert toy.result()["done"] == [0]
