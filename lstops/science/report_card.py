"""The report card of a production on one line: JSON and a page with plots.

`python -m lstops.science.report_card --card CARD.json --about FILE --models DIR --node DL2 IRF [--node ...] --json OUT
--page OUT [--protons DL2 --config FILE] [--previous CARD.json]`

Bias, resolution and angular resolution are those of `pyirf.benchmarks`, events and cuts those of lstchain and of the
response itself; the effective area is the response's.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstops.errors import DataError
from lstops.production.gates import Gates, failures
from lstops.production.report_card import (
    EnergyBin,
    NodeCard,
    ReportCard,
    Roc,
    parse_reference,
    read_report_card,
)
from lstops.science.command import exit_with
from lstops.science.out_of_bag import out_of_bag_gammaness
from lstops.site.model import Trainer
from lstops.step.manifest import write_atomically
from lstops.step.model import Frozen

Floats = NDArray[np.float64]

#: fewer events give no quantile
_MIN_EVENTS = 10
#: points of a ROC curve in the card
_POINTS = 60
#: standard errors for a normal distribution of n events in units of sigma / sqrt(n): of the median, and of half the
#: distance of the 16 % and 84 % quantiles (variances p (1 - p) / density^2 and their covariance)
_MEDIAN_ERROR, _WIDTH_ERROR = 1.2533, 0.9622
#: share of events within the angular resolution (pyirf's quantile, one sigma of a normal distribution)
_CONTAINED = 0.6827


class About(Frozen):
    """What the card is about; written by the planner."""

    production: str
    line: str
    lstchain_version: str
    nsb_level_ghz: float | None
    trainer: Trainer = Trainer.LSTCHAIN
    cuts: dict[str, Any] | None
    gates: Gates
    reference: str


def node_card(dl2: Path, irf: Path, cuts: dict[str, Any]) -> tuple[NodeCard, Floats]:
    """Numbers of one test node, and the gammaness of its filtered gammas.

    Raises
    ------
    DataError
        If no event passes the filters.
    """
    import astropy.units as u
    from astropy.io import fits
    from astropy.table import QTable
    from lstchain.io import DL3Cuts, EventSelector
    from lstchain.io.io import read_mc_dl2_to_QTable
    from pyirf.utils import calculate_theta
    from traitlets.config import Config

    events = read_mc_dl2_to_QTable(dl2)[0]
    zd, az = 90 - events["pointing_alt"][0].to_value(u.deg), events["pointing_az"][0].to_value(u.deg)
    config = Config({name: cuts[name] for name in ("EventSelector", "DL3Cuts") if name in cuts})
    events = EventSelector(config=config).filter_cut(events)
    if not len(events):
        raise DataError(f"no event of {dl2.name} passes the event filters.", "look at the node's DL1 and the cut set.")
    events["theta"] = calculate_theta(
        events, assumed_source_az=events["true_az"], assumed_source_alt=events["true_alt"]
    )
    gammaness = np.asarray(events["gh_score"], dtype=float)
    with fits.open(irf) as hdus:
        header = hdus["EFFECTIVE AREA"].header
        area = QTable.read(hdus["EFFECTIVE AREA"])
        selection = DL3Cuts(config=config)
        if "GH_CUT" in header:
            selection.global_gh_cut = header["GH_CUT"]
            kept = selection.apply_global_gh_cut(events)
        else:
            kept = selection.apply_energy_dependent_gh_cuts(events, QTable.read(hdus["GH_CUTS"]))
    card = NodeCard(
        node=irf.name.removesuffix(".fits.gz"),
        zd_deg=round(zd, 3),
        az_deg=round(az % 360, 3),
        n_events=len(events),
        bins=_bins(kept, area),
    )
    return card, gammaness


def _bins(events: Any, area: Any) -> tuple[EnergyBin, ...]:
    """One bin for each of the response's that has events; its edges are the response's."""
    import astropy.units as u
    from pyirf.benchmarks import angular_resolution, energy_bias_resolution

    low, high = area["ENERG_LO"][0], area["ENERG_HI"][0]
    edges = np.append(low.to_value(u.TeV), high[-1].to_value(u.TeV)) * u.TeV
    # one response has one offset; the largest for those that have several would be at the edge of the camera
    areas = area["EFFAREA"][0][0].to_value(u.m**2)
    energy = energy_bias_resolution(events, edges)
    counts = np.histogram(events["true_energy"].to_value(u.TeV), edges.value)[0]
    found = []
    for i, n in enumerate(counts.tolist()):
        if not n:
            continue
        numbers: dict[str, float | None] = {}
        if n >= _MIN_EVENTS:
            step = float(np.sqrt(_CONTAINED * (1 - _CONTAINED) / n))
            inside = events[(events["true_energy"] >= edges[i]) & (events["true_energy"] < edges[i + 1])]
            quantiles = [_CONTAINED, max(0.0, _CONTAINED - step), min(1.0, _CONTAINED + step)]
            one = [
                float(angular_resolution(inside, edges[i : i + 2], quantile=q).columns[-1][0].to_value(u.deg))
                for q in quantiles
            ]
            resolution = float(energy["resolution"][i])
            numbers = {
                "bias": _number(energy["bias"][i]),
                "bias_error": _number(_MEDIAN_ERROR * resolution / np.sqrt(n)),
                "resolution": _number(resolution),
                "resolution_error": _number(_WIDTH_ERROR * resolution / np.sqrt(n)),
                "angular_resolution_deg": _number(one[0]),
                "angular_resolution_error_deg": _number((one[2] - one[1]) / 2),
            }
        found.append(
            EnergyBin(
                low_tev=round(float(edges[i].value), 6),
                high_tev=round(float(edges[i + 1].value), 6),
                n_events=n,
                effective_area_m2=_number(areas[i]),
                **numbers,
            )
        )
    return tuple(found)


def _number(value: Any) -> float | None:
    """Five digits; None for what is no number."""
    plain = float(value)
    return float(f"{plain:.5g}") if np.isfinite(plain) else None


def roc(gammas: Floats, protons: Floats, proton_zd_deg: float) -> Roc:
    """The ROC curve of two sets of gammaness."""
    from sklearn.metrics import roc_auc_score, roc_curve

    truth = np.concatenate([np.ones(len(gammas)), np.zeros(len(protons))])
    score = np.concatenate([gammas, protons])
    auc = float(roc_auc_score(truth, score))
    false, true, _ = roc_curve(truth, score)
    at = np.unique(np.linspace(0, len(false) - 1, _POINTS).astype(int))
    # Hanley & McNeil, Radiology 143 (1982) 29
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (len(gammas) - 1) * (q1 - auc**2) + (len(protons) - 1) * (q2 - auc**2)
    return Roc(
        proton_zd_deg=round(proton_zd_deg, 3),
        n_gammas=len(gammas),
        n_protons=len(protons),
        auc=round(auc, 5),
        auc_error=round(float(np.sqrt(max(variance, 0.0) / (len(gammas) * len(protons)))), 5),
        false_positive=tuple(round(float(x), 4) for x in false[at]),
        true_positive=tuple(round(float(x), 4) for x in true[at]),
    )


def proton_gammaness(dl2: Path, models: Path, config: dict[str, Any]) -> tuple[Floats, Floats]:
    """Zenith distance (degrees) and out-of-bag gammaness of the training protons.

    Raises
    ------
    DataError
        If they are not those that the classifier was trained on.
    """
    import joblib
    import pandas as pd
    from lstchain.io.io import dl2_params_lstcam_key

    events = pd.read_hdf(dl2, key=dl2_params_lstcam_key)
    forest = joblib.load(models / "cls_gh.sav")
    rows, gammaness = out_of_bag_gammaness(forest, events[config["particle_classification_features"]])
    return 90 - np.degrees(events["alt_tel"].to_numpy()[rows]), gammaness


def importances(models: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Feature importances of each forest with their standard deviation between its trees, by importance."""
    import joblib

    found = {}
    for path in sorted(models.glob("*.sav")):
        forest = joblib.load(path)
        spread = np.std([tree.feature_importances_ for tree in forest.estimators_], axis=0)
        rows = zip(forest.feature_names_in_, forest.feature_importances_, spread, strict=True)
        found[path.stem] = {
            str(name): (round(float(mean), 6), round(float(std), 6))
            for name, mean, std in sorted(rows, key=lambda row: -row[1])
        }
    return found


