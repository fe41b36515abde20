"""Plan of a night's reduction: DL2 and DL3 of each run; then, from the whole runs, the index of each source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lstops.errors import ConfigError
from lstops.night import Night
from lstops.reduction.cuts import CutSet
from lstops.reduction.jobs import ModelSet, RunJob
from lstops.reduction.refusal import unsafe_source
from lstops.reduction.run_responses import run_responses
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.model import ArtifactKind, Input, Output, Plan, Stage, Step
from lstops.step.verify import CONFIG_IN_MODELS

CUTS_FILE = "cuts.json"
HDU_INDEX, OBS_INDEX = "hdu-index.fits.gz", "obs-index.fits.gz"
#: the zenith of the responses is that of the data when lstchain interpolates (rounded to 1e-5), a node's when not
_ZENITH_TOLERANCE_DEG = 0.05
#: between a run's pointing as planned with, and the mean of its events
_POINTING_DEG = 0.5


@dataclass(frozen=True)
class NightRequest:
    """The runs of one night to reduce.

    Attributes
    ----------
    folder : str or None
        Where the DL3 files are made, relative to the site's base; None: in the night's own folder.
    reprocessing : str
        Name of the reprocessing whose folder takes the DL3 files; empty: none.
    """

    night: Night
    pipeline_version: str
    tailcut: str
    lstchain_version: str
    cuts: CutSet
    runs: tuple[RunJob, ...]
    folder: str | None = None
    reprocessing: str = ""


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
        if reason := unsafe_source(job.source):
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
            "runs": {str(job.run): _about(job) for job in jobs},
        },
    )


def plan_index(request: IndexRequest, site: Site) -> Plan:
    """Plan the index of the DL3 files of one source, made after the night's plan from the runs that are whole.

    Raises
    ------
    ConfigError
        If there are no files, or they lie in more than one folder.
    """
    step = index_step(site, request.source, request.dl3, request.lstchain_version)
    return Plan(
        kind="reduction_index",
        title=f"night {request.night}: index of {request.source}",
        site=site.name,
        lstchain_version=request.lstchain_version,
        stages=(Stage(name="index", steps=(step,), quarantine=True),),
        context={"night": str(request.night), "source": request.source},
    )


def index_step(site: Site, source: str, dl3: Sequence[str], lstchain_version: str) -> Step:
    """The step that makes the index of the DL3 files of one source, beside them.

    Raises
    ------
    ConfigError
        If there are no files, or they lie in more than one folder.
    """
    folders = {path.rpartition("/")[0] for path in dl3}
    if len(folders) != 1:
        raise ConfigError(
            f"the index of {source!r} needs DL3 files of one folder, not of {sorted(folders) or 'none'}.",
            "plan one index for each folder, and none for a source without a whole run.",
        )
    folder = folders.pop()
    command = ("python", "-m", "lstops.science.dl3_index", "--dl3", "{indir:dl3}", "--output", "{outdir:hdu-index}")
    return Step(
        kind="index",
        label=f"index of {source}, {len(dl3)} run(s)",
        subject=f"source {source}",
        commands=(command,),
        inputs=tuple(
            Input(name=f"dl3-{i}", group="dl3", kind=ArtifactKind.DL3, path=path) for i, path in enumerate(sorted(dl3))
        ),
        outputs=(
            Output(name="hdu-index", kind=ArtifactKind.DL3_INDEX, path=f"{folder}/{HDU_INDEX}"),
            Output(name="obs-index", kind=ArtifactKind.DL3_INDEX, path=f"{folder}/{OBS_INDEX}"),
        ),
        resources=site.resources_for("index"),
        environment=lstchain_version,
    )


def _about(job: RunJob) -> dict[str, Any]:
    about: dict[str, Any] = {"source": job.source, "production": job.models.production, "line": job.models.line}
    if job.dropped:
        about["dropped_subruns"] = list(job.dropped_subruns)
    if job.response_words:
        about["responses"] = job.response_words
    return about


def dl3_path(job: RunJob, request: NightRequest, layout: Layout) -> str:
    """Where the DL3 of a run is made, relative to the base."""
    where = (request.night, request.pipeline_version, job.models.production, request.cuts.name, job.source)
    folder = request.folder or (
        layout.reprocessed_candidates(request.reprocessing, *where)
        if request.reprocessing
        else layout.dl3_candidates(*where)
    )
    return f"{folder}/{layout.dl3_name(job.run)}"


def dl2_path(job: RunJob, request: NightRequest, layout: Layout) -> str:
    """Where the DL2 of a run is made, relative to the base."""
    tailcut = job.tailcut or request.tailcut
    return layout.dl2_run(request.night, request.pipeline_version, tailcut, job.models.level_ghz, job.run)


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
        commands=(command, _stamp("dl2", _identity(models))),
        inputs=tuple(inputs),
        outputs=(Output(name="dl2", kind=ArtifactKind.DL2, path=dl2_path(job, request, layout), counts_from=("dl1",)),),
        resources=site.resources_for("dl2"),
        environment=request.lstchain_version,
    )


def _dl3(job: RunJob, request: NightRequest, site: Site, layout: Layout) -> Step:
    cuts = request.cuts
    dropped = [
        Input(name=f"dropped-{i}", kind=ArtifactKind.DL1, path=path) for i, path in enumerate(sorted(job.dropped))
    ]
    expect = {
        "run": job.run,
        "object": job.source,
        "min_live_fraction": job.min_live_fraction,
        "irf_zenith_tolerance_deg": _ZENITH_TOLERANCE_DEG,
        "useful_energy_tev": list(cuts.useful_energy_tev),
    }
    if job.nearest_deg is not None:
        expect |= {"nearest_node": True, "irf_zenith_tolerance_deg": job.nearest_deg + _POINTING_DEG}
    if dropped:
        expect |= {"whole_run": False, "dropped_subruns": list(job.dropped_subruns)}
    path = dl3_path(job, request, layout)
    output = Output(name="dl3", kind=ArtifactKind.DL3, path=path, counts_from=("dl2",), expect=expect)
    out = [item.name for item in dropped]
    of_run = run_responses(job, cuts, path, out) if cuts.intensity_per_run else None
    responses, settings = of_run.inputs if of_run else _nodes(job), of_run.cuts if of_run else f"{{file:{CUTS_FILE}}}"
    folder = f"{{outdir:{of_run.outputs[0].name}}}" if of_run else "{indir:irf}"
    command = _dl3_command(job, out, folder, settings)
    return Step(
        kind="dl3",
        label=f"DL3 of run {job.run}, {job.source}",
        subject=f"run {job.run}",
        commands=(
            *(of_run.commands if of_run else ()),
            command,
            _stamp("dl3", _made_with(job, cuts), f"--cuts={settings}"),
        ),
        inputs=(Input(name="dl2", kind=ArtifactKind.DL2, path=dl2_path(job, request, layout)), *responses, *dropped),
        outputs=(output, *(of_run.outputs if of_run else ())),
        files={CUTS_FILE: cuts.text},
        resources=site.resources_for("dl3"),
        environment=request.lstchain_version,
    )


def _nodes(job: RunJob) -> tuple[Input, ...]:
    return tuple(
        Input(name=f"irf-{i}", group="irf", kind=ArtifactKind.IRF, path=node.path, sha256=node.sha256)
        for i, node in enumerate(sorted(job.irfs, key=lambda node: node.path))
    )


def _stamp(output: str, values: Mapping[str, str], *options: str) -> tuple[str, ...]:
    """Writes into a product what it was made with; the version of lstops comes from the process that does it."""
    words = (f"{key}={value}" for key, value in values.items())
    return ("python", "-m", "lstops.science.stamp", *options, f"{{out:{output}}}", *words)


def _identity(models: ModelSet) -> dict[str, str]:
    return {"MODELS": models.production} | ({"MODELSHA": models.sha256} if models.sha256 else {})


def _made_with(job: RunJob, cuts: CutSet) -> dict[str, str]:
    """Keywords of a DL3 file; the nodes are all that lstchain could interpolate from, their weights are facts."""
    nodes = sorted(job.irfs, key=lambda node: node.path)
    values = _identity(job.models) | {"CUTSET": cuts.name, "IRFNODES": str(len(nodes))}
    if job.nearest_deg is not None:
        values["IRFSEP"] = f"{job.nearest_deg:.2f} deg"
    for number, node in enumerate(nodes, start=1):
        values[f"IRFN{number:04d}"] = node.path.rpartition("/")[2]
        if node.sha256:
            values[f"IRFS{number:04d}"] = node.sha256
    return values


def _dl3_command(job: RunJob, dropped: Sequence[str], responses: str, cuts: str) -> tuple[str, ...]:
    """lstchain's tool with the geomagnetic field of the run; of a run that is not whole, on what is left of its DL2."""
    # NAME=VALUE in one word: a source name or declination that begins with '-' is then no option
    words = ("-i", responses, "-p", "irf*.fits.gz", f"--source-name={job.source}",
             f"--source-ra={job.ra_deg!r}deg", f"--source-dec={job.dec_deg!r}deg",
             "--config", cuts, "--overwrite")  # fmt: skip
    named = (word for name in dropped for word in ("--dropped", f"{{in:{name}}}"))
    return ("python", "-m", "lstops.science.dl3", "--dl2", "{in:dl2}", *named,
            "--output", "{out:dl3}", "--scratch", "{scratch}", "--", *words)  # fmt: skip
