"""How the products of a bundle came to be: the chain from each DL3 file down to what no step made.

Two forms of the same facts: a tree by file for people and programs of ours, and PROV-JSON (W3C member submission of
2013-04-24) for everybody else's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from lstops.errors import DataError
from lstops.step.manifest import ArtifactRecord, Manifest, ManifestStore

PROVENANCE_SCHEMA = 1
_PROV_PREFIX = {"prov": "http://www.w3.org/ns/prov#", "lstops": "urn:lstops:"}


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


def _config_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _artifact(record: ArtifactRecord) -> dict[str, Any]:
    return {"kind": record.kind.value, "sha256": record.state.sha256, "size": record.state.size, "facts": record.facts}


def as_tree(manifests: tuple[Manifest, ...], products: Iterable[str]) -> dict[str, Any]:
    """Provenance by file and by step.

    Returns
    -------
    dict
        `products`: the published files' original paths; `steps`: by path of first output; `files`: every file with
        its digest and `made_by` (null where the chain begins); `software`: all versions that took part.
    """
    files: dict[str, dict[str, Any]] = {}
    steps: dict[str, dict[str, Any]] = {}
    software: dict[str, set[str]] = {}
    for m in manifests:
        name = m.outputs[0].path
        for record in m.inputs:
            files.setdefault(record.path, {**_artifact(record), "made_by": None})
        for record in m.outputs:
            files[record.path] = {**_artifact(record), "made_by": name}
        for package, version in m.versions.items():
            software.setdefault(package, set()).add(version)
        steps[name] = {
            "kind": m.kind,
            "label": m.label,
            "key": m.key,
            "commands": [list(c) for c in m.commands],
            "configurations": {k: {"sha256": _config_digest(v), "text": v} for k, v in m.files.items()},
            "environment": m.environment,
            "versions": m.versions,
            "inputs": [i.path for i in m.inputs],
            "outputs": [o.path for o in m.outputs],
            "plan_id": m.plan_id,
            "host": m.host,
            "job": m.job,
            "started": m.started,
            "ended": m.ended,
            "cpu_s": m.cpu_s,
        }
    # A file that one step read and another made is known from both; the maker's word counts, whatever the order.
    for m in manifests:
        for record in m.outputs:
            files[record.path]["made_by"] = m.outputs[0].path
    return {
        "schema": PROVENANCE_SCHEMA,
        "products": sorted(products),
        "software": {package: sorted(found) for package, found in sorted(software.items())},
        "steps": steps,
        "files": files,
    }


def as_prov(manifests: tuple[Manifest, ...]) -> dict[str, Any]:
    """The same as PROV-JSON: entities (content, by digest), activities (steps), agents (software)."""
    entity: dict[str, Any] = {}
    activity: dict[str, Any] = {}
    agent: dict[str, Any] = {}
    used: dict[str, Any] = {}
    made: dict[str, Any] = {}
    associated: dict[str, Any] = {}

    def entity_id(record: ArtifactRecord) -> str:
        name = f"lstops:{record.state.sha256[:24]}"
        entity[name] = {
            "prov:label": record.path,
            "prov:type": record.kind.value,
            "lstops:sha256": record.state.sha256,
            "lstops:size": record.state.size,
        }
        return name

    for number, m in enumerate(manifests):
        step = f"lstops:step-{m.key.removeprefix('sha256:')[:24]}"
        activity[step] = {
            "prov:label": m.label,
            "prov:type": m.kind,
            "prov:startTime": m.started,
            "prov:endTime": m.ended,
            "lstops:commands": json.dumps(m.commands),
        }
        for k, record in enumerate(m.inputs):
            used[f"_:u{number}.{k}"] = {"prov:activity": step, "prov:entity": entity_id(record)}
        for k, record in enumerate(m.outputs):
            made[f"_:g{number}.{k}"] = {"prov:entity": entity_id(record), "prov:activity": step}
        for package in ("lstops", "lstchain"):
            if package in m.versions:
                software = f"lstops:{package}-{m.versions[package]}"
                agent[software] = {"prov:label": f"{package} {m.versions[package]}", "prov:type": "prov:SoftwareAgent"}
                associated[f"_:a{number}.{package}"] = {"prov:activity": step, "prov:agent": software}
    return {
        "prefix": _PROV_PREFIX,
        "entity": entity,
        "activity": activity,
        "agent": agent,
        "used": used,
        "wasGeneratedBy": made,
        "wasAssociatedWith": associated,
    }
