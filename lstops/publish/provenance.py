"""How the products of a bundle came to be: the chain from each DL3 file down to what no step made.

This form is for people and programs of ours; `lstops.publish.prov` has the same as PROV-JSON.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lstops.errors import DataError
from lstops.step.manifest import ArtifactRecord, Manifest, ManifestStore

PROVENANCE_SCHEMA = 2


def trace(store: ManifestStore, products: Iterable[str]) -> tuple[Manifest, ...]:
    """Manifests of all steps that the products depend on, the products' own first, each once.

    Parameters
    ----------
    products : iterable of str
        Paths relative to the site's base.

    Raises
    ------
    DataError
        If a product has no manifest, or an input was made again since: then its manifest no longer tells of the
        content that was used.
    """
    found: dict[str, Manifest] = {}
    waiting: list[tuple[str, str | None, str]] = [(path, None, "") for path in products]
    while waiting:
        path, digest, user = waiting.pop(0)
        manifest = store.producer(path)
        record = manifest.output(path) if manifest else None
        if manifest is None or record is None:
            if digest is None:
                raise DataError(
                    f"{path} has no manifest: it is unfinished or was not made by a step.",
                    "run its plan again; only products with a manifest are published.",
                )
            continue  # a source file: where the chain begins
        if digest is not None and record.state.sha256 != digest:
            raise DataError(
                f"{path} was made again after {user} had used it (now {record.state.sha256[:12]}, used {digest[:12]}).",
                "run the plan again, so that everything made from it is brought up to date.",
            )
        if manifest.outputs[0].path not in found:
            found[manifest.outputs[0].path] = manifest
            waiting += [(i.path, i.state.sha256, manifest.label) for i in manifest.inputs]
    return tuple(found.values())


def _artifact(record: ArtifactRecord) -> dict[str, Any]:
    return {"kind": record.kind.value, "sha256": record.state.sha256, "size": record.state.size, "facts": record.facts}


def as_tree(manifests: Sequence[Manifest], products: Iterable[str]) -> dict[str, Any]:
    """Provenance by file and by step.

    Returns
    -------
    dict
        `products`: the published files' original paths; `steps`: whole manifests by path of first output; `files`:
        every file with its digest and `made_by` (null where the chain begins); `software`: all versions that took
        part; `configurations`: digest by step and name.
    """
    files: dict[str, dict[str, Any]] = {}
    software: dict[str, set[str]] = {}
    for m in manifests:
        for record in m.inputs:
            files.setdefault(record.path, {**_artifact(record), "made_by": None})
        for package, version in m.versions.items():
            software.setdefault(package, set()).add(version)
    # A file that one step read and another made is known from both; the maker's word counts.
    for m in manifests:
        for record in m.outputs:
            files[record.path] = {**_artifact(record), "made_by": m.outputs[0].path}
    return {
        "schema": PROVENANCE_SCHEMA,
        "products": sorted(products),
        "software": {package: sorted(found) for package, found in sorted(software.items())},
        "configurations": {
            m.outputs[0].path: {name: hashlib.sha256(text.encode()).hexdigest() for name, text in m.files.items()}
            for m in manifests
            if m.files
        },
        "steps": {m.outputs[0].path: m.model_dump(mode="json") for m in manifests},
        "files": files,
    }


def manifests_in(path: Path) -> tuple[Manifest, ...]:
    """The manifests that the provenance file of a bundle holds: they tell of its content, whatever was made since.

    Raises
    ------
    DataError
        If it is no provenance file of this version of lstops.
    """
    try:
        document = json.loads(path.read_text())
        return tuple(Manifest.model_validate(step) for step in document["steps"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} cannot be read as provenance: {error}.", "run `lstops audit`; publish the night again if damaged."
        ) from error
