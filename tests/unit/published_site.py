"""A small site with DL3 files, their index and their manifests, as the reduction leaves them (for test_publish*.py)."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from lstops.publish.model import BundleRequest, Decision, RunVerdict, Source
from lstops.site.layout import Layout
from lstops.step.manifest import ArtifactRecord, Manifest, ManifestStore, full_state
from lstops.step.model import ArtifactKind

#: steps end one second after the other, in all sites of a process
_SECONDS = itertools.count()
CANDIDATES = "lstops/dl3/20240115/v0.12/prod_a/std/Crab"
FOLDER = "DL3/20240115/v0.12/prod_a/std/Crab"


def write_dl3(path: Path, run: int, events: int = 5, seed: int = 0) -> None:
    """A file with the HDUs of a DL3 (content without meaning)."""
    rng = np.random.default_rng(seed + run)
    table = Table({"EVENT_ID": np.arange(events), "RA": rng.normal(83.6, 0.1, events), "ENERGY": rng.random(events)})
    hdus = [fits.PrimaryHDU(), fits.BinTableHDU(table, name="EVENTS")]
    hdus[1].header["OBS_ID"] = run
    pointing = {"RA_PNT": 83.6, "DEC_PNT": 22.4, "OBJECT": "Crab", "INSTRUME": "LST-1"}
    times = {"MJDREFI": 58119, "MJDREFF": 0.0, "TSTART": 190_500_000.0, "TSTOP": 190_501_200.0, "LIVETIME": 1140.0}
    hdus[1].header.update(pointing | times)
    hdus += [fits.BinTableHDU(Table({"START": [0.0]}), name=name) for name in ("GTI", "POINTING", "EFFECTIVE AREA")]
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.HDUList(hdus).writeto(path, overwrite=True)


def write_index(folder: Path, runs: Iterable[int], file_dir: str = "../staging/in-dl3") -> None:
    """An index as lstchain leaves it in a step: with the staging folder in its paths."""
    runs = list(runs)
    names = ("EVENTS", "GTI", "POINTING", "EFFECTIVE AREA")
    rows = [(r, "events", file_dir, f"dl3_LST-1.Run{r:05d}.fits", hdu, 1) for r in runs for hdu in names]
    hdu_table = Table(rows=rows, names=("OBS_ID", "HDU_TYPE", "FILE_DIR", "FILE_NAME", "HDU_NAME", "SIZE"))
    hdu = fits.BinTableHDU(hdu_table, name="HDU INDEX")
    hdu.header["BASE_DIR"] = "/somewhere/lstops/staging/abc/out0"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(folder / "hdu-index.fits.gz", overwrite=True)
    obs = fits.BinTableHDU(Table({"OBS_ID": runs}), name="OBS INDEX")
    fits.HDUList([fits.PrimaryHDU(), obs]).writeto(folder / "obs-index.fits.gz", overwrite=True)


def record(layout: Layout, kind: ArtifactKind, path: str) -> ArtifactRecord:
    return ArtifactRecord(name=kind.value, kind=kind, path=path, state=full_state(layout.absolute(path)))


def write_manifest(
    layout: Layout, label: str, inputs: list[ArtifactRecord], outputs: list[ArtifactRecord], **changes: object
) -> None:
    ended = datetime(2024, 1, 16, 8, 1, tzinfo=timezone.utc) + timedelta(seconds=next(_SECONDS))
    fields: dict[str, object] = {
        "key": "sha256:" + hashlib.sha256(label.encode()).hexdigest(),
        "kind": outputs[0].kind.value,
        "label": label,
        "subject": label,
        "commands": (("tool", "--out", "{out:x}"),),
        "files": {"config.json": '{"a": 1}'},
        "environment": "0.12.3",
        "versions": {"python": "3.11", "lstops": "0.1", "lstchain": "0.12.3"},
        "inputs": tuple(inputs),
        "outputs": tuple(outputs),
        "plan_id": "reduction-x",
        "plan_context": {},
        "index": 0,
        "host": "node1",
        "job": "7",
        "started": "2024-01-16T08:00:00+00:00",
        "ended": ended.isoformat(),
        "wall_s": 60.0,
        "cpu_s": 50.0,
        "max_rss_mb": 400.0,
        "log": "x.log",
    }
    ManifestStore(layout.manifests).write(Manifest.model_validate(fields | changes))


def write_file(layout: Layout, path: str, text: str) -> None:
    layout.absolute(path).parent.mkdir(parents=True, exist_ok=True)
    layout.absolute(path).write_text(text)


def make_production(layout: Layout, name: str = "prod_a", zeniths: Iterable[str] = ("6.000", "23.630")) -> None:
    """Models trained with these nodes: training DL1 (no manifest) -> merged -> models in the place of `make_site`."""
    context = {"production": name, "line": "dec_2276"}
    nodes = []
    for zenith in zeniths:
        node = f"node_theta_{zenith}_az_180.000_"
        path = f"mc/DL1/AllSky/{name}/TrainingDataset/dec_2276/GammaDiffuse/{node}/dl1_{node}.h5"
        write_file(layout, path, f"{name} {zenith}")
        nodes.append(record(layout, ArtifactKind.DL1, path))
    merged = f"mc/DL1/AllSky/{name}/TrainingDataset/dec_2276/GammaDiffuse/dl1_merged.h5"
    write_file(layout, merged, f"{name} merged")
    made = record(layout, ArtifactKind.DL1_MERGED, merged)
    production = {"plan_context": context, "plan_id": "mc_production-x"}
    write_manifest(layout, f"merge {name}", nodes, [made], **production)
    models = f"models/AllSky/{name}/dec_2276"
    for file in ("reg_energy.sav", "cls_gh.sav"):
        write_file(layout, f"{models}/{file}", f"{name} {file}")
    write_manifest(layout, f"forests {name}", [made], [record(layout, ArtifactKind.MODELS, models)], **production)


def make_site(base: Path, runs: Iterable[int] = (2001, 2002), seed: int = 0, *, production: bool = False) -> Layout:
    """DL1 (no manifest) -> DL2 -> DL3 -> index, with manifests; the models' own history if `production`."""
    runs = list(runs)
    layout = Layout(base)
    models = "models/AllSky/prod_a/dec_2276"
    if production:
        make_production(layout)
    else:
        for name in ("reg_energy.sav", "cls_gh.sav"):
            write_file(layout, f"{models}/{name}", name)
    context = {"night": "20240115", "cuts": "std", "runs": {str(r): {"production": "prod_a"} for r in runs}}
    dl3: list[ArtifactRecord] = []
    for run in runs:
        dl1, dl2 = f"DL1/dl1_LST-1.Run{run:05d}.h5", f"DL2/dl2_LST-1.Run{run:05d}.h5"
        for path in (dl1, dl2):
            write_file(layout, path, f"{path} {seed}")
        about = {"subject": f"run {run}", "plan_context": context}
        made = record(layout, ArtifactKind.DL2, dl2)
        write_manifest(
            layout,
            f"DL2 of run {run}",
            [record(layout, ArtifactKind.DL1, dl1), record(layout, ArtifactKind.MODELS, models)],
            [made],
            **about,
        )
        path = f"{CANDIDATES}/dl3_LST-1.Run{run:05d}.fits"
        write_dl3(layout.absolute(path), run, seed=seed)
        dl3.append(record(layout, ArtifactKind.DL3, path))
        write_manifest(layout, f"DL3 of run {run}", [made], [dl3[-1]], **about)
    write_index(layout.absolute(CANDIDATES), runs)
    index = [record(layout, ArtifactKind.DL3_INDEX, f"{CANDIDATES}/{n}-index.fits.gz") for n in ("hdu", "obs")]
    write_manifest(layout, "DL3 index", dl3, index, subject="source Crab", plan_context=context)
    return layout


