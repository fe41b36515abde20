"""The pure parts of what runs inside a step: configurations, training pointings, variables."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from astropy.table import QTable

from lstops.errors import ConfigError, DataError
from lstops.production.mc_files import dl1_name
from lstops.production.simtel_plan import SimtelRequest, Tuning, event_source, plan_r0_to_dl1
from lstops.science.complete_models import match_nodes, pointings, write_training_dirs
from lstops.science.environment import science_environ
from lstops.science.mc_config import merge_into
from lstops.science.tune_nsb import TuningLevel, combine, data_configuration, tuned_configuration
from lstops.site.model import Site
from lstops.step.verify.models import training_pointings

from . import products


def test_tools_get_the_data_configuration_with_event_source_on_top() -> None:
    standard = {"LocalPeakWindowSum": {"apply_integration_correction": False}, "source_config": {}}
    config = data_configuration(standard)
    assert config["EventSource"] == {"focal_length_choice": "EQUIVALENT", "allowed_tels": [1]}
    assert config["LocalPeakWindowSum"] == {"apply_integration_correction": False}
    assert "EventSource" not in standard


def test_only_the_tuning_block_is_taken_over() -> None:
    mc = {"LocalPeakWindowSum": {"apply_integration_correction": True}, "image_modifier": {"old": 1}}
    block = {"increase_nsb": True, "extra_noise_in_dim_pixels": 2.1, "transition_charge": 8}
    tool = {"LocalPeakWindowSum": {"apply_integration_correction": False}, "image_modifier": block}
    config = tuned_configuration(mc, tool, TuningLevel.IMAGE)
    assert config == {"LocalPeakWindowSum": {"apply_integration_correction": True}, "image_modifier": block}
    assert mc["image_modifier"] == {"old": 1}


@pytest.mark.parametrize(
    ("level", "tool", "reason"),
    [
        (TuningLevel.IMAGE, {}, "wrote no image_modifier"),
        (TuningLevel.IMAGE, {"image_modifier": {"increase_nsb": False}}, "with increase_nsb"),
        (TuningLevel.WAVEFORM, {"waveform_nsb_tuning": {"nsb_tuning": True, "nsb_tuning_rate_GHz": -0.1}}, "darker"),
        (TuningLevel.WAVEFORM, {"waveform_nsb_tuning": {"nsb_tuning": True, "nsb_tuning_rate_GHz": np.nan}}, "nan"),
    ],
)
def test_useless_tuning_is_refused(level: TuningLevel, tool: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        tuned_configuration({}, tool, level)


def test_changes_keep_their_neighbours() -> None:
    config = {"a": {"x": 1, "y": {"z": 2}}, "b": [1, 2]}
    merge_into(config, {"a": {"y": {"w": 3}}, "b": [4], "c": 5})
    assert config == {"a": {"x": 1, "y": {"z": 2, "w": 3}}, "b": [4], "c": 5}


def test_pointings_come_from_the_events(tmp_path: Path) -> None:
    path = products.mc_dl1(tmp_path / "mc.h5")
    assert pointings(path) == [(10.0, pytest.approx(57.2958))]
    with pytest.raises(DataError, match="no simulated events"):
        pointings(products.dl1(tmp_path / "data.h5"))


def test_lost_and_foreign_nodes_are_named() -> None:
    nodes = [(6.0, 180.0), (10.0, 359.995)]
    match_nodes([(6.001, 180.0), (10.0, 0.0)], nodes)
    with pytest.raises(DataError, match=r"no events of \[\(6\.0, 180\.0\)\]"):
        match_nodes([(10.0, 0.0)], nodes)
    with pytest.raises(DataError, match=r"events of no node at \[\(20\.0, 1\.0\)\]"):
        match_nodes([(6.0, 180.0), (10.0, 0.0), (20.0, 1.0)], nodes)


def test_training_dirs_have_units(tmp_path: Path) -> None:
    path = tmp_path / "training_dirs.ecsv"
    write_training_dirs(path, [(10.0, 100.0), (35.0, 257.0)])
    assert QTable.read(path, format="ascii.ecsv")["zd"].unit == "deg"
    assert training_pointings(path) == [[10.0, 100.0], [35.0, 257.0]]


def test_variables_of_a_step(tmp_path: Path) -> None:
    environ = science_environ(tmp_path)
    assert environ["OMP_NUM_THREADS"] == "1"
    assert environ["MPLBACKEND"] == "agg"
    text = (Path(environ["XDG_CONFIG_HOME"]) / "astropy" / "astropy.cfg").read_text()
    assert "auto_download = False" in text
    assert "allow_internet = False" in text
    first, rest = environ["PATH"].split(os.pathsep, 1)
    assert (Path(first) / "python").exists()
    assert rest == os.environ["PATH"]
    assert science_environ(tmp_path) == environ


def test_plan_of_simulated_events(site: Site) -> None:
    request = SimtelRequest(
        "x", "0.12.3", ("mc/a.simtel.zst", "mc/b.simtel.gz"), "mc/DL1/x", event_source(30), Tuning("d.h5", "s.simtel")
    )
    plan = plan_r0_to_dl1(request, site)
    assert [o.path for s in plan.steps() for o in s.outputs] == [
        "mc/DL1/x/lstchain_config.json", "mc/DL1/x/dl1_a.h5", "mc/DL1/x/dl1_b.h5",
    ]  # fmt: skip
    assert plan.stage("r0-to-dl1").quarantine
    update = json.loads(plan.steps()[0].files["update.json"])
    assert update["source_config"]["EventSource"]["max_events"] == 30
    assert dl1_name("x/gamma_run1.simtel.gz") == "dl1_gamma_run1.h5"
    for files in ((), ("mc/a.simtel.zst", "other/a.simtel.gz")):
        with pytest.raises(ConfigError, match=r"file\(s\)"):
            plan_r0_to_dl1(SimtelRequest("x", "0.12.3", files, "mc"), site)


def test_several_subruns_give_the_median_and_its_uncertainty() -> None:
    block = {"increase_nsb": True, "extra_noise_in_dim_pixels": 1.0, "transition_charge": 8}
    others = [{**block, "extra_noise_in_dim_pixels": noise} for noise in (1.3, 1.1)]
    found = combine([block, *others])
    assert found.block == {**block, "extra_noise_in_dim_pixels": 1.1}
    values = found.values["extra_noise_in_dim_pixels"]
    assert values["spread"] == pytest.approx(0.15275, abs=1e-5)
    assert values["uncertainty"] == pytest.approx(0.15275 / 3**0.5, abs=1e-5)
    assert combine([block]).values["extra_noise_in_dim_pixels"] == {"value": 1.0, "spread": None, "uncertainty": None}
    # as lstchain writes it: an integer where nothing is added
    biases = [{"extra_bias_in_dim_pixels": bias, "transition_charge": 8} for bias in (0, 0.143, 0.2)]
    assert combine(biases).block == {"extra_bias_in_dim_pixels": 0.143, "transition_charge": 8}
    assert list(combine(biases).values) == ["extra_bias_in_dim_pixels"]
    with pytest.raises(DataError, match="with any subrun"):
        combine([])
    with pytest.raises(DataError, match="the same numbers"):
        combine([block, {"increase_nsb": True}])
