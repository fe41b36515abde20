"""Nights that are reduced again with another profile, cuts or version, beside what there is."""

from __future__ import annotations

import os
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import Param, dag, task

from lstops.airflow.approval import CostApproval
from lstops.airflow.context import site_of_environment
from lstops.airflow.declaring import dag_arguments, optional_text

#: one at a time: the DAG `nightly` has two places, and the other one is for tonight
NIGHTS_AT_ONCE = int(os.environ.get("LSTOPS_REPROCESSING_NIGHTS", "1"))

DOC = """
### A range of nights once more, and what that changes

Started by hand; `lstops reprocess --dry-run` with the same options shows beforehand which nights these are.

1. **prepare** the list of closed nights. More of them than the site allows (`nightly.approval_nights`) wait for a
   person's approval, on the run's page.
2. **night**: one run of the DAG `nightly` for each, one after the other, with what is to be other than usual. Its DL3
   is made in a folder of the reprocessing and published as a new version *beside* the current one.
3. **compare** old and new: hours, runs, significance and flux of each night, as a page (Night reports) and as JSON.

Started again with the same parameters it computes only what is missing; with *Make current* it computes nothing that is
there, and readers get the new versions.
"""


@dag(
    **dag_arguments("reprocessing", DOC, "data"),
    params={
        "since": Param(type="string", pattern=r"^\d{8}$", title="First night", description="YYYYMMDD."),
        "until": Param(type="string", pattern=r"^\d{8}$", title="Last night", description="YYYYMMDD, included."),
        "profile": optional_text("Selection profile", "Name of a file in config/profiles; empty: the site's profile."),
        "cuts": optional_text("Cut set", "Name of a file in config/cuts; empty: the site's."),
        "pipeline_version": optional_text(
            "Version of the DL1", "Of lstosa, such as v0.13; empty: the site's.", pattern=r"^v[0-9][0-9A-Za-z.]*$"
        ),
        "lstchain_version": optional_text("Version of lstchain", "One of the site's environments; empty: the site's."),
        "make_current": Param(
            False, type="boolean", title="Make current", description="Readers get the new versions at once."
        ),
    },
)
def reprocessing() -> None:
    """Wire the tasks."""

    @task
    def prepare(**context: Any) -> list[dict[str, Any]]:
        from lstops.operations.reprocessing import prepare as work
        from lstops.reduction.reprocessing import parse_reprocessing

        again = parse_reprocessing(context["params"])
        made = work(site_of_environment(), again)
        print(made.text)
        needed = "yes" if made.needs_approval else "no"
        context["ti"].xcom_push("preview", {"title": made.title, "text": made.text, "needed": needed})
        form, how = again.model_dump(mode="json"), "current" if again.make_current else "beside"
        # the same run of `nightly` when this one is started again: it is cleared, and makes what is missing
        return [
            {
                "trigger_run_id": f"reprocessing__{again.name}__{night}__{how}",
                "conf": {"night": str(night), "reprocessing": form},
            }
            for night in made.nights
        ]

    @task(trigger_rule="all_done_min_one_success")
    def compare(**context: Any) -> str:
        from lstops.operations.reprocessing import write_comparison
        from lstops.reduction.reprocessing import parse_reprocessing

        return str(write_comparison(site_of_environment(), parse_reprocessing(context["params"])))

    prepared = prepare()
    approve = CostApproval(
        task_id="approve",
        subject=_of_preview("title"),
        body=_of_preview("text"),
        needed=_of_preview("needed"),
    )
    nights = TriggerDagRunOperator.partial(
        task_id="night",
        trigger_dag_id="nightly",
        logical_date=None,
        reset_dag_run=True,
        fail_when_dag_is_paused=True,
        wait_for_completion=True,
        deferrable=True,
        poke_interval=20,
        max_active_tis_per_dagrun=NIGHTS_AT_ONCE,
        # the night's own run has told why it failed, and `compare` tells of all of them
        on_failure_callback=None,
    ).expand_kwargs(prepared)
    compared = compare()
    prepared >> approve >> nights >> compared
    # of its two the first is enough: it compares also when nights have failed, and does not when nothing was begun
    prepared >> compared


def _of_preview(name: str) -> str:
    """Template of one value of the preview."""
    return f"{{{{ ti.xcom_pull(task_ids='prepare', key='preview')['{name}'] }}}}"


reprocessing()
