"""Every lint rule on a small production: silent on a right one, one finding on a wrong one."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from sites import make_site
from typer.testing import CliRunner

from lstops.errors import ConfigError
from lstops.production.cli import app
from lstops.production.config import validate_pipe
from lstops.production.counts import count_stages
from lstops.production.findings import CODES, Finding, Tree
from lstops.production.grid import Particle, known_grid
from lstops.production.lint import lint_file
from lstops.site.layout import Layout
from lstops.step.adoption import adopted_manifest
from lstops.step.manifest import ArtifactRecord, ManifestStore, full_state

from .conftest import copy_step, make_plan

PROD = "20250101_v0.10.12_allsky_nsb_tuning_0.14"
BASE = "/fefs/aswg/data"
LINE = known_grid().line("dec_2276")
TRAINING = (Particle.GAMMA_DIFFUSE, Particle.PROTONS)

Document = dict[str, Any]


def production() -> Document:
    """The Crab line with two test nodes, nothing wrong with it."""
    dl1, dl2, irf = (f"{BASE}/mc/{level}/AllSky/{PROD}" for level in ("DL1", "DL2", "IRF"))
    models = f"{BASE}/models/AllSky/{PROD}/dec_2276"
    tests = [node.name(known_grid().test_prefix) for node in known_grid().test_nodes[:2]]
    merged = {p: f"{dl1}/TrainingDataset/{p.value}/dec_2276/dl1_{PROD}_{p.value}_merged.h5" for p in TRAINING}
    raw = f"{BASE}/mc/DL0/LSTProd2"
    r0 = [
        {
            "input": f"{raw}/TrainingDataset/{p.value}/dec_2276/sim_telarray/{LINE.node_name(n, p)}/output_v1.4/",
            "output": f"{dl1}/TrainingDataset/{p.value}/dec_2276/{LINE.node_name(n, p)}",
        }
        for p in TRAINING
        for n in LINE.nodes
    ]
    r0 += [
        {"input": f"{raw}/TestDataset/sim_telarray/{t}/output_v1.4", "output": f"{dl1}/TestingDataset/Gamma/{t}"}
        for t in tests
    ]
    merge = [
        {
            "input": f"{dl1}/TrainingDataset/{p.value}/dec_2276",
            "output": merged[p],
            "options": "--pattern */*.h5 --no-image",
        }
        for p in TRAINING
    ]
    merge += [
        {"input": f"{dl1}/TestingDataset/Gamma/{t}", "output": f"{dl1}/TestingDataset/Gamma/dl1_{PROD}_{t}_merged.h5"}
        for t in tests
    ]
    stages = {
        "r0_to_dl1": r0,
        "merge_dl1": merge,
        "train_pipe": [{"input": {"gamma": merged[TRAINING[0]], "proton": merged[TRAINING[1]]}, "output": models}],
        "dl1_to_dl2": [
            {
                "input": f"{dl1}/TestingDataset/Gamma/dl1_{PROD}_{t}_merged.h5",
                "path_model": models,
                "output": f"{dl2}/TestingDataset/Gamma/dec_2276/{t}",
            }
            for t in tests
        ],
        "dl2_to_irfs": [
            {
                "input": {"gamma_file": f"{dl2}/TestingDataset/Gamma/dec_2276/{t}/dl2_{PROD}_{t}_merged.h5"},
                "output": f"{irf}/TestingDataset/Gamma/dec_2276/{t}/irf_{PROD}_{t}.fits.gz",
                "options": "--point-like",
            }
            for t in tests
        ],
    }
    return {
        "workflow_kind": "lstchain",
        "prod_id": PROD,
        "source_environment": {"source_file": "/sw/conda.sh", "conda_env": "lstchain-v0.10.12"},
        "stages_to_run": list(stages),
        "stages": stages,
    }


def chain() -> Document:
    forest = {"n_estimators": 50, "max_depth": 30, "n_jobs": -1}
    return {
        "tailcut": {"picture_thresh": 8, "boundary_thresh": 4},
        "waveform_nsb_tuning": {"nsb_tuning": True, "nsb_tuning_rate_GHz": 0.14},
        "random_forest_energy_regressor_args": forest,
        "random_forest_disp_regressor_args": {**forest},
        "random_forest_disp_classifier_args": {**forest},
        "random_forest_particle_classifier_args": {**forest},
        "energy_regression_features": ["log_intensity", "width"],
        "disp_regression_features": ["log_intensity", "width"],
        "disp_classification_features": ["log_intensity", "width"],
        "particle_classification_features": ["log_intensity", "width"],
        "EventSelector": {"filters": {}},
        "DL3Cuts": {"gh_efficiency": 0.7},
        "DataBinning": {"scale_true_energy": 1.0},
    }


Change = Callable[[Document, Document], object]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / PROD
    made.mkdir()
    return made


def write(folder: Path, change: Change = lambda pipe, chain: None) -> Path:
    pipe, lstchain = production(), chain()
    change(pipe, lstchain)
    path = folder / "lstmcpipe_config.yml"
    path.write_text(yaml.safe_dump(pipe, sort_keys=False))
    (folder / "lstchain_config.json").write_text(json.dumps(lstchain))
    return path


def findings(folder: Path, change: Change = lambda pipe, chain: None, **options: Any) -> list[Finding]:
    found = lint_file(write(folder, change), **options).findings
    assert all(finding.code in CODES and finding.remedy for finding in found)
    # that not all 105 test nodes are used is no fault
    return [f for f in found if (f.code, f.severity.value) != ("missing-node", "info")]


def test_a_right_production_has_no_findings(folder: Path) -> None:
    assert findings(folder) == []


def drop(stage: str, *indices: int) -> Change:
    def change(pipe: Document, _: Document) -> None:
        for index in sorted(indices, reverse=True):
            del pipe["stages"][stage][index]

    return change


def put(path: str, value: Any, chained: bool = False) -> Change:
    def change(pipe: Document, lstchain: Document) -> None:
        at: Any = lstchain if chained else pipe
        *way, last = [int(key) if key.isdigit() else key for key in path.split("/")]
        for key in way:
            at = at[key]
        at[last] = value

    return change


def both(*changes: Change) -> Change:
    def change(pipe: Document, lstchain: Document) -> None:
        for one in changes:
            one(pipe, lstchain)

    return change


NSB = "waveform_nsb_tuning"
R0_NODE_OF_GAMMA = 0
N = len(LINE.nodes)

CASES: dict[str, tuple[Change, str, str, str, str]] = {
    # change, code, severity, part of the place, part of the message
    "culmination node of both particles": (
        drop("r0_to_dl1", 0, N), "missing-node", "error", "stages.r0_to_dl1 (dec_2276)", "18 of 19"),
    "a node of one particle": (
        drop("r0_to_dl1", 4), "missing-node", "error", "stages.r0_to_dl1", "GammaDiffuse: 18 of 19"),
    "a line of the grid that is not known": (
        lambda pipe, _: pipe.__setitem__("stages", json.loads(
            json.dumps(pipe["stages"]).replace("dec_2276", "dec_1111"))),
        "unknown-line", "warning", "stages.r0_to_dl1", "dec_1111"),
    "a node that the grid does not have": (
        lambda pipe, _: pipe["stages"]["r0_to_dl1"].append({
            "input": f"{BASE}/mc/DL0/LSTProd2/TrainingDataset/Protons/dec_2276/node_theta_12.000_az_15.000_",
            "output": f"{BASE}/mc/DL1/AllSky/{PROD}/TrainingDataset/Protons/dec_2276/node_theta_12.000_az_15.000_"}),
        "unknown-node", "warning", "stages.r0_to_dl1", "theta_12.000_az_15.000"),
    "name 0.14, value 0.15": (
        put(f"{NSB}/nsb_tuning_rate_GHz", 0.15, True), "nsb-label-mismatch", "error", NSB, "would add 0.15 GHz"),
    "name 0.14, but switched off": (
        put(f"{NSB}/nsb_tuning", False, True), "nsb-label-mismatch", "error", NSB, "nsb_tuning is false"),
    "the key of older versions only": (
        put(NSB, {"nsb_tuning": True, "nsb_tuning_ratio": 0.14}, True),
        "nsb-key-version", "error", NSB, "reads nsb_tuning_rate_GHz, which is missing"),
    "the key of older versions too": (
        put(f"{NSB}/nsb_tuning_ratio", 0.14, True), "nsb-key-version", "warning", "nsb_tuning_ratio", "does not read"),
    "slurm_options": (
        put("stages/merge_dl1/1/slurm_options", "-p long --mem=8GB"),
        "dead-key", "warning", "stages.merge_dl1[1].slurm_options", "1 step of merge_dl1"),
    "slurm_options with an open quote": (
        put("stages/merge_dl1/1/slurm_options", '-p "long --mem=8GB'),
        "dead-key", "warning", "stages.merge_dl1[1].slurm_options", "1 step of merge_dl1"),
    "fewer CPUs than none": (
        put("stages/train_pipe/0/extra_slurm_options", {"cpus-per-task": -4}),
        "bad-value", "error", "stages.train_pipe[0].extra_slurm_options.cpus-per-task", "-4 is no number of CPUs"),
    "memory in parts": (
        put("stages/train_pipe/0/extra_slurm_options", {"mem": "1.5GB"}),
        "bad-value", "error", "stages.train_pipe[0].extra_slurm_options.mem", "no amount of memory"),
    "no time limit": (
        put("stages/train_pipe/0/extra_slurm_options", {"time": "UNLIMITED", "ntasks-per-node": 2}),
        "bad-value", "warning", "stages.train_pipe[0].extra_slurm_options.time", "without a limit"),
    "an option that sbatch does not have": (
        put("stages/train_pipe/0/extra_slurm_options", {"cpus_per_tasks": 4}),
        "unknown-key", "warning", "stages.train_pipe[0].extra_slurm_options.cpus_per_tasks", "'cpus-per-task'"),
    "options that the script of the IRFs does not have": (
        both(*(put(f"stages/dl2_to_irfs/{i}/options", "--pointlike") for i in (0, 1))),
        "bad-option", "error", "stages.dl2_to_irfs[0].options", "--point-like (2 steps of dl2_to_irfs)"),
    "options of a merge with an open quote": (
        put("stages/merge_dl1/2/options", "--pattern '*.h5"),
        "bad-option", "error", "stages.merge_dl1[2].options", "No closing quotation"),
    "options of a merge that no plan carries over": (
        put("stages/merge_dl1/2/options", "--run-number 3"),
        "bad-option", "warning", "stages.merge_dl1[2].options", "--run-number"),
    "options where none are read": (
        put("stages/train_pipe/0/options", "--fast"), "dead-key", "warning", "stages.train_pipe[0].options", "--fast"),
    "a stage without steps": (
        put("stages/dl2_to_irfs", []), "stage-not-defined", "error", "dl2_to_irfs", "has no steps"),
    "a stage that is not run": (
        lambda pipe, _: pipe["stages_to_run"].remove("dl2_to_irfs"),
        "stage-not-run", "warning", "stages.dl2_to_irfs", "2 steps"),
    "one file of the noise tuning": (
        put("dl1_noise_tune_mc_run", "/x.simtel.gz"), "noise-tune-pair", "error", "dl1_noise_tune_data_run", "missing"),
    "no cuts for the IRFs": (
        lambda _, lstchain: lstchain.pop("DL3Cuts"), "missing-section", "error", "lstchain", "without DL3Cuts"),
    "outputs of another production": (
        put("stages/dl2_to_irfs/0/output", f"{BASE}/mc/IRF/AllSky/20240101_other/irf.fits.gz"),
        "prod-id-mismatch", "error", "stages.dl2_to_irfs[0]", "20240101_other"),
    "files with another production's name": (
        put("stages/dl2_to_irfs/1/output", f"{BASE}/mc/IRF/AllSky/{PROD}/irf_20240101_other.fits.gz"),
        "prod-id-mismatch", "warning", "stages.dl2_to_irfs[1]", "irf_20240101_other.fits.gz"),
    "another version in the environment": (
        put("source_environment/conda_env", "lstchain-v0.10.17"),
        "version-environment-mismatch", "error", "conda_env", "says lstchain 0.10.12"),
    "an environment without version": (
        put("source_environment/conda_env", "cta"),
        "version-environment-mismatch", "warning", "conda_env", "does not say"),
    "models of another version": (
        both(drop("train_pipe", 0), lambda pipe, _: pipe["stages_to_run"].remove("train_pipe"),
             *(put(f"stages/dl1_to_dl2/{i}/path_model", f"{BASE}/models/AllSky/20230101_v0.10.4_base/dec_2276")
               for i in (0, 1))),
        "version-environment-mismatch", "warning", "stages.dl1_to_dl2[0]", "0.10.4"),
    "an output made twice": (
        lambda pipe, _: pipe["stages"]["dl2_to_irfs"].append(copy.deepcopy(pipe["stages"]["dl2_to_irfs"][0])),
        "duplicate-output", "error", "stages.dl2_to_irfs[2]", "stages.dl2_to_irfs[0] and stages.dl2_to_irfs[2]"),
    "the output is the input": (
        lambda pipe, _: pipe["stages"]["r0_to_dl1"][-1].__setitem__(
            "input", pipe["stages"]["r0_to_dl1"][-1]["output"]),
        "overwrites", "error", "stages.r0_to_dl1", "without asking"),
    "a merged file that nobody makes": (
        drop("merge_dl1", 2), "input-not-produced", "warning", "stages.dl1_to_dl2[0]", "1 input"),
    "a stage that waits for a later one": (
        put("stages/merge_dl1/2/input", production()["stages"]["dl1_to_dl2"][1]["output"] + "/dl2_"
            + production()["stages"]["dl1_to_dl2"][1]["input"].rsplit("/dl1_", 1)[1]),
        "cyclic-path", "error", "stages.merge_dl1[2]", "stages.dl1_to_dl2[1]"),
    "a folder that a later stage fills": (
        put("stages/merge_dl1/2/input", production()["stages"]["dl1_to_dl2"][1]["output"]),
        "cyclic-path", "error", "stages.merge_dl1[2]", "stages.dl1_to_dl2[1]"),
    "a path from nowhere": (
        put("stages/r0_to_dl1/0/input", "mc/DL0/x"), "bad-path", "error", "stages.r0_to_dl1[0]", "not absolute"),
    "a path from home": (
        put("stages/r0_to_dl1/0/input", "~/x"), "bad-path", "error", "stages.r0_to_dl1[0]", "not absolute"),
    "a blank path": (
        put("stages/r0_to_dl1/0/input", "  "), "bad-path", "error", "stages.r0_to_dl1[0]", "blank"),
    "a path of two lines": (
        put("stages/r0_to_dl1/0/input", "/fefs/a\nb"), "bad-path", "error", "stages.r0_to_dl1[0]", "control"),
    "a path that climbs": (
        put("stages/r0_to_dl1/0/input", "/fefs/../a"), "bad-path", "error", "stages.r0_to_dl1[0]", "'..'"),
    "a path that no file can have": (
        put("stages/r0_to_dl1/0/input", "/fefs/" + 300 * "a"), "bad-path", "error", "stages.r0_to_dl1[0]", "too long"),
    "forests without hyper-parameters": (
        lambda _, lstchain: lstchain.pop("random_forest_disp_regressor_args"),
        "missing-section", "error", "lstchain", "train_pipe runs without random_forest_disp_regressor_args"),
    "images modified where nobody does": (
        put("image_modifier", {"increase_nsb": True}, True),
        "tuning-without-effect", "warning", "image_modifier", "dl1ab only"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rules(folder: Path, case: str) -> None:
    change, code, severity, place, message = CASES[case]
    found = findings(folder, change)
    assert [(f.code, f.severity.value) for f in found] == [(code, severity)], found
    assert place in found[0].place
    assert message in found[0].message


def test_both_ways_to_dl1_at_once(folder: Path) -> None:
    def change(pipe: Document, _: Document) -> None:
        step = {"input": f"{BASE}/mc/DL1/AllSky/20230101_base/x", "output": f"{BASE}/mc/DL1/AllSky/{PROD}/x"}
        pipe["stages"]["dl1ab"] = [step]
        pipe["stages_to_run"].append("dl1ab")

    assert "r0-and-dl1ab" in {f.code for f in findings(folder, change)}


def test_a_test_size_that_is_not_used_is_an_error(folder: Path) -> None:
    """lstmcpipe reads output.ratio only: asked for 0.2, split by 0.5."""

    def change(ratio: float | None) -> Change:
        def split(pipe: Document, _: Document) -> None:
            node = pipe["stages"]["r0_to_dl1"][0]["output"]
            output: Document = {"train": f"{node}/train", "test": f"{node}/test"}
            if ratio:
                output["ratio"] = ratio
            pipe["stages"]["train_test_split"] = [{"input": node, "output": output, "options": {"test_size": 0.2}}]
            pipe["stages_to_run"].append("train_test_split")

        return split

    assert [(f.code, f.severity.value) for f in findings(folder, change(None))] == [("dead-key", "error")]
    assert [(f.code, f.severity.value) for f in findings(folder, change(0.2))] == [("dead-key", "warning")]


def test_the_folder_of_the_configuration(tmp_path: Path) -> None:
    other = tmp_path / "20250101_v0.10.12_something_else"
    other.mkdir()
    assert [f.code for f in findings(other)] == ["prod-id-mismatch"]
    # a level of a grid shares date and version with the folder of the grid
    level = tmp_path / "20250101_v0.10.12_allsky_nsb_grid" / "NSB-0.14"
    level.mkdir(parents=True)
    assert findings(level) == []
    # a folder without a date says nothing
    assert findings(tmp_path) == []


def test_equal_votes_on_hyper_parameters_are_a_warning(tmp_path: Path) -> None:
    grid = tmp_path / "20250101_v0.10.12_allsky_nsb_grid"
    for level in ("NSB-0.14", "NSB-0.22"):
        (grid / level).mkdir(parents=True)
    other = chain()
    other["random_forest_energy_regressor_args"]["n_estimators"] = 150
    (grid / "NSB-0.22/lstchain_config.json").write_text(json.dumps(other))
    found = findings(grid / "NSB-0.14")
    assert [(f.code, f.severity.value) for f in found] == [("hyperparameters-differ", "warning")]
    # the number of processes changes no result
    other["random_forest_energy_regressor_args"].update(n_estimators=50, n_jobs=4)
    (grid / "NSB-0.22/lstchain_config.json").write_text(json.dumps(other))
    assert findings(grid / "NSB-0.14") == []
    # a level that cannot be compared is not passed over in silence
    (grid / "NSB-0.22/lstchain_config.json").write_text("{")
    (found_one,) = findings(grid / "NSB-0.14")
    assert (found_one.code, found_one.severity.value) == ("no-lstchain-config", "info")
    assert found_one.items == ("NSB-0.22",)


def test_the_tree_at_hand(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    assert findings(folder, tree=Tree(root)) == []  # no /fefs here: nothing can be said
    pipe = production()
    inputs = [step["input"] for step in pipe["stages"]["r0_to_dl1"]]
    for path in inputs:
        local = root / path.lstrip("/")
        local.mkdir(parents=True)
        (local / "a.simtel.gz").touch()
    assert findings(folder, tree=Tree(root)) == []
    (root / inputs[3].lstrip("/") / "a.simtel.gz").unlink()
    (missing,) = findings(folder, tree=Tree(root))
    assert (missing.code, missing.severity.value, missing.items) == ("input-missing", "error", (inputs[3].rstrip("/"),))
    assert missing.place == "stages.r0_to_dl1[3]"
    (root / inputs[3].lstrip("/") / "a.simtel.gz").touch()
    models = root / pipe["stages"]["train_pipe"][0]["output"].lstrip("/")
    models.mkdir(parents=True)
    assert findings(folder, tree=Tree(root)) == []  # an empty folder holds nothing to lose
    (models / "reg_energy.sav").touch()
    (there,) = findings(folder, tree=Tree(root))
    assert (there.code, there.severity.value, there.place) == ("overwrites", "error", "stages.train_pipe[0]")


def made(root: Path, path: str, production: str) -> Path:
    """A product in a tree, made by lstops for a production."""
    local, layout = root / path.lstrip("/"), Layout(Path(BASE))
    local.parent.mkdir(parents=True, exist_ok=True)
    local.write_text(path)
    step = copy_step("a", layout.relative(Path(path)))
    output = step.primary
    record = ArtifactRecord(name=output.name, kind=output.kind, path=output.path, state=full_state(local), facts={})
    plan = make_plan((step,)).model_copy(update={"context": {"production": production}})
    manifest = adopted_manifest(plan, 0, step, "key", (), (record,), {})
    ManifestStore(root / str(layout.manifests).lstrip("/")).write(manifest)
    return local


def test_what_a_run_before_has_made_is_resumed_and_what_others_made_is_found(folder: Path, tmp_path: Path) -> None:
    root, pipe = tmp_path / "root", production()
    for step in pipe["stages"]["r0_to_dl1"]:
        raw = root / step["input"].lstrip("/")
        raw.mkdir(parents=True)
        (raw / "a.simtel.gz").touch()
    dl1, dl2 = pipe["stages"]["r0_to_dl1"][0]["output"], pipe["stages"]["dl1_to_dl2"][0]["output"]
    merged = pipe["stages"]["merge_dl1"][0]["output"]
    tree = Tree(root, Layout(Path(BASE)))
    for path in (f"{dl1}/dl1_run1.h5", merged, f"{dl2}/dl2_{PROD}_a.h5"):
        made(root, path, PROD)
    assert findings(folder, tree=tree) == []
    assert {f.code for f in findings(folder, tree=Tree(root))} == {"overwrites"}, "who made it is not known"
    # the node's folder has a file of its own and one of another production
    other = made(root, f"{dl1}/dl1_run2.h5", "20240101_v0.10.12_other")
    (found,) = findings(folder, tree=tree)
    assert (found.code, found.severity.value, found.place) == ("overwrites", "error", "stages.r0_to_dl1[0]")
    assert found.items == (f"{dl1}/dl1_run2.h5",)
    other.unlink()
    # a folder of DL2 with a file of another name
    another = made(root, f"{dl2}/dl2_other.h5", "20240101_v0.10.12_other")
    (found,) = findings(folder, tree=tree)
    assert (found.place, found.items) == ("stages.dl1_to_dl2[0]", (f"{dl2}/dl2_other.h5",))
    another.unlink()
    # replaced by hand after it was made
    (root / merged.lstrip("/")).write_text("something else")
    (found,) = findings(folder, tree=tree)
    assert (found.place, found.items) == ("stages.merge_dl1[0]", (merged,))


def test_the_command_line_knows_the_site(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    made(root, production()["stages"]["merge_dl1"][0]["output"], PROD)
    monkeypatch.delenv("LSTOPS_SITE", raising=False)
    site = tmp_path / "site.yaml"
    site.write_text(json.dumps(make_site(Path(BASE)).model_dump(mode="json")))
    command = ["lint", str(write(folder)), "--tree", str(root), "--json"]

    def codes(*more: str) -> set[str]:
        return {f["code"] for f in json.loads(CliRunner().invoke(app, [*command, *more]).stdout)["findings"]}

    assert "overwrites" in codes()
    assert "overwrites" not in codes("--site", str(site))


@pytest.mark.parametrize("tree", ["nowhere", "file"])
def test_a_tree_that_is_no_folder_is_refused(folder: Path, tmp_path: Path, tree: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is no folder"):
        lint_file(write(folder), tree=Tree(tmp_path / tree))


def test_a_name_that_no_file_can_have_is_not_there(tmp_path: Path) -> None:
    assert not Tree(tmp_path).has("/fefs/" + 300 * "a")


def without_training_dl1(pipe: Document, _: Document) -> None:
    pipe["stages"]["r0_to_dl1"] = pipe["stages"]["r0_to_dl1"][2 * N :]


def test_a_line_that_is_trained_without_any_node(folder: Path) -> None:
    first, second = findings(folder, without_training_dl1)
    assert (first.code, first.severity.value, first.count) == ("missing-node", "error", N)
    assert "GammaDiffuse and Protons: 0 of 19" in first.message
    assert (second.code, second.place, second.count) == ("input-not-produced", "stages.merge_dl1[0]", 2)


def test_training_files_of_another_production_need_no_nodes_here(folder: Path) -> None:
    def change(pipe: Document, lstchain: Document) -> None:
        without_training_dl1(pipe, lstchain)
        for step in pipe["stages"]["merge_dl1"][:2]:
            step["input"] = step["input"].replace(PROD, "20240101_v0.10.12_base")

    assert findings(folder, change) == []


def test_what_a_merge_reads_is_not_made_by_the_merge_itself(folder: Path, tmp_path: Path) -> None:
    """Merged files lie in the folder of what was merged."""

    def change(pipe: Document, _: Document) -> None:
        del pipe["stages"]["r0_to_dl1"]
        pipe["stages_to_run"].remove("r0_to_dl1")

    (found,) = findings(folder, change)
    assert (found.code, found.place, found.count) == ("input-not-produced", "stages.merge_dl1[0]", 4)
    (tmp_path / "root" / "fefs").mkdir(parents=True)
    found, _ = findings(folder, change, tree=Tree(tmp_path / "root"))
    assert (found.code, found.place, found.count) == ("input-missing", "stages.merge_dl1[0]", 4)


def test_a_node_below_the_horizon_is_a_finding(folder: Path) -> None:
    def change(pipe: Document, lstchain: Document) -> None:
        lstchain[NSB]["nsb_tuning"] = "false"
        step = pipe["stages"]["r0_to_dl1"][-1]
        step["output"] = step["output"].rsplit("/", 1)[0] + "/node_theta_95.000_az_400.000_"

    chained, node = findings(folder, change)
    assert (chained.code, chained.place) == ("bad-value", f"lstchain_config.json: {NSB}.nsb_tuning")
    assert (node.code, node.place, node.count) == ("bad-path", f"stages.r0_to_dl1[{2 * N + 1}]", 1)
    assert "95.000" in node.message


def test_unreadable_documents_are_findings_and_the_other_one_is_still_checked(folder: Path) -> None:
    path = write(folder, drop("r0_to_dl1", 0, N))
    (folder / "lstchain_config.json").write_text('{"tailcuts": {}}')
    report = lint_file(path)
    assert {"missing-node", "unknown-key", "no-lstchain-config"} <= set(report.codes)
    path.write_text(path.read_text().replace("prod_id:", "prodid:"))
    report = lint_file(path)
    assert {f.place for f in report.findings if f.code == "unknown-key"} == {"lstchain_config.json: tailcuts", "prodid"}
    assert not report.ok


def test_command_line(folder: Path) -> None:
    runner = CliRunner()
    path = write(folder)
    good = runner.invoke(app, ["lint", str(path), "--json"])
    assert good.exit_code == 0
    assert json.loads(good.stdout)["prod_id"] == PROD
    write(folder, put(f"{NSB}/nsb_tuning_rate_GHz", 0.15, True))
    bad = runner.invoke(app, ["lint", str(path), "--lstchain-config", str(folder / "lstchain_config.json"), "--json"])
    assert bad.exit_code == 1
    (finding,) = [f for f in json.loads(bad.stdout)["findings"] if f["severity"] == "error"]
    assert {"code", "severity", "place", "message", "remedy", "count", "items"} == set(finding)
    text = runner.invoke(app, ["lint", str(path)])
    assert text.exit_code == 1
    assert "nsb-label-mismatch" in text.stdout
    assert "1 error, 0 warnings" in text.stdout


def test_counts(folder: Path) -> None:
    document = production()
    document["stages_to_run"].remove("dl2_to_irfs")
    counts = count_stages(validate_pipe(document, "here"))
    assert [(c.stage.value, c.defined, c.run, c.submissions, c.extra_submissions) for c in counts.stages] == [
        ("r0_to_dl1", 40, 40, 40, 0),
        ("merge_dl1", 4, 4, 4, 0),
        ("train_pipe", 1, 1, 1, 1),
        ("dl1_to_dl2", 2, 2, 2, 0),
        ("dl2_to_irfs", 2, 0, 0, 0),
    ]
    assert (counts.defined, counts.run, counts.submissions, counts.extra_submissions) == (49, 47, 47, 2)
    runner = CliRunner()
    path = write(folder)
    assert json.loads(runner.invoke(app, ["counts", str(path), "--json"]).stdout)["submissions"] == 49
    assert "49" in runner.invoke(app, ["counts", str(path)]).stdout


def test_convert(folder: Path, tmp_path: Path) -> None:
    path = write(folder)
    target = tmp_path / "out"
    target.mkdir()
    runner = CliRunner()
    first = runner.invoke(app, ["convert", str(path), str(target / "new.yml")])
    assert first.exit_code == 0
    assert sorted(p.name for p in target.iterdir()) == ["lstchain_config.json", "new.yml"]
    assert yaml.safe_load((target / "new.yml").read_text()) == production()
    assert runner.invoke(app, ["convert", str(path), str(target / "new.yml")]).exit_code != 0
    # both files or neither
    (target / "new.yml").unlink()
    assert runner.invoke(app, ["convert", str(path), str(target / "new.yml")]).exit_code != 0
    assert [p.name for p in target.iterdir()] == ["lstchain_config.json"]
