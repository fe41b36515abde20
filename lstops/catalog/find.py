"""What a person means by a word: a path, a published file, a copy of one, a digest, or the name of a production."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path

from sqlalchemy import func, select, union
from sqlalchemy.orm import Session

from lstops.catalog.products import BUNDLE
from lstops.catalog.tables import LineageRow, ProductRow
from lstops.catalog.trace import Content
from lstops.errors import ConfigError, DataError
from lstops.publish import model
from lstops.publish.versions import bundle_of, checksums_of, problems, split_version
from lstops.site.layout import Layout
from lstops.step.digest import sha256_file
from lstops.step.manifest import full_state
from lstops.step.model import ArtifactKind

_DIGEST = re.compile(r"^(sha256:)?[0-9a-f]{6,64}$")
#: a folder of models has no more files
_MANY = 100
#: no file name is longer (bytes)
_LONGEST = 255
#: what a production consists of for those who use it
_OF_A_PRODUCTION = (ArtifactKind.MODELS.value, ArtifactKind.IRF.value)


def find_contents(session: Session, word: str, layout: Layout) -> tuple[Content, ...]:
    """The contents that a word means, the newest first.

    Parameters
    ----------
    word : str
        A path (absolute, or relative to the site's base or to the working directory), also of a published file, of a
        published version or its `current`, of a file in a folder that a step made, or of a copy elsewhere of any of
        these (found by its content); a digest or its first six or more digits; the name of a production (its models
        and responses).

    Raises
    ------
    DataError
        If the catalogue knows nothing of that, it cannot be read, or it is a copy of a
        published version that was altered.
    ConfigError
        If it is no word that could name anything, or a digest is that of several contents at different paths.
    """
    if not word.isprintable() or any(len(part.encode()) > _LONGEST for part in word.split("/")):
        raise ConfigError(
            f"{word[:40]!a}{'...' if word[40:] else ''} is no path, digest or production.",
            "give one line of printable text that names one.",
        )
    if found := _by_production(session, word):
        return found
    if found := _by_path(session, word, layout):
        return found
    if _DIGEST.match(word) and (found := _by_digest(session, word.removeprefix("sha256:"))):
        paths = sorted({content.path for content in found})
        digests = {content.sha256 for content in found}
        if len(digests) > 1:
            raise ConfigError(f"{word} begins the digests of {', '.join(paths)}.", "give more digits.")
        return found
    raise DataError(
        f"the catalogue knows nothing of {word!r}: no product, input, digest or production.",
        "give a path below the site's base; if lstops made it, `lstops catalog rebuild` reads all manifests again.",
    )


def _by_production(session: Session, word: str) -> tuple[Content, ...]:
    query = select(ProductRow.path, ProductRow.sha256).where(
        ProductRow.production == word, ProductRow.kind.in_(_OF_A_PRODUCTION)
    )
    if found := session.execute(query.order_by(ProductRow.made_at.desc(), ProductRow.path)).all():
        return tuple(Content(*row) for row in found)
    if not word or "/" in word:
        return ()
    # a production that lstops did not make, but whose models it used
    used = select(LineageRow.input_path, LineageRow.input_sha256).where(
        LineageRow.input_kind == ArtifactKind.MODELS.value, func.strpos(LineageRow.input_path, f"/{word}/") > 0
    )
    return tuple(sorted(Content(*row) for row in session.execute(used.distinct())))


def _by_digest(session: Session, prefix: str) -> tuple[Content, ...]:
    known = select(ProductRow.path, ProductRow.sha256).where(ProductRow.sha256.startswith(prefix))
    used = select(LineageRow.input_path, LineageRow.input_sha256).where(LineageRow.input_sha256.startswith(prefix))
    return tuple(sorted(Content(*row) for row in session.execute(union(known, used))))


def _by_path(session: Session, word: str, layout: Layout) -> tuple[Content, ...]:
    absolute = next((p for p in (layout.base / word, Path(word).absolute()) if _exists(p)), None)
    relative = _relative(absolute or layout.base / word, layout)
    if relative is not None:
        if found := _stored(session, relative) or _in_a_folder(session, relative):
            return found
        if found := _published(session, relative, layout):
            return found
    if absolute is None:
        return ()
    try:
        return _copy(session, absolute, layout)
    except OSError as error:
        raise DataError(f"{absolute} cannot be read ({error.strerror}).", "check its permissions.") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, a folder that is closed
        return False


def _copy(session: Session, path: Path, layout: Layout) -> tuple[Content, ...]:
    """What a file or folder elsewhere is a copy of: a product, a published version or a file of one."""
    if not path.is_dir():
        if not path.is_file():
            return ()  # a device or a pipe: reading might never end
        digest = sha256_file(path)
        found = _by_digest(session, digest) or _version_with(session, digest, layout)
        beside = _version_of_content(session, str(bundle_of(path.parent).get("digest", "")))
        return tuple(content for content in found if content in beside) or found
    if found := _version_of_content(session, str(bundle_of(path).get("digest", ""))):
        if damage := problems(path):
            raise DataError(
                f"{path} is a copy of {found[0].path}, but {'; '.join(damage)}.",
                f"copy it again, or trace {found[0].path} itself.",
            )
        return found
    # no tree is read to find out that nobody knows it
    if _looks_like_models(path) and (found := _by_digest(session, full_state(path).sha256)):
        return found
    raise DataError(
        f"the catalogue knows nothing of the folder {path}: it is no product, nor a copy of one or of a version.",
        "name a file in it, or a folder that lstops made (models, a version).",
    )


def _version_of_content(session: Session, digest: str) -> tuple[Content, ...]:
    query = select(ProductRow.path, ProductRow.sha256).where(ProductRow.kind == BUNDLE, ProductRow.sha256 == digest)
    return tuple(Content(*row) for row in session.execute(query.order_by(ProductRow.made_at.desc())))


def _version_with(session: Session, digest: str, layout: Layout) -> tuple[Content, ...]:
    """The published versions that hold a file of this content (a README, a run list), from their checksums."""
    query = select(ProductRow.path, ProductRow.sha256).where(ProductRow.kind == BUNDLE)
    found = []
    for row in session.execute(query.order_by(ProductRow.made_at.desc())):
        version = layout.base / row.path
        if digest in checksums_of(version).values() or digest == _digest_of(version / model.CHECKSUMS):
            found.append(Content(*row))
    return tuple(found)


def _digest_of(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return ""  # `lstops audit` names it


def _looks_like_models(folder: Path) -> bool:
    """Whether a folder holds forests and no other folders."""
    with os.scandir(folder) as entries:
        found = list(islice(entries, _MANY + 1))
    return len(found) <= _MANY and all(e.is_file() for e in found) and any(e.name.endswith(".sav") for e in found)


def _relative(path: Path, layout: Layout) -> str | None:
    """Path below the base, `current` resolved; None elsewhere."""
    for base, candidate in ((layout.base, path), (layout.base.resolve(), path.resolve())):
        if candidate.is_relative_to(base) and model.CURRENT not in candidate.parts:
            return candidate.relative_to(base).as_posix()
    return None


def _stored(session: Session, path: str) -> tuple[Content, ...]:
    query = select(ProductRow.path, ProductRow.sha256).where(ProductRow.path == path)
    if found := session.execute(query.order_by(ProductRow.made_at.desc())).all():
        return tuple(Content(*row) for row in found)
    used = select(LineageRow.input_path, LineageRow.input_sha256).where(LineageRow.input_path == path).distinct()
    return tuple(Content(*row) for row in session.execute(used))


def _in_a_folder(session: Session, path: str) -> tuple[Content, ...]:
    """The folder that holds the file, if a step made or used it as one (models)."""
    folder = path.rpartition("/")[0]
    query = select(ProductRow.kind).where(ProductRow.path == folder)
    if not folder or session.scalar(query.limit(1)) == BUNDLE:
        return ()
    return _stored(session, folder)


def _published(session: Session, path: str, layout: Layout) -> tuple[Content, ...]:
    """A file of a version: what it is a copy of, or the version itself."""
    folder, _, name = path.rpartition("/")
    try:
        split_version(folder)
    except ConfigError:
        return ()
    if not (found := _stored(session, folder)):
        return ()
    absolute = layout.absolute(path)
    if not absolute.is_file():
        raise DataError(
            f"{absolute} does not exist.", f"the version has {', '.join(_names(absolute.parent)) or 'gone'}."
        )
    originals = _by_digest(session, full_state(absolute).sha256)
    if originals or not name.startswith("dl3_"):
        return originals or found
    raise DataError(
        f"{absolute} is not what was published: the catalogue does not know its content.",
        "run `lstops audit`; if it was altered, publish the night again (a damaged version is superseded).",
    )


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.glob("*")) if folder.is_dir() else []
