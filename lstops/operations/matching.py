"""What a run is reduced with: its models, its IRF nodes, and the subruns that are left out."""

from __future__ import annotations

import functools
import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy.orm import Session

from lstops.catalog.history import load_subruns
from lstops.catalog.nights import run_table
from lstops.catalog.runlist import RunList, list_night, with_good_time
from lstops.catalog.tables import ProductionRow, RunRow
from lstops.errors import DataError, LstOpsError
from lstops.night import Night, Run
from lstops.nsb.finder import RunNsb
from lstops.nsb.tailcuts import Tailcut
from lstops.operations.nightly import layout_of, read_nsb
from lstops.operations.run_match import Available, line_to_request, match_production, require_pointing
from lstops.production.grid import Particle, line_in_path, particle_in_path
from lstops.production.lstchain_config import version_tuple
from lstops.quality.overlay import subrun_words
from lstops.quality.profiles import Profile
from lstops.reduction.cut_settings import differences, settings_of
from lstops.reduction.cuts import CutSet
from lstops.reduction.geometry import IrfNode
from lstops.reduction.jobs import ModelSet, RunJob, with_nearest_node
from lstops.reduction.plan import CUTS_FILE
from lstops.reduction.pointing import mean_azimuth_deg
from lstops.reduction.refusal import split_runs
from lstops.site.layout import Layout, parse_run_file
from lstops.site.model import Site
from lstops.step.manifest import Manifest, ManifestStore
from lstops.step.model import ArtifactKind

Causes = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Matching:
    """What runs are matched with.

    Attributes
    ----------
    tolerance_ghz : float
        Largest difference between the NSB of a run and that of its production; infinite: whatever is nearest.
    dropped : mapping of int to tuple of int
        Subruns that are left out, by run number.
    """

    available: Available
    tolerance_ghz: float
    cuts: CutSet
    dropped: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def match_runs(
    site: Site, night: Night, runs: Sequence[Run], rows: Mapping[int, RunRow], matching: Matching
) -> tuple[tuple[RunJob, ...], Causes]:
    """Find what each run of a night is reduced with; runs without are returned with cause and remedy."""
    nsb, unmeasured = read_nsb(site, night, (run.number for run in runs))
    # most runs of a night share a production, which has hundreds of responses
    responses = functools.cache(lambda production: irf_nodes(layout_of(site), production, matching.cuts))
    jobs: list[RunJob] = []
    causes: Causes = {
        f"run {run}": (error.what, "look at the log of the stage `nsb`, or exclude the run with a reason.")
        for run, error in unmeasured.items()
    }
    for run in runs:
        if run.number in unmeasured:
            continue
        try:
            declination = mean_declination_deg(rows[run.number])
            require_pointing(run.number, declination)
            found = match_production(
                site, nsb[run.number], declination, matching.available, tolerance_ghz=matching.tolerance_ghz
            )
            if not found.match.usable or found.production is None:
                remedy = _request_of(nsb[run.number], line_to_request(site, declination))
                causes[f"run {run.number}"] = (found.match.explanation, remedy)
                continue
            dropped = matching.dropped.get(run.number, ())
            jobs.append(_job(site, night, run, rows[run.number], found.production, dropped, responses))
        except LstOpsError as error:
            causes[f"run {run.number}"] = (error.what, error.remedy)
    accepted, refused = split_runs(jobs, matching.cuts)
    causes |= {f"run {refusal.run}": (refusal.reason, refusal.remedy) for refusal in refused}
    return accepted, causes


def _request_of(nsb: RunNsb, line: str | None) -> str:
    wanted = f"at {nsb.extra_ghz:.2f} GHz with {nsb.tailcut.directory}"
    if line is None:
        return f"no line is simulated near it: have one made, or exclude run {nsb.run_number} with a reason."
    return (
        f"request a production {wanted} on {line} (DAG mc_production), or exclude run {nsb.run_number} with a reason."
    )


