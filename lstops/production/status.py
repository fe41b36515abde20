"""Expected against produced: where each step of a production stands, and why what is missing is missing.

The answer is that of `lstops.step.assess`, without opening the plan and, the second time, the manifests: what was found
is remembered beside the plan with size and time of each file, and only what changed is looked into again. Source files
that no step of the plan makes are not looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from lstops.production.outline import Outline, OutlineStep, find_plan, load_outline
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.inputs import environment_version
from lstops.step.manifest import quick_state, write_atomically
from lstops.step.model import Plan, step_key
from lstops.step.plans import load_plan
from lstops.step.report import Ending, StepReport, read_report

_MEMORY = "standing.json"


class StepState(str, Enum):
    """Where a step of a production stands."""

    DONE = "done"
    FAILED = "failed"
    READY = "to do"
    WAITING = "waiting"


@dataclass(frozen=True)
class ProductionStatus:
    """State of each step of a production, in the order of the plan."""

    outline: Outline
    states: tuple[StepState, ...]

    @property
    def is_whole(self) -> bool:
        """Whether every step is done."""
        return all(state is StepState.DONE for state in self.states)


@dataclass(frozen=True)
class Hole:
    """A step that is missing and does not just wait for another.

    Attributes
    ----------
    where : str
        Line, particle, node.
    cause, remedy : str
        From the report of the last attempt, or that it has not run.
    stops : int
        Steps after it that wait for it, if it failed.
    """

    index: int
    stage: str
    label: str
    where: str
    state: StepState
    cause: str
    remedy: str
    stops: int


def production_status(site: Site, production: str) -> ProductionStatus:
    """Where the last plan of a production stands.

    Raises
    ------
    ConfigError
        If no plan of it is stored.
    """
    layout = Layout(site.base, site.work)
    outline = load_outline(layout, find_plan(layout, production))
    done = _Look(layout, site, outline).done()
    return ProductionStatus(outline, _states(layout, outline, done))


def production_holes(site: Site, production: str) -> tuple[ProductionStatus, tuple[Hole, ...]]:
    """What is missing of a production and why; in the order of the plan."""
    layout = Layout(site.base, site.work)
    status = production_status(site, production)
    stops = _stops(status)
    holes = [
        _hole(layout, status.outline, index, state, stops[index])
        for index, state in enumerate(status.states)
        if state in (StepState.FAILED, StepState.READY)
    ]
    return status, tuple(holes)


def _states(layout: Layout, outline: Outline, done: Sequence[bool]) -> tuple[StepState, ...]:
    reports = layout.step_report(outline.plan_id, 0).parent
    attempted = {entry.name for entry in os.scandir(reports)} if reports.is_dir() else set()
    states = []
    for index, step in enumerate(outline.steps):
        if done[index]:
            states.append(StepState.DONE)
        elif not all(done[parent] for parent in step.parents):
            states.append(StepState.WAITING)
        else:
            path = layout.step_report(outline.plan_id, index)
            report = read_report(path) if path.name in attempted else None
            failed = report is not None and report.ending is Ending.FAILED
            states.append(StepState.FAILED if failed else StepState.READY)
    return tuple(states)


def _stops(status: ProductionStatus) -> list[int]:
    """How many steps wait for each failed step, directly or not; 0 for those that just have not run."""
    children: list[list[int]] = [[] for _ in status.states]
    for index, step in enumerate(status.outline.steps):
        if status.states[index] is StepState.WAITING:
            for parent in step.parents:
                children[parent].append(index)
    counts = [0] * len(status.states)
    for index, state in enumerate(status.states):
        if state is StepState.FAILED:
            seen: set[int] = set()
            left = list(children[index])
            while left:
                if (child := left.pop()) not in seen:
                    seen.add(child)
                    left += children[child]
            counts[index] = len(seen)
    return counts


def _hole(layout: Layout, outline: Outline, index: int, state: StepState, stops: int) -> Hole:
    step = outline.steps[index]
    cause, remedy = "not run yet", "start the DAG mc_production with this plan."
    report: StepReport | None = read_report(layout.step_report(outline.plan_id, index))
    if state is StepState.FAILED and report is not None:
        cause, remedy = f"{report.error}: {report.what}".strip(": "), report.remedy
    elif report is not None:
        cause = "was made, and has been removed or changed since, or its inputs have"
    return Hole(index, step.stage, step.label, step.where, state, cause, remedy, stops)


# What is remembered of a step: time of its manifest, whether that belongs to this plan's step, (size, time) of its
# products, digest of their content, digest of the parents' content that it was made from.
_Row = tuple[int, bool, tuple[tuple[int, int], ...], str, str]
_NOTHING: _Row = (0, False, (), "", "")


def _read(path: str) -> tuple[bytes, int]:
    """Content and time of a file; for tens of thousands of files `pathlib` would cost as much as the reading."""
    handle = os.open(path, os.O_RDONLY)
    try:
        found = os.fstat(handle)
        # a byte more, so that one read sees the end
        return os.read(handle, found.st_size + 1), found.st_mtime_ns
    finally:
        os.close(handle)


class _Look:
    """Looks at manifests and products, at those that changed since the last look only."""

    def __init__(self, layout: Layout, site: Site, outline: Outline) -> None:
        self.layout, self.site, self.outline = layout, site, outline
        self.memory = layout.plan_file(outline.plan_id).with_name(_MEMORY)
        self.root, self.base = str(layout.manifests), str(layout.base)
        self.maker = {path: i for i, step in enumerate(outline.steps) for path in step.products}
        self._plan: Plan | None = None

    def done(self) -> list[bool]:
        before = self._remembered()
        rows: list[_Row] = []
        done: list[bool] = []
        fresh: dict[int, dict[str, str]] = {}
        for index, step in enumerate(self.outline.steps):
            parents = self._digest([rows[parent][3] for parent in step.parents])
            row = self._row(index, step, before[index], parents, rows, fresh)
            rows.append(row)
            whole = row[1] and row[4] == parents and all(done[parent] for parent in step.parents)
            done.append(whole and self._products_unchanged(step, row[2]))
        if rows != before:
            write_atomically(self.memory, json.dumps(rows, separators=(",", ":")))
        return done

    def _remembered(self) -> list[_Row]:
        empty = [_NOTHING] * len(self.outline.steps)
        try:
            rows = json.loads(self.memory.read_text())
            found = [(r[0], r[1], tuple((s, t) for s, t in r[2]), r[3], r[4]) for r in rows]
        except (FileNotFoundError, ValueError, TypeError, IndexError):
            return empty
        return found if len(found) == len(empty) else empty

    def _row(
        self, index: int, step: OutlineStep, before: _Row, parents: str, rows: Sequence[_Row],
        fresh: dict[int, dict[str, str]],
    ) -> _Row:  # fmt: skip
        path = f"{self.root}/{step.products[0]}.json"
        try:
            if before[0] and os.stat(path).st_mtime_ns == before[0] and before[1] and before[4] == parents:
                return before
            text, stamp = _read(path)
        except FileNotFoundError:
            return _NOTHING
        try:
            manifest = json.loads(text)
            outputs = {o["path"]: o["state"] for o in manifest["outputs"]}
            sizes = tuple((outputs[p]["size"], outputs[p]["mtime_ns"]) for p in step.products)
            digests = {p: outputs[p]["sha256"] for p in step.products}
            same_parents = self._made_from(manifest, fresh)
            ours = same_parents and self._is_ours(index, manifest)
        except (ValueError, KeyError, TypeError):
            return _NOTHING  # damaged: counts as none, as everywhere
        fresh[index] = digests
        return stamp, ours, sizes, self._digest(list(digests.values())), parents if same_parents else ""

    def _made_from(self, manifest: dict[str, Any], fresh: dict[int, dict[str, str]]) -> bool:
        """Whether the inputs that the plan makes are what they are now."""
        for item in manifest["inputs"]:
            maker = self.maker.get(item["path"])
            if maker is None:
                continue
            if maker not in fresh:
                fresh[maker] = self._digests_of(maker)
            if fresh[maker].get(item["path"]) != item["state"]["sha256"]:
                return False
        return True

    def _digests_of(self, index: int) -> dict[str, str]:
        try:
            manifest = json.loads(_read(f"{self.root}/{self.outline.steps[index].products[0]}.json")[0])
            return {o["path"]: o["state"]["sha256"] for o in manifest["outputs"]}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return {}

    def _is_ours(self, index: int, manifest: dict[str, Any]) -> bool:
        """Whether the manifest is that of this very step; the plan is only opened for those of another plan."""
        if manifest["plan_id"] == self.outline.plan_id and manifest["index"] == index:
            return True
        if self._plan is None:
            self._plan = load_plan(self.layout.plan_file(self.outline.plan_id))
            self._steps = self._plan.steps()
        step = self._steps[index]
        digests = {item["name"]: item["state"]["sha256"] for item in manifest["inputs"]}
        if set(digests) != {item.name for item in step.inputs}:
            return False
        return bool(manifest["key"] == step_key(step, digests, environment_version(self.site, step)))

    def _products_unchanged(self, step: OutlineStep, sizes: Sequence[tuple[int, int]]) -> bool:
        for path, size in zip(step.products, sizes, strict=True):
            try:
                found = os.stat(f"{self.base}/{path}")
            except FileNotFoundError:
                return False
            is_folder = (found.st_mode & 0o170000) == 0o040000
            state = quick_state(self.layout.base / path) if is_folder else (found.st_size, found.st_mtime_ns)
            if state != size:
                return False
        return True

    @staticmethod
    def _digest(parts: Sequence[str]) -> str:
        return hashlib.sha256("".join(parts).encode()).hexdigest()[:16] if parts else "-"
