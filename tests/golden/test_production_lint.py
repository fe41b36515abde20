"""Findings on the real lstmcpipe configurations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lstops.production.findings import CODES, Finding, Severity
from lstops.production.lint import LintReport, lint_file

E, W, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO

FINDINGS: dict[str, set[tuple[Severity, str]]] = {
    "20210416_v0.7.3_prod5_trans_80_local_taicut_8_4": {
        (E, "old-dialect"),
        (E, "missing-section"),
        (W, "version-environment-mismatch"),
    },
    "20220511_v0.9.6_allsky_std": {
        (E, "missing-node"),
        (E, "missing-section"),
        (W, "dead-key"),
        (W, "input-not-produced"),
        (W, "prod-id-mismatch"),
        (INFO, "missing-node"),
    },
    "20221021_crab_full_lstchain097": {
        (E, "missing-section"),
        (W, "tuning-without-effect"),
        (INFO, "missing-node"),
    },
    "20221027_v0.9.9_crab_tuned": {(E, "missing-node"), (E, "missing-section"), (INFO, "missing-node")},
    "20230927_v0.10.4_crab_tuned": {(E, "missing-node"), (E, "missing-section")},
    "20240122_v0.10.4_prod5_trans_80": {
        (E, "duplicate-output"),
        (E, "missing-section"),
        (E, "version-environment-mismatch"),
        (W, "prod-id-mismatch"),
    },
    "20240229_nsb14": {
        (E, "missing-node"),
        (E, "missing-section"),
        (W, "prod-id-mismatch"),
        (INFO, "version-environment-mismatch"),
    },
    "20240821_v0.10.11_src14_dec2276_tuned": {
        (E, "missing-node"),
        (E, "missing-section"),
        (E, "version-environment-mismatch"),
        (INFO, "version-environment-mismatch"),
    },
    "20240918_v0.10.12_allsky_nsb_grid/NSB-0.14": {
        (E, "nsb-label-mismatch"),
        (W, "nsb-key-version"),
        (W, "dead-key"),
    },
    "20240918_v0.10.12_allsky_nsb_grid/NSB-0.50": {(W, "dead-key"), (W, "input-not-produced")},
    "20250212_v0.10.17_allsky_interp_dl2_irfs/NSB-0.14": {
        (E, "nsb-label-mismatch"),
        (W, "nsb-key-version"),
        (W, "prod-id-mismatch"),
        (W, "version-environment-mismatch"),
        (INFO, "version-environment-mismatch"),
    },
}


@pytest.fixture
def configs(shared: Path) -> Path:
    return shared / "data" / "lstmcpipe-configs"


def lint_folder(folder: Path) -> LintReport:
    (path,) = [*folder.glob("*.yml"), *folder.glob("*.yaml")]
    return lint_file(path)


def only(report: LintReport, code: str, severity: Severity) -> Finding:
    (finding,) = [f for f in report.findings if (f.code, f.severity) == (code, severity)]
    return finding


@pytest.mark.parametrize("name", FINDINGS)
def test_findings(configs: Path, name: str) -> None:
    report = lint_folder(configs / name)
    assert {(f.severity, f.code) for f in report.findings} == FINDINGS[name]
    assert report.ok is not any(severity is E for severity, _ in FINDINGS[name])
    for finding in report.findings:
        assert finding.code in CODES
        assert finding.place
        assert finding.message
        assert finding.remedy.endswith((".", "}"))


@pytest.mark.parametrize(
    ("name", "line", "node"),
    [
        ("20221027_v0.9.9_crab_tuned", "dec_2276", "6.000_az_180.000"),
        ("20230927_v0.10.4_crab_tuned", "dec_2276", "6.000_az_180.000"),
        ("20240821_v0.10.11_src14_dec2276_tuned", "dec_2276", "6.000_az_180.000"),
        ("20240229_nsb14", "dec_3476", "7.093_az_328.91"),
    ],
)
def test_the_dropped_culmination_node_is_named(configs: Path, name: str, line: str, node: str) -> None:
    finding = only(lint_folder(configs / name), "missing-node", E)
    # protons of dec_2276 alone have folders without "corsika"
    protons = "node_theta_" if line == "dec_2276" else "node_corsika_theta_"
    assert finding.items == (f"node_corsika_theta_{node}_", f"{protons}{node}_")
    assert (finding.place, finding.count) == (f"stages.dl1ab ({line})", 1)
    assert "culmination" in finding.message


def test_the_production_it_was_made_from_has_all_nodes(configs: Path) -> None:
    report = lint_folder(configs / "20221021_crab_full_lstchain097")
    assert [f for f in report.findings if f.code == "missing-node" and f.severity is E] == []


def test_nsb_of_the_grid_level(configs: Path) -> None:
    report = lint_folder(configs / "20240918_v0.10.12_allsky_nsb_grid/NSB-0.14")
    label = only(report, "nsb-label-mismatch", E)
    assert "0.14 GHz" in label.message
    assert "0.15 GHz" in label.message
    key = only(report, "nsb-key-version", W)
    assert key.place.endswith("nsb_tuning_ratio")


def test_dead_keys_are_counted_once_a_stage(configs: Path) -> None:
    report = lint_folder(configs / "20220511_v0.9.6_allsky_std")
    dead = {f.place: (f.count, f.items) for f in report.findings if f.code == "dead-key"}
    assert dead == {
        "stages.merge_dl1[0].slurm_options": (10, ("-p long",)),
        "stages.train_pipe[0].slurm_options": (1, ("-p xxl --mem=260G --cpus-per-task=16",)),
    }
    merge = next(f for f in report.findings if f.place.startswith("stages.merge_dl1"))
    assert "extra_slurm_options: {partition: long}" in merge.remedy


def test_files_with_another_productions_name(configs: Path) -> None:
    report = lint_folder(configs / "20250212_v0.10.17_allsky_interp_dl2_irfs/NSB-0.14")
    irf = [f for f in report.findings if f.code == "prod-id-mismatch" and "dl2_to_irfs" in f.place]
    assert [f.count for f in irf] == [1153]
    assert irf[0].items[0].startswith("irf_20240918_v0.10.12_allsky_nsb_tuning_0.14_")


def test_a_level_with_other_hyper_parameters(configs: Path, tmp_path: Path) -> None:
    """As happened: one level with 150 trees, the others with 50."""
    grid = tmp_path / "20240918_v0.10.12_allsky_nsb_grid"
    real = configs / grid.name
    for level in ("NSB-0.14", "NSB-0.50"):
        shutil.copytree(real / level, grid / level)
    odd = grid / "NSB-0.00"
    odd.mkdir()
    content = json.loads((real / "NSB-0.50/lstchain_config_nsb0.50.json").read_text())
    content["waveform_nsb_tuning"]["nsb_tuning"] = False
    for forest in ("energy", "disp"):
        content[f"random_forest_{forest}_regressor_args"]["n_estimators"] = 150
    (odd / "lstchain_config_nsb0.00.json").write_text(json.dumps(content))
    text = (real / "NSB-0.50/lstmcpipe_config_nsb0.50.yml").read_text()
    (odd / "lstmcpipe_config_nsb0.00.yml").write_text(text.replace("nsb_tuning_0.50", "nsb_tuning_0.00"))

    report = lint_folder(odd)
    finding = only(report, "hyperparameters-differ", E)
    assert finding.items == (
        "random_forest_disp_regressor_args.n_estimators",
        "random_forest_energy_regressor_args.n_estimators",
    )
    # switched off is a level of zero, whatever rate is written beside it
    assert "nsb-label-mismatch" not in report.codes
    assert "hyperparameters-differ" not in lint_folder(grid / "NSB-0.50").codes
