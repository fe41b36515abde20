"""Nodes, lines and the known grid."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstops.errors import ConfigError
from lstops.production.grid import (
    Node,
    NodePrefix,
    Particle,
    declination_deg,
    known_grid,
    line_in_path,
    line_name,
    load_grid,
    node_in_path,
    parse_node,
    particle_in_path,
)

NODES = {
    "dec_2276": 19,
    "dec_3476": 20,
    "dec_4822": 19,
    "dec_6166": 51,
    "dec_6166_high_density": 435,
    "dec_6676": 20,
    "dec_931": 20,
    "dec_min_1802": 19,
    "dec_min_2924": 20,
    "dec_min_413": 20,
}


@pytest.mark.parametrize(
    "name", ["node_theta_23.630_az_259.265_", "node_corsika_theta_33.058_az_186.21_", "node_theta_10.0_az_248.117_"]
)
def test_names_both_ways(name: str) -> None:
    prefix, node = parse_node(name)
    assert node.name(prefix) == name


@given(zd=st.decimals(0, 89, places=3), az=st.decimals(0, 359, places=2), prefix=st.sampled_from(list(NodePrefix)))
def test_names_both_ways_for_any_direction(zd: object, az: object, prefix: NodePrefix) -> None:
    node = Node.of(str(zd), str(az))
    assert parse_node(node.name(prefix)) == (prefix, node)


@pytest.mark.parametrize(
    "name", ["node_theta_23.630_az_259.265", "node_theta_23.630_", "theta_1_az_2_", "node_theta_95.0_az_10.0_", ""]
)
def test_no_node(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_node(name)
    assert caught.value.remedy


def test_lines_both_ways() -> None:
    for name in NODES:
        variant = "_high_density" if name.endswith("_high_density") else ""
        assert line_name(declination_deg(name), variant) == name
    assert declination_deg("dec_min_413") == -4.13
    assert declination_deg("dec_931") == 9.31
    with pytest.raises(ConfigError, match="dec_crab"):
        declination_deg("dec_crab")


def test_what_a_path_names() -> None:
    # the production's own name contains another line: only folders count
    path = (
        "/mc/DL1/AllSky/20230601_v0.9.13_dec_4822_dec_6166/TrainingDataset/dec_6166/GammaDiffuse/"
        "node_corsika_theta_32.896_az_0.0_/x.h5"
    )
    assert line_in_path(path) == "dec_6166"
    assert particle_in_path(path) is Particle.GAMMA_DIFFUSE
    assert str(node_in_path(path)) == "theta_32.896_az_0.0"
    merged = "/mc/DL1/AllSky/p/TestingDataset/dl1_p_node_theta_43.197_az_87.604__merged.h5"
    assert str(node_in_path(merged)) == "theta_43.197_az_87.604"
    assert (line_in_path(merged), particle_in_path(merged)) == (None, None)
    assert node_in_path("/mc/models") is None


def test_known_grid() -> None:
    grid = known_grid()
    assert {name: len(line.nodes) for name, line in grid.lines.items()} == NODES
    assert len(grid.test_nodes) == 105
    for line in grid.lines.values():
        # the lowest simulated zenith distance is the culmination's, up to half a step of the line
        lowest = line.culmination_nodes[0].zd_deg
        assert (
            line.culmination_zd_deg(grid.latitude_deg) - 0.1 <= lowest <= line.culmination_zd_deg(grid.latitude_deg) + 2
        )
        assert len(line.culmination_nodes) in (1, 2)
        # no two nodes are taken for one
        assert all(not a.is_same(b, grid.tolerance_deg) for i, a in enumerate(line.nodes) for b in line.nodes[i + 1 :])
    with pytest.raises(ConfigError, match="dec_9999"):
        grid.line("dec_9999")


def test_compare_by_direction_not_by_name() -> None:
    grid = known_grid()
    line = grid.line("dec_2276")
    # written with other decimals, and 0.02 deg off as protons of 2022 were
    renamed = {"6.000": ("6.0", "180.0"), "37.661": ("37.661", "270.661")}
    defined = [Node.of(*renamed[n.zd_text]) if n.zd_text in renamed and n.az_deg >= 180 else n for n in line.nodes]
    assert grid.compare(line.nodes, defined).missing == ()
    comparison = grid.compare(line.nodes, [*line.nodes[2:], Node.of("50.0", "10.0")])
    assert comparison.missing == line.nodes[:2]
    assert comparison.unknown == (Node.of("50.0", "10.0"),)
    # azimuth 0 and 360 are one direction
    assert Node.of("30.0", "0.0").is_same(Node.of("30.0", "360.0"), 0.001)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("name: x", "latitude_deg"),
        (": [", "no grid file"),
        ("name: x\nlatitude_deg: 1\ntolerance_deg: 0.1\nlines: {crab: {gamma_diffuse: node_theta_, protons: "
         "node_theta_, nodes: ['1 2']}}\ntest: {prefix: node_theta_, nodes: []}", "crab"),
        ("name: x\nlatitude_deg: 1\ntolerance_deg: 0.1\nlines: {dec_931: {gamma_diffuse: node_theta_, protons: "
         "node_theta_, nodes: []}}\ntest: {prefix: node_theta_, nodes: []}", "nodes"),
        ("name: x\nlatitude_deg: 1\ntolerance_deg: 0.1\nlines: {dec_931: {gamma_diffuse: node_theta_, protons: "
         "node_theta_, nodes: ['91 0']}}\ntest: {prefix: node_theta_, nodes: []}", "91"),
    ],
)  # fmt: skip
def test_bad_grid_files(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=names):
        load_grid(path)
    with pytest.raises(ConfigError, match="cannot read"):
        load_grid(tmp_path / "absent.yaml")
