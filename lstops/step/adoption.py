"""A file at the place of a product that no step of ours made, such as lstosa's DL2.

It is taken over if its content shows that it is what the step would make; else it is moved aside. It is never
overwritten.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import lstops
from lstops.errors import DataError, ProductInvalid
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import (
    ArtifactRecord,
    Manifest,
    ManifestStore,
    full_state,
    make_folder,
    unchanged,
    write_atomically,
)
from lstops.step.model import ArtifactKind, Output, Plan, Step

#: in the `plan_context` of a manifest that was not written by the step itself
ADOPTED = "adopted"
#: what lstosa makes too, and what says in its content what it was made from
_ADOPTABLE = (ArtifactKind.DL2,)


def is_foreign(output: Output, layout: Layout) -> bool:
    """Whether something lies at the place of a product that is not, as it is now, what one of our steps has made.

    In lstops' own area nothing is: there a product without a manifest is what a dead attempt left.
    """
    path = layout.absolute(output.path)
    if output.path.startswith(f"{layout.work}/") or not path.exists():
        return False
    made = (manifest.output(output.path) for manifest in ManifestStore(layout.manifests).makers_of(output.path))
    return not any(record is not None and unchanged(path, record.state) for record in made)


def set_aside(output: Output, layout: Layout, new_sha256: str, why: str) -> str | None:
    """Move away what is in the place of a product, if no step of ours made it; returns where it is now.

    Parameters
    ----------
    new_sha256 : str
        Digest of the product that takes the place: what has the same content need not be kept.
    why : str
        Written beside it, for whoever misses it.
    """
    path = layout.absolute(output.path)
    if not is_foreign(output, layout) or full_state(path).sha256 == new_sha256:
        return None
    target = _free(layout.absolute(f"{layout.aside}/{output.path}"))
    make_folder(target.parent)
    os.rename(path, target)
    write_atomically(target.with_name(f"{target.name}.txt"), f"Moved from {output.path}: {why}\n")
    return layout.relative(target)


def _free(wanted: Path) -> Path:
    number = 1
    while (path := wanted.with_name(f"{wanted.name}.{number}")).exists():
        number += 1
    return path


def adopted(plan: Plan, index: int, step: Step, key: str, records: Sequence[ArtifactRecord], site: Site) -> Manifest:
    """The manifest of a step whose product is there already, made by somebody else.

    Raises
    ------
    LstOpsError
        Saying why it cannot be taken over.
    """
    output = step.primary
    if len(step.outputs) > 1 or output.kind not in _ADOPTABLE:
        raise ProductInvalid(f"{output.path} was made by nobody that lstops knows.", "")
    layout, version = Layout(site.base, site.work), site.environment(step.environment).lstchain_version
    path = layout.absolute(output.path)
    if findings := _misfits(path, records, layout, version):
        raise ProductInvalid(f"{path} is not taken over: {'; '.join(findings)}.", "")
    record = verified(layout, output, lambda: _verify(output, path, records, layout))
    return adopted_manifest(plan, index, step, key, tuple(records), (record,), {"lstchain": version})


def _verify(output: Output, path: Path, records: Sequence[ArtifactRecord], layout: Layout) -> dict[str, Any]:
    from lstops.step.verify import InputFacts, verify

    return verify(output, path, [InputFacts(r.name, r.kind, layout.absolute(r.path), r.facts) for r in records])


def _misfits(path: Path, records: Sequence[ArtifactRecord], layout: Layout, version: str) -> list[str]:
    """What of a DL2 file says that it was made from something else; what it does not say counts as well."""
    from lstops.step.verify.dl2 import inspect, origin

    found = []
    if (made_by := inspect(path)["lstchain_version"]) != version:
        found.append(f"lstchain {made_by} made it, not {version}")
    named = origin(path)
    for kind, what in ((ArtifactKind.MODELS, "models"), (ArtifactKind.DL1_MERGED, "DL1")):
        for record in (r for r in records if r.kind is kind):
            said, wanted = named.get(kind), layout.absolute(record.path)
            if said is None:
                found.append(f"it does not say which {what} it was made from")
            elif Path(said).resolve() != wanted.resolve():
                found.append(f"it was made from the {what} {said}, not {wanted}")
            elif path.stat().st_mtime_ns < record.state.mtime_ns:
                found.append(f"the {what} {wanted} are newer")
    return found


def verified(layout: Layout, output: Output, look: Callable[[], dict[str, Any]]) -> ArtifactRecord:
    """The record of a product whose content is looked at now; it must not change meanwhile.

    Raises
    ------
    DataError
        If it does.
    """
    path = layout.absolute(output.path)
    before = full_state(path)
    facts = look()
    if full_state(path) != before:
        raise DataError(
            f"{output.path} changed while it was looked at.", "wait until nobody writes it, then try again."
        )
    return ArtifactRecord(name=output.name, kind=output.kind, path=output.path, state=before, facts=facts)


def adopted_manifest(
    plan: Plan,
    index: int,
    step: Step,
    key: str,
    inputs: tuple[ArtifactRecord, ...],
    outputs: tuple[ArtifactRecord, ...],
    versions: Mapping[str, str],
) -> Manifest:
    """The manifest that the step would have written, marked as adopted."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Manifest(
        key=key,
        kind=step.kind,
        label=step.label,
        subject=step.subject,
        commands=step.commands,
        files=step.files,
        environment=step.environment,
        versions={"lstops": lstops.__version__, **versions},
        inputs=inputs,
        outputs=outputs,
        plan_id=plan.plan_id,
        plan_context={**plan.context, ADOPTED: True},
        index=index,
        host=socket.gethostname(),
        job=ADOPTED,
        started=now,
        ended=now,
        wall_s=0.0,
        cpu_s=0.0,
        max_rss_mb=0.0,
        log="",
    )
