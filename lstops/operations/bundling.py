"""What the bundles of a night and of an analysis request have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from lstops.catalog.products import record_manifests
from lstops.operations.nightly import layout_of
from lstops.publish.model import BundleRequest, Decision, RunVerdict, Source
from lstops.quality.overlay import OverlayRecord
from lstops.reduction.cuts import CutSet, parse_cuts
from lstops.reduction.plan import CUTS_FILE
from lstops.reduction.request import ReductionRequest
from lstops.site.model import Site
from lstops.step.assess import Standing, assess
from lstops.step.manifest import ManifestStore
from lstops.step.model import ArtifactKind, Plan, Step

#: quantities of a run that its bundle's run list holds
BUNDLE_QUANTITIES = ("mean_r422", "mean_index", "mean_light_yield", "mean_diffuse_nsb_std_pe", "elapsed_time_s")


def circumstances(site: Site, profile: str, profile_file: str) -> dict[str, Any]:
    """What a plan says of how it was made, so that it can be published later, whatever the site file says then.

    Parameters
    ----------
    profile, profile_file : str
        What it is called, and what it was loaded by: the same, or a path.
    """
    return {"profile": profile, "profile_file": profile_file, "pipeline_version": site.nightly.pipeline_version}


def cuts_of(reduction: Plan) -> CutSet:
    """The cut set of a plan, as its steps hold it: the file that it came from may be another one by now."""
    text = reduction.stage("dl3").steps[0].files[CUTS_FILE]
    return parse_cuts(text, f"the cut set of plan {reduction.plan_id}")


def products_of(index: Step) -> tuple[str, ...]:
    """The DL3 files of an index."""
    return tuple(item.path for item in index.inputs if item.kind is ArtifactKind.DL3)


def assemble(
    site: Site,
    reduction: Plan,
    index: Step,
    checks: Sequence[Step],
    *,
    folder: str,
    night: str,
    source: Source,
    production: str,
    runs: tuple[RunVerdict, ...],
    decided: Sequence[OverlayRecord],
    asked: ReductionRequest | None = None,
) -> BundleRequest:
    """What goes into a bundle.

    Parameters
    ----------
    index : Step
        Of its DL3 files.
    checks : sequence of Step
        Source checks that are done.
    decided : sequence of OverlayRecord
        What people decided about its runs.
    asked : ReductionRequest, optional
        What a person asked for.
    """
    cuts, products = cuts_of(reduction), products_of(index)
    # of runs with an intensity cut of their own
    of_runs = [o.path for s in reduction.stage("dl3").steps if s.primary.path in products for o in s.outputs[1:]]
    extras = [path for path in of_runs if path.endswith(".json")]
    return BundleRequest(
        folder=folder,
        night=night,
        source=source,
        production=production,
        cuts_name=cuts.name,
        cuts=cuts.text,
        products=products,
        index=tuple(output.path for output in index.outputs),
        runs=runs,
        profile=reduction.context["profile"],
        decisions=tuple(
            Decision(r.run_number, r.action.value, r.author, r.reason, r.created_at.isoformat(), r.subruns)
            for r in decided
        ),
        extras=(*extras, *(output.path for step in checks for output in step.outputs)),
        site=site.name,
        synthetic=layout_of(site).absolute("truth.json").exists(),
        point_like=cuts.point_like,
        asked=asked.model_dump(mode="json") if asked else {},
        asked_words=(("Request", asked.title), ("Models", asked.models)) if asked else (),
    )


def record_done(session: Session, site: Site, *plans: Plan) -> None:
    """Record in the catalogue what the plans have made."""
    layout = layout_of(site)
    store = ManifestStore(layout.manifests)
    for plan in plans:
        done = [a.step.primary.path for a in assess(plan, layout, site) if a.state is Standing.DONE]
        record_manifests(session, [m for m in map(store.read, done) if m is not None])
