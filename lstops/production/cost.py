"""What a plan costs: CPU hours, memory, disk, queueing; by what steps of its kinds took before, else by assumption."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import Field, ValidationError

from lstops.cluster.waits import QueueWaits, queue_waits
from lstops.errors import ConfigError
from lstops.paths import config_dir
from lstops.plain_yaml import load_plain
from lstops.site.layout import Layout
from lstops.site.model import Site, describe
from lstops.step.assess import Assessment, Standing, assess
from lstops.step.manifest import Manifest, ManifestStore
from lstops.step.model import Frozen, Plan, Step

if TYPE_CHECKING:
    from rich.table import Table

#: Manifests that are read for the history. A site has hundred thousands, and a mean needs no more.
_SAMPLE = 1500


class Rate(Frozen):
    """What one command of a step takes; steps of many files have one command a file.

    Attributes
    ----------
    cpu_s : float
    output_mb : float
        What one output occupies on disk.
    peak_mb : float or None
        Highest memory seen; None: nothing ran yet.
    n_steps : int
        Steps that this comes from; 0 for an assumption.
    """

    cpu_s: float = Field(ge=0)
    output_mb: float = Field(ge=0)
    peak_mb: float | None = None
    n_steps: int = 0


@dataclass(frozen=True)
class StageCost:
    """What a stage needs.

    Attributes
    ----------
    steps, to_do : int
        All, and those that are not done; the rest is about those to do.
    cpu_h : float
    mem_mb : int
        Most that one step asks for.
    disk_gb : float
    basis : str
        "history (n steps)", "assumed", or both.
    queue_min : float or None
        What its submissions waited for their first step before (median, minutes); None: nothing was submitted yet.
    """

    stage: str
    steps: int
    to_do: int
    cpu_h: float
    mem_mb: int
    disk_gb: float
    basis: str
    queue_min: float | None = None


def assumed_rates(path: Path | None = None) -> dict[str, Rate]:
    """The rates of config/costs.yaml, by kind of step.

    Raises
    ------
    ConfigError
        If the file cannot be read or is wrong.
    """
    where = path or config_dir() / "costs.yaml"
    try:
        document = load_plain(where.read_text())
        return {str(kind): Rate.model_validate(rate) for kind, rate in document["rates"].items()}
    except OSError as error:
        raise ConfigError(f"cannot read {where}: {error.strerror}.", "restore the file.") from error
    except ValidationError as error:
        raise ConfigError(f"{where}: {describe(error)}", "correct these keys.") from error
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{where} holds no rates: {error!r}.", "write `rates:` with a mapping by kind.") from error


def seen_rates(manifests: Iterable[Manifest]) -> dict[str, Rate]:
    """The rates of finished steps, by kind. Adopted products say nothing about their cost."""
    by_kind: dict[str, list[Manifest]] = defaultdict(list)
    for manifest in manifests:
        if not manifest.plan_context.get("adopted"):
            by_kind[manifest.kind].append(manifest)
    return {kind: _rate(members) for kind, members in by_kind.items()}


def _rate(members: Sequence[Manifest]) -> Rate:
    sizes = [output.state.size / 1e6 for manifest in members for output in manifest.outputs]
    return Rate(
        cpu_s=statistics.fmean(manifest.cpu_s / len(manifest.commands) for manifest in members),
        output_mb=statistics.fmean(sizes),
        peak_mb=max(manifest.max_rss_mb for manifest in members),
        n_steps=len(members),
    )


def history(layout: Layout, plan: Plan) -> dict[str, Rate]:
    """Rates of steps of the plan's kinds that ran at this site, from a sample of the manifests."""
    store = ManifestStore(layout.manifests)
    kinds = {step.kind for step in plan.steps()}
    places = sorted({step.primary.path.split("/")[0] for step in plan.steps()})
    found = [path for place in places for path in sorted((store.root / place).rglob("*.json"))]
    chosen = found[:: max(1, -(-len(found) // _SAMPLE))]
    products = (path.relative_to(store.root).as_posix().removesuffix(".json") for path in chosen)
    manifests = (manifest for product in products if (manifest := store.read(product)))
    return seen_rates(manifest for manifest in manifests if manifest.kind in kinds)


def plan_cost(site: Site, plan: Plan) -> tuple[StageCost, ...]:
    """Cost of what is left to do of a plan, stage by stage."""
    layout = Layout(site.base, site.work)
    return estimate(plan, assess(plan, layout, site), history(layout, plan), assumed_rates(), queue_waits(layout))


def estimate(
    plan: Plan,
    assessed: Sequence[Assessment],
    seen: Mapping[str, Rate],
    assumed: Mapping[str, Rate],
    waits: QueueWaits,
) -> tuple[StageCost, ...]:
    """Cost of the steps that are not done.

    Raises
    ------
    ConfigError
        If a kind of step has neither a history nor an assumption.
    """
    costs = []
    for stage in (stage for stage in plan.stages if stage.steps):
        found = [assessed[i] for i in plan.indices(stage.name)]
        left = [a.step for a in found if a.state is not Standing.DONE]
        rates = [_rate_of(step, seen, assumed) for step in left]
        costs.append(
            StageCost(
                stage=stage.name,
                steps=len(found),
                to_do=len(left),
                cpu_h=sum(r.cpu_s * len(s.commands) for r, s in zip(rates, left, strict=True)) / 3600,
                mem_mb=max((step.resources.mem_mb for step in left), default=0),
                disk_gb=sum(r.output_mb * len(s.outputs) for r, s in zip(rates, left, strict=True)) / 1000,
                basis=_basis({step.kind for step in left}, seen),
                queue_min=waits.of(stage.name) if left else 0.0,
            )
        )
    return tuple(costs)


def _rate_of(step: Step, seen: Mapping[str, Rate], assumed: Mapping[str, Rate]) -> Rate:
    rate = seen.get(step.kind) or assumed.get(step.kind)
    if rate is None:
        raise ConfigError(
            f"nothing is known about the cost of {step.kind!r} steps.", f"add {step.kind!r} to config/costs.yaml."
        )
    return rate


def _basis(kinds: Iterable[str], seen: Mapping[str, Rate]) -> str:
    words = sorted(f"history ({seen[kind].n_steps} steps)" if kind in seen else "assumed" for kind in kinds)
    return ", ".join(dict.fromkeys(words))


def cost_table(title: str, costs: Sequence[StageCost]) -> Table:
    """For a terminal."""
    from rich.table import Table

    table = Table(
        "stage", "steps", "to do", "CPU (h)", "memory (MB)", "disk (GB)", "queue (min)", "by", title=title or None
    )
    for cost in costs:
        table.add_row(*_cells(cost))
    table.add_section()
    waits = [cost.queue_min for cost in costs]
    total = StageCost(
        "all",
        steps=sum(c.steps for c in costs),
        to_do=sum(c.to_do for c in costs),
        cpu_h=sum(c.cpu_h for c in costs),
        mem_mb=max((c.mem_mb for c in costs), default=0),
        disk_gb=sum(c.disk_gb for c in costs),
        basis="",
        # one stage after the other
        queue_min=None if None in waits else sum(wait for wait in waits if wait is not None),
    )
    table.add_row(*_cells(total))
    return table


def _cells(cost: StageCost) -> tuple[str, ...]:
    queue = "?" if cost.queue_min is None else f"{cost.queue_min:.1f}"
    return (
        cost.stage, str(cost.steps), str(cost.to_do), f"{cost.cpu_h:.2f}", str(cost.mem_mb),
        f"{cost.disk_gb:.1f}", queue, cost.basis,
    )  # fmt: skip
