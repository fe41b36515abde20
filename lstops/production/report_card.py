"""The report card of a production: how well forests and responses do, as the step writes and the gates read it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field, ValidationError

from lstops.errors import DataError
from lstops.paths import config_dir
from lstops.site.model import Trainer
from lstops.step.model import Frozen

#: published numbers that every card is shown against: a file of config/reference
REFERENCE = "crab-paper"
#: as for the nodes of a grid
SAME_DIRECTION_DEG = 0.03


class EnergyBin(Frozen):
    """A bin of true energy, after the gammaness cut of the response; None: too few events to say.

    Attributes
    ----------
    bias, resolution : float or None
        Median, and half of the central 68 %, of reco energy / true energy - 1.
    angular_resolution_deg : float or None
        68 % containment.
    effective_area_m2 : float or None
        Of the response: after all of its cuts.
    """

    low_tev: float
    high_tev: float
    n_events: int
    bias: float | None = None
    bias_error: float | None = None
    resolution: float | None = None
    resolution_error: float | None = None
    angular_resolution_deg: float | None = None
    angular_resolution_error_deg: float | None = None
    effective_area_m2: float | None = None


class Roc(Frozen):
    """How well gammas of a test node and protons of the training are told apart.

    Attributes
    ----------
    proton_zd_deg : float
        Zenith distance of the protons' pointing, the nearest one of the training.
    auc, auc_error : float
        Area below the curve and its standard error (Hanley & McNeil 1982).
    false_positive, true_positive : tuple of float
        The curve.
    """

    proton_zd_deg: float
    n_gammas: int
    n_protons: int
    auc: float
    auc_error: float
    false_positive: tuple[float, ...]
    true_positive: tuple[float, ...]


class NodeCard(Frozen):
    """One test node.

    Attributes
    ----------
    n_events : int
        After the event filters of the cut set, before the gammaness cut.
    """

    node: str
    zd_deg: float
    az_deg: float
    n_events: int
    bins: tuple[EnergyBin, ...]
    roc: Roc | None = None


def same_node(node: NodeCard, others: Iterable[NodeCard]) -> NodeCard | None:
    """That of the same direction among the nodes of another production, whose name is in the names of its nodes."""

    def near(other: NodeCard) -> bool:
        turn = abs(other.az_deg - node.az_deg) % 360
        return abs(other.zd_deg - node.zd_deg) < SAME_DIRECTION_DEG and min(turn, 360 - turn) < SAME_DIRECTION_DEG

    return next((other for other in others if near(other)), None)


class Previous(Frozen):
    """The production that a card is compared with: its numbers, without its own comparison."""

    production: str
    nsb_level_ghz: float | None
    nodes: tuple[NodeCard, ...]


class ReportCard(Frozen):
    """One production on one declination line.

    Attributes
    ----------
    nsb_level_ghz : float or None
        Extra NSB; None if the plan does not say.
    trainer : Trainer
        Of the forests.
    roc_note : str
        Why there are no ROC curves; empty if there are.
    importances : dict
        Forest -> feature -> (importance, standard deviation between the trees), by importance.
    """

    schema_version: int = 1
    production: str
    line: str
    lstchain_version: str
    nsb_level_ghz: float | None
    trainer: Trainer = Trainer.LSTCHAIN
    nodes: tuple[NodeCard, ...]
    roc_note: str = ""
    importances: dict[str, dict[str, tuple[float, float]]]
    previous: Previous | None = None

    def as_previous(self) -> Previous:
        """What a later card keeps of this one."""
        return Previous(production=self.production, nsb_level_ghz=self.nsb_level_ghz, nodes=self.nodes)


class ReferenceNode(Frozen):
    """Published numbers at one zenith distance."""

    zd_deg: float
    bins: tuple[EnergyBin, ...]


class ReferenceAuc(Frozen):
    """A published area below the ROC curve, between two intensities (p.e.)."""

    intensity_pe: tuple[float, float]
    auc: float


class Reference(Frozen):
    """Published numbers, with their source."""

    name: str
    citation: str
    licence: str
    note: str
    nodes: tuple[ReferenceNode, ...]
    importances: dict[str, dict[str, tuple[float, float]]]
    auc: tuple[ReferenceAuc, ...] = Field(default=())

    def nearest(self, zd_deg: float) -> ReferenceNode:
        """The published node of the nearest zenith distance."""
        return min(self.nodes, key=lambda node: abs(node.zd_deg - zd_deg))


def read_report_card(path: Path) -> ReportCard:
    """Read a report card.

    Raises
    ------
    DataError
        If it is missing or none.
    """
    try:
        return ReportCard.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.", "run the stage `report` of the production again.") from None
    except ValidationError as error:
        raise DataError(
            f"{path} is no report card: {error}", "run the stage `report` of the production again."
        ) from error


def reference_text(name: str = REFERENCE) -> str:
    """The published numbers as they are written in `config/reference`."""
    return (config_dir() / "reference" / f"{name}.json").read_text()


def parse_reference(text: str) -> Reference:
    """Read published numbers.

    Raises
    ------
    DataError
        If the text is none.
    """
    try:
        return Reference.model_validate_json(text)
    except ValidationError as error:
        raise DataError(f"this is no table of published numbers: {error}", "restore config/reference.") from error
