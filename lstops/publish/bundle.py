"""Plans a bundle: what goes in, checked against the manifests. Reads, writes nothing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePosixPath

from lstops.errors import ConfigError, DataError
from lstops.publish import model, prov, provenance, texts
from lstops.publish.index import check_index, portable_index, read_index
from lstops.publish.model import Bundle, BundleRequest, CopiedFile
from lstops.publish.obscore import obscore
from lstops.publish.versions import content_digest
from lstops.site.layout import Layout
from lstops.step.manifest import ManifestStore, full_state, unchanged

_INDEX_NAMES = (model.HDU_INDEX, model.OBS_INDEX)
_RESERVED = {
    *_INDEX_NAMES,
    model.RUNS,
    model.CUTS,
    model.DECISIONS,
    model.PROVENANCE,
    model.PROV,
    model.OBSCORE,
    model.README,
    model.CITATION,
    model.BUNDLE,
    model.CHECKSUMS,
    *model.NOTICES,
}


def build_bundle(request: BundleRequest, layout: Layout) -> Bundle:
    """Collect and check everything that a version will hold.

    Raises
    ------
    ConfigError
        If a path leaves the site's base, or the request contradicts itself.
    DataError
        If a product is missing, unfinished, changed since it was made, or made from something that changed since.
    ProductInvalid
        If the index is not that of these files.
    """
    layout.absolute(request.folder)
    store = ManifestStore(layout.manifests)
    if not request.products:
        raise DataError(
            f"nothing to publish for {request.source.name} in the night {request.night}: no DL3 file.",
            "look at the runs' verdicts and quarantines; a night without good runs publishes nothing.",
        )
    _check_runs(request)
    copied = [_product(path, store, layout) for path in request.products]
    index = _index_files(request, store, layout)
    written = {name: portable_index(path) for name, path in index.items()}
    content = read_index(written[model.HDU_INDEX], written[model.OBS_INDEX])
    check_index(content, [c.source for c in copied])

    traced = [*request.products, *(p for p in request.index if store.producer(p))]
    manifests = provenance.trace(store, traced)
    written[model.RUNS] = texts.run_list(request, [c.name for c in copied]).encode()
    written[model.CUTS] = request.cuts.encode()
    written[model.DECISIONS] = texts.decisions(request).encode()
    tree = provenance.as_tree(manifests, request.products)
    written[model.PROVENANCE] = (json.dumps(tree, indent=1, sort_keys=True) + "\n").encode()
    written[model.OBSCORE] = obscore(request, copied).encode()
    written[model.PROV] = (json.dumps(prov.as_prov(manifests), sort_keys=True) + "\n").encode()

    extras = [_extra(path, store, layout) for path in request.extras]
    copied += extras
    names = [c.name for c in copied]
    if doubles := sorted({n for n in names if names.count(n) > 1 or n in _RESERVED}):
        raise ConfigError(f"two files of the bundle are called {', '.join(doubles)}.", "rename one of them.")
    # A source check carries the time it was made: it tells of the content, it is not content.
    digest = content_digest(
        {c.name: c.sha256 for c in copied} | {name: hashlib.sha256(b).hexdigest() for name, b in written.items()}
    )
    return Bundle(request, tuple(sorted(copied, key=lambda c: c.name)), written, digest, manifests)


def _check_runs(request: BundleRequest) -> None:
    """Only runs with a good verdict may be published, each once."""
    runs = [texts.run_of(PurePosixPath(p).name) for p in request.products]
    if doubles := sorted({r for r in runs if runs.count(r) > 1}):
        raise ConfigError(f"runs {doubles} are there twice in the request.", "name each product once.")
    verdicts = {r.run_id: r for r in request.runs}
    if unknown := sorted(set(runs) - set(verdicts)):
        raise ConfigError(f"runs {unknown} have no verdict in the request.", "judge the runs before publishing them.")
    if bad := sorted(r for r in runs if not verdicts[r].selected):
        raise ConfigError(
            f"runs {bad} were rejected and must not be published.",
            "leave them out, or accept them in spite of their cuts by a decision with a reason.",
        )


def _product(path: str, store: ManifestStore, layout: Layout) -> CopiedFile:
    absolute = layout.absolute(path)
    manifest = store.producer(path)
    record = manifest.output(path) if manifest else None
    if record is None:
        raise DataError(f"{path} has no manifest: it is unfinished.", "run the step that makes it again.")
    if not absolute.is_file():
        raise DataError(f"{absolute} does not exist, though its manifest does.", "run the step that makes it again.")
    if not unchanged(absolute, record.state):
        raise DataError(
            f"{absolute} was changed after it was made.", "remove it, run its step again, and find out who changed it."
        )
    return CopiedFile(absolute.name, absolute, record.state.sha256, record.state.size)


def _extra(path: str, store: ManifestStore, layout: Layout) -> CopiedFile:
    if store.producer(path):
        return _product(path, store, layout)
    absolute = layout.absolute(path)
    if not absolute.is_file():
        raise DataError(f"{absolute} does not exist.", "leave it out of the request, or make it.")
    state = full_state(absolute)
    return CopiedFile(absolute.name, absolute, state.sha256, state.size)


def _index_files(request: BundleRequest, store: ManifestStore, layout: Layout) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in request.index:
        absolute = layout.absolute(path)
        manifest = store.producer(path)
        record = manifest.output(path) if manifest else None
        if record is not None and absolute.exists() and not unchanged(absolute, record.state):
            raise DataError(f"{absolute} was changed after it was made.", "run the index step again.")
        for candidate in [absolute / n for n in _INDEX_NAMES] if absolute.is_dir() else [absolute]:
            if candidate.is_file():
                found[candidate.name] = candidate
    if set(found) != set(_INDEX_NAMES):
        missing = sorted(set(_INDEX_NAMES) - set(found))
        raise DataError(
            f"the DL3 index of {request.source.name}, night {request.night}, lacks {', '.join(missing)}.",
            "run the index step of the plan.",
        )
    return found
