"""Productions whose NSB is that of data: a night's or some runs', in images or in waveforms as their selection says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lstops.operations.planned import Planned, complete
from lstops.operations.production import Tuned, build_plan, production_name, sample_of, tuned_settings, tuned_to
from lstops.operations.same_name import begun_by, context_of, registered_as
from lstops.operations.wanted import Wanted, with_settings
from lstops.production.cost import plan_cost
from lstops.production.from_lstmcpipe import TreeLister
from lstops.production.grid import Node
from lstops.production.level import LevelRequest, lstmcpipe_config
from lstops.production.needs import main_lines
from lstops.production.pull_request import with_pull_request
from lstops.production.reuse import Fit, Method, Settings
from lstops.production.tuning import CHOICE, choose
from lstops.production.waveform_plan import missing_raw, plan_waveform_tuning
from lstops.science.tune_nsb import TuningLevel
from lstops.step.model import Plan


def plan_typical(wanted: Wanted) -> list[Planned]:
    """One plan a declination line, tuned to the typical NSB of the runs."""
    if wanted.request.all_sky:
        names = [line.name for line in main_lines(wanted.grid)]
    elif wanted.declination is not None or wanted.request.lines:
        names = [line.name for line in wanted.lines()]
    else:
        names = [wanted.site.nightly.declination_line]
    return [_typical(wanted, name) for name in names]


def _typical(wanted: Wanted, line: str) -> Planned:
    request = wanted.request
    tuned = tuned_to(wanted.site, sample_of(wanted.site, request.night, request.runs, request.profile), request.profile)
    choice = choose(request.tuning, tuned.nsb, lambda: _obstacle(wanted, line, tuned))
    way = _in_images if choice.level is TuningLevel.IMAGE else _in_waveforms
    plan, settings, warnings = way(wanted, line, tuned, request.name)
    found = wanted.reuse(settings, tuned.level_ghz, plan.context["test_nodes"])
    own = str(plan.context["production"])
    if found.fit is Fit.EQUAL and found.production != own:
        return Planned(found.text(), None, (), (choice.note,))
    name = found.production if found.fit is Fit.LACKS_NODES and found.production else own
    # tuned with other subruns everything that is there would be made anew
    if (subruns := _subruns_of(wanted, name, line)) or name != own:
        plan, _, warnings = way(wanted, line, replace(tuned, subruns=subruns or tuned.subruns), name)
    plan = plan.model_copy(update={"context": {**plan.context, CHOICE: choice.note}})
    plan = complete(wanted.site, plan, wanted.trainer)
    costs = plan_cost(wanted.site, plan)
    offers = () if found.fit is Fit.NONE else (found.text(),)
    return Planned(plan.title, plan, costs, (choice.note, wanted.saving(costs), *offers, *warnings))


def _in_images(wanted: Wanted, line: str, tuned: Tuned, name: str | None) -> tuple[Plan, Settings, tuple[str, ...]]:
    """The plan under a name, if one is given, its settings, and the warnings about its test nodes."""
    warnings = list[str]()

    def restrict(nodes: Sequence[Node]) -> Sequence[Node]:
        around, found = wanted.test_nodes([wanted.grid.line(line)] if wanted.declination is None else [], nodes)
        warnings.extend(found)
        there = wanted.registered_nodes(name)
        return [node for node in nodes if node in around.nodes or str(node) in there]

    keep = restrict if wanted.request.zenith else None
    plan = build_plan(wanted.site, tuned, line, keep, name, wanted.trainer)
    return plan, tuned_settings(wanted.site, plan.context, wanted.trainer), tuple(warnings)


def _in_waveforms(wanted: Wanted, line: str, tuned: Tuned, name: str | None) -> tuple[Plan, Settings, tuple[str, ...]]:
    """The same from the raw events on."""
    asked, warnings = _waveform_level(wanted, line, tuned, name)
    plan = plan_waveform_tuning(asked, tuned.subruns, wanted.site, wanted.grid, TreeLister(wanted.site.base))
    plan = plan.model_copy(update={"context": {**plan.context, **tuned.context}})
    settings = wanted.settings(asked, asked.lines[0], Method.TUNED_WAVEFORM)
    plan = with_settings(plan, {line: settings}, asked.test_nodes)
    return with_pull_request(plan, lstmcpipe_config(asked, wanted.site, wanted.grid), wanted.site), settings, warnings


def _waveform_level(wanted: Wanted, line: str, tuned: Tuned, name: str | None) -> tuple[LevelRequest, tuple[str, ...]]:
    lines = (wanted.grid.line(line),)
    around, warnings = wanted.test_nodes(lines, wanted.grid.test_nodes)
    name = name or production_name(wanted.site, tuned, TuningLevel.WAVEFORM, wanted.trainer)
    nodes = wanted.with_registered(name, around.nodes)
    return LevelRequest(name, wanted.version, tuned.level_ghz, lines, nodes, wanted.cuts), warnings


def _obstacle(wanted: Wanted, line: str, tuned: Tuned) -> str | None:
    """Why the waveforms of this line cannot be simulated, if so."""
    if line not in wanted.grid.lines:
        return f"the grid of simulated raw events has no line {line}"
    asked, _ = _waveform_level(wanted, line, tuned, wanted.request.name)
    missing = missing_raw(asked, wanted.site, wanted.grid, TreeLister(wanted.site.base))
    more = f" and {len(missing) - 1} more folders" if len(missing) > 1 else ""
    return f"there is no simtel file in {missing[0]}{more}" if missing else None


def _subruns_of(wanted: Wanted, production: str, line: str) -> tuple[str, ...]:
    """The subruns that a production is tuned with; none if it is neither registered nor begun."""
    for row in registered_as(production):
        if row.line == line:
            return tuple((context_of(wanted.site, row) or {}).get("subruns", ()))
    begun = begun_by(wanted.site, production)
    is_of_line = begun is not None and line in begun.plan_context.get("settings_sha256", ())
    return tuple(begun.plan_context.get("subruns", ())) if begun and is_of_line else ()
