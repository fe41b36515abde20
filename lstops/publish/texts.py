"""The small files of a bundle: run list, README, citation, checksums. Pure: data in, text out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO

import lstops
from lstops.publish import model
from lstops.publish.model import BundleRequest, PublishedFile
from lstops.site.layout import parse_run_file

#: packages that a citation names, with whom it names
_SOFTWARE_AUTHORS = {"lstchain": "LST Collaboration", "lstops": "lstops developers"}


def run_list(request: BundleRequest, published: Iterable[str]) -> str:
    """The run list as ECSV: every run that was judged, with its verdict, good or bad.

    Parameters
    ----------
    published : iterable of str
        Names of the DL3 files in the bundle.
    """
    from astropy.table import Column, Table

    by_run = {run_of(name): name for name in published}
    runs = sorted(request.runs, key=lambda r: r.run_id)
    names = sorted({q for r in runs for q in r.quantities})
    table = Table()
    table["run_id"] = Column([r.run_id for r in runs], dtype=int)
    table["selected"] = Column([r.selected for r in runs], dtype=bool)
    table["published"] = Column([r.run_id in by_run for r in runs], dtype=bool)
    table["file"] = Column([by_run.get(r.run_id, "") for r in runs], dtype=str)
    table["start"] = Column([r.start for r in runs], dtype=str, description="UTC")
    table["zenith"] = Column(
        [_number(r.zenith_deg) for r in runs], dtype=float, unit="deg", description="mean zenith distance"
    )
    for name in names:
        table[name] = Column([_number(r.quantities.get(name)) for r in runs], dtype=float)
    table["reasons"] = Column(["; ".join(r.reasons) for r in runs], dtype=str)
    table.meta = {
        "night": request.night,
        "source": request.source.name,
        "profile": request.profile,
        "production": request.production,
    }
    stream = StringIO()
    table.write(stream, format="ascii.ecsv", delimiter=",")
    return stream.getvalue()


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def run_of(name: str) -> int:
    """Run number of a DL3 file's name.

    Raises
    ------
    DataError
        If it is not such a name.
    """
    return parse_run_file(name).run


def decisions(request: BundleRequest) -> str:
    """People's decisions about these runs, as JSON."""
    rows = [
        {
            "run_id": d.run_id,
            "action": d.action,
            "subruns": list(d.subruns),
            "author": d.author,
            "reason": d.reason,
            "created_at": d.created_at,
        }
        for d in sorted(request.decisions, key=lambda d: (d.run_id, d.created_at))
    ]
    return json.dumps(rows, indent=1) + "\n"


def readme(request: BundleRequest, version: str, published_at: str, files: Sequence[PublishedFile]) -> str:
    """README for a stranger who has nothing but this folder."""
    dl3 = [f for f in files if f.name.startswith("dl3_")]
    title = f"LST-1 DL3 data of {request.source.name}, {request.when}, {version}"
    rejected = sum(not r.selected for r in request.runs)
    left = len(request.runs) - rejected - len(dl3)
    known = {f.name for f in files}
    extras = [name.rsplit("/", 1)[-1] for name in request.extras]
    own_cuts = {name: "the cuts of this run" for name in extras if name.startswith("cuts_Run")}
    described = [
        (
            f"{dl3[0].name if dl3 else 'dl3_*.fits'} ...",
            f"{len(dl3)} file(s), one a run: events, good time, pointing, IRFs",
        ),
        (f"{model.HDU_INDEX}, {model.OBS_INDEX}", "index; paths are relative, the folder may be copied anywhere"),
        (model.RUNS, "every run that was judged, with its verdict and the reasons"),
        (model.CUTS, _cuts_words(own_cuts)),
        (model.DECISIONS, "what people decided about these runs"),
        (model.PROVENANCE, "how each file came to be: steps, inputs, configurations, software"),
        (model.PROV, "the same as W3C PROV-JSON"),
        (model.BUNDLE, "this version for programs"),
        (model.CITATION, "how to cite"),
        (model.CHECKSUMS, f"check with: sha256sum -c {model.CHECKSUMS}"),
    ]
    if model.OBSCORE in known:
        described.insert(-3, (model.OBSCORE, "the observations as a Virtual Observatory lists them (ObsCore 1.1)"))
    for base in extras:
        if base in known:
            described.append((base, own_cuts.get(base, "check of the source, made from these files")))
    where = f" at {request.site}" if request.site else ""
    width = max(len(name) for name, _ in described) + 2
    warning = (
        ["THIS IS SYNTHETIC DATA, made with a simulated telescope. It says nothing about the sky.", ""]
        if request.synthetic
        else []
    )
    return "\n".join(
        [
            title,
            "=" * len(title),
            "",
            *warning,
            f"Source       {request.source.name} (RA {request.source.ra_deg:.4f} deg, "
            f"Dec {request.source.dec_deg:.4f} deg, ICRS)",
            f"{'Nights' if '-' in request.night else 'Night':<13}{request.night} (date before midnight)",
            *(f"{term:<13}{words}" for term, words in request.asked_words),
            f"Runs         {len(dl3)} published, {rejected} rejected"
            + (f", {left} good but not in this bundle ({model.RUNS} says why)" if left > 0 else ""),
            f"Selection    profile {request.profile or '-'}",
            f"Production   {request.production}",
            f"Cuts         {request.cuts_name}",
            f"Published    {published_at} by {_publisher(request)}{where}",
            *([f"Because      {request.reason}"] if request.reason else []),
            "",
            "The format is GADF 0.3 (https://gamma-astro-data-formats.readthedocs.io). With gammapy:",
            "",
            "    from gammapy.data import DataStore",
            f'    observations = DataStore.from_dir(".").get_observations(required_irf={_irfs(request)})',
            "",
            "The IRFs are point-like: signal is counted within RAD_MAX of the source, which depends on the energy."
            if request.point_like
            else "The IRFs are of full enclosure: they hold the PSF, the region is your choice; no background.",
            "",
            "Files",
            "-----",
            *[f"{name:<{width}}{what}" for name, what in described],
            "",
            "Before use, look whether a newer version lies beside this folder, and whether this one holds a file",
            f"{model.WITHDRAWN} (then it must not be used) or {model.SUPERSEDED} (it names what replaces this one).",
            "A version is never changed.",
            "",
        ]
    )


