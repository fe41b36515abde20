"""Makes a tiny dark Monte Carlo of two declination lines: `python two_lines.py BASE`, in the science environment.

Three training nodes a line, of gammas and protons, and two test nodes for both; and lstchain's standard configuration.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

#: declination line -> azimuth of its training nodes (deg), on the side of the meridian of the test nodes: lstchain goes
#: between the two nearest of that side, and extrapolates if these do not enclose the test node's zenith distance
LINES = {"dec_2276": 165.0, "dec_3476": 170.0}
ZENITHS_DEG = (10.0, 20.0, 30.0)
#: zenith distance and azimuth of the test nodes (deg)
TESTS_DEG = ((15.0, 175.0), (25.0, 175.0))
# the responses need events up to 10 TeV at each test node
EVENTS = {"GammaDiffuse": 90, "Protons": 90, "Gamma": 8000}
VERSION = "0.12.3"
PRODUCTION = "20240601_v0.12.3_sim_dark"
CONFIG = "mc_config.json"


def main(base: Path) -> None:
    from lstchain.io.config import get_mc_config

    from lstops.simulate.mc import make_node
    from lstops.simulate.plan import GAMMA_DIFFUSE, GAMMA_RING, PROTON_DIFFUSE, NodeSpec, make_plan
    from lstops.simulate.site import SitePaths

    volumes = {"GammaDiffuse": GAMMA_DIFFUSE, "Protons": PROTON_DIFFUSE, "Gamma": GAMMA_RING}

    def node(dataset: str, particle: str, zenith: float, azimuth: float, run: int) -> NodeSpec:
        return NodeSpec(dataset, particle, zenith, azimuth, EVENTS[particle], volumes[particle], run)

    run = 20001
    for line, azimuth in LINES.items():
        plan = replace(make_plan(5, "small", VERSION), dec_line=line)
        assert plan.production == PRODUCTION
        nodes = [
            ("TrainingDataset", particle, zenith, azimuth)
            for particle in ("GammaDiffuse", "Protons")
            for zenith in ZENITHS_DEG
        ]
        if line == next(iter(LINES)):
            nodes += [("TestingDataset", "Gamma", *where) for where in TESTS_DEG]
        for what in nodes:
            path = SitePaths(base, plan).node_dl1(spec := node(*what, run))
            path.parent.mkdir(parents=True)
            make_node(plan, spec, path)
            run += 1
    (base / CONFIG).write_text(json.dumps(get_mc_config()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
