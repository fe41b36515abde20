"""The trainer of a production's forests: who it is, where it is written, and what it makes differ."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from sites import DOCUMENT, make_site

from lstops.errors import ConfigError
from lstops.operations.retraining import forests_of
from lstops.operations.trainers import comparison
from lstops.production.request import ProductionRequest, check_request
from lstops.production.reuse import Method, Retraining, Settings, configuration_digest
from lstops.production.trainer import parse_trainer, trainer_of, with_trainer
from lstops.site.model import ForestSettings, Site, Trainer
from lstops.step.model import ArtifactKind, Plan

from .test_production_retrain import LINE, NEW, source

RETRAINING = Retraining(
    lstchain_version="0.12.3", line=LINE, training_sha256=("g", "p"), config_sha256="c", cuts_sha256="k"
)


def accelerated_site(base: Path) -> Site:
    environment = {**DOCUMENT["environments"]["0.12.3"], "accelerator": True}
    return make_site(base, environments={"0.12.3": environment})


def commands(plan: Plan) -> list[tuple[str, ...]]:
    return [argv for step in plan.steps() if step.primary.kind is ArtifactKind.MODELS for argv in step.commands]


def test_only_the_training_is_another_command(tmp_path: Path) -> None:
    site = accelerated_site(tmp_path)
    plan = source(site)
    made = with_trainer(plan, Trainer.ACCELERATED, site)
    (train, complete), (old_train, old_complete) = commands(made), commands(plan)
    assert train[:3] == ("python", "-m", "lstops.science.train_accelerated")
    assert (train[3:], complete) == (old_train[1:], old_complete)
    assert [new for new, old in zip(made.steps(), plan.steps(), strict=True) if new != old] == [
        step for step in made.steps() if step.kind == "train"
    ]
    (models,) = [step.primary for step in made.steps() if step.kind == "train"]
    assert models.expect["trainer"] == "accelerated"
    assert (trainer_of(plan), trainer_of(made)) == (Trainer.LSTCHAIN, Trainer.ACCELERATED)
    assert with_trainer(made, Trainer.ACCELERATED, site) == made
    assert with_trainer(made, Trainer.LSTCHAIN, site) == plan, "and back"
    assert with_trainer(plan, Trainer.LSTCHAIN, site) is plan


def test_a_site_without_the_accelerator_says_so_at_once(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    with pytest.raises(ConfigError, match="has no accelerator") as caught:
        with_trainer(source(site), Trainer.ACCELERATED, site)
    assert "requirements/accelerator.lock" in caught.value.remedy
    assert "trainer: lstchain" in caught.value.remedy


@pytest.mark.skipif(importlib.util.find_spec("sklearnex") is not None, reason="the accelerator is installed here")
def test_an_environment_without_the_accelerator_says_so_at_once(tmp_path: Path) -> None:
    words = ["--fg", "none.h5", "--fp", "none.h5", "-o", "models", "-c", "none.json"]
    done = subprocess.run(
        [sys.executable, "-m", "lstops.science.train_accelerated", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == ConfigError.exit_code
    assert "scikit-learn-intelex is not installed" in done.stderr
    assert "requirements/accelerator.lock" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "trainer"), [(None, None), ("", None), ("site", None), ("accelerated", Trainer.ACCELERATED)]
)
def test_trainers_by_name(text: str | None, trainer: Trainer | None) -> None:
    assert parse_trainer(text) is trainer
    with pytest.raises(ConfigError, match="'cuda' is no trainer") as caught:
        parse_trainer("cuda")
    assert caught.value.remedy == "write lstchain or accelerated."


def test_a_configuration_of_lstmcpipe_is_trained_by_lstchain(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trained by lstchain"):
        check_request(ProductionRequest(config=tmp_path / "x.yml", trainer=Trainer.ACCELERATED))


def test_the_trainer_is_part_of_what_a_production_is() -> None:
    lstchain = Settings(
        lstchain_version="0.12.3", line=LINE, tailcut="tailcut84", cuts_sha256="k", forests=ForestSettings(),
        method=Method.IMAGE, source="base", training_nodes=("a",),
    )  # fmt: skip
    accelerated = lstchain.model_copy(update={"trainer": Trainer.ACCELERATED})
    # the digest of what was registered before there were trainers
    assert lstchain.digest == "b99fbd587d49c2ac7adbbb4ed8d2c95d620041c9bb2c47a40b64ac8d300c529a"
    assert accelerated.digest != lstchain.digest
    assert accelerated.lstchain_digest == lstchain.digest == lstchain.lstchain_digest
    assert comparison({LINE: lstchain}) == {}
    assert comparison({LINE: accelerated}, "old") == {
        "compare": {LINE: {"settings_sha256": lstchain.digest, "production": "old"}},
        "trainer": "accelerated",
    }


@pytest.mark.parametrize(
    "other",
    [
        {"trainer": Trainer.ACCELERATED},
        {"training_sha256": ("g2", "p")},
        {"config_sha256": "c2"},
        {"cuts_sha256": "k2"},
        {"line": "dec_931"},
        {"lstchain_version": "0.12.4"},
    ],
)
def test_retrained_forests_are_others_if_anything_differs(other: dict[str, object]) -> None:
    assert RETRAINING.model_copy(update=other).digest != RETRAINING.digest
    assert RETRAINING.model_copy(update={"line": LINE}).digest == RETRAINING.digest


def test_the_number_of_processes_is_no_setting_of_forests() -> None:
    one = {"random_forest_x_args": {"n_jobs": 1, "n_estimators": 5}, "b": [1]}
    assert configuration_digest(one) == configuration_digest({"b": [1], "random_forest_x_args": {"n_estimators": 5}})
    assert configuration_digest(one) != configuration_digest({**one, "b": [2]})


def test_hyper_parameters_of_the_form(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    assert forests_of(site, {"n_estimators": None, "name": NEW}) == site.production.forests
    assert forests_of(site, {"n_estimators": 20, "max_depth": 5}) == site.production.forests.model_copy(
        update={"n_estimators": 20, "max_depth": 5}
    )
    with pytest.raises(ConfigError, match="n_estimators: Input should be greater than or equal to 1"):
        forests_of(site, {"n_estimators": -3})