def _cuts_words(own: Mapping[str, str]) -> str:
    digest = "sha256 is CUTSHA in the files' headers"
    if own:
        return f"the cuts that were asked for; those of each run are in a file of its own, whose {digest}"
    return f"the one set of cuts of IRFs and events; its {digest}"


def _irfs(request: BundleRequest) -> str:
    # what gammapy calls full-enclosure needs a background model too
    return '"point-like"' if request.point_like else '["aeff", "edisp", "psf"]'


def _publisher(request: BundleRequest) -> str:
    software = f"lstops {lstops.__version__}"
    return software if request.published_by == "lstops" else f"{request.published_by} with {software}"


def citation(
    request: BundleRequest, version: str, published_at: str, digest: str, software: Mapping[str, Iterable[str]]
) -> str:
    """CITATION.cff 1.2.0 of the version.

    Parameters
    ----------
    software : mapping
        Versions by package that took part in making the files.
    """
    import yaml

    kind = "Synthetic LST-1 DL3 data" if request.synthetic else "LST-1 DL3 data"
    document = {
        "cff-version": "1.2.0",
        "message": "If you use these data, please cite them with the version and the identifier below.",
        "type": "dataset",
        "title": f"{kind} of {request.source.name}, {request.when}",
        "authors": [{"name": name} for name in request.authors],
        "version": version,
        "date-released": published_at[:10],
        "identifiers": [
            {"type": "other", "value": f"sha256:{digest}", "description": "digest of the bundle's content"}
        ],
        "keywords": ["gamma-ray astronomy", "LST-1", "DL3", request.source.name],
        "references": [
            *(
                {
                    "type": "software",
                    "title": package,
                    "authors": [{"name": _SOFTWARE_AUTHORS[package]}],
                    "version": ", ".join(sorted(software[package])),
                }
                for package in sorted(_SOFTWARE_AUTHORS)
                if package in software
            ),
            {
                "type": "article",
                "title": "Observations of the Crab Nebula and Pulsar with the Large-sized Telescope Prototype of the "
                "Cherenkov Telescope Array",
                "authors": [{"name": "CTA-LST Project"}],
                "year": 2023,
                "doi": "10.3847/1538-4357/ace89d",
            },
        ],
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def checksums(files: Iterable[PublishedFile]) -> str:
    """Lines as `sha256sum` writes and checks them."""
    return "".join(f"{f.sha256}  {f.name}\n" for f in sorted(files, key=lambda f: f.name))


def bundle_json(
    request: BundleRequest, version: str, published_at: str, digest: str, files: Sequence[PublishedFile]
) -> str:
    """The version for programs; everything but this file and the checksums is listed."""
    return (
        json.dumps(
            {
                "schema": 1,
                "version": version,
                "digest": digest,
                "published_at": published_at,
                "lstops": lstops.__version__,
                "site": request.site,
                "night": request.night,
                "source": {
                    "name": request.source.name,
                    "ra_deg": request.source.ra_deg,
                    "dec_deg": request.source.dec_deg,
                },
                "production": request.production,
                "profile": request.profile,
                "cuts": request.cuts_name,
                "synthetic": request.synthetic,
                "publication": {"by": request.published_by, "reason": request.reason},
                "beside": request.beside,
                "request": request.asked,
                "runs": sorted(run_of(f.name) for f in files if f.name.startswith("dl3_")),
                "files": {f.name: {"sha256": f.sha256, "size": f.size} for f in files},
            },
            indent=1,
        )
        + "\n"
    )
