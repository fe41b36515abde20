"""Who grows the trees of a production's forests, and how a plan is told."""

from __future__ import annotations

from lstops.errors import ConfigError
from lstops.site.model import Site, Trainer
from lstops.step.model import ArtifactKind, Plan, Step

#: written beside forests: what trained them, in which versions, with which seeds; forests without are lstchain's
TRAINER_FILE = "trainer.json"
#: of what lstchain leaves to numpy's global generator
SEED = 42
#: what a form says if it leaves the choice to the site file
AS_THE_SITE = "site"
#: they take the same options
_COMMANDS = {
    Trainer.LSTCHAIN: ("lstchain_mc_trainpipe",),
    Trainer.ACCELERATED: ("python", "-m", "lstops.science.train_accelerated"),
}
#: key of a plan's context; a plan without is lstchain's
_KEY = "trainer"


def command_of(trainer: Trainer) -> tuple[str, ...]:
    """The first words of a training; `--fg GAMMA --fp PROTON -o MODELS -c CONFIG` follow."""
    return _COMMANDS[trainer]


def require_trainer(trainer: Trainer, lstchain_version: str, site: Site) -> None:
    """Refuse a trainer that the site's science environment does not have.

    Raises
    ------
    ConfigError
        Naming the environment and the way out.
    """
    environment = site.environment(lstchain_version)
    if trainer is Trainer.ACCELERATED and not environment.accelerator:
        raise ConfigError(
            f"the science environment of lstchain {lstchain_version} at site {site.name!r} has no accelerator.",
            "install requirements/accelerator.lock into it and write `accelerator: true` under "
            f"environments.{lstchain_version} of the site file, or train with `trainer: lstchain`.",
        )


def name_suffix(trainer: Trainer) -> str:
    """What the name of a production says about its trainer, if nobody names it."""
    return "" if trainer is Trainer.LSTCHAIN else f"_{trainer.value}"


def parse_trainer(text: str | None) -> Trainer | None:
    """A trainer by name; None, an empty text and "site" say nothing: the site's.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    try:
        return Trainer(text) if text and text != AS_THE_SITE else None
    except ValueError:
        known = " or ".join(one.value for one in Trainer)
        raise ConfigError(f"{text!r} is no trainer of forests.", f"write {known}.") from None


def trainer_of(plan: Plan) -> Trainer:
    """Who trains the forests of a plan."""
    return Trainer(plan.context.get(_KEY, Trainer.LSTCHAIN.value))


def with_trainer(plan: Plan, trainer: Trainer, site: Site) -> Plan:
    """The plan with all of its forests trained by `trainer`, whoever it was planned for.

    Raises
    ------
    ConfigError
        If the science environment does not have it.
    """
    require_trainer(trainer, plan.lstchain_version, site)
    if trainer is trainer_of(plan) is Trainer.LSTCHAIN:
        return plan
    stages = tuple(
        stage.model_copy(update={"steps": tuple(_trained_by(trainer, step) for step in stage.steps)})
        for stage in plan.stages
    )
    context = {name: value for name, value in plan.context.items() if name != _KEY}
    return plan.model_copy(update={"stages": stages, "context": {**context, **_named(trainer)}})


def _named(trainer: Trainer) -> dict[str, str]:
    return {} if trainer is Trainer.LSTCHAIN else {_KEY: trainer.value}


def _trained_by(trainer: Trainer, step: Step) -> Step:
    if step.primary.kind is not ArtifactKind.MODELS:
        return step
    expect = {name: value for name, value in step.primary.expect.items() if name != _KEY}
    models = step.primary.model_copy(update={"expect": {**expect, **_named(trainer)}})
    commands = tuple(_command(trainer, argv) for argv in step.commands)
    return step.model_copy(update={"commands": commands, "outputs": (models, *step.outputs[1:])})


def _command(trainer: Trainer, argv: tuple[str, ...]) -> tuple[str, ...]:
    for words in _COMMANDS.values():
        if argv[: len(words)] == words:
            return (*_COMMANDS[trainer], *argv[len(words) :])
    return argv