def make_card(
    about: About, nodes: Sequence[tuple[Path, Path]], models: Path, cuts: dict[str, Any],
    protons: Path | None, config: dict[str, Any], previous: ReportCard | None,
) -> ReportCard:  # fmt: skip
    """The report card; see the module."""
    made = [node_card(dl2, irf, cuts) for dl2, irf in nodes]
    cards, note = [card for card, _ in made], ""
    if protons is None:
        note = "the plan has no training protons"
    else:
        try:
            zd, background = proton_gammaness(protons, models, config)
        except DataError as error:
            note = error.what
        else:
            cards = [card.model_copy(update={"roc": _nearest_roc(card, g, zd, background)}) for card, g in made]
    return ReportCard(
        production=about.production,
        line=about.line,
        lstchain_version=about.lstchain_version,
        nsb_level_ghz=about.nsb_level_ghz,
        trainer=about.trainer,
        nodes=tuple(sorted(cards, key=lambda card: (card.zd_deg, card.az_deg))),
        roc_note=note,
        importances=importances(models),
        previous=previous.as_previous() if previous else None,
    )


def _nearest_roc(card: NodeCard, gammas: Floats, zd: Floats, background: Floats) -> Roc:
    """Against the protons whose pointing is nearest in zenith distance."""
    rounded = np.round(zd, 1)
    nearest = float(rounded[np.argmin(np.abs(rounded - card.zd_deg))])
    return roc(gammas, background[rounded == nearest], nearest)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lstops.science.report_card", description=__doc__.split("\n")[0])
    parser.add_argument("--about", type=Path, required=True, help="what the card is about (JSON)")
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True, help="lstchain configuration of the production")
    parser.add_argument("--node", type=Path, nargs=2, action="append", required=True, metavar=("DL2", "IRF"))
    parser.add_argument("--protons", type=Path, help="folder with the DL2 of the training protons")
    parser.add_argument("--previous", type=Path, help="report card of the production before")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True)
    return parser.parse_args()


def _only_file(folder: Path) -> Path:
    found = sorted(folder.glob("*.h5"))
    if len(found) != 1:
        raise DataError(f"{folder} holds {len(found)} DL2 files instead of one.", "read the log of the step.")
    return found[0]


def main() -> None:
    """Command line."""
    from lstops.report.card_page import card_page

    options = _arguments()
    # gammapy and astropy warn about every FITS unit, numpy about empty bins
    warnings.simplefilter("ignore")
    about = About.model_validate_json(options.about.read_bytes())
    config = json.loads(options.config.read_text())
    cuts = about.cuts or config
    card = make_card(
        about,
        [(dl2, irf) for dl2, irf in options.node],
        options.models,
        cuts,
        _only_file(options.protons) if options.protons else None,
        config,
        read_report_card(options.previous) if options.previous else None,
    )
    found = failures(card, about.gates)
    write_atomically(options.json, card.model_dump_json(indent=1) + "\n")
    write_atomically(options.page, card_page(card, parse_reference(about.reference), about.gates))
    print(f"{card.production}, {card.line}: {len(card.nodes)} nodes, {len(found)} number(s) beyond the limits")
    for failure in found:
        print(f"  {failure.text}")


if __name__ == "__main__":
    exit_with(main)
