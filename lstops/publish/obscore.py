"""The observations of a bundle as a Virtual Observatory service lists them: IVOA ObsCore 1.1, one row a DL3 file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from lstops.errors import ProductInvalid
from lstops.publish.model import BundleRequest, CopiedFile

#: Naming authority of the dataset identifiers. It is not registered with the IVOA: a service that publishes the table
#: replaces it by its own.
AUTHORITY = "lst1.unregistered"
#: Diameter of the LST-1 camera's field of view (deg), arXiv:2306.12960, section 2
FIELD_DEG = 4.3
#: h c in TeV m (CODATA 2018)
_HC_TEV_M = 1.239841984e-18
_DAY_S = 86400.0


@dataclass(frozen=True)
class Column:
    """A mandatory column of ObsCore 1.1 (REC-ObsCore-v1.1, table 1 and section 4); `unit` as written there."""

    name: str
    kind: type
    ucd: str
    utype: str
    unit: str | None = None


COLUMNS = (
    Column("dataproduct_type", str, "meta.code.class", "ObsDataset.dataProductType"),
    Column("calib_level", int, "meta.code;obs.calib", "ObsDataset.calibLevel"),
    Column("obs_collection", str, "meta.id", "DataID.collection"),
    Column("obs_id", str, "meta.id", "DataID.observationID"),
    Column("obs_publisher_did", str, "meta.ref.ivoid", "Curation.publisherDID"),
    Column("access_url", str, "meta.ref.url", "Access.reference"),
    Column("access_format", str, "meta.code.mime", "Access.format"),
    Column("access_estsize", int, "phys.size;meta.file", "Access.size", "kbyte"),
    Column("target_name", str, "meta.id;src", "Target.name"),
    Column("s_ra", float, "pos.eq.ra", "Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2.C1", "deg"),
    Column("s_dec", float, "pos.eq.dec", "Char.SpatialAxis.Coverage.Location.Coord.Position2D.Value2.C2", "deg"),
    Column("s_fov", float, "phys.angSize;instr.fov", "Char.SpatialAxis.Coverage.Bounds.Extent.diameter", "deg"),
    Column("s_region", str, "pos.outline;obs.field", "Char.SpatialAxis.Coverage.Support.Area"),
    Column("s_resolution", float, "pos.angResolution", "Char.SpatialAxis.Resolution.Refval.value", "arcsec"),
    Column("s_xel1", int, "meta.number", "Char.SpatialAxis.numBins1"),
    Column("s_xel2", int, "meta.number", "Char.SpatialAxis.numBins2"),
    Column("t_min", float, "time.start;obs.exposure", "Char.TimeAxis.Coverage.Bounds.Limits.StartTime", "d"),
    Column("t_max", float, "time.end;obs.exposure", "Char.TimeAxis.Coverage.Bounds.Limits.StopTime", "d"),
    Column("t_exptime", float, "time.duration;obs.exposure", "Char.TimeAxis.Coverage.Support.Extent", "s"),
    Column("t_resolution", float, "time.resolution", "Char.TimeAxis.Resolution.Refval.value", "s"),
    Column("t_xel", int, "meta.number", "Char.TimeAxis.numBins"),
    Column("em_min", float, "em.wl;stat.min", "Char.SpectralAxis.Coverage.Bounds.Limits.LoLimit", "m"),
    Column("em_max", float, "em.wl;stat.max", "Char.SpectralAxis.Coverage.Bounds.Limits.HiLimit", "m"),
    Column("em_res_power", float, "spect.resolution", "Char.SpectralAxis.Resolution.ResolPower.refVal"),
    Column("em_xel", int, "meta.number", "Char.SpectralAxis.numBins"),
    Column("o_ucd", str, "meta.ucd", "Char.ObservableAxis.ucd"),
    Column("pol_states", str, "meta.code;phys.polarization", "Char.PolarizationAxis.stateList"),
    Column("pol_xel", int, "meta.number", "Char.PolarizationAxis.numBins"),
    Column("facility_name", str, "meta.id;instr.tel", "Provenance.ObsConfig.Facility.name"),
    Column("instrument_name", str, "meta.id;instr", "Provenance.ObsConfig.Instrument.name"),
)


def obscore(request: BundleRequest, products: Sequence[CopiedFile]) -> str:
    """The table as ECSV; UCD and utype are in each column's `meta`, what does not apply to events is masked.

    Energies are those of the events, as wavelengths. `access_url` is the file's name, relative to the bundle.

    Raises
    ------
    ProductInvalid
        If a file cannot be read as DL3.
    """
    import numpy as np
    from astropy.table import MaskedColumn, Table

    rows = [_row(request, product) for product in sorted(products, key=lambda p: p.name)]
    table = Table(meta={"standard": "IVOA ObsCore 1.1", "timesys": "UTC", "energies": "of the events"})
    for column in COLUMNS:
        values = [row.get(column.name) for row in rows]
        empty = {str: "", int: 0, float: np.nan}[column.kind]
        table[column.name] = MaskedColumn(
            [empty if value is None else value for value in values],
            mask=[value is None for value in values],
            dtype=column.kind,
            unit=column.unit,
            meta={"ucd": column.ucd, "utype": column.utype},
        )
    stream = StringIO()
    table.write(stream, format="ascii.ecsv", delimiter=",")
    return stream.getvalue()


def _row(request: BundleRequest, product: CopiedFile) -> dict[str, Any]:
    from astropy.io import fits

    try:
        with fits.open(product.source) as hdus:
            header = hdus["EVENTS"].header
            energies = hdus["EVENTS"].data["ENERGY"]
            energies = energies[energies > 0]
            span = (float(energies.min()), float(energies.max())) if len(energies) else None
            obs_id = int(header["OBS_ID"])
    except (OSError, KeyError, ValueError) as error:
        raise ProductInvalid(f"{product.source} cannot be read as DL3: {error}.", "make it again.") from error
    ra_deg, dec_deg = header.get("RA_PNT"), header.get("DEC_PNT")
    start, stop = (_mjd(header, key) for key in ("TSTART", "TSTOP"))
    return {
        "dataproduct_type": "event",
        "calib_level": 2,
        "obs_collection": "LST-1 DL3 (synthetic)" if request.synthetic else "LST-1 DL3",
        "obs_id": str(obs_id),
        "obs_publisher_did": f"ivo://{AUTHORITY}/dl3?{obs_id}/{product.sha256[:16]}",
        "access_url": product.name,
        "access_format": "application/fits",
        "access_estsize": math.ceil(product.size / 1000),
        "target_name": header.get("OBJECT", request.source.name),
        "s_ra": ra_deg,
        "s_dec": dec_deg,
        "s_fov": FIELD_DEG,
        "s_region": None if ra_deg is None or dec_deg is None else f"CIRCLE ICRS {ra_deg} {dec_deg} {FIELD_DEG / 2}",
        "t_min": start,
        "t_max": stop,
        "t_exptime": header.get("LIVETIME"),
        "em_min": _HC_TEV_M / span[1] if span else None,
        "em_max": _HC_TEV_M / span[0] if span else None,
        "o_ucd": "phot.count",
        "facility_name": "CTAO",
        "instrument_name": header.get("INSTRUME", "LST-1"),
    }


def _mjd(header: Any, key: str) -> float | None:
    """Time of a header as modified Julian date (UTC); None if the header has no time."""
    if key not in header or "MJDREFI" not in header:
        return None
    return float(header["MJDREFI"] + header.get("MJDREFF", 0.0) + header[key] / _DAY_S)
