"""The gates of a production: limits of its report card, which stop a registration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import yaml
from pydantic import Field, ValidationError, field_validator

from lstops.errors import ConfigError, ProductInvalid
from lstops.paths import config_dir
from lstops.plain_yaml import load_plain
from lstops.production.report_card import EnergyBin, NodeCard, ReportCard, same_node
from lstops.production.reuse import SAME_LEVEL_GHZ
from lstops.site.model import describe
from lstops.step.model import Frozen

#: how both ends of the judged energies grow with the zenith distance: with this power of 1 / cos
_ZENITH_POWER = 3
#: what is compared with the previous production: name, error's name, whether more is better
_COMPARED = (
    ("resolution", "resolution_error", False),
    ("angular_resolution_deg", "angular_resolution_error_deg", False),
    ("effective_area_m2", None, True),
)
_WORDS = {
    "resolution": "energy resolution",
    "angular_resolution_deg": "angular resolution",
    "effective_area_m2": "effective area",
}
# shown before the rest is counted
_SHOWN = 4


class Limits(Frozen):
    """What a judged number may be at most; `effective_area_m2` and `auc`: at least."""

    energy_bias: float = Field(gt=0)
    energy_resolution: float = Field(gt=0)
    angular_resolution_deg: float = Field(gt=0)
    effective_area_m2: float = Field(gt=0)
    auc: float = Field(ge=0.5, lt=1)


class Gates(Frozen):
    """A file of `config/gates`, where the meaning of each is written."""

    energy_tev: tuple[float, float]
    min_events: int = Field(ge=1)
    sigmas: float = Field(ge=0)
    limits: Limits
    tolerance: float = Field(ge=0)

    @field_validator("energy_tev")
    @classmethod
    def _rising(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] < value[1]:
            raise ValueError(f"{value} is no range of energies in TeV")
        return value

    def judged(self, zd_deg: float, bins: Iterable[EnergyBin]) -> list[EnergyBin]:
        """The bins that count at a zenith distance."""
        grown = math.cos(math.radians(zd_deg)) ** -_ZENITH_POWER
        low, high = (edge * grown for edge in self.energy_tev)
        return [b for b in bins if b.low_tev >= low and b.high_tev <= high and b.n_events >= self.min_events]


def load_gates(name: str) -> Gates:
    """Read a file of `config/gates`.

    Raises
    ------
    ConfigError
        If there is none of that name, or a key or value in it is wrong.
    """
    path = config_dir() / "gates" / f"{name}.yaml"
    try:
        return Gates.model_validate(load_plain(path.read_text()))
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise ConfigError(f"cannot read the gates {path}: {error.strerror}.", f"use one of: {known}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}.", "correct the file.") from error
    except ValidationError as error:
        raise ConfigError(
            f"{path}: {describe(error)}", "correct these keys; see config/gates/standard.yaml."
        ) from error


class Failure(Frozen):
    """A number that stops the registration, in words."""

    text: str


def failures(card: ReportCard, gates: Gates) -> tuple[Failure, ...]:
    """Every number of a report card that is beyond its limit."""
    found = [text for node in card.nodes for text in (*_node(node, gates), *_roc(node, card.roc_note, gates))]
    previous = card.previous
    if previous is not None and _same_level(card.nsb_level_ghz, previous.nsb_level_ghz):
        for node in card.nodes:
            old = same_node(node, previous.nodes)
            if old is not None:
                found += _worse(node, old, previous.production, gates, gates.tolerance)
    if not card.nodes:
        found.append("the report card has no test node")
    return tuple(Failure(text=text) for text in found)


def shortfalls(card: ReportCard, trusted: ReportCard, gates: Gates) -> tuple[Failure, ...]:
    """Every number that is worse than that of a production that is trusted, or cannot be compared with it.

    Worse means: by more than the gates' number of standard errors, of both cards; no tolerance is added.
    """
    found: list[str] = []
    for node in card.nodes:
        old = same_node(node, trusted.nodes)
        if old is None:
            found.append(f"{trusted.production} has no node {_where(node)}")
            continue
        pairs = _pairs(node, old, gates)
        if not pairs:
            found.append(f"no energy bin that {trusted.production} has, too, {_where(node)}")
        if node.roc is None or old.roc is None:
            found.append(f"area below the ROC curve cannot be compared with {trusted.production} {_where(node)}")
        found += [
            *_more_biased(pairs, node, trusted.production, gates),
            *_worse(node, old, trusted.production, gates, 0.0),
        ]
    if not card.nodes:
        found.append("the report card has no test node")
    return tuple(Failure(text=text) for text in found)


def require_passed(card: ReportCard, gates: Gates) -> None:
    """Refuse a production whose report card is beyond the limits.

    Raises
    ------
    ProductInvalid
        Naming the numbers, their nodes and limits.
    """
    if found := failures(card, gates):
        raise ProductInvalid(
            f"{card.production} on {card.line} is not registered, its report card fails: {_listed(found)}.",
            "look at its page (report_card_*.html beside its lstchain configuration), find out what is wrong with the "
            "training and make it again; limits that are wrong are corrected in config/gates.",
        )


def require_no_worse(card: ReportCard, trusted: ReportCard, gates: Gates) -> None:
    """Refuse a production that is worse than one that is trusted.

    Raises
    ------
    ProductInvalid
        Naming the numbers.
    """
    if found := shortfalls(card, trusted, gates):
        raise ProductInvalid(
            f"{card.production} on {card.line} is not registered, its forests are not as good as those that lstchain "
            f"trained for {trusted.production}: {_listed(found)}.",
            f"use {trusted.production}, or train with `trainer: lstchain`.",
        )


def _listed(found: Sequence[Failure]) -> str:
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return "; ".join(failure.text for failure in found[:_SHOWN]) + more


def _same_level(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) < SAME_LEVEL_GHZ


def _where(node: NodeCard, b: EnergyBin | None = None) -> str:
    energy = f", {b.low_tev:.3g}-{b.high_tev:.3g} TeV" if b else ""
    return f"at zenith distance {node.zd_deg:.1f} deg, azimuth {node.az_deg:.1f} deg{energy}"


def _node(node: NodeCard, gates: Gates) -> Iterator[str]:
    bins, limits = gates.judged(node.zd_deg, node.bins), gates.limits
    if not bins:
        yield f"no energy bin with {gates.min_events} events or more {_where(node)}"
    for b in bins:
        numbers = (
            ("energy bias", b.bias, b.bias_error, limits.energy_bias, ""),
            ("energy resolution", b.resolution, b.resolution_error, limits.energy_resolution, ""),
            ("angular resolution", b.angular_resolution_deg, b.angular_resolution_error_deg,
             limits.angular_resolution_deg, " deg"),
        )  # fmt: skip
        for name, value, error, limit, unit in numbers:
            if value is None:
                yield f"{name} unknown {_where(node, b)}"
            elif abs(value) - gates.sigmas * (error or 0.0) > limit:
                yield f"{name} {value:.3f} +- {error or 0.0:.3f}{unit} (limit {limit:g}{unit}) {_where(node, b)}"
        area = b.effective_area_m2
        if area is None or area < limits.effective_area_m2:
            shown = "unknown" if area is None else f"{area:.3g} m2"
            yield f"effective area {shown} (limit {limits.effective_area_m2:g} m2) {_where(node, b)}"


def _roc(node: NodeCard, note: str, gates: Gates) -> Iterator[str]:
    if node.roc is None:
        yield f"area below the ROC curve unknown {_where(node)} ({note or 'no protons'})"
    elif node.roc.auc + gates.sigmas * node.roc.auc_error < gates.limits.auc:
        shown = f"{node.roc.auc:.3f} +- {node.roc.auc_error:.3f}"
        yield f"area below the ROC curve {shown} (limit {gates.limits.auc:g}) {_where(node)}"


def _pairs(node: NodeCard, old: NodeCard, gates: Gates) -> list[tuple[EnergyBin, EnergyBin]]:
    """The judged bins that both have."""
    before = {(b.low_tev, b.high_tev): b for b in gates.judged(old.zd_deg, old.bins)}
    judged = gates.judged(node.zd_deg, node.bins)
    return [(b, before[b.low_tev, b.high_tev]) for b in judged if (b.low_tev, b.high_tev) in before]


def _worse(node: NodeCard, old: NodeCard, name: str, gates: Gates, tolerance: float) -> Iterator[str]:
    pairs = _pairs(node, old, gates)
    for quantity, error_name, more_is_better in _COMPARED:
        found = _mean_change(pairs, quantity, error_name)
        if found is None:
            continue
        change, error = (-found[0], found[1]) if more_is_better else found
        if change - gates.sigmas * error > tolerance:
            yield f"{_WORDS[quantity]} worse than that of {name} by {change:.0%} +- {error:.0%} {_where(node)}"
    if node.roc and old.roc:
        loss, error = old.roc.auc - node.roc.auc, math.hypot(old.roc.auc_error, node.roc.auc_error)
        if loss - gates.sigmas * error > tolerance:
            yield f"area below the ROC curve less than that of {name} by {loss:.3f} +- {error:.3f} {_where(node)}"


def _more_biased(
    pairs: Sequence[tuple[EnergyBin, EnergyBin]], node: NodeCard, name: str, gates: Gates
) -> Iterator[str]:
    """The mean of |bias| over the bins, against that of the other production."""
    known = [(new, old) for new, old in pairs if new.bias is not None and old.bias is not None]
    if not known:
        return
    change = sum(abs(new.bias or 0.0) - abs(old.bias or 0.0) for new, old in known) / len(known)
    error = math.sqrt(sum((b.bias_error or 0.0) ** 2 for pair in known for b in pair)) / len(known)
    if change - gates.sigmas * error > 0:
        yield f"energy bias larger than that of {name} by {change:.3f} +- {error:.3f} {_where(node)}"


def _mean_change(
    pairs: Sequence[tuple[EnergyBin, EnergyBin]], quantity: str, error_name: str | None
) -> tuple[float, float] | None:
    """Mean of new / old - 1 over the bins, and its standard error."""
    changes, variance = [], 0.0
    for new, old in pairs:
        a, b = getattr(new, quantity), getattr(old, quantity)
        if a is None or not b:
            continue
        changes.append(a / b - 1)
        # the number of events is all that limits an effective area
        errors = (
            [(getattr(x, error_name) or 0.0) / y for x, y in ((new, a), (old, b)) if y]
            if error_name
            else [1 / math.sqrt(x.n_events) for x in (new, old)]
        )
        variance += (a / b) ** 2 * sum(e * e for e in errors)
    if not changes:
        return None
    return sum(changes) / len(changes), math.sqrt(variance) / len(changes)
