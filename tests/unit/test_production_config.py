"""The model of a production's configuration: right ones, wrong ones, writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lstops.errors import ConfigError
from lstops.production.config import LstmcpipeConfig, find_lstchain_config, read_config, write_config
from lstops.production.documents import InvalidProductionError, read_yaml, yaml_text
from lstops.production.lstchain_config import rate_key, version_in_name
from lstops.production.lstchain_document import read_lstchain_config
from lstops.production.stages import StageName

PIPE = """\
workflow_kind: lstchain
prod_id: 20240101_v0.10.12_tiny
source_environment:
  source_file: /sw/conda.sh
  conda_env: lstchain-v0.10.12
stages_to_run: [dl1ab, merge_dl1]
stages:
  dl1ab:
  - input: /d/a
    output: /d/20240101_v0.10.12_tiny/b
    extra_slurm_options: {time: 10:00:00, cpus-per-task: 4, mem: 6GB}
  merge_dl1:
  - input: /d/20240101_v0.10.12_tiny/b
    output: /d/20240101_v0.10.12_tiny/m.h5
    options: --no-image
"""
TAILCUT = {"picture_thresh": 8, "boundary_thresh": 4}
CHAIN = {"tailcut": TAILCUT, "waveform_nsb_tuning": {"nsb_tuning": False, "nsb_tuning_rate_GHz": 0.15}}


def write(folder: Path, text: str = PIPE, chain: Any = CHAIN) -> Path:
    path = folder / "lstmcpipe_config.yml"
    path.write_text(text)
    if chain is not None:
        (folder / "lstchain_config.json").write_text(chain if isinstance(chain, str) else json.dumps(chain))
    return path


def problems(folder: Path, text: str) -> dict[str, str]:
    with pytest.raises(InvalidProductionError) as caught:
        read_config(write(folder, text))
    assert str(folder) in str(caught.value)
    assert caught.value.remedy
    return {f"{p.code} {p.place}": p.message for p in caught.value.problems}


def test_read(tmp_path: Path) -> None:
    config = read_config(write(tmp_path))
    assert config.pipe.source_environment.lstchain_version == "0.10.12"
    assert config.pipe.stages.defined == (StageName.DL1AB, StageName.MERGE_DL1)
    slurm = config.pipe.stages.of(StageName.DL1AB)[0].extra_slurm_options
    assert slurm is not None
    assert (slurm.time, slurm.cpus_per_task, slurm.mem) == ("10:00:00", 4, "6GB")
    assert config.chain is not None
    assert config.chain.content == CHAIN


def test_the_digest_depends_on_both_documents_and_not_on_their_layout(tmp_path: Path) -> None:
    def digest(name: str, text: str = PIPE, chain: Any = CHAIN) -> str:
        folder = tmp_path / name
        folder.mkdir()
        return read_config(write(folder, text, chain)).digest

    same = digest("a")
    assert digest("b", "# comment\n" + PIPE, json.dumps(dict(reversed(CHAIN.items())), indent=3)) == same
    assert digest("c", PIPE.replace("/d/a", "/d/other")) != same
    assert digest("d", chain={**CHAIN, "write_pe_image": True}) != same


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("workflow_kind", "workflow_kinds", "unknown-key workflow_kinds", "'workflow_kind'"),
        ("prod_id", "prodid", "unknown-key prodid", "'prod_id'"),
        ("  conda_env", "  conda", "unknown-key source_environment.conda", "'conda_env'"),
        ("merge_dl1:", "merge_DL1:", "unknown-key stages.merge_DL1", "'merge_dl1'"),
        ("    options", "    option", "unknown-key stages.merge_dl1[0].option", "'options'"),
        ("    output: /d/2", "    ouput: /d/2", "unknown-key stages.dl1ab[0].ouput", "'output'"),
        ("mem: 6GB", "mem: 1.5", "bad-value stages.dl1ab[0].extra_slurm_options.mem", "string or a valid integer"),
        ("    input: /d/20", "    inptu: /d/20", "missing-key stages.merge_dl1[0].input", "missing"),
        ("  - input: /d/a\n    output", "    input: /d/a\n    output", "not-a-list stages.dl1ab", "list"),
        ("lstchain\n", "lstchian\n", "bad-value workflow_kind", "lstchian"),
        ("[dl1ab, merge_dl1]", "[dl1ab, merge]", "bad-value stages_to_run[1]", "merge"),
        ("prod_id: 20", "prod_id: ../20", "bad-value prod_id", "cannot name a production"),
        ("prod_id: 20", "prod_id: a/20", "bad-value prod_id", "cannot name a production"),
        ("[dl1ab, merge_dl1]", "[]", "bad-value stages_to_run", "at least 1"),
        ("input: /d/a", "input:", "bad-value stages.dl1ab[0].input", "None"),
    ],
)
def test_wrong_keys_are_named_with_the_nearest_right_one(
    tmp_path: Path, old: str, new: str, code: str, message: str
) -> None:
    text = (
        PIPE.replace("  - input: /d/20240101", "  -\n    input: /d/20240101") if old.startswith("    input") else PIPE
    )
    assert old in text
    found = problems(tmp_path, text.replace(old, new, 1))
    assert code in found
    assert message in found[code]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a: [", "not-yaml file"),
        ("- a\n", "bad-value file"),
        ("", "bad-value file"),
        (PIPE + "prod_id: twice\n", "not-yaml file"),
        (PIPE + "? [a]\n: 3\n", "not-yaml file"),
        (PIPE + "? {a: 1}\n: 3\n", "not-yaml file"),
        ("a: !!python/object/apply:os.getcwd []\n", "not-yaml file"),
    ],
)
def test_no_configuration_at_all(tmp_path: Path, text: str, code: str) -> None:
    assert code in problems(tmp_path, text)


def test_a_key_given_twice_is_named(tmp_path: Path) -> None:
    assert "'prod_id' is given twice" in problems(tmp_path, PIPE + "prod_id: twice\n")["not-yaml file"]


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_config(tmp_path / "absent.yml")
    (tmp_path / "data.yml").write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    with pytest.raises(ConfigError, match="text file"):
        read_config(tmp_path / "data.yml")


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ("{", "file"),
        ("[1]", "JSON mapping"),
        ('{"version": ' + "9" * 5000 + "}", "file"),
        ('{"version": ' + "[" * 200_000 + "]" * 200_000 + "}", "file"),
        ('{"version": ' + "[" * 500 + "]" * 500 + "}", "more than 100"),
        ('{"tailcut": {"a": 1, "a": 2}}', "'a' is given twice"),
        ({**CHAIN, "tailcut": 5}, "tailcut: must be a section"),
        ({**CHAIN, "tailcut": {"picture_thresh": "high"}}, "picture_thresh: 'high' is no number of photoelectrons"),
        ({**CHAIN, "tailcut": {"picture_thresh": float("nan")}}, "nan is no number of photoelectrons"),
        ({**CHAIN, "tailcut": {"picture_thresh": 8}}, "'boundary_thresh' is missing"),
        ({"version": 1, "FitIntensityScan": {}}, "no lstchain configuration"),
        ({**CHAIN, "tailcuts": {}}, "'tailcuts'.*'tailcut'"),
        ({**CHAIN, "waveform_nsb_tuning": {"nsb_tuning": True, "nsb_tuning_rate_GHz": -0.1}}, "-0.1 is no possible"),
        ({**CHAIN, "waveform_nsb_tuning": {"nsb_tuning": True, "nsb_tuning_rate_GHz": 500}}, "500 is no possible"),
        (
            {**CHAIN, "waveform_nsb_tuning": {"nsb_tuning": True, "nsb_tuning_rate_GHz": "high"}},
            "'high' is no possible",
        ),
        ({**CHAIN, "waveform_nsb_tuning": 0.14}, "must be a section"),
        ({**CHAIN, "waveform_nsb_tuning": {"nsb_tuning": "false"}}, "'false' is neither true nor false"),
        ({**CHAIN, "tailcut": {}}, "tailcut.picture_thresh: the key 'picture_thresh' is missing"),
        ({**CHAIN, "tailcut": {"picture_thresh": 4, "boundary_thresh": 8}}, "4 is below boundary_thresh, 8"),
        ({**CHAIN, "random_forest_energy_regressor_args": [1, 2]}, "_args: must be a section"),
        ({**CHAIN, "random_forest_energy_regressor_args": {"n_estimators": "many"}}, "'many' is no possible n_est"),
        ({**CHAIN, "random_forest_energy_regressor_args": {"n_estimators": None}}, "None is no possible n_estim"),
        ({**CHAIN, "random_forest_energy_regressor_args": {"max_depth": -3}}, "-3 is no possible max_depth"),
        ({**CHAIN, "energy_regression_features": "width"}, "must be a list of names"),
        ({**CHAIN, "energy_regression_features": ["width", "width"]}, "names a feature twice"),
        ({**CHAIN, "EventSelector": {"filters": 3}}, "EventSelector.filters: must be a section"),
        ({**CHAIN, "EventSelector": {"filters": {"width": [0, "wide"]}}}, "filters.width: must be two limits"),
        ({**CHAIN, "image_modifier": {"transition_charge": float("nan")}}, "transition_charge: nan is no value"),
    ],
)
def test_no_lstchain_configuration(tmp_path: Path, chain: Any, message: str) -> None:
    write(tmp_path, chain=chain)
    with pytest.raises(ConfigError, match=message) as caught:
        read_lstchain_config(tmp_path / "lstchain_config.json")
    assert caught.value.remedy


def test_values_that_lstchain_takes(tmp_path: Path) -> None:
    forest = {"n_estimators": 50, "max_depth": None, "n_jobs": -1}
    filters = {"EventSelector": {"filters": {"width": [0, float("inf")]}}}
    write(tmp_path, chain={**CHAIN, **filters, "random_forest_energy_regressor_args": forest})
    assert read_lstchain_config(tmp_path / "lstchain_config.json").forests == {
        "random_forest_energy_regressor_args": forest
    }


def test_the_json_beside_the_yaml_is_taken_only_if_there_is_one(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert find_lstchain_config(path) == tmp_path / "lstchain_config.json"
    (tmp_path / "lstchain_config_2.json").write_text(json.dumps(CHAIN))
    assert find_lstchain_config(path) is None
    assert read_config(path).chain is None
    assert read_config(path, tmp_path / "lstchain_config_2.json").chain is not None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("11:30:00", "11:30:00"),
        ("2024-01-22", "2024-01-22"),
        ("010", 10),
        ("0o17", 15),
        ("0x1f", 31),
        ("yes", "yes"),
        ("true", True),
        ("~", None),
        ("", None),
        ("1_000", "1_000"),
        ("-1.5e3", -1500.0),
        ("20240918", 20240918),
        ("v0.10", "v0.10"),
    ],
)
def test_scalars_follow_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "x.yml"
    path.write_text(f"a: {text}\n")
    read = read_yaml(path)["a"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    "value",
    [
        "11:30:00",
        "12",
        "08",
        "1_000",
        "0o17",
        "0b1",
        "true",
        "yes",
        "null",
        "",
        "2024-01-22",
        "1e3",
        "- a",
        "a: b",
        "#",
    ],
)
def test_texts_stay_texts_for_both_versions_of_yaml(tmp_path: Path, value: str) -> None:
    text = yaml_text({"a": value})
    assert yaml.safe_load(text) == {"a": value}
    path = tmp_path / "x.yml"
    path.write_text(text)
    assert read_yaml(path) == {"a": value}
    # ruamel takes more for numbers than either; it cannot where there are quotes
    if value[:1].isdigit() and value.replace("_", "").isalnum():
        assert f"'{value}'" in text


def test_a_numeric_production_id_is_a_text(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, PIPE.replace("prod_id: 20240101_v0.10.12_tiny", "prod_id: 20240101")))
    assert config.pipe.prod_id == "20240101"


def test_write_never_replaces_by_accident_and_leaves_nothing_half(tmp_path: Path) -> None:
    config = read_config(write(tmp_path))
    target = tmp_path / "out.yml"
    target.write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        write_config(config, target)
    assert target.read_text() == "precious"
    write_config(config, target, overwrite=True)
    assert read_config(target, tmp_path / "lstchain_config.json").pipe == config.pipe
    with pytest.raises(ConfigError, match="cannot write"):
        write_config(config, tmp_path / "absent" / "out.yml")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lstchain_config.json", "lstmcpipe_config.yml", "out.yml"]


def test_models_are_frozen(tmp_path: Path) -> None:
    config = read_config(write(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        config.pipe.prod_id = "other"  # type: ignore[misc]
    assert LstmcpipeConfig.model_validate(config.pipe.to_document()) == config.pipe


def test_the_nsb_key_changed_with_0_10_12() -> None:
    assert [rate_key(v) for v in ("0.9.9", "0.10.11", "0.10.12", "0.12.3")] == [
        "nsb_tuning_ratio",
        "nsb_tuning_ratio",
        "nsb_tuning_rate_GHz",
        "nsb_tuning_rate_GHz",
    ]
    assert version_in_name("20240918_v0.10.12_allsky_nsb_tuning_0.14") == "0.10.12"
    assert version_in_name("20221021_crab_full_lstchain097") is None


OLD = """\
workflow_kind: lstchain
prod_id: tuned
base_path: /d/mc
dl1_reference_id: reference
prod_type: prod5
obs_date: 2020_prod5
zenith: zenith_20deg
pointing: south_pointing
particles: [gamma, gamma-diffuse, proton, electron]
offset_gammas: [off0.4deg]
source_environment: {source_file: /sw/conda.sh, conda_env: lstchain-v0.9.3}
stages_to_be_run: [dl1ab, merge_and_copy_dl1, train_pipe, dl1_to_dl2, dl2_to_irfs, dl2_to_sensitivity]
merging_options: {no_image: true}
"""


def test_old_dialect_from_a_reference_production(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, OLD))
    assert config.old is not None
    pipe = config.pipe
    assert [s.value for s in pipe.stages_to_run] == [
        "dl1ab",
        "merge_dl1",
        "train_pipe",
        "dl1_to_dl2",
        "dl2_to_irfs",
        "dl2_to_sensitivity",
    ]
    first = pipe.stages.of(StageName.DL1AB)[0]
    folder = "/d/mc/DL1/2020_prod5/gamma/zenith_20deg/south_pointing"
    assert first.input == f"{folder}/reference/off0.4deg/train"
    assert first.output == f"{folder}/tuned/off0.4deg/train"
    assert all(step.options == "--no-image" for step in pipe.stages.of(StageName.MERGE_DL1))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("particles", "particle", "unknown-key particle", "'particles'"),
        ("gamma-diffuse", "gamma-difuse", "bad-value particles[1]", "gamma-difuse"),
        ("base_path: /d/mc\n", "", "bad-value file", "base_path"),
        ("dl1_reference_id: reference\n", "", "bad-value file", "dl1_reference_id"),
    ],
)
def test_wrong_old_dialect(tmp_path: Path, old: str, new: str, code: str, message: str) -> None:
    found = problems(tmp_path, OLD.replace(old, new))
    assert code in found
    assert message in found[code]
