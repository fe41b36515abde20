"""The NSB chain closes: lstchain's tools find the NSB that was put in. Needs lstchain; about two minutes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("lstchain", reason="needs the science environment")
tables = pytest.importorskip("tables")

from lstops.simulate.dl1 import IMAGES, PARAMETERS  # noqa: E402
from lstops.simulate.lstchain_tools import run_tool, warm_up  # noqa: E402
from lstops.simulate.mc import make_node  # noqa: E402
from lstops.simulate.night import make_subrun  # noqa: E402
from lstops.simulate.plan import SitePlan, make_plan  # noqa: E402
from lstops.simulate.simtel import make_simtel  # noqa: E402

EXTRA_GHZ = 0.5


@pytest.fixture(scope="module")
def plan() -> SitePlan:
    warm_up()
    plan = make_plan(5, "small", "test")
    return replace(plan, size=replace(plan.size, simtel_events=150))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("nsb")


@pytest.fixture(scope="module")
def data(plan: SitePlan, folder: Path) -> Path:
    """A short subrun, mostly pedestals, with known extra NSB."""
    run = replace(plan.runs[1], subrun_s=0.25, pedestal_hz=800.0, nsb_ghz=plan.mc_nsb_ghz + EXTRA_GHZ)
    path = folder / "dl1_LST-1.Run02001.0000.h5"
    make_subrun(plan, run, 0, path, folder / "muons.fits")
    return path


@pytest.fixture(scope="module")
def simtel(plan: SitePlan, folder: Path) -> Path:
    path = folder / "simtel_corsika_theta_10.000_az_100.000_run10001.simtel.gz"
    make_simtel(plan, plan.nodes[0], path)
    return path


@pytest.fixture(scope="module")
def data_config(folder: Path) -> Path:
    """Tuning wants the configuration of the data: the Monte Carlo's lacks the integration correction."""
    from lstchain.io import standard_config

    path = folder / "data_config.json"
    path.write_text(json.dumps(standard_config))
    return path


def _tuned(tool: str, simtel: Path, data: Path, config: Path) -> dict[str, Any]:
    out = config.with_name(f"{tool}.json")
    arguments = ["--config", config, "--input-mc", simtel, "--input-data", data, "-o", out, "--overwrite"]
    run_tool(tool, [str(argument) for argument in arguments])
    tuned: dict[str, Any] = json.loads(out.read_text())
    return tuned


def _empty_pixel_std(path: Path, event_type: int) -> float:
    """Spread of the charges of pixels at least 1.3 deg from the image's centre."""
    from lstops.simulate.camera import lst1_camera

    camera = lst1_camera()
    with tables.open_file(path) as file:
        images, parameters = file.get_node(IMAGES), file.get_node(PARAMETERS)
        chosen = parameters.col("event_type") == event_type
        charge = images.col("image")[chosen]
        x, y = (np.nan_to_num(parameters.col(name)[chosen]) for name in ("x", "y"))
    distance = np.hypot(camera.x_m[None] - x[:, None], camera.y_m[None] - y[:, None]) / camera.metres_per_degree
    return float(charge[distance > 1.3].std())


def test_simtel_is_read_by_ctapipe(simtel: Path, plan: SitePlan) -> None:
    from ctapipe.io import EventSource

    from lstops.simulate.camera import lst1_camera

    with EventSource(simtel) as source:
        telescope = source.subarray.tel[1]
        assert str(telescope) == "LST_LST_LSTCam"
        np.testing.assert_allclose(telescope.camera.geometry.pix_x.to_value("m"), lst1_camera().x_m, atol=1e-6)
        np.testing.assert_allclose(telescope.camera.geometry.pix_y.to_value("m"), lst1_camera().y_m, atol=1e-6)
        events = 0
        for event in source:
            events += 1
            true, waveform = event.simulation.tel[1].true_image, event.r1.tel[1].waveform[0]
            bright = true > 50
            if bright.sum() > 10:
                assert waveform[bright].sum() == pytest.approx(true[bright].sum(), rel=0.15)
        config = next(iter(source.simulation_config.values()))
        histogram = next(iter(source.simulated_shower_distributions.values()))
    assert events == 150
    assert int(histogram.histogram.sum()) == config.n_showers
    assert config.max_viewcone_radius.value == plan.nodes[0].volume.cone_max_deg


def test_waveform_tuning_returns_the_injected_nsb(simtel: Path, data: Path, data_config: Path) -> None:
    tuned = _tuned("lstchain_tune_nsb_waveform", simtel, data, data_config)
    assert tuned["waveform_nsb_tuning"]["nsb_tuning_rate_GHz"] == pytest.approx(EXTRA_GHZ, rel=0.15)


def test_image_tuning_reaches_the_noise_of_the_data(
    simtel: Path, data: Path, data_config: Path, plan: SitePlan, folder: Path
) -> None:
    from lstchain.io.config import get_mc_config

    tuned = _tuned("lstchain_tune_nsb", simtel, data, data_config)
    dark, bright = folder / "dl1_node.h5", folder / "dl1_node_tuned.h5"
    make_node(plan, replace(plan.nodes[0], n_events=100), dark)
    config = folder / "dl1ab.json"
    config.write_text(json.dumps({**get_mc_config(), "image_modifier": tuned["image_modifier"]}))
    run_tool("lstchain_dl1ab", ["-f", str(dark), "-o", str(bright), "-c", str(config)])
    wanted = _empty_pixel_std(data, event_type=2)
    assert _empty_pixel_std(dark, event_type=32) < 0.8 * wanted
    assert _empty_pixel_std(bright, event_type=32) == pytest.approx(wanted, rel=0.05)


def test_simtel_goes_through_r0_to_dl1_like_the_node(simtel: Path, folder: Path, plan: SitePlan) -> None:
    from lstchain.io.config import get_mc_config

    config = folder / "mc.json"
    config.write_text(json.dumps(get_mc_config()))
    run_tool("lstchain_mc_r0_to_dl1", ["-f", str(simtel), "-o", str(folder / "r0"), "-c", str(config)])
    (made,) = (folder / "r0").glob("dl1_*.h5")
    with tables.open_file(made) as file:
        assert file.get_node(PARAMETERS).nrows == 150
        intensity = file.get_node(PARAMETERS).col("intensity")
    direct = folder / "dl1_direct.h5"
    make_node(plan, replace(plan.nodes[0], n_events=100), direct)
    # the same noise model and extraction on both ways
    assert _empty_pixel_std(made, event_type=32) == pytest.approx(_empty_pixel_std(direct, event_type=32), rel=0.03)
    assert np.isfinite(intensity).mean() > 0.5
