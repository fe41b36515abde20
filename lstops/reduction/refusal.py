"""Which runs cannot be reduced, told before anything is computed: lstchain goes on without a word."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lstops.reduction.cuts import CutSet
from lstops.reduction.geometry import collapsing, why_not
from lstops.reduction.jobs import RunJob

#: a run's zenith distance changes by degrees; its mean may lie that far beyond the outermost training node
_TRAINING_MARGIN_DEG = 0.5
#: placeholders of commands and characters that a FITS header cannot hold
_UNSAFE = re.compile(r"[{}]|[^\x20-\x7e]")


@dataclass(frozen=True)
class Refusal:
    """A run that is not reduced, and why."""

    run: int
    reason: str
    remedy: str


def split_runs(runs: Sequence[RunJob], cuts: CutSet | None = None) -> tuple[tuple[RunJob, ...], tuple[Refusal, ...]]:
    """Separate the runs that can be reduced from those that cannot.

    Parameters
    ----------
    cuts : CutSet, optional
        The nodes must have been made with it, and must not be empty in its useful energies.
    """
    accepted, refused = [], []
    for job in runs:
        if found := _refusal(job, cuts):
            refused.append(Refusal(job.run, *found))
        else:
            accepted.append(job)
    return tuple(accepted), tuple(refused)


def _refusal(job: RunJob, cuts: CutSet | None) -> tuple[str, str] | None:
    """Why a run cannot be reduced, and what helps."""
    if reason := unsafe_source(job.source):
        return reason, "correct the source's name with an overlay record."
    trained = job.models.training_zd_deg
    if trained and not trained[0] - _TRAINING_MARGIN_DEG <= job.zd_deg <= trained[1] + _TRAINING_MARGIN_DEG:
        return (
            f"at a zenith distance of {job.zd_deg:.2f} deg the predictions of {job.models.production} would be "
            f"extrapolated: its forests were trained from {trained[0]:g} to {trained[1]:g} deg.",
            "train with nodes around this zenith distance, or exclude the run.",
        )
    if job.nearest_deg is None and (reason := why_not(job.zd_deg, job.az_deg, job.irfs, job.field)):
        return (
            reason,
            "produce test nodes around this pointing, allow the responses of the nearest node "
            "(`nightly.nearest_irf_node_within_deg` of the site file), or exclude the run.",
        )
    if cuts is None:
        return None
    for node in job.irfs:
        # with an intensity cut of each run the responses are made anew
        if node.other_cuts and not cuts.intensity_per_run:
            return (
                f"{node.path.rpartition('/')[2]} was made with other cuts than those of this reduction ({cuts.name}): "
                f"{node.other_cuts}.",
                "reduce with a cut set that has these values (`--cuts`), or let the IRFs be made anew with the "
                "intensity cut of each run (`--intensity-per-run`).",
            )
        if node.cuts_sha256 not in (None, cuts.digest):
            return (
                f"{node.path.rpartition('/')[2]} was made with other cuts ({str(node.cuts_sha256)[:8]}...) than those "
                f"of this reduction ({cuts.name}, {cuts.digest[:8]}...).",
                "make the IRFs of this cut set (DAG `mc_production`), or reduce with the other one.",
            )
    if reason := collapsing(job.responses, cuts.useful_energy_tev):
        return reason, "simulate more events at this node, or narrow the useful energies of the cut set."
    if cuts.intensity_per_run and (lacking := [node.where for node in job.nodes_around if not node.gamma_dl2]):
        return (
            f"{cuts.name} has an intensity cut for each run, and nothing says which DL2 the responses of the node(s) "
            f"{', '.join(lacking)} were made from.",
            "make the responses with lstops, or reduce with a cut set that has one intensity cut for all runs.",
        )
    return None


def unsafe_source(source: str) -> str | None:
    """Why a name cannot be handed over unchanged: traitlets strips outer quotes and expands a leading '~'."""
    if not source.strip():
        return "the source has no name."
    if found := _UNSAFE.search(source):
        return f"the source name {source!r} holds {found.group()!r}."
    quoted = len(source) > 1 and source[0] == source[-1] and source[0] in "\"'"
    if quoted or source != source.strip() or source.startswith("~"):
        return f"the source name {source!r} begins with '~', or is enclosed in quotes or blanks."
    return None
