"""The responses of a DL3 file against the nodes they were interpolated from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lstops.errors import ProductInvalid
from lstops.reduction.geometry import IrfNode, weights
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify import InputFacts, inspect, verify

from . import products

#: zenith, azimuth and angle to the field of nodes that span a square of (cos zd, sin delta), in degrees
NODES = ((10.0, 175.0, 42.6), (10.0, 355.0, 62.6), (35.0, 175.0, 17.6), (35.0, 355.0, 87.6))
TARGET = {"MEAN_ZEN": "20.0 deg", "MEAN_AZ": "110.0 deg", "B_DELTA": "50.0 deg"}
AREA = np.geomspace(100, 1e5, 15)


def areas() -> list[np.ndarray]:
    return [AREA * (1 + 0.3 * i) for i in range(len(NODES))]


def node_inputs(folder: Path, area: list[np.ndarray]) -> list[InputFacts]:
    found = []
    for i, (zd, az, delta) in enumerate(NODES):
        path = products.irf(
            folder / f"irf_{i}.fits.gz", area=area[i], header={"ZEN_PNT": zd, "AZ_PNT": az, "B_DELTA": delta}
        )
        found.append(InputFacts(path.name, ArtifactKind.IRF, path, inspect(ArtifactKind.IRF, path)))
    return found


def output(**expect: object) -> Output:
    return Output(name="dl3", kind=ArtifactKind.DL3, path="x", expect=expect)


def interpolated(inputs: list[InputFacts], area: list[np.ndarray]) -> np.ndarray:
    """The area as lstchain makes it."""
    nodes = [IrfNode(i.path.name, i.facts["zd_deg"], i.facts["az_deg"], i.facts["b_delta_deg"]) for i in inputs]
    chosen = weights(20.0, 110.0, 50.0, nodes)
    return np.exp(np.sum([w.weight * np.log(np.maximum(area[nodes.index(w.node)], 1)) for w in chosen], axis=0))


def test_nodes_and_weights_become_facts(tmp_path: Path) -> None:
    inputs = node_inputs(tmp_path, areas())
    path = products.dl3(tmp_path / "dl3.fits", pointing=TARGET, area=interpolated(inputs, areas()))
    nodes = verify(output(useful_energy_tev=[0.1, 5]), path, inputs)["irf_nodes"]
    assert len(nodes) == 3
    assert sum(n["weight"] for n in nodes) == pytest.approx(1, abs=1e-5)
    zenith = sum(n["weight"] * np.cos(np.deg2rad(n["zd_deg"])) for n in nodes)
    assert zenith == pytest.approx(np.cos(np.deg2rad(20)), abs=1e-5)


def test_the_area_of_a_node_under_the_header_of_the_run(tmp_path: Path) -> None:
    """As `--interp-method nearest` leaves it: the zenith in the header is that of the run."""
    inputs = node_inputs(tmp_path, areas())
    path = products.dl3(tmp_path / "dl3.fits", pointing=TARGET, area=areas()[0], header={"ZEN_PNT": 20.0})
    with pytest.raises(ProductInvalid, match=r"effective area is up to \d+\.\d% off .* nearest node"):
        verify(output(), path, inputs)


def test_the_responses_of_one_node_where_that_is_meant(tmp_path: Path) -> None:
    inputs = node_inputs(tmp_path, areas())
    header = {"ZEN_PNT": 10.0}
    path = products.dl3(tmp_path / "dl3.fits", pointing=TARGET, area=areas()[0], header=header)
    meant = output(nearest_node=True, useful_energy_tev=[0.1, 5])
    assert verify(meant, path, inputs[:1])["irf_nodes"] == [
        {"file": "irf_0.fits.gz", "zd_deg": 10.0, "az_deg": 175.0, "weight": 1.0}
    ]
    with pytest.raises(ProductInvalid, match=r"effective area is up to \d+\.\d% off"):
        verify(meant, path, inputs[1:2])
    with pytest.raises(
        ProductInvalid, match="4 IRF nodes are among the inputs, and the responses were to be those of one"
    ):
        verify(meant, path, inputs)


def test_a_pointing_outside_and_a_header_that_tells_nothing(tmp_path: Path) -> None:
    inputs = node_inputs(tmp_path, areas())
    far = {"MEAN_ZEN": "50.0 deg", "MEAN_AZ": "110.0 deg", "B_DELTA": "70.0 deg"}
    with pytest.raises(ProductInvalid, match="outside the 4 IRF nodes: lstchain took the nearest"):
        verify(output(), products.dl3(tmp_path / "far.fits", pointing=far), inputs)
    with pytest.raises(ProductInvalid, match="outside the 2 IRF nodes"):
        verify(output(), products.dl3(tmp_path / "two.fits", pointing=TARGET), inputs[:2])
    with pytest.raises(ProductInvalid, match="which pointing the responses are for"):
        verify(output(), products.dl3(tmp_path / "mute.fits"), inputs)


def test_one_empty_bin_at_one_node(tmp_path: Path) -> None:
    """The area is what lstchain makes of it, and useless: some m2 between bins of a thousand."""
    area = areas()
    for values in area:
        values[8] = 0.0
    inputs = node_inputs(tmp_path, area)
    path = products.dl3(tmp_path / "dl3.fits", pointing=TARGET, area=interpolated(inputs, area))
    with pytest.raises(ProductInvalid, match=r"no effective area at 0\.398 to 0\.631 TeV: .* collapse"):
        verify(output(useful_energy_tev=[0.1, 5]), path, inputs)
    assert len(verify(output(useful_energy_tev=[1, 5]), path, inputs)["irf_nodes"]) == 3