def _job(
    site: Site, night: Night, run: Run, row: RunRow, production: ProductionRow, dropped: Sequence[int],
    responses: Callable[[ProductionRow], tuple[IrfNode, ...]],
) -> RunJob:  # fmt: skip
    layout, nightly = layout_of(site), site.nightly
    source = run.source
    if source is None or source.ra_deg is None or source.dec_deg is None:
        raise DataError(
            f"run {run.number} has no source with coordinates in the run catalogue.",
            "add the source to the site's target list or the run to the run catalogue.",
        )
    dl1 = layout.dl1_run(night, nightly.pipeline_version, production.tailcut, run.number)
    _require_cleaning(site, dl1, run.number, production)
    _require_version(layout, dl1, run.number, nightly.lstchain_version)
    start_s, ra_deg, dec_deg = _where_and_when(row)
    middle_s = start_s + (row.quantities.get("elapsed_time_s") or 0.0) / 2
    job = RunJob(
        run=run.number,
        dl1=dl1,
        source=source.name,
        ra_deg=source.ra_deg,
        dec_deg=source.dec_deg,
        zd_deg=zenith_deg(row),
        az_deg=mean_azimuth_deg(ra_deg, dec_deg, middle_s, site.observatory),
        middle_unix_s=middle_s,
        models=models_of(production),
        irfs=responses(production),
        dropped=_dropped_files(site, night, run.number, dropped, production.tailcut),
        tailcut=production.tailcut,
    )
    return with_nearest_node(job, nightly.nearest_irf_node_within_deg)


def _where_and_when(row: RunRow) -> tuple[float, float, float]:
    """Start of a run (s since 1970) and its mean pointing (deg)."""
    known = {name: row.quantities.get(name) for name in ("start_s", "mean_ra_deg", "mean_dec_deg")}
    start_s, ra_deg, dec_deg = (math.nan if value is None else float(value) for value in known.values())
    if not all(map(math.isfinite, (start_s, ra_deg, dec_deg))):
        unknown = ", ".join(name for name, value in known.items() if value is None or not math.isfinite(value))
        raise DataError(f"run {row.run_id}: {unknown} is not known, its azimuth neither.", "look at its data check.")
    return start_s, ra_deg, dec_deg


def _require_cleaning(site: Site, dl1: str, run: int, production: ProductionRow) -> None:
    """The images of a run must be cleaned as those that its models were trained with.

    The first pass over a night has the standard cleaning; of a bright sky lstosa makes DL1 anew in another folder.
    """
    from lstops.step.verify.dl1 import cleaned_with

    layout, wanted = layout_of(site), Tailcut.parse(production.tailcut)
    path = layout.absolute(dl1)
    if production.tailcut != site.nightly.tailcut and not path.exists():
        raise DataError(
            f"run {run} needs images cleaned with {wanted}, as those of {production.name}, and {dl1} does not exist.",
            f"have it made with {layout.tailcuts(run)[0]} (lstchain_dl1ab, as lstosa does), or exclude the run.",
        )
    found = cleaned_with(path)
    if found is not None and found != wanted:
        raise DataError(
            f"the images of {dl1} are cleaned with {found}, those of {production.name} with {wanted}.",
            "have the DL1 made again with the cleaning of its folder, or exclude the run.",
        )


def _require_version(layout: Layout, dl1: str, run: int, wanted: str) -> None:
    """Data and models must agree in the version of lstchain but for its last number (v0.10, as folders have it)."""
    from lstops.step.verify.dl1 import made_by

    found = made_by(layout.absolute(dl1))
    if found is not None and version_tuple(found)[:2] != version_tuple(wanted)[:2]:
        raise DataError(
            f"{dl1} was made by lstchain {found}, the models of run {run} are for {wanted}: its images are others.",
            f"reduce it with lstchain {found} (`lstops reprocess --lstchain-version`), or have DL1 made by {wanted}.",
        )


def models_of(production: ProductionRow) -> ModelSet:
    """The random forests of a registered production."""
    zeniths = [float(zd) for zd, _ in production.facts.get("training_dirs", ())]
    return ModelSet(
        production=production.name,
        line=production.line,
        level_ghz=production.nsb_level_ghz,
        path=production.models_path,
        sha256=production.models_sha256,
        config=str(production.facts["config_path"]),
        training_zd_deg=(min(zeniths), max(zeniths)) if zeniths else None,
    )


