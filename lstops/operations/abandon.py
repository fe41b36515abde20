"""A production that is given up before it was registered: what it made makes room for another one of its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import PurePosixPath

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import DECISION, all_productions
from lstops.errors import ConfigError
from lstops.operations.nightly import layout_of
from lstops.production.naming import checked_name
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.adoption import ADOPTED
from lstops.step.manifest import Manifest, ManifestStore, make_folder, write_atomically
from lstops.step.model import Frozen
from lstops.words import checked_words

_RECORD = "abandoned.json"


class Abandonment(Frozen):
    """Who gave a production up, and why; kept with its products."""

    production: str
    author: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Abandoned:
    """What was cleared away.

    Attributes
    ----------
    folder : str
        Where the products are now, relative to the base, each under its own path.
    moved : int
        Products that are there now.
    left : int
        Products that lstmcpipe made and that were adopted: they stay where they are, and count as nobody's.
    """

    folder: str
    moved: int
    left: int


def abandon(site: Site, name: str, author: str, reason: str) -> Abandoned:
    """Give a production up: its products are moved aside, and count as unfinished; nothing is removed.

    Interrupted, it is done again and goes on with what is left.

    Raises
    ------
    ConfigError
        If author or reason is missing, the production is registered, or nothing was made of it.
    """
    author, reason = checked_words(DECISION, author, reason)
    layout, name = layout_of(site), checked_name(name)
    with catalog_session() as session:
        lines = sorted(row.line for row in all_productions(session) if row.name == name)
    if lines:
        raise ConfigError(
            f"{name} is registered on {', '.join(lines)}: what was made with it must stay explained.",
            f"take it out of use with `lstops production withdraw {name} --author ... --reason ...`.",
        )
    store, now = ManifestStore(layout.manifests), datetime.now(timezone.utc)
    made = list(_made(store, name))
    if not made:
        raise ConfigError(f"nothing was made of a production {name!r}.", "its name is free, or correct it.")
    folder = f"{layout.aside}/abandoned/{name}-{now:%Y%m%dT%H%M%SZ}"
    record = Abandonment(production=name, author=author, reason=reason, at=now)
    write_atomically(layout.absolute(f"{folder}/{_RECORD}"), record.model_dump_json(indent=1))
    counts = {True: 0, False: 0}
    for manifest in made:
        is_ours = ADOPTED not in manifest.plan_context
        for output in manifest.outputs:
            if is_ours and layout.absolute(output.path).exists():
                _move(layout, output.path, f"{folder}/{output.path}")
            counts[is_ours] += 1
        store.forget(manifest)
    return Abandoned(folder, counts[True], counts[False])


def _made(store: ManifestStore, name: str) -> Iterator[Manifest]:
    """The manifests of a production; its products lie in folders, or have names, that carry its name."""
    for path in sorted(store.root.rglob("*.json")):
        product = path.relative_to(store.root).as_posix().removesuffix(".json")
        if name in product and (manifest := store.read(product)) and manifest.plan_context.get("production") == name:
            yield manifest


def _move(layout: Layout, path: str, target: str) -> None:
    make_folder(layout.absolute(str(PurePosixPath(target).parent)))
    os.rename(layout.absolute(path), layout.absolute(target))
