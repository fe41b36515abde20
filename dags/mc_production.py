"""An NSB-tuned Monte Carlo production: tuned DL1, random forests, test DL2, IRFs, registered for use."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, dag, task

from lstops.airflow.context import site_of_environment
from lstops.airflow.declaring import dag_arguments, optional_text, production_tasks, trainer_param
from lstops.airflow.operator import PlanStageOperator
from lstops.production.branches import LINE_STAGES
from lstops.production.tuning import Tuning

DOC = """
### Monte Carlo whose night-sky background is that of the data

Say **one** of these:

- a `night` or `runs`: their typical NSB is measured and put into the Monte Carlo as the selection recommends: into the
  images of the dark one (`lstchain_tune_nsb`, `lstchain_dl1ab`), or, where it is high, into the waveforms from R0 on
  (`lstchain_tune_nsb_waveform`), if the raw events are there; the plan says which, and why;
- `nsb_ghz` with a `target` or `line` and a `zenith_range`, or with `all_sky`: that level is simulated in the waveforms,
  from R0 on, and only on the nodes that are needed;
- `config`: a configuration of lstmcpipe, as it is. One whose lint has errors is refused, unless `despite_errors` says
  otherwise.

Random forests are trained, the test nodes go through them, and IRFs are made. Before anything is computed the price is
worked out; above the limit of the site (`production.approval_cpu_h`) a person has to approve it, on the run's page.
At the end comes a report card, and the production is registered if it passes the gates (`config/gates`); `nightly` then
finds it. An equal one that is registered already is not made again, and a name that another production has, registered
or only begun, is refused.

Every declination line goes through its stages (group `line`) at its own pace; the data of the test nodes (group
`common`) are made meanwhile, and waited for when the line comes to its DL2. A node that fails takes nothing with it but
what is made of it: the stage is red, the others go on, and in the end the registration is refused, because a production
with a hole is not registered. Started again, it computes only what is missing; `lstops production holes NAME` says what
that is and why.
"""


PARAMS = {
    "night": optional_text(
        "Night", "Night (YYYYMMDD) whose selected runs give the typical NSB.", pattern=r"^\d{8}$", section="From data"
    ),
    "runs": Param(
        [],
        type="array",
        items={"type": "integer", "minimum": 1},
        title="Runs",
        description="Run numbers, one a line, that give the typical NSB; instead of a night.",
        section="From data",
    ),
    "profile": optional_text(
        "Selection profile", "Name of a file in config/profiles; empty: the site's profile.", section="From data"
    ),
    "tuning": Param(
        Tuning.AUTO.value,
        type="string",
        enum=[tuning.value for tuning in Tuning],
        title="NSB tuning",
        description="Where the NSB of the data goes: auto (as the selection recommends, if the raw events are there), "
        "image (DL1 of the base production) or waveform (from R0 on; refused without raw events).",
        section="From data",
    ),
    "nsb_ghz": Param(
        None,
        type=["null", "number"],
        minimum=0,
        maximum=15,
        title="NSB level (GHz)",
        description="Extra NSB over the dark Monte Carlo, such as 0.14; needs target or line, and zenith range. Beside "
        "a configuration: the level of the images' noise, which it does not say in GHz.",
        section="At a level",
    ),
    "target": optional_text(
        "Target",
        'A name of the target list, or "ra dec" in degrees: trains on the nearest declination line.',
        section="Part of the sky",
    ),
    "line": optional_text(
        "Declination line",
        "Such as dec_2276; instead of a target. Empty, with data: the site's line.",
        pattern=r"^dec_(min_)?\d{3,4}(_[a-z_]+)?$",
        section="Part of the sky",
    ),
    "zenith_range": optional_text(
        "Zenith distances",
        "LOW:HIGH in degrees, such as 0:35; only test nodes around pointings in that range are made.",
        pattern=r"^\d+(\.\d+)?(:\d+(\.\d+)?)?$",
        section="Part of the sky",
    ),
    "all_sky": Param(
        False,
        type="boolean",
        title="All of the sky",
        description="Every declination line and every test node; with a level, and without target, line and zeniths.",
        section="Part of the sky",
    ),
    "config": optional_text(
        "Configuration of lstmcpipe",
        "Absolute path of the YAML, on the Airflow host, with its lstchain JSON beside it.",
        pattern=r"^/.+\.ya?ml$",
        section="From a configuration",
    ),
    "despite_errors": Param(
        False,
        type="boolean",
        title="Despite errors",
        description="Run the configuration although its lint has errors; else they are named and nothing is planned.",
        section="From a configuration",
    ),
    "lstchain_version": optional_text(
        "Version of lstchain",
        "Such as 0.12.3, one of the site's environments; empty: the configuration's, or the site's.",
        pattern=r"^\d+(\.\d+)+$",
    ),
    "name": optional_text(
        "Name", "Name of the production; empty: from date, version and level.", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
    ),
    "trainer": trainer_param(),
}


@dag(**dag_arguments("mc_production", DOC, "monte carlo", params=PARAMS))
def mc_production() -> None:
    """Wire the tasks."""

    @task
    def prepare(**context: Any) -> str:
        from lstops.operations.production_run import prepare as work
        from lstops.operations.production_run import request_of

        return work(site_of_environment(), request_of(context["params"]))

    @task
    def plan(**context: Any) -> str:
        from airflow.sdk.exceptions import AirflowSkipException

        from lstops.operations.production_run import plan_run, request_of

        plan_id, notes = plan_run(site_of_environment(), request_of(context["params"]))
        print(notes)
        if plan_id is None:
            raise AirflowSkipException(notes)
        return plan_id

    measurement = prepare()
    planned = plan()
    measurement >> PlanStageOperator(task_id="nsb", plan_id=measurement, stage="nsb") >> planned
    production_tasks(planned, LINE_STAGES)


mc_production()
