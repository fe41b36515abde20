"""The state of a production in numbers: by stage, by declination line, by node; as a table, as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lstops.production.grid import Node
from lstops.production.outline import node_of
from lstops.production.status import Hole, ProductionStatus, StepState

if TYPE_CHECKING:
    from rich.table import Table


#: what belongs to no line: the data of the test nodes, the configuration
EVERY_LINE = "(all lines)"


@dataclass(frozen=True)
class Tally:
    """Steps by state."""

    done: int
    failed: int
    ready: int
    waiting: int

    @classmethod
    def of(cls, states: Iterable[StepState]) -> Tally:
        """Count."""
        counts = Counter(states)
        return cls(*(counts[state] for state in (StepState.DONE, StepState.FAILED, StepState.READY, StepState.WAITING)))

    @property
    def expected(self) -> int:
        """All steps."""
        return self.done + self.failed + self.ready + self.waiting

    @property
    def state(self) -> StepState:
        """The state in one word: failed if anything failed, done if all is, else what can go on or has to wait."""
        if self.failed:
            return StepState.FAILED
        if self.done == self.expected:
            return StepState.DONE
        return StepState.READY if self.ready else StepState.WAITING

    def to_json(self) -> dict[str, int]:
        """Numbers by name."""
        return {"expected": self.expected, **{name: getattr(self, name) for name in self.__dataclass_fields__}}


@dataclass(frozen=True)
class NodeTally:
    """A node of a declination line, or a test node (of all lines)."""

    node: Node
    is_training: bool
    line: str | None
    tally: Tally


def by_stage_and_line(status: ProductionStatus) -> dict[tuple[str, str], Tally]:
    """Steps of each stage and line ("" for what belongs to none), in the order of the plan."""
    groups: dict[tuple[str, str], list[StepState]] = {}
    for step, state in zip(status.outline.steps, status.states, strict=True):
        groups.setdefault((step.stage, step.line or ""), []).append(state)
    return {key: Tally.of(states) for key, states in groups.items()}


def by_node(status: ProductionStatus) -> tuple[NodeTally, ...]:
    """All steps of each node; training nodes line by line, test nodes with all lines together."""
    groups: dict[tuple[bool, str | None, Node], list[StepState]] = {}
    for step, state in zip(status.outline.steps, status.states, strict=True):
        node = node_of(step)
        if node is not None:
            line = step.line if step.is_training else None
            groups.setdefault((step.is_training, line, node), []).append(state)
    return tuple(NodeTally(node, training, line, Tally.of(s)) for (training, line, node), s in groups.items())


def status_table(status: ProductionStatus) -> Table:
    """For a terminal."""
    from rich.table import Table

    total = Tally.of(status.states)
    table = Table(
        "stage", "line", "expected", "done", "failed", "to do", "waiting",
        title=f"{status.outline.production}: {total.done} of {total.expected} steps done ({status.outline.plan_id})",
    )  # fmt: skip
    for (stage, line), tally in by_stage_and_line(status).items():
        failed = f"[red]{tally.failed}[/red]" if tally.failed else "0"
        numbers = (str(tally.expected), str(tally.done), failed, str(tally.ready), str(tally.waiting))
        table.add_row(stage, line or EVERY_LINE, *numbers)
    return table


def node_table(status: ProductionStatus) -> Table:
    """For a terminal: the nodes that are not whole."""
    from rich.table import Table

    table = Table("data", "node", "expected", "done", "failed", "to do", "waiting", title="nodes that are not whole")
    for found in by_node(status):
        tally = found.tally
        if tally.state is not StepState.DONE:
            numbers = (tally.expected, tally.done, tally.failed, tally.ready, tally.waiting)
            table.add_row(
                f"training {found.line}" if found.is_training else "test", str(found.node), *map(str, numbers)
            )
    return table


def holes_table(status: ProductionStatus, holes: Iterable[Hole]) -> Table:
    """For a terminal."""
    from rich.table import Table

    table = Table(
        "stage", "where", "state", "why", "what helps", "stops", title=f"holes of {status.outline.production}"
    )
    for hole in holes:
        stops = str(hole.stops) if hole.state is StepState.FAILED else ""
        table.add_row(hole.stage, hole.where, hole.state.value, hole.cause, hole.remedy, stops)
    return table


def status_json(status: ProductionStatus) -> dict[str, Any]:
    """For programs."""
    return {
        "production": status.outline.production,
        "plan_id": status.outline.plan_id,
        "title": status.outline.title,
        "total": Tally.of(status.states).to_json(),
        "stages": [
            {"stage": stage, "line": line or None, **tally.to_json()}
            for (stage, line), tally in by_stage_and_line(status).items()
        ],
        "nodes": [
            {
                "node": str(found.node),
                "zd_deg": found.node.zd_deg,
                "az_deg": found.node.az_deg,
                "data": "training" if found.is_training else "test",
                "line": found.line,
                "state": found.tally.state.value,
                **found.tally.to_json(),
            }
            for found in by_node(status)
        ],
    }
