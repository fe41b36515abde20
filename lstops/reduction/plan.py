"""Plan of a night's reduction: DL2 and DL3 of each run; then, from the whole runs, the index of each source."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lstops.errors import ConfigError
from lstops.night import Night
from lstops.reduction.cuts import CutSet
from lstops.reduction.geometry import Field, IrfNode, why_not
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step
from lstops.step.verify import CONFIG_IN_MODELS

CUTS_FILE = "cuts.json"
HDU_INDEX, OBS_INDEX = "hdu-index.fits.gz", "obs-index.fits.gz"
#: the zenith of the responses is that of the data when lstchain interpolates (rounded to 1e-5), a node's when not
_ZENITH_TOLERANCE_DEG = 0.05
#: placeholders of commands and characters that a FITS header cannot hold
_UNSAFE = re.compile(r"[{}]|[^\x20-\x7e]")


@dataclass(frozen=True)
class ModelSet:
    """The random forests for a run.

    Attributes
    ----------
    path : str
        Folder, relative to the site's base.
    sha256 : str or None
        Pins the content: what is unpickled is what was registered.
    config : str or None
        lstchain configuration of the training, relative to the base; None: the copy in the folder.
    """

    production: str
    line: str
    level_ghz: float
    path: str
    sha256: str | None = None
    config: str | None = None


@dataclass(frozen=True)
class RunJob:
    """One run to reduce: what it is, and what is used for it.

    Attributes
    ----------
    dl1 : str
        Run-wise DL1, relative to the site's base.
    ra_deg, dec_deg : float
        Of the source, in degrees (ICRS).
    zd_deg, az_deg : float
        Mean pointing in degrees.
    min_live_fraction : float
        Smallest LIVETIME / ONTIME of the DL3.
    """

    run: int
    dl1: str
    source: str
    ra_deg: float
    dec_deg: float
    zd_deg: float
    az_deg: float
    models: ModelSet
    irfs: tuple[IrfNode, ...]
    min_live_fraction: float = 0.5


@dataclass(frozen=True)
class NightRequest:
    """The runs of one night to reduce."""

    night: Night
    pipeline_version: str
    tailcut: str
    lstchain_version: str
    cuts: CutSet
    runs: tuple[RunJob, ...]


@dataclass(frozen=True)
class Refusal:
    """A run that is not reduced, and why."""

    run: int
    reason: str
    remedy: str


@dataclass(frozen=True)
class IndexRequest:
    """The DL3 files of one source that are whole.

    Attributes
    ----------
    dl3 : tuple of str
        Relative to the site's base, all in one folder.
    """

    night: Night
    lstchain_version: str
    source: str
    dl3: tuple[str, ...]


def split_runs(runs: Sequence[RunJob], field: Field) -> tuple[tuple[RunJob, ...], tuple[Refusal, ...]]:
    """Separate the runs that can be reduced from those that cannot.

    Parameters
    ----------
    field : Field
        Geomagnetic field of today (see `why_not`).
    """
    accepted, refused = [], []
    for job in runs:
        if reason := _unsafe_source(job.source):
            refused.append(Refusal(job.run, reason, "correct the source's name with an overlay record."))
        elif reason := why_not(job.zd_deg, job.az_deg, job.irfs, field):
            refused.append(Refusal(job.run, reason, "produce test nodes around this pointing, or exclude the run."))
        else:
            accepted.append(job)
    return tuple(accepted), tuple(refused)


def plan_night(request: NightRequest, site: Site) -> Plan:
    """Plan DL2 and DL3 of the runs; one that fails is quarantined and the others go on.

    Raises
    ------
    ConfigError
        If a run is named twice or a source's name cannot be written into a file.
    """
    site.environment(request.lstchain_version)
    numbers = [job.run for job in request.runs]
    if len(set(numbers)) != len(numbers):
        raise ConfigError(f"night {request.night}: a run is named twice in {sorted(numbers)}.", "name each run once.")
    for job in request.runs:
        if reason := _unsafe_source(job.source):
            raise ConfigError(f"run {job.run}: {reason}", "correct the source's name with an overlay record.")
    layout = Layout(site.base, site.work)
    jobs = sorted(request.runs, key=lambda job: job.run)
    return Plan(
        kind="reduction",
        title=f"night {request.night}: {len(jobs)} run(s)",
        site=site.name,
        lstchain_version=request.lstchain_version,
        stages=(
            Stage(name="dl2", steps=tuple(_dl2(job, request, site, layout) for job in jobs), quarantine=True),
            Stage(name="dl3", steps=tuple(_dl3(job, request, site, layout) for job in jobs), quarantine=True),
        ),
        context={
            "night": str(request.night),
            "cuts": request.cuts.name,
            "cuts_sha256": request.cuts.digest,
            "runs": {str(job.run): {"source": job.source, "production": job.models.production} for job in jobs},
        },
    )


def plan_index(request: IndexRequest, site: Site) -> Plan:
    """Plan the index of the DL3 files of one source, made after the night's plan from the runs that are whole.

    Raises
    ------
    ConfigError
        If there are no files, or they lie in more than one folder.
    """
    folders = {path.rpartition("/")[0] for path in request.dl3}
    if len(folders) != 1:
        raise ConfigError(
            f"the index of {request.source!r} needs DL3 files of one folder, not of {sorted(folders) or 'none'}.",
            "plan one index for each folder, and none for a source without a whole run.",
        )
    folder = folders.pop()
    command = ("python", "-m", "lstops.science.dl3_index", "--dl3", "{indir:dl3}", "--output", "{outdir:hdu-index}")
    step = Step(
        kind="index",
        label=f"index of {request.source}, {len(request.dl3)} run(s)",
        subject=f"source {request.source}",
        commands=(command,),
        inputs=tuple(
            Input(name=f"dl3-{i}", group="dl3", kind=ArtifactKind.DL3, path=path)
            for i, path in enumerate(sorted(request.dl3))
        ),
        outputs=(
            Output(name="hdu-index", kind=ArtifactKind.DL3_INDEX, path=f"{folder}/{HDU_INDEX}"),
            Output(name="obs-index", kind=ArtifactKind.DL3_INDEX, path=f"{folder}/{OBS_INDEX}"),
        ),
        resources=site.resources_for("index"),
        environment=request.lstchain_version,
    )
    return Plan(
        kind="reduction_index",
        title=f"night {request.night}: index of {request.source}",
        site=site.name,
        lstchain_version=request.lstchain_version,
        stages=(Stage(name="index", steps=(step,), quarantine=True),),
        context={"night": str(request.night), "source": request.source},
    )


def dl3_path(job: RunJob, request: NightRequest, layout: Layout) -> str:
    """Where the DL3 of a run is made, relative to the base."""
    folder = layout.dl3_candidates(
        request.night, request.pipeline_version, job.models.production, request.cuts.name, job.source
    )
    return f"{folder}/{layout.dl3_name(job.run)}"


def dl2_path(job: RunJob, request: NightRequest, layout: Layout) -> str:
    """Where the DL2 of a run is made, relative to the base."""
    return layout.dl2_run(request.night, request.pipeline_version, request.tailcut, job.models.level_ghz, job.run)


def _dl2(job: RunJob, request: NightRequest, site: Site, layout: Layout) -> Step:
    models = job.models
    inputs = [
        Input(name="dl1", kind=ArtifactKind.DL1_MERGED, path=job.dl1),
        Input(name="models", kind=ArtifactKind.MODELS, path=models.path, sha256=models.sha256),
    ]
    config = f"{{in:models}}/{CONFIG_IN_MODELS}"
    if models.config:
        inputs.append(Input(name="config", kind=ArtifactKind.LSTCHAIN_CONFIG, path=models.config))
        config = "{in:config}"
    command = ("lstchain_dl1_to_dl2", "-f", "{in:dl1}", "-p", "{in:models}", "-o", "{outdir:dl2}", "-c", config)
    return Step(
        kind="dl2",
        label=f"DL2 of run {job.run}",
        subject=f"run {job.run}",
        commands=(command,),
        inputs=tuple(inputs),
        outputs=(Output(name="dl2", kind=ArtifactKind.DL2, path=dl2_path(job, request, layout), counts_from=("dl1",)),),
        resources=site.resources_for("dl2"),
        environment=request.lstchain_version,
    )


def _dl3(job: RunJob, request: NightRequest, site: Site, layout: Layout) -> Step:
    # NAME=VALUE in one word: a source name or declination that begins with '-' is then no option
    command = ("lstchain_create_dl3_file", "-d", "{in:dl2}", "-o", "{outdir:dl3}", "-i", "{indir:irf}",
               "-p", "irf*.fits.gz", f"--source-name={job.source}", f"--source-ra={job.ra_deg!r}deg",
               f"--source-dec={job.dec_deg!r}deg", "--config", f"{{file:{CUTS_FILE}}}", "--overwrite")  # fmt: skip
    nodes = [
        Input(name=f"irf-{i}", group="irf", kind=ArtifactKind.IRF, path=node.path, sha256=node.sha256)
        for i, node in enumerate(sorted(job.irfs, key=lambda node: node.path))
    ]
    dl3 = Output(
        name="dl3",
        kind=ArtifactKind.DL3,
        path=dl3_path(job, request, layout),
        counts_from=("dl2",),
        expect={
            "run": job.run,
            "object": job.source,
            "min_live_fraction": job.min_live_fraction,
            "irf_zenith_tolerance_deg": _ZENITH_TOLERANCE_DEG,
        },
    )
    return Step(
        kind="dl3",
        label=f"DL3 of run {job.run}, {job.source}",
        subject=f"run {job.run}",
        commands=(command,),
        inputs=(Input(name="dl2", kind=ArtifactKind.DL2, path=dl2_path(job, request, layout)), *nodes),
        outputs=(dl3,),
        files={CUTS_FILE: request.cuts.text},
        resources=site.resources_for("dl3"),
        environment=request.lstchain_version,
    )


def _unsafe_source(source: str) -> str | None:
    """Why a name cannot be handed over unchanged: traitlets strips outer quotes and expands a leading '~'."""
    if not source.strip():
        return "the source has no name."
    if found := _UNSAFE.search(source):
        return f"the source name {source!r} holds {found.group()!r}."
    quoted = len(source) > 1 and source[0] == source[-1] and source[0] in "\"'"
    if quoted or source != source.strip() or source.startswith("~"):
        return f"the source name {source!r} begins with '~', or is enclosed in quotes or blanks."
    return None
