"""The tasks of the DAG `mc_production`: from its form to a plan, its price, and whether a person is asked."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lstops.errors import ConfigError
from lstops.night import Night
from lstops.nsb.plan import STAGE, plan_nsb
from lstops.operations.nightly import ingest, judge, layout_of, plan_nsb_measurement, subruns_of
from lstops.operations.planned import store
from lstops.operations.planning import plan_request
from lstops.operations.production import sample_of
from lstops.production.branches import lines_of
from lstops.production.cost import StageCost, cost_table, plan_cost
from lstops.production.needs import ZenithRange
from lstops.production.request import ProductionRequest, check_request
from lstops.production.trainer import parse_trainer
from lstops.production.tuning import CHOICE, parse_tuning
from lstops.site.model import Site
from lstops.step.model import Plan, Stage, Step
from lstops.step.plans import load_plan, save_plan


def request_of(params: Mapping[str, Any]) -> ProductionRequest:
    """The form of a DAG run as a request.

    Raises
    ------
    ConfigError
        If it says nothing, two things, or a value that is none.
    """
    given = {name: value for name, value in params.items() if value not in (None, "", [])}
    request = ProductionRequest(
        config=Path(given["config"]) if "config" in given else None,
        night=Night.parse(given["night"]) if "night" in given else None,
        runs=_runs(given.get("runs", ())),
        profile=given.get("profile"),
        target=given.get("target"),
        lines=(given["line"],) if "line" in given else (),
        zenith=ZenithRange.parse(given["zenith_range"]) if "zenith_range" in given else None,
        levels_ghz=(_number("nsb_ghz", given["nsb_ghz"]),) if "nsb_ghz" in given else (),
        name=given.get("name"),
        all_sky=_switch("all_sky", given.get("all_sky", False)),
        lstchain_version=given.get("lstchain_version"),
        trainer=parse_trainer(given.get("trainer")),
        tuning=parse_tuning(given.get("tuning")),
        despite_errors=_switch("despite_errors", given.get("despite_errors", False)),
    )
    return check_request(request)


def _number(field: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{field} is {value!r}, no number.", f"give {field} in GHz, such as 0.14.")
    return float(value)


def _switch(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{field} is {value!r}, neither true nor false.", f"give {field} as true or false.")
    return value


def _runs(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(type(run) is int for run in value):
        raise ConfigError(f"runs is {value!r}, no list of run numbers.", "give them as [2001, 2002].")
    return tuple(value)


def prepare(site: Site, request: ProductionRequest) -> str:
    """Make sure that the runs are known, and plan the measurement of their NSB; returns the plan's id."""
    if request.night is not None:
        print(ingest(site, request.night).text())
        print(judge(site, request.night, request.profile).text())
        return plan_nsb_measurement(site, request.night, request.profile)
    plan = plan_nsb_of_runs(site, request.runs, request.profile)
    save_plan(plan, site)
    return plan.plan_id


def plan_nsb_of_runs(site: Site, runs: Iterable[int], profile: str | None) -> Plan:
    """The NSB measurement of runs of any nights that lstosa has not measured; empty without runs."""
    layout, version = layout_of(site), site.nightly.lstchain_version
    numbers = tuple(runs)
    steps: list[Step] = []
    for run, night in sample_of(site, None, numbers, profile).runs.items() if numbers else ():
        found = subruns_of(site, night, run)
        if found.paths and not all(layout.absolute(path).exists() for path in layout.tailcuts(run)):
            steps += plan_nsb(site, night, [found], version).steps()
    return Plan(
        kind="nsb",
        title=f"NSB of {len(steps)} runs",
        site=site.name,
        lstchain_version=version,
        stages=(Stage(name=STAGE, steps=tuple(steps), quarantine=True),),
    )


def plan_run(site: Site, request: ProductionRequest) -> tuple[str | None, str]:
    """Plan and store the one production of a DAG run.

    Returns
    -------
    plan_id : str or None
        None: a registered production is the same.
    text : str
        Notes for the log.
    """
    found = plan_request(site, request)
    plans = [planned for planned in found if planned.plan is not None]
    notes = "\n".join(line for planned in found for line in (planned.title, *planned.notes))
    if len(plans) > 1:
        raise ConfigError(
            f"the request means {len(plans)} plans, a DAG run computes one.", "start one run a declination line."
        )
    store(site, plans)
    return (plans[0].plan.plan_id if plans and plans[0].plan else None), notes


def lines(site: Site, plan_id: str) -> tuple[str, ...]:
    """The declination lines of a plan, each of which goes through the stages at its own pace."""
    return lines_of(load_plan(layout_of(site).plan_file(plan_id)))


def preview(site: Site, plan_id: str) -> dict[str, Any]:
    """The price of what is left to do of a plan, and whether a person is asked.

    Returns
    -------
    dict
        `title`, `text` (Markdown), `cpu_h`, `needed` ("yes" or "no").
    """
    plan = load_plan(layout_of(site).plan_file(plan_id))
    costs = plan_cost(site, plan)
    cpu_h, limit = sum(cost.cpu_h for cost in costs), site.production.approval_cpu_h
    return {
        "title": f"{plan.title}: {cpu_h:.0f} CPU hours",
        "text": _markdown(plan, costs),
        "cpu_h": cpu_h,
        "needed": "yes" if limit is not None and cpu_h > limit else "no",
    }


def _markdown(plan: Plan, costs: Iterable[StageCost]) -> str:
    from rich.console import Console

    buffer = io.StringIO()
    Console(file=buffer, width=110, color_system=None).print(cost_table(plan.title, tuple(costs)))
    note = f"{plan.context[CHOICE]}\n\n" if CHOICE in plan.context else ""
    return f"Plan `{plan.plan_id}`\n\n{note}```\n{buffer.getvalue()}```\n"
