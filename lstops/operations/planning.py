"""A person's request for a production, as plans: from an lstmcpipe configuration, from data, or at NSB levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import existing_productions, previous_cards
from lstops.errors import ConfigError, TransportError
from lstops.operations.given_config import lint_notes, require_plannable, with_given_level
from lstops.operations.nightly import layout_of
from lstops.operations.production import Tuned, build_plan, production_name, sample_of, tuned_settings, tuned_to
from lstops.operations.same_name import begun_by, context_of, refuse_other_production, registered_as
from lstops.operations.sources import require_sources
from lstops.operations.trainers import comparison, refuse_other_trainer, trusted_cards
from lstops.production.branches import DAG_STAGES, with_branches
from lstops.production.card_plan import CardSettings, with_report_cards
from lstops.production.config import read_config
from lstops.production.cost import StageCost, plan_cost
from lstops.production.definition import read_production
from lstops.production.from_lstmcpipe import (
    LstmcpipePlanRequest,
    TreeLister,
    plan_from_lstmcpipe,
)
from lstops.production.gates import load_gates
from lstops.production.grid import Grid, Line, Node, known_grid
from lstops.production.level import RAW, LevelRequest, lstmcpipe_config, plan_level
from lstops.production.needs import (
    Around,
    all_sky_submissions,
    main_lines,
    nearest_line,
    nodes_around,
    track,
)
from lstops.production.outline import plan_level_ghz, save_production_plan
from lstops.production.pull_request import with_pull_request
from lstops.production.report_card import reference_text
from lstops.production.request import ProductionRequest, check_request
from lstops.production.reuse import Existing, Fit, Method, Reuse, Settings, find_existing
from lstops.production.trainer import name_suffix, require_trainer, with_trainer
from lstops.production.tuning import CHOICE, choose
from lstops.production.waveform_plan import missing_raw, plan_waveform_tuning
from lstops.quality.targets import load_targets
from lstops.reduction.cuts import load_cuts
from lstops.science.tune_nsb import TuningLevel
from lstops.site.model import Site, Trainer
from lstops.step.model import Plan, Stage

# stages of lstmcpipe that go by another name there
_DAG_NAMES = {
    "config": "tune",
    "train_test_split": "split",
    "merge_dl1": "merge",
    "train_pipe": "train",
    "dl1_to_dl2": "dl2",
    "dl2_to_irfs": "irf",
    "dl2_to_sensitivity": "sensitivity",
}


@dataclass(frozen=True)
class Planned:
    """One plan with what a person wants to know before it runs.

    Attributes
    ----------
    plan : Plan or None
        None: a registered production is the same, see `notes`.
    """

    title: str
    plan: Plan | None
    costs: tuple[StageCost, ...]
    notes: tuple[str, ...]

    @property
    def cpu_h(self) -> float:
        """CPU hours of what is left to do."""
        return sum(cost.cpu_h for cost in self.costs)


def plan_request(site: Site, request: ProductionRequest, grid: Grid | None = None) -> tuple[Planned, ...]:
    """Plan what is asked for; nothing is stored.

    Raises
    ------
    LstOpsError
        If it cannot be planned; the message says what and what helps.
    """
    request = check_request(request)
    if request.config is not None:
        return (_from_config(site, request, request.config, grid),)
    require_trainer(_trainer(site, request), request.lstchain_version or site.nightly.lstchain_version, site)
    existing, note = _existing(site)
    planner = _Planner(site, request, grid or known_grid(), existing)
    found = planner.levels() if request.levels_ghz else planner.typical()
    return tuple(replace(planned, notes=(*planned.notes, *note)) for planned in found)


def _trainer(site: Site, request: ProductionRequest) -> Trainer:
    return request.trainer or site.production.trainer


def in_dag_stages(plan: Plan) -> Plan:
    """The same steps in the stages that the DAG `mc_production` has a task for; what a plan lacks is empty."""
    mine = {_DAG_NAMES.get(stage.name, stage.name): stage for stage in plan.stages}
    if unknown := set(mine) - set(DAG_STAGES):
        raise ConfigError(f"{plan.title} has stages that nothing runs: {', '.join(sorted(unknown))}.", "plan it anew.")
    stages = tuple(
        mine[name].model_copy(update={"name": name}) if name in mine else Stage(name=name) for name in DAG_STAGES
    )
    return plan.model_copy(update={"stages": stages})


def complete(site: Site, plan: Plan, trainer: Trainer = Trainer.LSTCHAIN) -> Plan:
    """The plan with its trainer and report cards, in the stages and branches of the DAG.

    Raises
    ------
    ConfigError
        If another production has this name, or one of another trainer.
    DataError
        If something that the plan reads is missing.
    """
    require_sources(site, plan)
    plan = with_trainer(plan, trainer, site)
    refuse_other_trainer(plan)
    refuse_other_production(site, plan)
    settings = CardSettings(load_gates(site.production.gates), reference_text(), _previous_cards(site, plan))
    return with_branches(in_dag_stages(with_report_cards(plan, settings, site)))


def _previous_cards(site: Site, plan: Plan) -> dict[str, str]:
    """By line: the report card of the production that this one follows, if it has one."""
    level = plan_level_ghz(plan)
    try:
        with catalog_session() as session:
            found = previous_cards(session, str(plan.context["production"]), plan.lstchain_version, level)
        # what accelerated forests must be no worse than is shown beside them
        found |= trusted_cards(plan)
    except (ConfigError, TransportError):
        return {}  # without a catalogue there is nothing to compare with; `_existing` says so
    layout = layout_of(site)
    return {line: path for line, path in found.items() if layout.absolute(path).exists()}


def store(site: Site, planned: Sequence[Planned]) -> tuple[Path, ...]:
    """Write the plans, each with its outline; returns their files."""
    return tuple(save_production_plan(p.plan, site) for p in planned if p.plan is not None)


def _existing(site: Site) -> tuple[tuple[Existing, ...], tuple[str, ...]]:
    try:
        with catalog_session() as session:
            return existing_productions(session), ()
    except (ConfigError, TransportError) as error:
        return (), (f"existing productions were not looked for: {error.what}",)


def _from_config(site: Site, request: ProductionRequest, path: Path, grid: Grid | None) -> Planned:
    config = read_config(path, request.lstchain_config)
    require_plannable(config, request.name)
    definition = read_production(config)
    notes = lint_notes(config, definition, path, grid, request.despite_errors)
    plan = plan_from_lstmcpipe(
        LstmcpipePlanRequest(
            definition=definition,
            site=site,
            lister=TreeLister(site.base),
            lstchain_version=request.lstchain_version,
            roots=request.roots,
        )
    )
    plan, level_note = with_given_level(plan, request.levels_ghz)
    # as it was given: writing thousands of steps anew takes longer than planning them
    text = path.read_text() if config.old is None else config.pipe
    plan = complete(site, with_pull_request(plan, text, site))
    return Planned(plan.title, plan, plan_cost(site, plan), (*level_note, *notes, *_existing(site)[1]))


class _Planner:
    def __init__(self, site: Site, request: ProductionRequest, grid: Grid, existing: Sequence[Existing]) -> None:
        self.request, self.grid, self.existing = request, grid, existing
        self.version = request.lstchain_version or site.nightly.lstchain_version
        nightly = site.nightly.model_copy(update={"lstchain_version": self.version})
        self.site = site.model_copy(update={"nightly": nightly})
        self.trainer = _trainer(site, request)
        self.cuts = load_cuts(site.cuts)
        self.declination = load_targets().find(request.target).dec_deg if request.target else None

    def _lines(self) -> tuple[Line, ...]:
        if self.request.all_sky:
            return tuple(main_lines(self.grid))
        if self.declination is not None:
            return (nearest_line(self.declination, self.grid),)
        return tuple(self.grid.line(name) for name in self.request.lines)

    def _test_nodes(self, lines: Sequence[Line], nodes: Sequence[Node]) -> tuple[Around, tuple[str, ...]]:
        zenith = self.request.zenith
        if zenith is None:
            return Around(tuple(nodes), ()), ()
        declinations = [self.declination] if self.declination is not None else [x.declination_deg for x in lines]
        pointings = [p for dec in declinations for p in track(dec, self.grid.latitude_deg, zenith)]
        around = nodes_around(pointings, nodes)
        if not around.outside:
            return around, ()
        zds = [p.zd_deg for p in around.outside]
        warning = (
            f"no test nodes enclose {len(zds)} of {len(pointings)} pointings between {min(zds):.1f} and {max(zds):.1f} "
            "deg of zenith distance: responses cannot be interpolated to them, and runs there are refused"
        )
        return around, (warning,)

    # -- levels ---------------------------------------------------------------------------------------------------
    def levels(self) -> list[Planned]:
        lines = self._lines()
        around, warnings = self._test_nodes(lines, self.grid.test_nodes)
        return [
            planned
            for level in self.request.levels_ghz
            for planned in self._level(level, lines, around.nodes, warnings)
        ]

    def _level(
        self, level: float, lines: Sequence[Line], nodes: tuple[Node, ...], warnings: tuple[str, ...]
    ) -> list[Planned]:
        asked = LevelRequest(self._name(level), self.version, level, tuple(lines), nodes, self.cuts)
        reuse = {line.name: self._reuse(self._settings(asked, line), level, nodes) for line in lines}
        # its own production is planned again all the same: that computes nothing, unless something of it was lost
        equal = {n: r for n, r in reuse.items() if r.fit is Fit.EQUAL and r.production != asked.production}
        groups: dict[str, list[Line]] = {}
        for line in (line for line in lines if line.name not in equal):
            found = reuse[line.name]
            same = found.fit is Fit.LACKS_NODES and found.production
            groups.setdefault(same or asked.production, []).append(line)
        return [Planned(r.text(), None, (), ()) for r in equal.values()] + [
            self._planned_level(
                replace(asked, production=name, lines=tuple(members), test_nodes=self._with_registered(name, nodes)),
                reuse,
                warnings,
            )
            for name, members in groups.items()
        ]

    def _with_registered(self, production: str, nodes: Sequence[Node]) -> tuple[Node, ...]:
        """The test nodes of a plan under that name: those that it is registered with stay its own."""
        there = self._registered_nodes(production)
        added = [node for node in self.grid.test_nodes if str(node) in there and node not in nodes]
        return (*nodes, *added)

    def _registered_nodes(self, production: str | None) -> set[str]:
        return {node for one in self.existing if one.name == production for node in one.test_nodes}

    def _planned_level(self, asked: LevelRequest, reuse: dict[str, Reuse], warnings: tuple[str, ...]) -> Planned:
        plan = plan_level(asked, self.site, self.grid, TreeLister(self.site.base))
        settings = {line.name: self._settings(asked, line) for line in asked.lines}
        plan = with_pull_request(
            _with_settings(plan, settings, asked.test_nodes), lstmcpipe_config(asked, self.site, self.grid), self.site
        )
        plan = complete(self.site, plan, self.trainer)
        offers = tuple(reuse[line.name].text() for line in asked.lines if reuse[line.name].fit is not Fit.NONE)
        costs = plan_cost(self.site, plan)
        return Planned(plan.title, plan, costs, (self._saving(costs), *offers, *warnings))

    def _saving(self, costs: Sequence[StageCost]) -> str:
        steps, whole = sum(cost.steps for cost in costs), all_sky_submissions(self.grid)
        return f"{steps} steps; lstmcpipe's all-sky level has {whole} submissions ({1 - steps / whole:.1%} saved)"

    def _name(self, level: float) -> str:
        if self.request.name:
            single = len(self.request.levels_ghz) == 1
            return self.request.name if single else f"{self.request.name}_nsb_tuning_{level:.2f}"
        what = (self.request.target or "-".join(self.request.lines) or "allsky").lower().replace(" ", "-")
        zenith = self.request.zenith
        part = f"_zd{zenith.low_deg:g}-{zenith.high_deg:g}" if zenith else ""
        return f"v{self.version}_{what}{part}_nsb_tuning_{level:.2f}{name_suffix(self.trainer)}"

    def _settings(self, asked: LevelRequest, line: Line, method: Method = Method.WAVEFORM) -> Settings:
        return Settings(
            lstchain_version=asked.lstchain_version,
            line=line.name,
            tailcut=asked.tailcut.directory,
            cuts_sha256=self.cuts.digest,
            forests=self.site.production.forests,
            trainer=self.trainer,
            method=method,
            source=RAW,
            training_nodes=tuple(map(str, line.nodes)),
        )

    def _reuse(self, settings: Settings, level: float, nodes: Sequence[Node]) -> Reuse:
        return self._reuse_named(settings, level, tuple(map(str, nodes)))

    def _reuse_named(self, settings: Settings, level: float, nodes: Sequence[str]) -> Reuse:
        return find_existing(settings, level, nodes, self.existing, self.site.nightly.nsb_tolerance_ghz)

    # -- data -----------------------------------------------------------------------------------------------------
    def typical(self) -> list[Planned]:
        if self.request.all_sky:
            names = [line.name for line in main_lines(self.grid)]
        elif self.declination is not None or self.request.lines:
            names = [line.name for line in self._lines()]
        else:
            names = [self.site.nightly.declination_line]
        return [self._typical(name) for name in names]

    def _typical(self, line: str) -> Planned:
        request = self.request
        tuned = tuned_to(self.site, sample_of(self.site, request.night, request.runs, request.profile), request.profile)
        choice = choose(request.tuning, tuned.nsb, lambda: self._obstacle(line, tuned))
        way = self._in_images if choice.level is TuningLevel.IMAGE else self._in_waveforms
        plan, settings, warnings = way(line, tuned, request.name)
        found = self._reuse_named(settings, tuned.level_ghz, plan.context["test_nodes"])
        own = str(plan.context["production"])
        if found.fit is Fit.EQUAL and found.production != own:
            return Planned(found.text(), None, (), (choice.note,))
        name = found.production if found.fit is Fit.LACKS_NODES and found.production else own
        # tuned with other subruns everything that is there would be made anew
        if (subruns := self._subruns_of(name, line)) or name != own:
            plan, _, warnings = way(line, replace(tuned, subruns=subruns or tuned.subruns), name)
        plan = plan.model_copy(update={"context": {**plan.context, CHOICE: choice.note}})
        plan = complete(self.site, plan, self.trainer)
        costs = plan_cost(self.site, plan)
        offers = () if found.fit is Fit.NONE else (found.text(),)
        return Planned(plan.title, plan, costs, (choice.note, self._saving(costs), *offers, *warnings))

    def _in_images(self, line: str, tuned: Tuned, name: str | None) -> tuple[Plan, Settings, tuple[str, ...]]:
        """The plan under a name, if one is given, its settings, and the warnings about its test nodes."""
        warnings = list[str]()

        def restrict(nodes: Sequence[Node]) -> Sequence[Node]:
            around, found = self._test_nodes([self.grid.line(line)] if self.declination is None else [], nodes)
            warnings.extend(found)
            there = self._registered_nodes(name)
            return [node for node in nodes if node in around.nodes or str(node) in there]

        keep = restrict if self.request.zenith else None
        plan = build_plan(self.site, tuned, line, keep, name, self.trainer)
        return plan, tuned_settings(self.site, plan.context, self.trainer), tuple(warnings)

    def _in_waveforms(self, line: str, tuned: Tuned, name: str | None) -> tuple[Plan, Settings, tuple[str, ...]]:
        """The same from the raw events on."""
        asked, warnings = self._waveform_level(line, tuned, name)
        plan = plan_waveform_tuning(asked, tuned.subruns, self.site, self.grid, TreeLister(self.site.base))
        plan = plan.model_copy(update={"context": {**plan.context, **tuned.context}})
        settings = self._settings(asked, asked.lines[0], Method.TUNED_WAVEFORM)
        plan = _with_settings(plan, {line: settings}, asked.test_nodes)
        return with_pull_request(plan, lstmcpipe_config(asked, self.site, self.grid), self.site), settings, warnings

    def _waveform_level(self, line: str, tuned: Tuned, name: str | None) -> tuple[LevelRequest, tuple[str, ...]]:
        lines = (self.grid.line(line),)
        around, warnings = self._test_nodes(lines, self.grid.test_nodes)
        name = name or production_name(self.site, tuned, TuningLevel.WAVEFORM, self.trainer)
        nodes = self._with_registered(name, around.nodes)
        return LevelRequest(name, self.version, tuned.level_ghz, lines, nodes, self.cuts), warnings

    def _obstacle(self, line: str, tuned: Tuned) -> str | None:
        """Why the waveforms of this line cannot be simulated, if so."""
        if line not in self.grid.lines:
            return f"the grid of simulated raw events has no line {line}"
        asked, _ = self._waveform_level(line, tuned, self.request.name)
        missing = missing_raw(asked, self.site, self.grid, TreeLister(self.site.base))
        more = f" and {len(missing) - 1} more folders" if len(missing) > 1 else ""
        return f"there is no simtel file in {missing[0]}{more}" if missing else None

    def _subruns_of(self, production: str, line: str) -> tuple[str, ...]:
        """The subruns that a production is tuned with; none if it is neither registered nor begun."""
        for row in registered_as(production):
            if row.line == line:
                return tuple((context_of(self.site, row) or {}).get("subruns", ()))
        begun = begun_by(self.site, production)
        is_of_line = begun is not None and line in begun.plan_context.get("settings_sha256", ())
        return tuple(begun.plan_context.get("subruns", ())) if begun and is_of_line else ()


def _with_settings(plan: Plan, settings: dict[str, Settings], nodes: Sequence[Node]) -> Plan:
    context = {
        **plan.context,
        "settings_sha256": {line: one.digest for line, one in settings.items()},
        "test_nodes": [str(node) for node in nodes],
        **comparison(settings),
    }
    return plan.model_copy(update={"context": context})
