"""Productions at given NSB levels, which are simulated in the waveforms from the raw events on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lstops.operations.planned import Planned, complete
from lstops.operations.wanted import Wanted, with_settings
from lstops.production.cost import plan_cost
from lstops.production.from_lstmcpipe import TreeLister
from lstops.production.grid import Line, Node
from lstops.production.level import LevelRequest, lstmcpipe_config, plan_level
from lstops.production.pull_request import with_pull_request
from lstops.production.reuse import Fit, Reuse
from lstops.production.trainer import name_suffix


def plan_levels(wanted: Wanted) -> list[Planned]:
    """One plan a level, more where lines of it belong to several productions, none where it is there already."""
    lines = wanted.lines()
    around, warnings = wanted.test_nodes(lines, wanted.grid.test_nodes)
    return [
        planned
        for level in wanted.request.levels_ghz
        for planned in _level(wanted, level, lines, around.nodes, warnings)
    ]


def _level(
    wanted: Wanted, level: float, lines: Sequence[Line], nodes: tuple[Node, ...], warnings: tuple[str, ...]
) -> list[Planned]:
    asked = LevelRequest(_name(wanted, level), wanted.version, level, tuple(lines), nodes, wanted.cuts)
    reuse = {line.name: wanted.reuse(wanted.settings(asked, line), level, tuple(map(str, nodes))) for line in lines}
    # its own production is planned again all the same: that computes nothing, unless something of it was lost
    equal = {n: r for n, r in reuse.items() if r.fit is Fit.EQUAL and r.production != asked.production}
    groups: dict[str, list[Line]] = {}
    for line in (line for line in lines if line.name not in equal):
        found = reuse[line.name]
        same = found.fit is Fit.LACKS_NODES and found.production
        groups.setdefault(same or asked.production, []).append(line)
    return [Planned(r.text(), None, (), ()) for r in equal.values()] + [
        _planned_level(
            wanted,
            replace(asked, production=name, lines=tuple(members), test_nodes=wanted.with_registered(name, nodes)),
            reuse,
            warnings,
        )
        for name, members in groups.items()
    ]


def _planned_level(wanted: Wanted, asked: LevelRequest, reuse: dict[str, Reuse], warnings: tuple[str, ...]) -> Planned:
    plan = plan_level(asked, wanted.site, wanted.grid, TreeLister(wanted.site.base))
    settings = {line.name: wanted.settings(asked, line) for line in asked.lines}
    plan = with_pull_request(
        with_settings(plan, settings, asked.test_nodes), lstmcpipe_config(asked, wanted.site, wanted.grid), wanted.site
    )
    plan = complete(wanted.site, plan, wanted.trainer)
    offers = tuple(reuse[line.name].text() for line in asked.lines if reuse[line.name].fit is not Fit.NONE)
    costs = plan_cost(wanted.site, plan)
    return Planned(plan.title, plan, costs, (wanted.saving(costs), *offers, *warnings))


def _name(wanted: Wanted, level: float) -> str:
    if wanted.request.name:
        single = len(wanted.request.levels_ghz) == 1
        return wanted.request.name if single else f"{wanted.request.name}_nsb_tuning_{level:.2f}"
    what = (wanted.request.target or "-".join(wanted.request.lines) or "allsky").lower().replace(" ", "-")
    zenith = wanted.request.zenith
    part = f"_zd{zenith.low_deg:g}-{zenith.high_deg:g}" if zenith else ""
    return f"v{wanted.version}_{what}{part}_nsb_tuning_{level:.2f}{name_suffix(wanted.trainer)}"
