"""The DAG files: they load, they are light, and every task can be tried again."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

#: what must not be imported when the scheduler or a worker reads a DAG or plugin file
HEAVY = ("numpy", "astropy", "tables", "h5py", "scipy", "sklearn", "matplotlib", "lstchain", "pandas", "paramiko")

STAGES = {
    "audit": ["files"],
    "orphans": ["cancel"],
    "nightly": ["wait_closed", "ingest", "judge", "measure", "nsb", "match", "dl2", "dl3", "collect", "index", "check",
                "publish", "report"],
    "reduction": ["measure", "nsb", "match", "dl2", "dl3", "collect", "index", "check", "publish"],
    "reprocessing": ["prepare", "approve", "night", "compare"],
    "mc_production": ["prepare", "nsb", "plan", "preview", "approve", "tune", "lines",
                      "common.r0_to_dl1", "common.dl1ab", "common.split", "common.merge",
                      "line.r0_to_dl1", "line.dl1ab", "line.split", "line.merge", "line.train", "line.dl2", "line.irf",
                      "line.sensitivity", "line.report", "register"],
    "rf_training": ["plan", "preview", "approve", "tune", "lines", "line.train", "line.dl2", "line.irf", "line.report",
                    "register"],
}  # fmt: skip

LOOK = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
before = set(sys.modules)
bag = DagBag(sys.argv[1])
heavy = [n for n in json.loads(sys.argv[2]) if n in set(sys.modules) - before]
dags = {
    dag.dag_id: {
        "tasks": {t.task_id: {
            "retries": t.retries,
            "up": sorted(t.upstream_task_ids),
            "rule": str(t.trigger_rule.value),
            "mapped": t.get_closest_mapped_task_group() is not None,
            "told": sorted({type(f).__name__ for f in [*t.on_failure_callback, *t.on_success_callback]}),
        } for t in dag.tasks},
        "order": [t.task_id for t in dag.topological_sort()],
        "doc": dag.doc_md or "",
        "params": {name: dag.params.get_param(name).description or "" for name in dag.params},
    }
    for dag in bag.dags.values()
}
print(json.dumps({"errors": bag.import_errors, "heavy": heavy, "dags": dags}))
"""


@pytest.fixture(scope="module")
def bag(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("airflow")
    environ = {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    }
    command = [sys.executable, "-c", LOOK, str(repository / "dags"), json.dumps(HEAVY)]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_all_files_load(bag: dict[str, Any], repository: Path) -> None:
    assert bag["errors"] == {}
    assert sorted(bag["dags"]) == sorted(p.stem for p in (repository / "dags").glob("*.py"))


def test_nothing_heavy_is_imported(bag: dict[str, Any]) -> None:
    assert bag["heavy"] == []


@pytest.mark.parametrize("dag", sorted(STAGES))
def test_tasks_in_order(bag: dict[str, Any], dag: str) -> None:
    assert bag["dags"][dag]["order"] == STAGES[dag]


def test_every_task_can_be_tried_again_and_every_parameter_is_explained(bag: dict[str, Any]) -> None:
    for dag in bag["dags"].values():
        assert dag["doc"]
        assert all(task["retries"] >= 1 for task in dag["tasks"].values())
        assert all(dag["params"].values())


@pytest.mark.parametrize("dag", ["mc_production", "rf_training"])
def test_stages_of_a_line_wait_for_that_line(bag: dict[str, Any], dag: str) -> None:
    tasks = bag["dags"][dag]["tasks"]
    up = {name: set(task["up"]) - {"lines"} for name, task in tasks.items()}
    line = [name for name in STAGES[dag] if name.startswith("line.")]
    common = [name for name in STAGES[dag] if name.startswith("common.")]
    # what does not wait for `lines` would run where nothing was ever begun, what waits for `plan` even if that is all
    assert all("lines" in tasks[name]["up"] for name in [*line, *common, "register"])
    assert all(up[one] == {other} for other, one in itertools.pairwise(line) if one != "line.dl2")
    assert up["line.dl2"] == {"line.train", *common[-1:]}
    assert up["register"] == {"line.report", *common[-1:]}
    rules = {tasks[name]["rule"] for name in [*line, *common, "register"]}
    assert rules == {"all_done_min_one_success"}
    assert all(tasks[name]["mapped"] for name in line)


@pytest.mark.parametrize("dag", ["nightly", "reduction"])
def test_a_run_that_stops_says_so_once(bag: dict[str, Any], dag: str) -> None:
    """Every task tells of its failure, and the tasks form one line: no two of them can fail in the same run."""
    tasks, order = bag["dags"][dag]["tasks"], bag["dags"][dag]["order"]
    assert all("FailureNotifier" in task["told"] for task in tasks.values())
    assert [one for one, other in itertools.pairwise(order) if one not in tasks[other]["up"]] == []


def test_after_the_report_a_person_is_told_what_needs_one(bag: dict[str, Any]) -> None:
    told = {name: task["told"] for name, task in bag["dags"]["nightly"]["tasks"].items()}
    assert [name for name, notifiers in told.items() if "NightNotifier" in notifiers] == ["report"]
