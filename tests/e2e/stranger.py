"""Read a DL3 bundle with gammapy, knowing nothing of lstops; prints JSON. Runs in the science environment."""

from __future__ import annotations

import json
import sys

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.data import DataStore
from gammapy.datasets import Datasets, SpectrumDataset
from gammapy.makers import ReflectedRegionsBackgroundMaker, SpectrumDatasetMaker, WobbleRegionsFinder
from gammapy.maps import MapAxis, RegionGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import LogParabolaSpectralModel, SkyModel
from regions import PointSkyRegion


def main() -> None:
    """Significance and flux of the source in the folder argv[1] at argv[2] argv[3] (deg)."""
    folder, ra_deg, dec_deg = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    source = SkyCoord(ra_deg * u.deg, dec_deg * u.deg)
    store = DataStore.from_dir(folder)
    observations = store.get_observations(required_irf="point-like")
    reco = MapAxis.from_energy_bounds(0.05, 10, nbin=10, unit="TeV", name="energy")
    true = MapAxis.from_energy_bounds(0.01, 50, nbin=30, unit="TeV", name="energy_true")
    empty = SpectrumDataset.create(geom=RegionGeom.create(PointSkyRegion(source), axes=[reco]), energy_axis_true=true)
    maker = SpectrumDatasetMaker(
        containment_correction=False, selection=["counts", "exposure", "edisp"], use_region_center=True
    )
    background = ReflectedRegionsBackgroundMaker(region_finder=WobbleRegionsFinder(n_off_regions=3))
    datasets = Datasets()
    for observation in observations:
        datasets.append(background.run(maker.run(empty.copy(name=str(observation.obs_id)), observation), observation))
    info = datasets.info_table(cumulative=True)
    model = LogParabolaSpectralModel(
        amplitude=1e-9 * u.Unit("cm-2 s-1 TeV-1"), alpha=2.4, beta=0.1, reference=1 * u.TeV
    )
    datasets.models = [SkyModel(spectral_model=model, name="source")]
    fit = Fit().run(datasets)
    flux = model.integral(0.1 * u.TeV, 20 * u.TeV).to_value("cm-2 s-1")
    print(
        json.dumps(
            {
                "observations": len(observations),
                "livetime_s": float(np.sum([o.observation_live_time_duration.to_value("s") for o in observations])),
                "excess": float(info["excess"][-1]),
                "sqrt_ts": float(info["sqrt_ts"][-1]),
                "fit": bool(fit.success),
                "flux_above_100gev_per_cm2_s": float(flux),
            }
        )
    )


if __name__ == "__main__":
    main()
