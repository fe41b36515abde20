"""The registration of finished productions: the gates, and what is registered."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lstops.catalog.database import catalog_session
from lstops.catalog.productions import DECISION, RegisteredProduction, note_level, register_production
from lstops.catalog.products import CURRENT, record_manifests
from lstops.catalog.registry_record import keep_events
from lstops.catalog.requests import close_requests
from lstops.catalog.tables import ProductionRow
from lstops.errors import ConfigError, ProductInvalid
from lstops.nsb.tailcuts import Tailcut
from lstops.operations.nightly import layout_of
from lstops.operations.trainers import require_as_good
from lstops.production.card_plan import KIND as CARD_KIND
from lstops.production.gates import load_gates, require_passed
from lstops.production.grid import Particle, line_in_path, particle_in_path
from lstops.production.level import checked_level
from lstops.production.outline import LEVEL_GIVEN, LEVEL_SOURCE, outline_of, plan_level_ghz
from lstops.production.report_card import read_report_card
from lstops.production.reuse import SAME_LEVEL_GHZ
from lstops.production.trainer import trainer_of
from lstops.site.model import FirstStatus, Site, Trainer
from lstops.step.assess import Standing, assess
from lstops.step.manifest import Manifest, ManifestStore, full_state, write_atomically
from lstops.step.model import ArtifactKind, Frozen, Plan
from lstops.step.plans import load_plan
from lstops.words import checked_words

#: beside a plan that does not say its NSB: what a person said
_LEVEL_FILE = "nsb_level.json"


class GivenLevel(Frozen):
    """The NSB of a production as a person knows it, where its plan does not say it.

    Attributes
    ----------
    nsb_level_ghz : float
        Extra NSB over the dark Monte Carlo.
    at : datetime
        When it was said.
    """

    nsb_level_ghz: float
    author: str
    reason: str
    at: datetime

    @property
    def source(self) -> dict[str, str]:
        """Where the level comes from, for the facts of the production."""
        return {"author": self.author, "reason": self.reason, "at": self.at.isoformat(timespec="seconds")}


def require_whole(site: Site, plan: Plan) -> None:
    """Refuse a production with a hole.

    Raises
    ------
    ProductInvalid
        Naming the nodes (or lines) that are not whole, and why the first is not.
    """
    holes = [found for found in assess(plan, layout_of(site), site) if found.state is not Standing.DONE]
    if not holes:
        return
    outline = outline_of(plan)
    where = list(dict.fromkeys(outline.steps[hole.index].where for hole in holes))
    named = ", ".join(where[:6]) + (f" and {len(where) - 6} more" if len(where) > 6 else "")
    raise ProductInvalid(
        f"{plan.title} is not registered: {len(holes)} of {len(outline.steps)} steps are not done, at {named}. "
        f"The first is {holes[0].step.label!r} ({holes[0].reason}).",
        f"`lstops production holes {plan.context['production']}` says why; then run mc_production again: it computes "
        "only what is missing.",
    )


def require_unchanged(site: Site, manifests: Iterable[Manifest]) -> None:
    """Refuse forests and responses whose content is not what the verifiers saw; size and time can be forged.

    Raises
    ------
    ProductInvalid
        Naming the first that differs.
    """
    layout = layout_of(site)
    used = (ArtifactKind.MODELS, ArtifactKind.IRF, ArtifactKind.LSTCHAIN_CONFIG)
    for output in (o for manifest in manifests for o in manifest.outputs if o.kind in used):
        if full_state(layout.absolute(output.path)).sha256 != output.state.sha256:
            raise ProductInvalid(
                f"{output.path} is not what was verified when it was made.",
                "remove it and run mc_production again, and find out who changed it.",
            )


def require_good(site: Site, plan: Plan) -> dict[str, str]:
    """Refuse a production whose report card is beyond the limits of the site.

    Returns
    -------
    dict
        Line -> report card, relative to the base; empty if the plan has none (it was made by lstmcpipe and adopted).

    Raises
    ------
    ProductInvalid
        Naming the numbers.
    """
    layout, found = layout_of(site), {}
    for step in plan.steps():
        if step.kind == CARD_KIND:
            card = read_report_card(layout.absolute(step.primary.path))
            require_passed(card, load_gates(site.production.gates))
            found[card.line] = step.primary.path
    return found


def registrations(site: Site, plan_id: str) -> tuple[RegisteredProduction, ...]:
    """What a finished plan registers: one production a declination line. Nothing is written.

    Raises
    ------
    ProductInvalid
        If a step is not done, the NSB is unknown, a report card is beyond the limits, accelerated forests are worse
        than lstchain's, or the plan makes no forests or no responses: it cannot be used for data.
    """
    layout = layout_of(site)
    plan = load_plan(layout.plan_file(plan_id))
    level, source = _level_of(site, plan, plan_id)
    require_whole(site, plan)
    outputs = [output for manifest in manifests_of(site, plan) for output in manifest.outputs]
    configs = [output for output in outputs if output.kind is ArtifactKind.LSTCHAIN_CONFIG]
    forests = [output for output in outputs if output.kind is ArtifactKind.MODELS]
    irfs = [o.path for o in outputs if o.kind is ArtifactKind.IRF]
    irfs = [path for path in irfs if particle_in_path(path) is not Particle.GAMMA_DIFFUSE]  # those are for tests
    made = [(models, line_in_path(models.path) or str(plan.context.get("line", ""))) for models in forests]
    found = [(models, line, [p for p in irfs if line_in_path(p) == line]) for models, line in made]
    if not found or len(configs) != 1 or not all(responses for _, _, responses in found):
        raise ProductInvalid(
            f"{plan.title}: {len(configs)} lstchain configuration(s), {len(forests)} set(s) of forests, {len(irfs)} "
            "response(s); it needs one configuration, and every line forests and responses.",
            "plan a production that trains and makes IRFs, or use its products by hand.",
        )
    config, cards = configs[0], require_good(site, plan)
    require_as_good(site, plan, cards)
    chain = json.loads(layout.absolute(config.path).read_text())
    return tuple(
        RegisteredProduction(
            name=plan.context["production"],
            line=line,
            lstchain_version=plan.lstchain_version,
            tailcut=plan.context.get("tailcut") or _tailcut_of(chain),
            nsb_level_ghz=level,
            models_path=models.path,
            models_sha256=models.state.sha256,
            irf_dir=posixpath.commonpath([path.rsplit("/", 1)[0] for path in responses]),
            config=chain,
            facts={
                **models.facts,
                "cuts_sha256": plan.context.get("cuts_sha256", ""),
                "config_path": config.path,
                "settings_sha256": plan.context.get("settings_sha256", {}).get(line, ""),
                "test_nodes": plan.context.get("test_nodes", []),
                "report_card": cards.get(line),
                "trainer": trainer_of(plan).value,
                "retrained_from": plan.context.get("retrained_from"),
                "nsb_tuning": _nsb_tuning(site, plan),
                **({LEVEL_SOURCE: source} if source else {}),
            },
            plan_id=plan_id,
        )
        for models, line, responses in found
    )


def _nsb_tuning(site: Site, plan: Plan) -> dict[str, Any] | None:
    """What the NSB was tuned to: value, uncertainty and subruns; None if it was not tuned to data."""
    path = next((o.path for step in plan.steps() for o in step.outputs if o.name == "tuning"), None)
    if path is None:
        return None
    found: dict[str, Any] = json.loads(layout_of(site).absolute(path).read_text())
    return found


def _tailcut_of(chain: Mapping[str, Any]) -> str:
    cleaning = chain.get("tailcut") or chain["tailcuts_clean_with_pedestal_threshold"]
    return Tailcut(int(cleaning["picture_thresh"]), int(cleaning["boundary_thresh"])).directory


def give_level(site: Site, plan_id: str, given: GivenLevel) -> None:
    """Keep a person's word on the NSB of a production whose plan does not say it, beside the plan.

    Raises
    ------
    ConfigError
        If author or reason is missing, the level is absurd, or the plan says another one.
    """
    author, reason = checked_words(DECISION, given.author, given.reason)
    given = given.model_copy(update={"author": author, "reason": reason})
    layout, level_ghz = layout_of(site), checked_level(given.nsb_level_ghz)
    plan = load_plan(layout.plan_file(plan_id))
    known = plan_level_ghz(plan)
    if known is None:
        write_atomically(layout.plan_dir(plan_id) / _LEVEL_FILE, given.model_dump_json(indent=1) + "\n")
    elif abs(known - level_ghz) >= SAME_LEVEL_GHZ:
        raise ConfigError(
            f"{plan.title} has {known:.2f} GHz, as its plan says, not {level_ghz:.2f} GHz.",
            "register it without --nsb.",
        )


def _level_of(site: Site, plan: Plan, plan_id: str) -> tuple[float, dict[str, str]]:
    """The NSB of a production, and its source if a person gave it."""
    known = plan_level_ghz(plan)
    if known is not None:
        return known, {"reason": "given with the request of its plan"} if LEVEL_GIVEN in plan.context else {}
    if given := _given_level(layout_of(site).plan_dir(plan_id) / _LEVEL_FILE):
        return given.nsb_level_ghz, given.source
    name = plan.context.get("production", plan.title)
    raise ProductInvalid(
        f"{name} is not registered: its configuration does not say its NSB in GHz (noise that dl1ab adds to images, "
        "and ratios, are no rates), and without a level it can neither match runs nor supersede a production.",
        f"measure it, or ask who tuned it, and give it: `lstops production register {name} --nsb GHZ --author ... "
        "--reason ...`; nothing is computed again.",
    )


def _given_level(path: Path) -> GivenLevel | None:
    """What a person said; a number that nobody stands for counts as not said."""
    try:
        return GivenLevel.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def manifests_of(site: Site, plan: Plan) -> list[Manifest]:
    """The manifests of a plan whose every step is done."""
    store = ManifestStore(layout_of(site).manifests)
    found = [store.read(step.primary.path) for step in plan.steps()]
    return [manifest for manifest in found if manifest is not None]


def first_status(site: Site, plan: Plan) -> FirstStatus:
    """The status of what is new: forests retrained or grown by another trainer wait for a person, who compares them."""
    is_trial = "retrained_from" in plan.context or trainer_of(plan) is not Trainer.LSTCHAIN
    return FirstStatus.CANDIDATE if is_trial else site.production.register_as


def register(site: Site, plan_id: str, given: GivenLevel | None = None) -> str:
    """Register the production of a finished plan, with its products and their lineage; returns its name.

    Parameters
    ----------
    given : GivenLevel, optional
        For productions whose configuration does not say their NSB. Also an event of the production.

    Raises
    ------
    ProductInvalid
        If the production has a hole, its NSB is unknown, or its forests or responses are not what was verified when
        they were made.
    ConfigError
        If its plan says another level than the person, or the person does not say who and why.
    """
    if given is not None:
        give_level(site, plan_id, given)
    productions, plan = registrations(site, plan_id), load_plan(layout_of(site).plan_file(plan_id))
    manifests, status = manifests_of(site, plan), first_status(site, plan)
    require_unchanged(site, manifests)
    with catalog_session() as session:
        record_manifests(session, manifests)
        for production in productions:
            now = register_production(session, production, status)
            row = session.get_one(ProductionRow, (production.name, production.line))
            if given is not None and LEVEL_SOURCE in production.facts:
                note_level(session, row, given.author, given.reason)
            if now == CURRENT:
                close_requests(session, row, site.nightly.nsb_tolerance_ghz)
        keep_events(session, layout_of(site))
    return productions[0].name
