"""Real lstmcpipe configurations: reading, counting, writing back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lstops.production.config import LstmcpipeConfig, read_config, validate_pipe, write_config
from lstops.production.counts import count_stages
from lstops.production.definition import read_production
from lstops.production.documents import read_yaml
from lstops.production.grid import Particle, declination_deg, known_grid
from lstops.production.stages import StageName

# defined steps in lstmcpipe's order: r0_to_dl1, dl1ab, train_test_split, merge_dl1, train_pipe, dl1_to_dl2,
# dl2_to_irfs, dl2_to_sensitivity; then submissions
COUNTS = {
    "20220511_v0.9.6_allsky_std": ((234, 0, 0, 50, 1, 200, 200, 0), 685),
    "20221021_crab_full_lstchain097": ((105, 0, 0, 69, 1, 67, 67, 0), 309),
    "20221027_v0.9.9_crab_tuned": ((0, 103, 0, 69, 1, 67, 67, 0), 307),
    "20230927_v0.10.4_crab_tuned": ((0, 141, 0, 107, 1, 105, 105, 0), 459),
    "20240122_v0.10.4_prod5_trans_80": ((5, 0, 5, 7, 1, 5, 3, 2), 28),
    "20240229_nsb14": ((0, 143, 0, 107, 1, 105, 105, 0), 461),
    "20240821_v0.10.11_src14_dec2276_tuned": ((0, 141, 0, 107, 1, 105, 105, 0), 459),
    "20240918_v0.10.12_allsky_nsb_grid/NSB-0.14": ((521, 0, 208, 331, 9, 1153, 1153, 0), 3375),
    "20240918_v0.10.12_allsky_nsb_grid/NSB-0.50": ((521, 0, 208, 10, 9, 1153, 1153, 0), 3054),
    "20250212_v0.10.17_allsky_interp_dl2_irfs/NSB-0.14": ((0, 0, 0, 0, 0, 1153, 1153, 0), 2306),
}
OLD = "20210416_v0.7.3_prod5_trans_80_local_taicut_8_4"
# the old dialect has no steps of its own; these are those of its conversion
OLD_COUNTS = (5, 0, 5, 7, 1, 5, 1, 0)


@pytest.fixture
def configs(shared: Path) -> Path:
    return shared / "data" / "lstmcpipe-configs"


def yaml_of(folder: Path) -> Path:
    (found,) = [*folder.glob("*.yml"), *folder.glob("*.yaml")]
    return found


def plain(path: Path) -> Any:
    """A YAML file with every scalar as the text it is written as: independent of any rule about numbers and times."""

    def normal(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: normal(item) for key, item in value.items()}
        if isinstance(value, list):
            return [normal(item) for item in value]
        return {"null": "", "~": ""}.get(value, value)

    return normal(yaml.load(path.read_text(), Loader=yaml.CBaseLoader))


def lstmcpipe_accepts(document: dict[str, Any]) -> None:
    """What lstmcpipe checks before it submits (config_valid in its pipeline_config.py), and what it looks up."""
    assert {"workflow_kind", "source_environment", "stages_to_run", "stages", "prod_id"} <= set(document)
    assert document["workflow_kind"] in {"lstchain", "ctapipe", "hiperta"}
    assert {"source_file", "conda_env"} <= set(document["source_environment"])
    assert document["stages_to_run"]
    assert not {"r0_to_dl1", "dl1ab"} <= set(document["stages_to_run"])
    for stage in document["stages_to_run"]:
        for step in document["stages"][stage]:
            assert {"input", "output"} <= set(step)
            if stage == "dl1_to_dl2":
                assert "path_model" in step
            if stage == "dl2_to_irfs":
                assert step["input"]["gamma_file"]


def defined(pipe: LstmcpipeConfig) -> tuple[int, ...]:
    return tuple(len(pipe.stages.of(stage)) for stage in StageName)


def test_every_real_configuration_is_known_to_these_tests(configs: Path) -> None:
    found = {str(path.parent.relative_to(configs)) for path in configs.rglob("*.y*ml")}
    assert found == {*COUNTS, OLD}


@pytest.mark.parametrize("name", COUNTS)
def test_counts(configs: Path, name: str) -> None:
    steps, submissions = COUNTS[name]
    counts = count_stages(read_config(yaml_of(configs / name)).pipe)
    assert tuple((counts.of(stage).defined if counts.of(stage) else 0) for stage in StageName) == steps
    assert (counts.defined, counts.run, counts.submissions) == (sum(steps), submissions, submissions)
    # plots of the forests and sensitivities, and the job that checks the production at the end
    assert counts.extra_submissions == steps[4] + steps[7] + 1


@pytest.mark.parametrize("name", [*COUNTS, OLD])
def test_round_trip_keeps_the_content(configs: Path, name: str, tmp_path: Path) -> None:
    source = yaml_of(configs / name)
    config = read_config(source)
    target, chain_target = tmp_path / "again.yml", tmp_path / "again.json"
    write_config(config, target, chain_target)
    written = plain(target)
    lstmcpipe_accepts(written)
    if name == OLD:
        assert config.old is not None
        # every scalar of the old file is a text, but one
        assert config.old.to_document() == {
            **plain(source),
            "irf_config": {"point_like": True, "gamma_offset": "0.0deg"},
        }
    else:
        assert written == plain(source)
    assert read_config(target, chain_target).pipe == config.pipe
    assert json.loads(chain_target.read_text()) == json.loads(config.chain_path.read_text())  # type: ignore[union-attr]


def test_times_are_read_as_lstmcpipe_reads_them(configs: Path) -> None:
    """By YAML 1.1 `11:30:00` would be 41400, and sbatch takes a number as minutes: 29 days."""
    config = read_config(yaml_of(configs / "20240918_v0.10.12_allsky_nsb_grid/NSB-0.14"))
    step = config.pipe.stages.of(StageName.R0_TO_DL1)[0]
    assert step.extra_slurm_options is not None
    assert step.extra_slurm_options.time == "11:30:00"


def test_old_dialect_is_converted_into_paths(configs: Path) -> None:
    config = read_config(yaml_of(configs / OLD))
    pipe = config.pipe
    assert defined(pipe) == OLD_COUNTS
    assert pipe.prod_id == OLD
    base, tail = "/fefs/aswg/data", "20200629_prod5_trans_80"
    first = pipe.stages.of(StageName.R0_TO_DL1)[1]
    assert first.input == f"{base}/mc/DL0/{tail}/gamma/zenith_20deg/south_pointing/off0.0deg"
    assert first.output == f"{base}/mc/DL1/{tail}/gamma/zenith_20deg/south_pointing/{OLD}/off0.0deg"
    (train,) = pipe.stages.of(StageName.TRAIN_PIPE)
    assert train.output == f"{base}/models/{tail}/zenith_20deg/south_pointing/{OLD}"
    (irf,) = pipe.stages.of(StageName.DL2_TO_IRFS)
    assert irf.options == "--point-like"
    production = read_production(config)
    made = {path for step in production.steps() for path in step.products}
    # what a later stage reads, an earlier one makes: DL2 of the IRF, merged files of training and DL2
    for step in production.steps():
        if step.stage in (StageName.TRAIN_PIPE, StageName.DL1_TO_DL2, StageName.DL2_TO_IRFS):
            assert {given.path for given in step.inputs} <= made


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("20221021_crab_full_lstchain097", 0.0),  # its image_modifier is without effect: no dl1ab
        ("20221027_v0.9.9_crab_tuned", None),
        ("20230927_v0.10.4_crab_tuned", None),
        ("20240229_nsb14", None),
        ("20240821_v0.10.11_src14_dec2276_tuned", None),
        ("20240918_v0.10.12_allsky_nsb_grid/NSB-0.50", 0.5),
    ],
)
def test_noise_in_images_says_no_level(configs: Path, name: str, level: float | None) -> None:
    assert read_production(read_config(yaml_of(configs / name))).nsb_ghz == level


def test_definition_of_the_grid_level(configs: Path) -> None:
    production = read_production(read_config(yaml_of(configs / "20240918_v0.10.12_allsky_nsb_grid/NSB-0.14")))
    grid = known_grid()
    assert production.lstchain_version == "0.10.12"
    assert production.nsb_ghz == 0.15  # what lstchain reads, whatever the name says
    assert set(production.lines) == set(grid.lines) - {"dec_6166_high_density"}
    dl1 = production.stage(StageName.R0_TO_DL1)
    assert dl1 is not None
    for name in production.lines:
        line = grid.line(name)
        for particle in (Particle.GAMMA_DIFFUSE, Particle.PROTONS):
            steps = [s for s in dl1.steps if s.line == name and s.particle is particle]
            comparison = grid.compare(line.nodes, [s.node for s in steps if s.node])
            assert (len(comparison.present), comparison.missing, comparison.unknown) == (len(line.nodes), (), ())
            # names made from the grid are the names of the folders
            inputs = " ".join(given.path for step in steps for given in step.inputs)
            assert all(f"/{line.node_name(node, particle)}/" in inputs for node in line.nodes)
    test_nodes = [s.node for s in dl1.steps if not s.is_training and s.node]
    assert grid.compare(grid.test_nodes, test_nodes).present == grid.test_nodes
    dl2 = production.stage(StageName.DL1_TO_DL2)
    assert dl2 is not None
    assert sum(1 for s in dl2.steps if s.particle is Particle.GAMMA) == 9 * 105
    assert sum(1 for s in dl2.steps if s.particle is Particle.GAMMA_DIFFUSE) == 208


def test_crab_line_of_the_grid_file_is_the_published_one(shared: Path) -> None:
    table = shared / "data/crab-paper/2_mc_simulations/2.3_mc_pointings/pointings_train.ecsv"
    rows = [line.split() for line in table.read_text().splitlines() if line and not line.startswith(("#", "alt "))]
    line = known_grid().line("dec_2276")
    assert len(rows) == len(line.nodes) == 19
    assert {row[2] for row in rows} == {line.node_name(node, Particle.GAMMA_DIFFUSE) for node in line.nodes}
    assert {row[3] for row in rows} == {line.node_name(node, Particle.PROTONS) for node in line.nodes}
    for alt, _, name, _ in rows:
        node = next(n for n in line.nodes if line.node_name(n, Particle.GAMMA_DIFFUSE) == name)
        assert 90 - float(alt) == pytest.approx(node.zd_deg)
    assert declination_deg("dec_2276") == 22.76


def test_a_wrong_key_in_a_real_file_is_named(configs: Path) -> None:
    document = read_yaml(yaml_of(configs / "20221027_v0.9.9_crab_tuned"))
    document["stages"]["merge_dl1"][3]["ouput"] = document["stages"]["merge_dl1"][3].pop("output")
    with pytest.raises(Exception, match=r"stages\.merge_dl1\[3\]\.ouput: unknown key 'ouput'.*'output'"):
        validate_pipe(document, "broken.yml")