def _dropped_files(site: Site, night: Night, run: int, subruns: Sequence[int], tailcut: str) -> tuple[str, ...]:
    """The subrun-wise DL1 files that say which events are left out: of whichever cleaning, the events are the same."""
    layout, nightly, missing = layout_of(site), site.nightly, []
    for folder in dict.fromkeys((nightly.tailcut, tailcut)):
        files = [layout.dl1_subrun(night, nightly.pipeline_version, folder, run, n) for n in subruns]
        missing = [n for n, path in zip(subruns, files, strict=True) if not layout.absolute(path).exists()]
        if not missing:
            return tuple(files)
    folders = " or ".join(dict.fromkeys((nightly.tailcut, tailcut)))
    raise DataError(
        f"run {run}: subruns {subrun_words(missing)} shall be left out, and their subrun-wise DL1 files, which "
        f"say which events those are, are not in {folders}.",
        "bring the subrun-wise files back, revoke the decision, or exclude the run.",
    )


def zenith_deg(row: RunRow) -> float:
    """Mean zenith distance of a run (degrees)."""
    return float(run_table([row]).zenith_deg[0])


def mean_declination_deg(row: RunRow) -> float:
    """Mean declination of a run's pointing (degrees); NaN if unknown."""
    value = row.quantities.get("mean_dec_deg")
    return math.nan if value is None else float(value)


def irf_nodes(layout: Layout, production: ProductionRow, cuts: CutSet) -> tuple[IrfNode, ...]:
    """The IRFs of a production, as their manifests describe them, in the order of their file names.

    They are in one folder or, in trees of lstmcpipe, in one a node; those of diffuse gammas and of other lines are not
    for data. Which cuts were used says the cut set of the step or, for lstmcpipe, the production's configuration.

    Raises
    ------
    DataError
        If one was made with the forests of another production: whatever its folder or name says, events and responses
        would not be of the same reconstruction. Or if one is gone: the responses would be interpolated between others.
    """
    store = ManifestStore(layout.manifests)
    _require_all(layout, production)
    nodes = []
    for path in sorted(layout.absolute(production.irf_dir).rglob("irf*.fits.gz"), key=lambda path: path.name):
        relative = layout.relative(path)
        if not _is_of(production, relative):
            continue
        manifest = store.producer(relative)
        record = manifest.output(relative) if manifest else None
        if manifest is None or record is None:
            continue
        _require_forests(store, relative, manifest, production)
        facts, known = record.facts, _cuts_digest(manifest, production)
        nodes.append(
            IrfNode(
                record.path,
                facts["zd_deg"],
                facts["az_deg"],
                facts["b_delta_deg"],
                record.state.sha256,
                cuts_sha256=known,
                empty_bins_tev=tuple((float(low), float(high)) for low, high in facts.get("empty_bins_tev", ())),
                gamma_dl2=next((i.path for i in manifest.inputs if i.kind is ArtifactKind.DL2), None),
                other_cuts="" if known else _other_cuts(manifest, production, cuts),
            )
        )
    return tuple(nodes)


def _is_of(production: ProductionRow, irf: str) -> bool:
    """Whether a response is for data of the production's line."""
    return particle_in_path(irf) is not Particle.GAMMA_DIFFUSE and line_in_path(irf) in (None, production.line)


def _require_all(layout: Layout, production: ProductionRow) -> None:
    described = (layout.manifests / production.irf_dir).rglob("irf*.fits.gz.json")
    paths = (str(path.relative_to(layout.manifests)).removesuffix(".json") for path in described)
    if gone := sorted(path for path in paths if _is_of(production, path) and not layout.absolute(path).exists()):
        named = ", ".join(path.rpartition("/")[2] for path in gone[:3]) + (", ..." if len(gone) > 3 else "")
        raise DataError(
            f"{len(gone)} response(s) of {production.name} are gone ({named}): its runs would be interpolated between "
            "other nodes.",
            "restore the files, or make them again (DAG `mc_production`).",
        )


