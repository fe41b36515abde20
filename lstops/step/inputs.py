"""What is known of a step's inputs: their digests, from manifests where a step made them, else from their content."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lstops.errors import DataError
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.manifest import (
    ArtifactRecord,
    FileState,
    ManifestStore,
    full_state,
    quick_state,
    unchanged,
    write_atomically,
)
from lstops.step.model import CORE_ENVIRONMENT, ArtifactKind, Input, Step


@dataclass(frozen=True)
class DigestCache:
    """Digests of source files, valid while size and modification time stay the same.

    Source files (DL1 of lstosa, simulations) carry no manifest; hashing them once is enough.
    """

    root: Path

    def lookup(self, relative: str, path: Path) -> FileState | None:
        """The cached state, if it still describes the file."""
        try:
            state = FileState.model_validate_json((self.root / f"{relative}.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return state if unchanged(path, state) else None

    def state(self, relative: str, path: Path) -> FileState:
        """The state of a file, hashing it if the cache does not know it."""
        return self.lookup(relative, path) or self.read(relative, path)

    def read(self, relative: str, path: Path) -> FileState:
        """The state of a file, hashing it in any case."""
        found = full_state(path)
        if self.lookup(relative, path) != found:
            write_atomically(self.root / f"{relative}.json", found.model_dump_json())
        return found


def environment_version(site: Site, step: Step) -> str:
    """The part of a step's key that stands for its software."""
    return CORE_ENVIRONMENT if step.environment == CORE_ENVIRONMENT else site.environment(step.environment).version


@dataclass(frozen=True)
class InputReader:
    """Looks inputs up for the runner and for `assess`."""

    layout: Layout

    @property
    def store(self) -> ManifestStore:
        """Manifests of the site."""
        return ManifestStore(self.layout.manifests)

    @property
    def cache(self) -> DigestCache:
        """Digests of the site's source files."""
        return DigestCache(self.layout.base / self.layout.work / "digests")

    def known_state(self, item: Input) -> FileState | None:
        """State of an input without reading its content, or None if that is not known."""
        path = self.layout.absolute(item.path)
        if not path.exists():
            return None
        manifest = self.store.producer(item.path)
        record = manifest.output(item.path) if manifest else None
        if record is not None:
            return record.state if unchanged(path, record.state) else None
        return self.cache.lookup(item.path, path)

    def record(self, item: Input, made_by: str | None) -> ArtifactRecord:
        """What the runner needs of an input, checked.

        Parameters
        ----------
        made_by : str or None
            Label of the step of the same plan that makes it, if one does.

        Raises
        ------
        DataError
            If it is missing, unfinished, changed since it was made, or not the content that the plan pinned.
        """
        path = self.layout.absolute(item.path)
        if not path.exists():
            raise DataError(
                f"input {item.name!r}: {path} does not exist.",
                f"it is made by {made_by!r}: run that step first." if made_by else "restore the file or plan again.",
            )
        manifest = self.store.producer(item.path)
        record = manifest.output(item.path) if manifest else None
        if record is None and made_by:
            raise DataError(
                f"input {item.name!r}: {path} has no manifest: it is unfinished.", f"run {made_by!r} again."
            )
        facts: dict[str, Any]
        # Models are pickles: their content is compared byte by byte before any process loads them.
        is_pickled = item.kind is ArtifactKind.MODELS
        if record is not None:
            state, facts = record.state, dict(record.facts)
            same = full_state(path).sha256 == state.sha256 if is_pickled else unchanged(path, state)
            if not same:
                raise DataError(
                    f"input {item.name!r}: {path} was changed after it was made "
                    f"(now {quick_state(path)[0]} bytes, recorded {state.size}).",
                    "make it again: remove it and run its plan, and find out who changed it.",
                )
        else:
            look = self.cache.read if is_pickled else self.cache.state
            state, facts = look(item.path, path), {}
        if item.sha256 and item.sha256 != state.sha256:
            raise DataError(
                f"input {item.name!r}: {path} is not the content that the plan expects "
                f"(digest {state.sha256[:12]}, expected {item.sha256[:12]}).",
                "plan again, or restore the file that the catalogue knows.",
            )
        if not facts:
            from lstops.step.verify import inspect

            facts = inspect(item.kind, path)
        return ArtifactRecord(name=item.name, kind=item.kind, path=item.path, state=state, facts=facts)
