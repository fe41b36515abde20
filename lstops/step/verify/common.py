"""What the verifiers share: the facts of inputs, counts, and the way a finding becomes an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lstops.errors import DataError
from lstops.step.model import ArtifactKind, Output

#: facts go into manifests: JSON values only
Facts = dict[str, Any]

#: name of the training's configuration in a folder of models: one digest covers both
CONFIG_IN_MODELS = "lstchain_config.json"

MAKE_AGAIN = "remove it and run the step that makes it again; if it happens twice, read that step's log."


@dataclass(frozen=True)
class InputFacts:
    """An input of the step, as `inspect` (or the manifest of the step that made it) described it."""

    name: str
    kind: ArtifactKind
    path: Path
    facts: Mapping[str, Any]


def refuse(path: Path, findings: Sequence[str], remedy: str = MAKE_AGAIN) -> None:
    """Raise if there are findings; all of them are told at once.

    Raises
    ------
    DataError
        Naming the file, every finding and the remedy.
    """
    if findings:
        raise DataError(f"{path}: {'; '.join(findings)}.", remedy)


def sources(output: Output, inputs: Sequence[InputFacts]) -> list[InputFacts]:
    """The inputs that `output.counts_from` names."""
    return [i for i in inputs if i.name in output.counts_from]


def check_count(path: Path, output: Output, events: int, inputs: Sequence[InputFacts]) -> None:
    """Compare an event count with the sum over the inputs that `counts_from` names.

    Raises
    ------
    DataError
        If they differ.
    """
    named = sources(output, inputs)
    if not named:
        return
    expected = sum(int(i.facts["events"]) for i in named)
    if events != expected:
        largest = ", ".join(f"{i.path.name}: {i.facts['events']}" for i in named[:5])
        raise DataError(
            f"{path} holds {events} events, its {len(named)} input(s) hold {expected} ({largest}"
            f"{', ...' if len(named) > 5 else ''}).",
            "events were lost or doubled: see the step's log, and whether an input is there twice.",
        )