def _require_forests(store: ManifestStore, path: str, manifest: Manifest, production: ProductionRow) -> None:
    """The DL2 of a response must come from the forests that the data are reconstructed with."""
    for used in (item for item in manifest.inputs if item.kind is ArtifactKind.DL2):
        maker = store.maker_of(used.path, used.state.sha256)
        for models in (item for item in (maker.inputs if maker else ()) if item.kind is ArtifactKind.MODELS):
            if models.state.sha256 != production.models_sha256:
                raise DataError(
                    f"{path} was made with the forests {models.path} ({models.state.sha256[:8]}...), not with those of "
                    f"{production.name} ({production.models_path}, {production.models_sha256[:8]}...).",
                    f"make the responses of {production.name} (DAG `mc_production`) and register it again, or withdraw "
                    "it (`lstops production withdraw`).",
                )


def _cuts_digest(manifest: Manifest, production: ProductionRow) -> str | None:
    """Digest of the cut set of a response; None if it was made without one, by lstmcpipe."""
    if text := manifest.files.get(CUTS_FILE):
        return hashlib.sha256(text.encode()).hexdigest()
    known = production.facts.get("cuts_sha256")
    return str(known) if known else None


def _other_cuts(manifest: Manifest, production: ProductionRow, cuts: CutSet) -> str:
    """How a response that was made by configuration and command line differs from a cut set; empty if it does not."""
    command = [word for argv in manifest.commands for word in argv]
    return "; ".join(differences(settings_of(production.config, command), cuts.settings))


def night_with_good_time(session: Session, night: Night, profile: Profile) -> RunList:
    """The runs of a night with the good time within each, if the profile has rules for subruns."""
    answer = list_night(session, night, profile)
    return answer if profile.subruns is None else with_good_time(session, answer)


def subruns_to_drop(site: Site, session: Session, answer: RunList) -> dict[int, tuple[int, ...]]:
    """Subruns whose events are left out, by run number; runs that are whole are not named.

    They are those outside the good time of the run, among them those that have a DL1 file and are not in the data
    check: nobody has judged them. A run that is not good even after that, but was taken by a person's decision, loses
    only the subruns that people dropped.
    """
    good, found = answer.good_time or {}, {}
    taken = answer.selected | answer.selected_as_whole
    runs = (set(good) | set(answer.overlay)) & set(answer.history.table.run_number[taken].tolist())
    subruns = load_subruns(session, runs=sorted(runs), columns=["run_number", "subrun"]) if runs else None
    on_disk = _subruns_on_disk(site, answer, runs & set(good))
    for run in sorted(runs):
        people = {number for record in answer.overlay.get(run, ()) if record.active for number in record.subruns}
        known = subruns.subrun[subruns.run_number == run] if subruns is not None else np.empty(0, dtype=int)
        cut = good.get(run)
        if cut is not None and cut.selected:
            kept = {n for part in cut.time.intervals for n in range(part.first_subrun, part.last_subrun + 1)}
            people |= (set(known.tolist()) | on_disk.get(run, set())) - kept
        if people:
            found[run] = tuple(sorted(people))
    return found


def _subruns_on_disk(site: Site, answer: RunList, runs: Collection[int]) -> dict[int, set[int]]:
    """Subruns with a DL1 file of their own, by run number; each night's folder is listed once."""
    layout, nightly, table = layout_of(site), site.nightly, answer.history.table
    found: dict[int, set[int]] = defaultdict(set)
    for night in np.unique(table.night[np.isin(table.run_number, list(runs))]).tolist():
        folder = layout.absolute(layout.dl1_dir(Night.parse(night), nightly.pipeline_version, nightly.tailcut))
        for path in folder.glob("dl1_LST-1.Run?????.????.h5"):
            name = parse_run_file(path.name)
            if name.subrun is not None:
                found[name.run].add(name.subrun)
    return found
