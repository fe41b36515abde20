"""The staging folder of one attempt at a step, and how a product leaves it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lstops.site.layout import Layout
from lstops.step.model import Step


@dataclass(frozen=True)
class Staging:
    """Where one attempt works: below the site's work area, so that products can be renamed from here.

    Attributes
    ----------
    scratch : Path
        Where the commands run.
    out : dict
        Staged path of each output, by its name.
    values : dict
        What the placeholders of the step's commands stand for.
    """

    root: Path
    scratch: Path
    out: dict[str, Path]
    values: dict[tuple[str, str], str]

    @classmethod
    def make(cls, root: Path, step: Step, layout: Layout) -> Staging:
        """Make the folders and files of a step below `root`."""
        scratch = root / "scratch"
        scratch.mkdir(parents=True)
        values = {("scratch", ""): str(scratch)}
        # Outputs that end in one folder are staged in one folder: some commands write several files at once.
        parents: dict[Path, Path] = {}
        out: dict[str, Path] = {}
        for output in step.outputs:
            final = layout.absolute(output.path)
            folder = parents.setdefault(final.parent, root / f"out{len(parents)}")
            folder.mkdir(exist_ok=True)
            out[output.name] = folder / final.name
            values["out", output.name] = str(out[output.name])
            values["outdir", output.name] = str(folder)
        for item in step.inputs:
            path = layout.absolute(item.path)
            values["in", item.name] = str(path)
            if item.group:
                folder = root / f"in-{item.group}"
                folder.mkdir(exist_ok=True)
                (folder / path.name).symlink_to(path)
                values["indir", item.group] = str(folder)
        for name, text in step.files.items():
            path = root / "files" / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            values["file", name] = str(path)
        return cls(root, scratch, out, values)


def tidy(path: Path) -> None:
    """Give a product its modes (0640, folders 0750) and make its content durable before it is renamed."""
    members = [path, *path.rglob("*")] if path.is_dir() else [path]
    for member in members:
        member.chmod(0o750 if member.is_dir() else 0o640)
        handle = os.open(member, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def move_into_place(staged: Path, final: Path, staging_root: Path) -> None:
    """Rename a staged product to its final name on the same file system.

    A file replaces its predecessor in one step. A folder cannot: its predecessor is moved aside first. Its manifest is
    gone by then, so nobody takes the gap for a product.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.is_dir() and not final.is_symlink():
        final.rename(staging_root / f"old-{final.name}")
    os.replace(staged, final)
