"""What a request for a production means at a site: lines, test nodes, settings, and what is registered already."""

from __future__ import annotations

from collections.abc import Sequence

from lstops.operations.trainers import comparison
from lstops.production.cost import StageCost
from lstops.production.grid import Grid, Line, Node
from lstops.production.level import RAW, LevelRequest
from lstops.production.needs import Around, all_sky_submissions, main_lines, nearest_line, nodes_around, track
from lstops.production.request import ProductionRequest
from lstops.production.reuse import Existing, Method, Reuse, Settings, find_existing
from lstops.quality.targets import load_targets
from lstops.reduction.cuts import load_cuts
from lstops.site.model import Site
from lstops.step.model import Plan


class Wanted:
    """A request with all that its plans need of the site.

    Attributes
    ----------
    site : Site
        With the version of lstchain that is asked for.
    existing : sequence of Existing
        Registered productions.
    declination : float or None
        Of the target (degrees).
    """

    def __init__(self, site: Site, request: ProductionRequest, grid: Grid, existing: Sequence[Existing]) -> None:
        self.request, self.grid, self.existing = request, grid, existing
        self.version = request.lstchain_version or site.nightly.lstchain_version
        nightly = site.nightly.model_copy(update={"lstchain_version": self.version})
        self.site = site.model_copy(update={"nightly": nightly})
        self.trainer = request.trainer or site.production.trainer
        self.cuts = load_cuts(site.cuts)
        self.declination = load_targets().find(request.target).dec_deg if request.target else None

    def lines(self) -> tuple[Line, ...]:
        """The declination lines that the request names, or its target means."""
        if self.request.all_sky:
            return tuple(main_lines(self.grid))
        if self.declination is not None:
            return (nearest_line(self.declination, self.grid),)
        return tuple(self.grid.line(name) for name in self.request.lines)

    def test_nodes(self, lines: Sequence[Line], nodes: Sequence[Node]) -> tuple[Around, tuple[str, ...]]:
        """Those of the test nodes that the zenith range needs on these lines, and what they do not enclose."""
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

    def with_registered(self, production: str, nodes: Sequence[Node]) -> tuple[Node, ...]:
        """The test nodes of a plan under that name: those that it is registered with stay its own."""
        there = self.registered_nodes(production)
        added = [node for node in self.grid.test_nodes if str(node) in there and node not in nodes]
        return (*nodes, *added)

    def registered_nodes(self, production: str | None) -> set[str]:
        """The test nodes that a production is registered with."""
        return {node for one in self.existing if one.name == production for node in one.test_nodes}

    def saving(self, costs: Sequence[StageCost]) -> str:
        """How much less this is than lstmcpipe's level of the whole sky, for people."""
        steps, whole = sum(cost.steps for cost in costs), all_sky_submissions(self.grid)
        return f"{steps} steps; lstmcpipe's all-sky level has {whole} submissions ({1 - steps / whole:.1%} saved)"

    def settings(self, asked: LevelRequest, line: Line, method: Method = Method.WAVEFORM) -> Settings:
        """What a production from the raw events is compared by."""
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

    def reuse(self, settings: Settings, level: float, nodes: Sequence[str]) -> Reuse:
        """The registered production that is nearest to these settings."""
        return find_existing(settings, level, nodes, self.existing, self.site.nightly.nsb_tolerance_ghz)


def with_settings(plan: Plan, settings: dict[str, Settings], nodes: Sequence[Node]) -> Plan:
    """The plan with what it is compared by."""
    context = {
        **plan.context,
        "settings_sha256": {line: one.digest for line, one in settings.items()},
        "test_nodes": [str(node) for node in nodes],
        **comparison(settings),
    }
    return plan.model_copy(update={"context": context})
