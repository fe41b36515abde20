"""The catalogue filled anew from the site's files: manifests, published versions, plans and data checks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lstops.catalog.database import catalog_session
from lstops.catalog.nights import find_night
from lstops.catalog.rebuild import Progress, RebuiltProducts, rebuild_products, restore_decisions
from lstops.catalog.registry_record import keep_events, kept_events, register_again, restore_events
from lstops.errors import ConfigError, LstOpsError
from lstops.night import Night
from lstops.operations.nightly import ingest, judge, layout_of
from lstops.operations.registration import registrations
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import Manifest, ManifestStore
from lstops.step.plans import SITE_NAME, load_plan


@dataclass(frozen=True)
class Rebuilt:
    """What was filled in.

    Attributes
    ----------
    decisions : int or None
        People's decisions that were restored; None if that was not asked for.
    skipped : tuple of str
        What could not be used, and why.
    """

    products: RebuiltProducts
    productions: tuple[str, ...]
    nights: tuple[str, ...]
    decisions: int | None
    skipped: tuple[str, ...]

    def text(self) -> str:
        """For people."""
        p = self.products
        lines = [
            f"{p.products} products ({p.before} before), {p.versions} published versions, "
            f"{len(self.productions)} productions, {len(self.nights)} nights"
        ]
        if self.decisions is not None:
            lines.append(f"{self.decisions} decisions restored from published versions")
        return "\n".join([*lines, *(f"skipped: {what}" for what in self.skipped)])


def _silent(message: str) -> None:
    """Progress that nobody reads."""


def rebuild(site: Site, *, nights: bool = True, decisions: bool = False, progress: Progress = _silent) -> Rebuilt:
    """Fill the catalogue from files.

    Products, lineage, published versions and productions are replaced in one transaction: whoever dies leaves the old
    catalogue. Nights are ingested as by the DAG, each in its own transaction. People's decisions in the database are
    never touched.

    Parameters
    ----------
    nights : bool
        Ingest and judge the nights whose data check lies at the site's place, too.
    decisions : bool
        Restore people's decisions from what was exported with the published versions.
    """
    layout = layout_of(site)
    skipped: list[str] = []
    restored: int | None = None
    with catalog_session() as session:
        products = rebuild_products(session, layout, progress)
        skipped += products.skipped
        productions = []
        kept, unreadable = kept_events(layout)
        skipped += unreadable
        for plan_id in production_plans(ManifestStore(layout.manifests).all(unreadable=[])):
            try:
                found = registrations(site, plan_id)
            except LstOpsError as error:
                skipped.append(f"{plan_id}: {error}")
                continue
            for production in found:
                register_again(session, production, kept, site.production.register_as)
                productions.append(production.name)
        restore_events(session, kept)
        keep_events(session, layout)
        if decisions:
            restored, unusable = restore_decisions(session, layout)
            skipped += unusable
        progress("committing")
    done = []
    for night in nights_of(site, layout) if nights else ():
        try:
            ingest(site, night)
            judge(site, night)
            done.append(str(night))
        except LstOpsError as error:
            skipped.append(f"night {night.iso}: {error}")
    _point_to_plans(layout, map(Night.parse, done))
    return Rebuilt(products, tuple(dict.fromkeys(productions)), tuple(done), restored, tuple(skipped))


def production_plans(manifests: Iterable[Manifest]) -> tuple[str, ...]:
    """Plans that made productions, by the time of their last step."""
    ended: dict[str, str] = {}
    for manifest in manifests:
        if manifest.plan_context.get("production"):
            ended[manifest.plan_id] = max(ended.get(manifest.plan_id, ""), manifest.ended)
    return tuple(sorted(ended, key=lambda plan: (ended[plan], plan)))


def nights_of(site: Site, layout: Layout) -> tuple[Night, ...]:
    """Nights that have a data check at the site's place."""
    found = []
    for folder in layout.absolute(f"DL1/datacheck_files/night_wise/{site.nightly.pipeline_version}").glob("2*"):
        try:
            night = Night.parse(folder.name)
        except LstOpsError:
            continue  # not a night's folder; nothing of ours
        if layout.absolute(layout.datacheck(night, site.nightly.pipeline_version)).is_file():
            found.append(night)
    return tuple(sorted(found))


def _point_to_plans(layout: Layout, nights: Iterable[Night]) -> None:
    """Let nights point to their last plans again; a plan's site file is written each time it is planned."""
    latest: dict[tuple[str, str], tuple[int, str]] = {}
    for path in layout.plan_file("x").parent.parent.glob("*/plan.json"):
        try:
            plan = load_plan(path)
        except ConfigError:
            continue  # of an older lstops: its night is planned anew by the DAG
        key = (plan.kind, str(plan.context.get("night", "")))
        latest[key] = max(latest.get(key, (0, "")), (_planned_ns(path), path.parent.name))
    for night in nights:
        with catalog_session() as session:
            row = find_night(session, night)
            if reduction := latest.get(("reduction", str(night))):
                row.reduction_plan = reduction[1]
            if collection := latest.get(("collection", str(night))):
                row.collection_plan = collection[1]


def _planned_ns(plan: Path) -> int:
    site = plan.with_name(SITE_NAME)
    return (site if site.exists() else plan).stat().st_mtime_ns
