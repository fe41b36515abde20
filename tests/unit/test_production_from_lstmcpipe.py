"""From an lstmcpipe configuration to a plan: files followed through the stages, commands, resources."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from sites import make_site

from lstops.errors import ConfigError
from lstops.production.config import ProductionConfig, validate_pipe
from lstops.production.definition import read_production
from lstops.production.from_lstmcpipe import (
    LstmcpipePlanRequest,
    TreeLister,
    plan_from_lstmcpipe,
)
from lstops.production.lstchain_config import LstchainConfig
from lstops.production.mc_files import FileIndex, dl1_name, relative_to_base, split_files
from lstops.production.slurm_options import mem_mb, resources, time_min
from lstops.production.stages import SlurmOptions
from lstops.step.model import ArtifactKind, Plan, Resources, Step

PROD = "20250101_v0.12.3_tiny"
DL1 = f"/fefs/aswg/data/mc/DL1/AllSky/{PROD}"
MODELS = f"/fefs/aswg/data/models/AllSky/{PROD}/dec_2276"
NODES = ("node_corsika_theta_6.000_az_180.000_", "node_corsika_theta_23.161_az_99.261_")
TEST = "node_theta_10.0_az_102.199_"
CONFIG_PATH = f"mc/DL1/AllSky/{PROD}/lstchain_config_{PROD}.json"


def document() -> dict[str, Any]:
    raw = "/fefs/aswg/data/mc/DL0/LSTProd2"
    gamma, proton = (f"{DL1}/TrainingDataset/{p}/dec_2276" for p in ("GammaDiffuse", "Protons"))
    test_dl1 = f"{DL1}/TestingDataset/Gamma/dl1_{PROD}_{TEST}_merged.h5"
    dl2 = f"/fefs/aswg/data/mc/DL2/AllSky/{PROD}/TestingDataset/Gamma/dec_2276/{TEST}"
    r0 = [
        {
            "input": f"{raw}/TrainingDataset/{p}/dec_2276/sim_telarray/{n}/output_v1.4/",
            "output": f"{DL1}/TrainingDataset/{p}/dec_2276/{n}",
            "extra_slurm_options": {"time": "11:30:00", "mem": "6GB", "partition": "long"},
        }
        for p in ("GammaDiffuse", "Protons")
        for n in NODES
    ]
    r0.append({"input": f"{raw}/TestDataset/sim_telarray/{TEST}", "output": f"{DL1}/TestingDataset/Gamma/{TEST}"})
    stages = {
        "r0_to_dl1": r0,
        "train_test_split": [
            {"input": f"{gamma}/{n}", "output": {"train": f"{gamma}/{n}/train", "test": f"{gamma}/{n}/test"}}
            for n in NODES
        ],
        "merge_dl1": [
            {"input": gamma, "output": f"{gamma}/gamma_merged.h5", "options": "--pattern '*/train/*.h5' --no-image"},
            {"input": proton, "output": f"{proton}/proton_merged.h5", "options": "--pattern */*.h5 --no-image"},
            {"input": f"{DL1}/TestingDataset/Gamma/{TEST}", "output": test_dl1},
        ],
        "train_pipe": [
            {"input": {"gamma": f"{gamma}/gamma_merged.h5", "proton": f"{proton}/proton_merged.h5"}, "output": MODELS}
        ],
        "dl1_to_dl2": [{"input": test_dl1, "path_model": MODELS, "output": dl2}],
        "dl2_to_irfs": [
            {
                "input": {"gamma_file": f"{dl2}/dl2_{PROD}_{TEST}_merged.h5", "proton_file": None},
                "output": f"/fefs/aswg/data/mc/IRF/AllSky/{PROD}/{TEST}/irf.fits.gz",
                "options": "--point-like --gh-efficiency 0.7",
            }
        ],
    }
    return {
        "workflow_kind": "lstchain",
        "prod_id": PROD,
        "source_environment": {"source_file": "/sw/conda.sh", "conda_env": "lstchain-v0.12.3"},
        "stages_to_run": list(stages),
        "stages": stages,
    }


class Disk:
    """Files that exist: `n` simtel files a node, unless others are given."""

    def __init__(self, n: int = 4, files: Sequence[str] = ()) -> None:
        self.n, self.files = n, files

    def __call__(self, folder: str, pattern: str) -> list[str]:
        if pattern == "*.simtel.gz":
            node = next((part for part in folder.split("/") if part.startswith("node_")), "x")
            return [f"{folder}/simtel_{node}run{i}.simtel.gz" for i in range(self.n)]
        return [
            f
            for f in self.files
            if PurePosixPath(f).is_relative_to(folder)
            and fnmatchcase(str(PurePosixPath(f).relative_to(folder)), pattern)
        ]


def plan(change: dict[str, Any] | None = None, lister: Any = None, **request: Any) -> Plan:
    pipe = validate_pipe(change or document(), "here")
    chain = LstchainConfig(content={"tailcut": {"picture_thresh": 8}})
    definition = read_production(ProductionConfig(pipe=pipe, chain=chain))
    site = make_site(Path("/base"), resources={"default": {"mem_mb": 1000}, "train": {"mem_mb": 9000, "cpus": 4}})
    return plan_from_lstmcpipe(LstmcpipePlanRequest(definition, site, lister or Disk(), **request))


def only(made: Plan, stage: str) -> Step:
    (step,) = made.stage(stage).steps
    return step


def test_stages_and_steps() -> None:
    made = plan()
    assert {stage.name: len(stage.steps) for stage in made.stages} == {
        "config": 1,
        "r0_to_dl1": 5,
        "train_test_split": 2,
        "merge_dl1": 3,
        "train_pipe": 1,
        "dl1_to_dl2": 1,
        "dl2_to_irfs": 1,
    }
    assert made.plan_id == plan().plan_id
    assert made.context["lines"] == ["dec_2276"]
    assert made.context["split_seed"] == 42


def test_every_input_is_made_before_or_exists() -> None:
    made: set[str] = set()
    for stage in plan().stages:
        outputs = {output.path for step in stage.steps for output in step.outputs}
        for step in stage.steps:
            for given in step.inputs:
                assert given.kind is ArtifactKind.SIMTEL or given.path in made, given
        made |= outputs


def test_the_configuration_is_made_first_and_read_by_all() -> None:
    made = plan()
    step = only(made, "config")
    assert step.outputs[0].path == CONFIG_PATH
    assert json.loads(step.files["lstchain_config.json"]) == {"tailcut": {"picture_thresh": 8}}
    for stage in ("r0_to_dl1", "train_pipe", "dl1_to_dl2", "dl2_to_irfs"):
        for one in made.stage(stage).steps:
            assert CONFIG_PATH in {given.path for given in one.inputs}


def test_commands() -> None:
    made = plan()
    r0 = made.stage("r0_to_dl1").steps[0]
    assert r0.commands[1] == (
        "lstchain_mc_r0_to_dl1", "-f", "{in:simtel-1}", "-o", "{outdir:dl1-1}", "-c", "{in:config}")  # fmt: skip
    assert PurePosixPath(r0.outputs[1].path).name == f"dl1_simtel_{NODES[0]}run1.h5"
    merge = made.stage("merge_dl1").steps[1]
    assert merge.commands == (("lstchain_merge_hdf5_files", "-d", "{indir:dl1}", "-o", "{out:merged}", "-p", "*.h5",
                               "--no-image", "--no-progress", "--skip-checks"),)  # fmt: skip
    assert "--no-image" not in made.stage("merge_dl1").steps[2].commands[0]
    train = only(made, "train_pipe")
    assert train.commands[0] == ("lstchain_mc_trainpipe", "--fg", "{in:gamma}", "--fp", "{in:proton}",
                                 "-o", "{out:models}", "-c", "{in:config}")  # fmt: skip
    assert train.commands[1][-4:] == ("--node", "6.000,180.000", "--node", "23.161,99.261")
    assert train.outputs[0].expect == {"training_dirs": True}
    assert only(made, "dl1_to_dl2").commands == (
        ("lstchain_dl1_to_dl2", "-f", "{in:dl1}", "-p", "{in:models}", "-o", "{outdir:dl2}", "-c", "{in:config}"),
    )
    irf = only(made, "dl2_to_irfs")
    assert irf.commands == (("lstchain_create_irf_files", "--point-like", "--gh-efficiency", "0.7", "-g", "{in:gamma}",
                             "-o", "{out:irf}", "--config", "{in:config}", "--overwrite"),)  # fmt: skip
    assert irf.outputs[0].expect == {"point_like": True, "zd_deg": 10.0, "az_deg": 102.199}


def test_the_split_moves_nothing_and_merges_take_their_part() -> None:
    made = plan()
    for split in made.stage("train_test_split").steps:
        record = json.loads(split.files["train_test_split.json"])
        assert (record["seed"], record["test_ratio"]) == (42, 0.5)
        assert (len(record["train"]), len(record["test"])) == (2, 2)
        assert set(record["train"]) | set(record["test"]) == {PurePosixPath(i.path).name for i in split.inputs}
    training = {
        name
        for split in made.stage("train_test_split").steps
        for name in json.loads(split.files["train_test_split.json"])["train"]
    }
    gamma, proton, test = made.stage("merge_dl1").steps
    assert {PurePosixPath(i.path).name for i in gamma.inputs} == training
    assert {i.group for i in gamma.inputs} == {"dl1"}
    assert gamma.outputs[0].counts_from == tuple(i.name for i in gamma.inputs)
    assert (len(proton.inputs), len(test.inputs)) == (8, 4)


def test_another_seed_is_another_split_and_another_plan() -> None:
    assert plan(seed=43).plan_id != plan().plan_id


def test_split_is_that_of_scikit_learn() -> None:
    model_selection = pytest.importorskip("sklearn.model_selection")
    files = [f"f{i:03d}" for i in range(37)]
    for ratio in (0.2, 0.5, 0.77):
        train, test = model_selection.train_test_split(files, random_state=42, test_size=ratio, shuffle=True)
        assert split_files(list(reversed(files)), ratio) == (sorted(train), sorted(test))


@pytest.mark.parametrize(("n", "ratio"), [(1, 0.5), (0, 0.5), (3, 0.9)])
def test_splits_with_an_empty_part_are_refused(n: int, ratio: float) -> None:
    with pytest.raises(ConfigError, match="cannot be split"):
        split_files([f"a/{i}" for i in range(n)], ratio)


def test_many_files_of_a_folder_are_several_steps() -> None:
    made = plan(lister=Disk(120))
    sizes = [len(step.outputs) for step in made.stage("r0_to_dl1").steps[:3]]
    assert sizes == [50, 50, 20]
    assert len({output.path for step in made.steps() for output in step.outputs}) == sum(
        len(step.outputs) for step in made.steps()
    )


def test_resources_come_from_the_configuration_then_from_the_site() -> None:
    made = plan()
    assert made.stage("r0_to_dl1").steps[0].resources == Resources(mem_mb=6144, time_min=690, partition="long")
    assert made.stage("r0_to_dl1").steps[-1].resources == Resources(mem_mb=1000)
    assert only(made, "train_pipe").resources == Resources(mem_mb=9000, cpus=4)


def test_dl1ab_from_another_production() -> None:
    changed = document()
    del changed["stages"]["train_test_split"]
    base = "/fefs/aswg/data/mc/DL1/AllSky/20240101_v0.12.3_base"
    changed["stages"]["dl1ab"] = [
        {"input": step["output"].replace(DL1, base), "output": step["output"]}
        for step in changed["stages"].pop("r0_to_dl1")
    ]
    changed["stages"]["merge_dl1"][0]["options"] = "--pattern */*.h5 --no-image"
    changed["stages_to_run"] = ["dl1ab", *[s for s in changed["stages"] if s != "dl1ab"]]
    files = [
        f"{step['input'].removeprefix('/fefs/aswg/data/')}/dl1_{PurePosixPath(step['input']).name}run{i}.h5"
        for step in changed["stages"]["dl1ab"]
        for i in range(3)
    ]
    made = plan(changed, Disk(files=files))
    step = made.stage("dl1ab").steps[0]
    assert step.commands[2] == (
        "lstchain_dl1ab", "-f", "{in:dl1-2}", "-o", "{out:tuned-2}", "-c", "{in:config}", "--no-image")  # fmt: skip
    assert step.outputs[2].counts_from == ("dl1-2",)
    assert len(made.stage("merge_dl1").steps[0].inputs) == 6
    with pytest.raises(ConfigError, match=r"no file \*\.h5 in mc/DL1/AllSky/20240101_v0\.12\.3_base"):
        plan(changed, Disk())


def edited(stage: str, **values: Any) -> dict[str, Any]:
    changed = document()
    changed["stages"][stage][0].update(values)
    return changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edited("dl1_to_dl2", output="/home/me/dl2"), "/home/me/dl2.* is not below /fefs/aswg/data/"),
        (edited("dl1_to_dl2", path_model="/fefs/aswg/data/../../etc"), "is not below"),
        (edited("dl1_to_dl2", path_model="/fefs/aswg/data/a\nb"), r"data/a\\nb' is not below"),
        (edited("merge_dl1", options="--pattern '*.h5"), r"stages\.merge_dl1\[0\]\.options: .* No closing quotation"),
        (edited("dl2_to_irfs", options="--pointlike"), r"stages\.dl2_to_irfs\[0\]\.options: .*no option --pointlike"),
        (edited("r0_to_dl1", extra_slurm_options={"cpus-per-task": "many"}),
         r"stages\.r0_to_dl1\[0\]\.extra_slurm_options\.cpus-per-task: 'many' is no number"),
        (edited("merge_dl1", options="--pattern */nothing/*.h5"), r"no file \*/nothing/\*.h5"),
        (edited("merge_dl1", options="--no-image --keys-to-copy x"), "'--keys-to-copy'"),
        (edited("r0_to_dl1", extra_slurm_options={"mem": "lots"}), "'lots' is no amount of memory"),
        (edited("r0_to_dl1", extra_slurm_options={"time": "soon"}), "'soon' is no time limit"),
        (edited("merge_dl1", input=MODELS), r"merge_dl1\[0\] reads .*, which only stages\.train_pipe\[0\] makes"),
        (edited("train_pipe", output=f"{DL1}/TrainingDataset/Protons/dec_2276/proton_merged.h5"), "would be made by"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        plan(change)
    assert caught.value.remedy


def test_nodes_without_files_and_versions_without_environment_are_refused() -> None:
    with pytest.raises(ConfigError, match="no simtel file"):
        plan(lister=Disk(0))
    changed = document()
    changed["source_environment"]["conda_env"] = "lstchain-v0.10.12"
    with pytest.raises(ConfigError, match=r"0\.10\.12"):
        plan(changed)
    assert plan(changed, lstchain_version="0.12.3").lstchain_version == "0.12.3"
    changed["source_environment"]["conda_env"] = "cta"
    with pytest.raises(ConfigError, match="cta"):
        plan(changed)


def test_two_files_of_one_name_cannot_be_merged() -> None:
    index = FileIndex(lambda folder, pattern: [])
    index.add("p/a", ["p/a/x.h5"])
    index.add("p/b", ["p/b/x.h5"])
    assert index.find("p/a", "*.h5") == ["p/a/x.h5"]
    with pytest.raises(ConfigError, match=r"two files called x\.h5"):
        index.find("p", "*/*.h5")
    with pytest.raises(ConfigError, match="two steps fill the folder p/a"):
        index.add("p/a", ["p/a/y.h5"])


def test_names_of_lstchain() -> None:
    assert dl1_name("a/b/x_run1.simtel.gz") == "dl1_x_run1.h5"
    assert dl1_name("x_run1.simtel.zst") == "dl1_x_run1.h5"
    assert dl1_name("x.1.simtel") == "dl1_x.1.h5"


def test_roots_are_tried_in_order() -> None:
    roots = (("/fefs/aswg/data/", ""), ("/home/x/sim/", "mc/DL0"))
    assert relative_to_base("/fefs/aswg/data/mc/a/", roots) == "mc/a"
    assert relative_to_base("/home/x/sim/node", roots) == "mc/DL0/node"


def test_files_of_a_tree(tmp_path: Path) -> None:
    for name in ("mc/n1/b.h5", "mc/n1/a.h5", "mc/n2/c.h5", "mc/n2/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert TreeLister(tmp_path)("mc", "*/*.h5") == ["mc/n1/a.h5", "mc/n1/b.h5", "mc/n2/c.h5"]
    assert TreeLister(tmp_path)("absent", "*.h5") == []


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("11:30:00", 690), ("03-00:00:00", 4320), ("1-12", 2160), ("1-12:30", 2190), (90, 90), ("90:30", 91), ("0:10", 1)],
)
def test_time_limits_of_sbatch(text: str | int, minutes: int) -> None:
    assert time_min(text) == minutes


@pytest.mark.parametrize(("text", "mb"), [("160G", 163840), ("80GB", 81920), (6000, 6000), ("512M", 512), ("100K", 1)])
def test_memory_of_sbatch(text: str | int, mb: int) -> None:
    assert mem_mb(text) == mb


def test_no_options_no_change() -> None:
    assert resources(None, Resources(mem_mb=7), "x") == Resources(mem_mb=7)
    options = SlurmOptions.model_validate({"cpus-per-task": 16, "nice": 10})
    assert resources(options, Resources(mem_mb=7), "x") == Resources(mem_mb=7, cpus=16)


@pytest.mark.parametrize(
    ("env", "chain", "level"),
    [
        ("lstchain-v0.12.3", {}, 0.0),
        ("lstchain-v0.12.3", {"nsb_tuning_rate_GHz": 0.22, "nsb_tuning_ratio": 0.5}, 0.22),
        ("lstchain-v0.12.3", {"nsb_tuning_ratio": 0.5}, None),
        ("lstchain-v0.10.4", {"nsb_tuning_rate_GHz": 0.22, "nsb_tuning_ratio": 0.5}, None),  # it reads the ratio
        ("cta", {"nsb_tuning_ratio": 0.5}, None),
    ],
)
def test_a_ratio_is_no_level(env: str, chain: dict[str, float], level: float | None) -> None:
    pipe = document()
    pipe["source_environment"]["conda_env"] = env
    content = {"tailcut": {}, "waveform_nsb_tuning": {"nsb_tuning": bool(chain), **chain}}
    config = ProductionConfig(pipe=validate_pipe(pipe, "x"), chain=LstchainConfig(content=content))
    assert read_production(config).nsb_ghz == level