def make_request(
    runs: Iterable[int] = (2001, 2002), rejected: Iterable[int] = (2003,), **changes: object
) -> BundleRequest:
    runs = list(runs)
    verdicts = [RunVerdict(r, True, "2024-01-15T21:00:00Z", 20.0, {"mean_diffuse_nsb_std_pe": 1.7}) for r in runs]
    verdicts += [RunVerdict(r, False, quantities={}, reasons=("clouds, of course",)) for r in rejected]
    fields: dict[str, object] = {
        "folder": FOLDER,
        "night": "20240115",
        "source": Source('Crab "nebula"', 83.6324, 22.0174),
        "production": "prod_a",
        "cuts_name": "std",
        "cuts": {"gammaness": 0.7},
        "products": tuple(f"{CANDIDATES}/dl3_LST-1.Run{r:05d}.fits" for r in runs),
        "index": (f"{CANDIDATES}/hdu-index.fits.gz", f"{CANDIDATES}/obs-index.fits.gz"),
        "runs": tuple(verdicts),
        "decisions": (Decision(2001, "include", "Ana", "moon was down", "2024-01-16T09:00:00Z"),),
    }
    fields |= changes
    fields["cuts"] = json.dumps(fields["cuts"])
    return BundleRequest(**fields)  # type: ignore[arg-type]
