"""Read a DL3 bundle with gammapy and astropy, knowing nothing of lstops; prints JSON. Needs the science environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from gammapy.data import DataStore
from gammapy.data.observations import ObservationChecker
from gammapy.datasets import Datasets, SpectrumDataset
from gammapy.makers import ReflectedRegionsBackgroundMaker, SpectrumDatasetMaker, WobbleRegionsFinder
from gammapy.maps import MapAxis, RegionGeom
from gammapy.modeling import Fit
from gammapy.modeling.models import LogParabolaSpectralModel, SkyModel
from regions import PointSkyRegion

#: gammapy 1.3 compares with +1 us where it means -1 us: an event at the very start is always reported
QUIRK = "Event times before obs start time"

# GADF 0.3, written down from the standard: mandatory keywords and columns (with units) by HDU
_FORMAT = ("HDUCLASS", "HDUDOC", "HDUVERS", "HDUCLAS1")
_TIME = ("MJDREFI", "MJDREFF", "TIMEUNIT", "TIMESYS", "TIMEREF")
_PLACE = ("GEOLON", "GEOLAT", "ALTITUDE")
KEYWORDS = {
    "EVENTS": (
        *_FORMAT, *_TIME, *_PLACE, "OBS_ID", "TSTART", "TSTOP", "ONTIME", "LIVETIME", "DEADC", "OBS_MODE", "RA_PNT",
        "DEC_PNT", "ALT_PNT", "AZ_PNT", "RADESYS", "EQUINOX", "ORIGIN", "TELESCOP", "INSTRUME", "CREATOR",
    ),
    "GTI": (*_FORMAT, *_TIME),
    "POINTING": (*_FORMAT, *_TIME, *_PLACE),
    "EFFECTIVE AREA": (*_FORMAT, "HDUCLAS2", "HDUCLAS3", "HDUCLAS4"),
    "ENERGY DISPERSION": (*_FORMAT, "HDUCLAS2", "HDUCLAS3", "HDUCLAS4"),
    "RAD_MAX": (*_FORMAT, "HDUCLAS2", "HDUCLAS3", "HDUCLAS4"),
}  # fmt: skip
COLUMNS = {
    "EVENTS": {"EVENT_ID": "", "TIME": "s", "RA": "deg", "DEC": "deg", "ENERGY": "TeV"},
    "GTI": {"START": "s", "STOP": "s"},
    "POINTING": {"TIME": "s", "RA_PNT": "deg", "DEC_PNT": "deg"},
    "EFFECTIVE AREA": {
        "ENERG_LO": "TeV", "ENERG_HI": "TeV", "THETA_LO": "deg", "THETA_HI": "deg", "EFFAREA": "m2",
    },
    "ENERGY DISPERSION": {"ENERG_LO": "TeV", "MIGRA_LO": "", "THETA_LO": "deg", "MATRIX": ""},
    "RAD_MAX": {"ENERG_LO": "TeV", "THETA_LO": "deg", "RAD_MAX": "deg"},
}  # fmt: skip

# IVOA ObsCore 1.1 (REC-ObsCore-v1.1-20170509, table 1): mandatory columns with unit and UCD
OBSCORE = {
    "dataproduct_type": ("", "meta.code.class"), "calib_level": ("", "meta.code;obs.calib"),
    "obs_collection": ("", "meta.id"), "obs_id": ("", "meta.id"), "obs_publisher_did": ("", "meta.ref.ivoid"),
    "access_url": ("", "meta.ref.url"), "access_format": ("", "meta.code.mime"),
    "access_estsize": ("kbyte", "phys.size;meta.file"), "target_name": ("", "meta.id;src"),
    "s_ra": ("deg", "pos.eq.ra"), "s_dec": ("deg", "pos.eq.dec"), "s_fov": ("deg", "phys.angSize;instr.fov"),
    "s_region": ("", "pos.outline;obs.field"), "s_xel1": ("", "meta.number"), "s_xel2": ("", "meta.number"),
    "s_resolution": ("arcsec", "pos.angResolution"), "t_min": ("d", "time.start;obs.exposure"),
    "t_max": ("d", "time.end;obs.exposure"), "t_exptime": ("s", "time.duration;obs.exposure"),
    "t_resolution": ("s", "time.resolution"), "t_xel": ("", "meta.number"), "em_min": ("m", "em.wl;stat.min"),
    "em_max": ("m", "em.wl;stat.max"), "em_res_power": ("", "spect.resolution"), "em_xel": ("", "meta.number"),
    "o_ucd": ("", "meta.ucd"), "pol_states": ("", "meta.code;phys.polarization"), "pol_xel": ("", "meta.number"),
    "facility_name": ("", "meta.id;instr.tel"), "instrument_name": ("", "meta.id;instr"),
}  # fmt: skip


def check_store(store: Any) -> list[str]:
    """What gammapy's own check has to say.

    `DataStore.check()` as a whole asks for PSF and background, which point-like data do not have: its parts are run.
    """
    parts = ("obs_table", "hdu_table", "consistency")
    records = [record for part in parts for record in store.check(checks=[part])]
    for observation in store.get_observations(required_irf="point-like"):
        records += ObservationChecker(observation).run()
    return sorted({str(r["msg"]) for r in records if r["level"] not in ("debug", "info") and r["msg"] != QUIRK})


def check_format(path: Path) -> list[str]:
    """What of GADF 0.3 or of FITS a file does not keep to."""
    findings = []
    with fits.open(path) as hdus:
        hdus.verify("exception")
        for name, keys in KEYWORDS.items():
            findings += [f"{path.name}: {name} lacks {key}" for key in keys if key not in hdus[name].header]
            for column, unit in COLUMNS[name].items():
                if column not in hdus[name].columns.names:
                    findings.append(f"{path.name}: {name} lacks the column {column}")
                elif unit and u.Unit(hdus[name].columns[column].unit) != u.Unit(unit):
                    findings.append(f"{path.name}: {name}, {column} is in {hdus[name].columns[column].unit}")
        gti, header = hdus["GTI"].data, hdus["EVENTS"].header
        if abs(float(np.sum(gti["STOP"] - gti["START"])) * header["DEADC"] - header["LIVETIME"]) > 0.1:
            findings.append(f"{path.name}: LIVETIME is not that of the intervals")
        times = hdus["EVENTS"].data["TIME"]
        if (times < gti["START"].min()).any() or (times > gti["STOP"].max()).any():
            findings.append(f"{path.name}: events outside the good time")
    return findings


def check_obscore(folder: Path) -> list[str]:
    """What the ObsCore table lacks, or says otherwise than the files."""
    table = Table.read(folder / "obscore.ecsv")
    findings = [f"obscore lacks {name}" for name in OBSCORE if name not in table.colnames]
    for name, (unit, ucd) in OBSCORE.items():
        if name in table.colnames:
            column = table[name]
            if (str(column.unit or "") != unit) or column.meta.get("ucd") != ucd or not column.meta.get("utype"):
                findings.append(f"obscore: {name} has {column.unit}, {column.meta}")
    for row in table:
        header = fits.getheader(folder / row["access_url"], "EVENTS")
        start = header["MJDREFI"] + header["MJDREFF"] + header["TSTART"] / 86400
        same = (
            row["obs_id"] == str(header["OBS_ID"]),
            abs(row["s_ra"] - header["RA_PNT"]) < 1e-6 and abs(row["s_dec"] - header["DEC_PNT"]) < 1e-6,
            abs(row["t_min"] - start) < 1e-7,
            row["t_min"] < row["t_max"] and row["em_min"] < row["em_max"],
            abs(row["t_exptime"] - header["LIVETIME"]) < 1e-3,
            row["dataproduct_type"] == "event" and row["calib_level"] == 2,
        )
        findings += [f"obscore: row of {row['access_url']}, check {k} fails" for k, good in enumerate(same) if not good]
    return findings


def main() -> None:
    """Significance and flux of the source in the folder argv[1] at argv[2] argv[3] (deg)."""
    folder, ra_deg, dec_deg = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    source = SkyCoord(ra_deg * u.deg, dec_deg * u.deg)
    store = DataStore.from_dir(folder)
    findings = check_store(store) + check_obscore(Path(folder))
    findings += [finding for path in sorted(Path(folder).glob("dl3*.fits")) for finding in check_format(path)]
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
                "findings": findings,
            }
        )
    )


if __name__ == "__main__":
    main()
