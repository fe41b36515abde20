"""Provenance as PROV-JSON (W3C member submission of 2013-04-24), for programs that are not ours.

Entities are contents (path and digest), configurations, plans and published versions; activities are steps and
publications; agents are software and people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lstops.publish.model import PublishedVersion
from lstops.step.manifest import ArtifactRecord, Manifest

_PREFIX = {
    "prov": "http://www.w3.org/ns/prov#",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
    "lstops": "urn:lstops:",
}
#: what a step is associated with; further packages of its environment are attributes of the activity
_SOFTWARE = ("lstops", "lstchain")


def as_prov(manifests: Sequence[Manifest], versions: Iterable[PublishedVersion] = ()) -> dict[str, Any]:
    """The steps, and the published versions made from them, as a PROV-JSON document.

    Returns
    -------
    dict
        `prefix`, `entity`, `activity`, `agent`, and the relations `used`, `wasGeneratedBy`, `wasDerivedFrom`,
        `wasAssociatedWith`, `hadMember`, `wasInvalidatedBy` (withdrawn or superseded versions).
    """
    document = _Document()
    for manifest in manifests:
        document.step(manifest)
    for version in versions:
        document.version(version)
    return document.content()


def file_id(path: str, sha256: str) -> str:
    """Identifier of one content of a file or folder: the same content elsewhere is another entity."""
    return f"lstops:file-{_short(path, sha256)}"


def _short(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:24]


def _name(word: str) -> dict[str, str]:
    return {"$": word, "type": "xsd:QName"}


@dataclass
class _Document:
    entity: dict[str, Any] = field(default_factory=dict)
    activity: dict[str, Any] = field(default_factory=dict)
    agent: dict[str, Any] = field(default_factory=dict)
    relations: dict[str, dict[str, Any]] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        return {
            "prefix": _PREFIX,
            "entity": self.entity,
            "activity": self.activity,
            "agent": self.agent,
            **self.relations,
        }

    def _relate(self, relation: str, **attributes: Any) -> None:
        """Add a relation; its blank name follows from its content, so that equal facts give equal documents."""
        values = {f"prov:{name}": value for name, value in attributes.items() if value is not None}
        name = f"_:{relation}-{_short(json.dumps(values, sort_keys=True))}"
        self.relations.setdefault(relation, {})[name] = values

    def _file(self, record: ArtifactRecord) -> str:
        return self._content(record.path, record.state.sha256, record.kind.value, record.state.size)

    def _content(self, path: str, sha256: str, kind: str, size: int | None = None) -> str:
        name = file_id(path, sha256)
        values: dict[str, Any] = {"prov:label": path, "prov:type": kind, "lstops:sha256": sha256}
        if size is not None:
            values["lstops:size"] = size
        self.entity[name] = {**self.entity.get(name, {}), **values}
        return name

    def _agent(self, name: str, label: str, kind: str) -> str:
        self.agent[name] = {"prov:label": label, "prov:type": _name(f"prov:{kind}")}
        return name

    def step(self, manifest: Manifest) -> None:
        """One step: what it used, made, and with which software."""
        step = f"lstops:step-{_short(manifest.outputs[0].path, manifest.key, manifest.ended)}"
        self.activity[step] = {
            "prov:label": manifest.label,
            "prov:type": manifest.kind,
            "prov:startTime": manifest.started,
            "prov:endTime": manifest.ended,
            "lstops:commands": json.dumps(manifest.commands),
            "lstops:host": manifest.host,
            "lstops:job": manifest.job,
            "lstops:key": manifest.key,
            "lstops:software": json.dumps(manifest.versions, sort_keys=True),
        }
        plan = f"lstops:plan-{_short(manifest.plan_id)}"
        self.entity[plan] = {"prov:label": manifest.plan_id, "prov:type": _name("prov:Plan")}
        inputs = [(record.name, self._file(record)) for record in manifest.inputs]
        inputs += [(name, self._configuration(name, text)) for name, text in sorted(manifest.files.items())]
        for role, entity in inputs:
            self._relate("used", activity=step, entity=entity, role=role)
        for record in manifest.outputs:
            made = self._file(record)
            self._relate("wasGeneratedBy", entity=made, activity=step, time=manifest.ended, role=record.name)
            for _, entity in inputs:
                self._relate("wasDerivedFrom", generatedEntity=made, usedEntity=entity, activity=step)
        for package in _SOFTWARE:
            if version := manifest.versions.get(package):
                agent = self._agent(
                    f"lstops:software-{_short(package, version)}", f"{package} {version}", "SoftwareAgent"
                )
                self._relate("wasAssociatedWith", activity=step, agent=agent, plan=plan)

    def _configuration(self, name: str, text: str) -> str:
        digest = hashlib.sha256(text.encode()).hexdigest()
        entity = f"lstops:configuration-{_short(name, digest)}"
        self.entity[entity] = {
            "prov:label": name,
            "prov:type": "configuration",
            "lstops:sha256": digest,
            "prov:value": text,
        }
        return entity

    def version(self, version: PublishedVersion) -> None:
        """A published version: who published it, from what, and what became of it."""
        entity = f"lstops:bundle-{_short(version.path, version.digest)}"
        self.entity[entity] = {
            "prov:label": version.path,
            "prov:type": _name("prov:Collection"),
            "lstops:sha256": version.digest,
            "lstops:state": version.state,
        }
        act = f"lstops:publication-{_short(version.path, version.published_at)}"
        self.activity[act] = {
            "prov:label": f"publication of {version.path}",
            "prov:type": "publication",
            "prov:startTime": version.published_at,
            "prov:endTime": version.published_at,
            "lstops:reason": version.reason,
        }
        self._relate("wasGeneratedBy", entity=entity, activity=act, time=version.published_at)
        for path, sha256, kind in version.made_from:
            used = self._content(path, sha256, kind)
            self._relate("used", activity=act, entity=used)
            self._relate("wasDerivedFrom", generatedEntity=entity, usedEntity=used, activity=act)
            self._relate("hadMember", collection=entity, entity=used)
        person = f"lstops:agent-{_short(version.author)}"
        kind = "SoftwareAgent" if version.author == "lstops" else "Person"
        self._relate("wasAssociatedWith", activity=act, agent=self._agent(person, version.author, kind))
        if version.ended_at:
            end = f"lstops:end-{_short(version.path, version.ended_at)}"
            self.activity[end] = {
                "prov:label": f"{version.path}: {version.state}",
                "prov:type": version.state,
                "prov:startTime": version.ended_at,
                "prov:endTime": version.ended_at,
                "lstops:reason": version.ended_reason,
            }
            self._relate("wasInvalidatedBy", entity=entity, activity=end, time=version.ended_at)
            agent = self._agent(f"lstops:agent-{_short(version.ended_by)}", version.ended_by, "Person")
            self._relate("wasAssociatedWith", activity=end, agent=agent)
