"""What a stage's task must remember across retries, clears and restarts, in Airflow's task state store."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from lstops.cluster.records import JobRecord
from lstops.cluster.resources import combine
from lstops.cluster.verdict import StepTrouble
from lstops.step.model import Resources

_KEY = "lstops_round"
_TAIL = 1000


@dataclass(frozen=True)
class NextRound:
    """A round that is to be submitted.

    Attributes
    ----------
    tries : dict
        Attempts by step index, that one included; empty for steps that were not tried yet.
    most : int or None
        Most array tasks, where the scheduler refused more.
    """

    indices: tuple[int, ...]
    resources: Resources
    tries: dict[int, int] = field(default_factory=dict)
    exclude: tuple[str, ...] = ()
    most: int | None = None

    @classmethod
    def of(cls, record: JobRecord) -> NextRound:
        """The same round once more."""
        tries = record.tries if max(record.tries.values()) > 1 else {}
        return cls(record.indices, record.resources, tries, record.exclude)

    def without(self, indices: Collection[int]) -> NextRound | None:
        """What is left of it once `indices` are submitted."""
        rest = tuple(index for index in self.indices if index not in indices)
        tries = {index: count for index, count in self.tries.items() if index in rest}
        return replace(self, indices=rest, tries=tries, most=None) if rest else None

    def joined(self, other: NextRound | None) -> NextRound:
        """Both in one round, with enough for each."""
        if other is None:
            return self
        return NextRound(
            tuple(sorted({*self.indices, *other.indices})),
            combine((self.resources, other.resources)),
            {**other.tries, **self.tries},
            tuple(sorted({*self.exclude, *other.exclude})),
        )

    def to_json(self) -> dict[str, Any]:
        """The store's form."""
        return {**vars(self), "resources": self.resources.model_dump(mode="json")}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> NextRound:
        """Read the store's form, in which keys are text."""
        return cls(
            tuple(raw["indices"]),
            Resources.model_validate(raw["resources"]),
            {int(index): tries for index, tries in raw["tries"].items()},
            tuple(raw["exclude"]),
            raw["most"],
        )


@dataclass(frozen=True)
class RoundState:
    """State of a task.

    Attributes
    ----------
    number : int
        Of the last round; never reused, so that its job's name is never taken for another's.
    name, job : str
        Of the round under way.
    open : bool
        True from "about to submit" until the job was judged.
    troubles : tuple of StepTrouble
        Steps found to be beyond help since the task was started afresh.
    jobs, ran : tuple
        All jobs and all step indices submitted since then.
    held : NextRound or None
        What waits until the limits of the queue let it in.
    left : NextRound or None
        Steps to be tried again for which there was no room in the round under way; they keep their number of tries.
    """

    number: int = 0
    name: str = ""
    job: str = ""
    open: bool = False
    troubles: tuple[StepTrouble, ...] = ()
    jobs: tuple[str, ...] = ()
    ran: tuple[int, ...] = ()
    held: NextRound | None = None
    left: NextRound | None = None

    def started(self, number: int, name: str, wanted: NextRound) -> RoundState:
        """About to submit as much of `wanted` as there is room for."""
        left = wanted if wanted.tries else None
        return replace(self, number=number, name=name, job="", open=True, held=None, left=left)

    def holding(self, held: NextRound) -> RoundState:
        """About to wait until there is room in the queue; nothing is submitted."""
        return replace(self, open=False, held=held)

    def with_job(self, job: str, indices: Sequence[int]) -> RoundState:
        """Submitted."""
        jobs = (*(known for known in self.jobs if known != job), job)
        left = self.left.without(indices) if self.left else None
        return replace(self, job=job, jobs=jobs, ran=tuple(sorted({*self.ran, *indices})), left=left)

    def consumed(self, troubles: Sequence[StepTrouble]) -> RoundState:
        """Judged."""
        cut = tuple(replace(trouble, log_tail=trouble.log_tail[-_TAIL:]) for trouble in troubles)
        return replace(self, open=False, troubles=(*self.troubles, *cut))

    def fresh(self) -> RoundState:
        """A new start of the task: only the numbering goes on."""
        return RoundState(number=self.number)

    def closed(self) -> RoundState:
        """The task has ended well."""
        return replace(self, open=False)


class RoundStore:
    """Reads and writes the state; without a store the task's try number keeps names apart."""

    def __init__(self, context: Any) -> None:
        self._store = context.get("task_state_store")
        self._try_number = int(context["ti"].try_number)

    def load(self) -> RoundState:
        """The stored state, or an empty one."""
        raw = self._store.get(_KEY) if self._store is not None else None
        if not raw:
            return RoundState(number=(self._try_number - 1) * 100)
        return RoundState(
            number=int(raw["number"]),
            name=raw["name"],
            job=raw["job"],
            open=bool(raw["open"]),
            troubles=tuple(StepTrouble(**trouble) for trouble in raw["troubles"]),
            jobs=tuple(raw["jobs"]),
            ran=tuple(raw["ran"]),
            held=NextRound.from_json(raw["held"]) if raw.get("held") else None,
            left=NextRound.from_json(raw["left"]) if raw.get("left") else None,
        )

    def save(self, state: RoundState) -> None:
        """Store the state; on return it is in the database."""
        if self._store is not None:
            rounds = {"held": state.held, "left": state.left}
            raw = asdict(replace(state, held=None, left=None))
            raw |= {key: found.to_json() if found else None for key, found in rounds.items()}
            # the store takes JSON's own types only, and a tuple is none
            self._store.set(_KEY, json.loads(json.dumps(raw)))
