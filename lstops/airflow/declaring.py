"""What the DAG files declare alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import Param, TaskGroup, TriggerRule, task, task_group

from lstops.airflow.approval import CostApproval
from lstops.airflow.context import site_of_environment
from lstops.airflow.notifier import FailureNotifier
from lstops.airflow.operator import PlanStageOperator
from lstops.airflow.policy import stage_retry_policy
from lstops.production.branches import COMMON, COMMON_STAGES, FIRST_ON_TEST_DATA, HEAD, LINE_STAGES
from lstops.production.trainer import AS_THE_SITE
from lstops.site.model import Trainer

#: After all that a task waits for has ended, but only if any of it has ended well, and nothing was skipped. All tasks
#: with this rule wait for `lines` too: so they run after a stage with a hole, but not where nothing was ever begun.
AFTER_HOLES = TriggerRule.ALL_DONE_MIN_ONE_SUCCESS


def dag_arguments(dag_id: str, doc: str, *tags: str, **changes: Any) -> dict[str, Any]:
    """Arguments of `@dag`: by hand and one run at a time unless `changes` says otherwise; what fails is told.

    Where the tasks form one line, a run fails at one task and says so once, after its last try.
    """
    return {
        "dag_id": dag_id,
        "schedule": None,
        "catchup": False,
        "max_active_runs": 1,
        "default_args": {
            "retries": 2,
            "retry_delay": timedelta(seconds=30),
            "retry_policy": stage_retry_policy(),
            "on_failure_callback": FailureNotifier(),
        },
        "tags": ["lstops", *tags],
        "doc_md": doc,
        **changes,
    }


def optional_text(title: str, description: str, **schema: Any) -> Param:
    """A text in the form of a DAG that may stay empty; `schema` as JSON schema has it, such as `pattern`."""
    return Param(None, type=["null", "string"], title=title, description=description, **schema)


def optional_count(title: str, description: str) -> Param:
    """A number of at least 1 in the form of a DAG that may stay empty."""
    return Param(None, type=["null", "integer"], minimum=1, title=title, description=description)


def trainer_param(**schema: Any) -> Param:
    """The trainer of random forests in the form of a DAG."""
    return Param(
        AS_THE_SITE,
        type="string",
        enum=[AS_THE_SITE, *(trainer.value for trainer in Trainer)],
        title="Trainer",
        description="Of the forests: site (what the site file says), lstchain, or accelerated (scikit-learn-intelex).",
        **schema,
    )


def production_tasks(planned: Any, stages: Sequence[str]) -> None:
    """Wire what follows the plan of a production: price, approval, its stages, registration.

    Parameters
    ----------
    planned
        Output of the task that gives the plan's id.
    stages : sequence of str
        Those that a plan may have; what it lacks ends at once.
    """

    @task
    def preview(plan_id: str) -> dict[str, Any]:
        from lstops.operations.production_run import preview as work

        price = work(site_of_environment(), plan_id)
        print(price["text"])
        return price

    @task
    def lines(plan_id: str) -> list[str]:
        from lstops.operations.production_run import lines as work

        return list(work(site_of_environment(), plan_id))

    @task(trigger_rule=AFTER_HOLES)  # type: ignore[untyped-decorator]
    def register(plan_id: str) -> str:
        from lstops.operations.registration import register as work

        return work(site_of_environment(), plan_id)

    # a text, since the output itself would make its task one that all others come after, see AFTER_HOLES
    plan_id = f"{{{{ ti.xcom_pull(task_ids='{planned.operator.task_id}') }}}}"
    approve = CostApproval(
        task_id="approve", subject=_of_preview("title"), body=_of_preview("text"), needed=_of_preview("needed")
    )
    found = lines(planned)
    preview(planned) >> approve >> PlanStageOperator(task_id=HEAD, plan_id=plan_id, stage=HEAD) >> found
    line_stages(plan_id, found, stages) >> register(plan_id)


def line_stages(plan_id: str, lines: Any, stages: Sequence[str]) -> list[Any]:
    """Wire the stages of a production line by line; returns what the task after them comes after.

    Every declination line is an instance of the mapped group `line`, whose tasks wait for those of the same line only.
    What no line alone needs is in the group `common`. A stage runs what it can, also after one that is not whole: a
    node that fails takes nothing with it but what is made of it.

    Parameters
    ----------
    plan_id : str
        Template of the plan's id.
    lines
        Output of the task that gives the names of the plan's lines.
    stages : sequence of str
        Those that a plan may have.
    """
    common: Any = None
    if shared := [stage for stage in stages if stage in COMMON_STAGES]:
        with TaskGroup("common", tooltip="what several lines need: the data of the test nodes"):
            for stage in shared:
                done = PlanStageOperator(
                    task_id=stage, plan_id=plan_id, stage=stage, branch=COMMON, trigger_rule=AFTER_HOLES
                )
                [lines, *([common] if common is not None else [])] >> done
                common = done

    @task_group(tooltip="the stages of one declination line")  # type: ignore[untyped-decorator]
    def line(name: str) -> None:
        previous: Any = None
        for stage in (stage for stage in stages if stage in LINE_STAGES):
            done = PlanStageOperator(
                task_id=stage,
                plan_id=plan_id,
                stage=stage,
                branch=name,
                map_index_template="{{ task.branch }}",
                trigger_rule=AFTER_HOLES,
            )
            [lines, *([previous] if previous is not None else [])] >> done
            if stage == FIRST_ON_TEST_DATA and common is not None:
                common >> done
            previous = done

    return [line.expand(name=lines), lines, *([common] if common is not None else [])]


def _of_preview(name: str) -> str:
    """Template of one value of the price."""
    return f"{{{{ ti.xcom_pull(task_ids='preview')['{name}'] }}}}"
