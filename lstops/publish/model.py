"""What a publication is made of, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from lstops.step.manifest import Manifest

#: files of a bundle beside the DL3 files and their index
RUNS = "runs.ecsv"
CUTS = "cuts.json"
DECISIONS = "decisions.json"
PROVENANCE = "provenance.json"
PROV = "provenance.prov.json"
OBSCORE = "obscore.ecsv"
README = "README.txt"
CITATION = "CITATION.cff"
BUNDLE = "bundle.json"
CHECKSUMS = "SHA256SUMS"
#: added to a version when it is withdrawn, replaced by another, or made current after it was published beside another;
#: the only files that may come later
WITHDRAWN = "WITHDRAWN.txt"
SUPERSEDED = "SUPERSEDED.txt"
TAKEN_UP = "TAKEN_UP.txt"
NOTICES = (WITHDRAWN, SUPERSEDED, TAKEN_UP)

HDU_INDEX = "hdu-index.fits.gz"
OBS_INDEX = "obs-index.fits.gz"

#: pointer beside the versions
CURRENT = "current"


@dataclass(frozen=True)
class Source:
    """What was observed (ICRS, degrees)."""

    name: str
    ra_deg: float
    dec_deg: float


@dataclass(frozen=True)
class RunVerdict:
    """A row of the bundle's run list, good or bad.

    Attributes
    ----------
    start : str
        ISO 8601 (UTC), empty if unknown.
    quantities : dict
        Run-wise numbers by name, unit in the name (mean_diffuse_nsb_std_pe, ...).
    reasons : tuple of str
        What speaks against the run and what people decided about it, in words; also a quarantine's cause.
    """

    run_id: int
    selected: bool
    start: str = ""
    zenith_deg: float | None = None
    quantities: dict[str, float | None] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What a person decided about a run, as exported with the bundle."""

    run_id: int
    action: str
    author: str
    reason: str
    created_at: str
    subruns: tuple[int, ...] = ()


@dataclass(frozen=True)
class BundleRequest:
    """What to publish, and where.

    Attributes
    ----------
    folder : str
        Destination that holds the versions, relative to the site's base (`Layout.dl3_published`).
    products : tuple of str
        DL3 files, relative to the site's base; each needs its manifest.
    index : tuple of str
        The two index files (or the folder that holds them), relative to the site's base.
    cuts : str
        The one cut set that both the IRFs and the DL3 files were made with, as it was: its digest is in their headers.
    extras : tuple of str
        Further files (source check, plots) that go along; with or without a manifest.
    authors : tuple of str
        For the citation.
    published_by, reason : str
        Who published it and why; no part of the content.
    beside : bool
        Publish it beside the version that is current: `current` does not move.
    point_like : bool
        Kind of the responses; else full-enclosure.
    asked : dict of str
        What a person asked for, by the name of the field; empty for a night.
    asked_words : tuple of (str, str)
        The same for people, by term.
    """

    folder: str
    night: str
    source: Source
    production: str
    cuts_name: str
    cuts: str
    products: tuple[str, ...]
    index: tuple[str, ...]
    runs: tuple[RunVerdict, ...]
    profile: str = ""
    decisions: tuple[Decision, ...] = ()
    extras: tuple[str, ...] = ()
    authors: tuple[str, ...] = ("LST Collaboration",)
    site: str = ""
    synthetic: bool = False
    published_by: str = "lstops"
    reason: str = ""
    beside: bool = False
    point_like: bool = True
    asked: dict[str, Any] = field(default_factory=dict)
    asked_words: tuple[tuple[str, str], ...] = ()

    @property
    def when(self) -> str:
        """Its night or nights, for people."""
        first, _, last = self.night.partition("-")
        return f"nights {first} to {last}" if last else f"night {first}"


@dataclass(frozen=True)
class CopiedFile:
    """A file of the bundle that is copied as it is; `sha256` is checked against what was copied."""

    name: str
    source: Path
    sha256: str
    size: int


@dataclass(frozen=True)
class Bundle:
    """A planned version: everything but its number.

    Attributes
    ----------
    written : dict
        Content by name of the files that the publication itself makes.
    digest : str
        Of all content; equal digests are equal bundles.
    """

    request: BundleRequest
    copied: tuple[CopiedFile, ...]
    written: dict[str, bytes]
    digest: str
    manifests: tuple[Manifest, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(f.size for f in self.copied) + sum(len(b) for b in self.written.values())


@dataclass(frozen=True)
class PublishedFile:
    """A file of a version."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Published:
    """A version as it now stands.

    Attributes
    ----------
    version : str
        "v0001".
    path : str
        Folder of the version, relative to the site's base.
    is_new : bool
        False: the current version already had this content, nothing was written.
    digest : str
        Content digest of the bundle.
    supersedes : str or None
        The version that was current before.
    note : str
        For the report, in words.
    """

    version: str
    path: str
    is_new: bool
    files: tuple[PublishedFile, ...]
    digest: str
    supersedes: str | None = None
    note: str = ""


class VersionState(str, Enum):
    """What became of a version."""

    CURRENT = "current"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    #: published to be compared with the current one, which readers still get
    BESIDE = "beside"


@dataclass(frozen=True)
class Withdrawal:
    """Why a version must not be used any more.

    Attributes
    ----------
    current : str or None
        The version of the same folder that readers get now.
    freed : tuple of str
        Other folders with a version that this one had replaced; it may be used again.
    """

    version: str
    author: str
    reason: str
    at: str
    current: str | None = None
    freed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Supersession:
    """What a person replaced a version by.

    Attributes
    ----------
    by : str
        The version to use instead, relative to the site's base; it may lie in another folder.
    """

    version: str
    by: str
    author: str
    reason: str
    at: str
    current: str | None = None


@dataclass(frozen=True)
class VersionInfo:
    """A version on disk."""

    version: str
    path: str
    state: VersionState
    digest: str
    published_at: str
    withdrawal: Withdrawal | None = None
    supersession: Supersession | None = None


@dataclass(frozen=True)
class PublishedVersion:
    """A version as the provenance tells of it.

    Attributes
    ----------
    made_from : tuple
        (path, sha256, kind) of the products that were published.
    ended_at, ended_by, ended_reason : str
        Of its withdrawal or supersession by a person; empty if there was none.
    """

    path: str
    digest: str
    state: str
    published_at: str
    author: str
    reason: str
    made_from: tuple[tuple[str, str, str], ...]
    ended_at: str = ""
    ended_by: str = ""
    ended_reason: str = ""
