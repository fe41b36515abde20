"""The instrument response tables of IRF and DL3 files, checked in one place.

The rules are those of the GADF v0.3 (HDUCLAS1-4, axes LO/HI) and of what lstchain's interpolation and gammapy need.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from lstops.step.verify.common import Facts
from lstops.step.verify.fitsfile import by_class, by_name

AREA, DISPERSION, RAD_MAX, PSF, BACKGROUND = "AEFF_2D", "EDISP_2D", "RAD_MAX_2D", "PSF_TABLE", "BKG_2D"
_VALUES = {AREA: "EFFAREA", DISPERSION: "MATRIX", RAD_MAX: "RAD_MAX", PSF: "RPSF", BACKGROUND: "BKG"}
#: pyirf calls the class of the PSF otherwise than GADF does; gammapy goes by HDUCLAS4 and takes both
_CLASS2 = {
    AREA: ("EFF_AREA",), DISPERSION: ("EDISP",), RAD_MAX: ("RAD_MAX",), PSF: ("RPSF", "PSF"), BACKGROUND: ("BKG",),
}  # fmt: skip
_POINTING = ("ZEN_PNT", "AZ_PNT", "B_DELTA")
#: names under which lstchain's interpolation looks the tables up
_EXTNAME = {AREA: "EFFECTIVE AREA", DISPERSION: "ENERGY DISPERSION"}


@dataclass
class Response:
    """Findings and facts of the response tables of one file.

    Attributes
    ----------
    findings : list of str
        What is wrong.
    empty_bins : list of (low, high)
        True-energy bins (TeV) inside the useful range without effective area.
    """

    findings: list[str] = field(default_factory=list)
    empty_bins: list[tuple[float, float]] = field(default_factory=list)
    facts: Facts = field(default_factory=dict)


def examine(hdus: fits.HDUList, useful_tev: tuple[float, float] | None) -> Response:
    """Check the response tables.

    Parameters
    ----------
    useful_tev : (low, high) or None
        True energies (TeV) between which no bin of the effective area may be empty: one empty bin at one node makes
        lstchain's interpolated area collapse (its logarithm has a floor of 1 m2). None: between the first and the last
        bin with events.
    """
    response = Response()
    tables = {name: _table(hdus, name, response) for name in _VALUES}
    for name, hdu in tables.items():
        if hdu is not None:
            _classes(hdu, name, response)
            _axes(hdu, name, response)
            _values(hdu, name, response)
    area = tables[AREA]
    if area is not None:
        header = area.header
        response.findings += [f"header of {area.name} lacks {key}" for key in _POINTING if key not in header]
        _cuts(hdus, header, tables, response)
        _empty_bins(area, useful_tev, response)
        response.facts |= {
            "zd_deg": _number(header.get("ZEN_PNT")),
            "az_deg": _number(header.get("AZ_PNT")),
            "b_delta_deg": _number(header.get("B_DELTA")),
            "point_like": header.get("HDUCLAS3") == "POINT-LIKE",
            "creator": str(header.get("CREATOR", "")),
        }
        if offsets := {axis: (low, high) for axis, low, high in _pairs(area)}.get("THETA"):
            response.facts["offset_deg"] = [float(offsets[0].min()), float(offsets[1].max())]
    response.facts["tables"] = [name for name, hdu in tables.items() if hdu is not None]
    return response


def _table(hdus: fits.HDUList, name: str, response: Response) -> fits.BinTableHDU | None:
    found = by_class(hdus, name)
    if not found:
        if name in (AREA, DISPERSION):
            response.findings.append(f"no table of class {name}")
        return None
    if len(found) > 1:
        names = ", ".join(h.name for h in found)
        response.findings.append(f"{len(found)} tables of class {name} ({names}), there must be one")
    return next((h for h in found if h.name == _EXTNAME.get(name)), found[0])


def _classes(hdu: fits.BinTableHDU, name: str, response: Response) -> None:
    header = hdu.header
    for key, wanted in (("HDUCLASS", ("GADF",)), ("HDUCLAS1", ("RESPONSE",)), ("HDUCLAS2", _CLASS2[name]),
                        ("HDUCLAS3", ("POINT-LIKE", "FULL-ENCLOSURE"))):  # fmt: skip
        if header.get(key) not in wanted:
            response.findings.append(f"{hdu.name}: {key} is {header.get(key)!r}, not {' or '.join(wanted)}")
    if name in _EXTNAME and hdu.name != _EXTNAME[name]:
        response.findings.append(f"table of class {name} is called {hdu.name!r}, lstchain needs {_EXTNAME[name]!r}")


def _pairs(hdu: fits.BinTableHDU) -> Iterator[tuple[str, npt.NDArray[Any], npt.NDArray[Any]]]:
    names = hdu.columns.names
    for low in [n for n in names if n.endswith("_LO")]:
        high = low[:-3] + "_HI"
        if high in names:
            yield low[:-3], np.ravel(hdu.data[low]), np.ravel(hdu.data[high])


def _axes(hdu: fits.BinTableHDU, name: str, response: Response) -> None:
    axes = list(_pairs(hdu))
    if not axes:
        response.findings.append(f"{hdu.name}: no axes (columns _LO and _HI)")
    shape = []
    for axis, low, high in axes:
        shape.append(len(low))
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            response.findings.append(f"{hdu.name}: axis {axis} is not finite ({low[0]:.4g} to {high[-1]:.4g})")
        elif not ((low <= high).all() and (np.diff(low) > 0).all() and np.allclose(low[1:], high[:-1])):
            response.findings.append(f"{hdu.name}: axis {axis} is not in order, with neighbouring bins")
    column = _VALUES[name]
    if column not in hdu.columns.names:
        response.findings.append(f"{hdu.name}: column {column} is missing")
    elif axes and tuple(hdu.data[column].shape[1:]) != tuple(reversed(shape)):
        response.findings.append(f"{hdu.name}: {column} has the shape {hdu.data[column].shape[1:]}, its axes {shape}")


def _values(hdu: fits.BinTableHDU, name: str, response: Response) -> None:
    if _VALUES[name] not in hdu.columns.names:
        return
    values = np.asarray(hdu.data[_VALUES[name]], dtype=float)
    if values.size == 0:
        response.findings.append(f"{hdu.name}: no rows")
    elif not np.isfinite(values).all():
        response.findings.append(f"{hdu.name}: {int((~np.isfinite(values)).sum())} of {values.size} are not finite")
    elif (values < 0).any():
        response.findings.append(f"{hdu.name}: {int((values < 0).sum())} of {values.size} are negative")
    elif not values.any():
        response.findings.append(f"{hdu.name}: all {values.size} values are zero")


def _cuts(
    hdus: fits.HDUList, header: fits.Header, tables: dict[str, fits.BinTableHDU | None], response: Response
) -> None:
    """Energy-dependent cuts are tables, global ones header values; one of the two must be there, and be whole."""
    cuts_table = by_name(hdus, "GH_CUTS")
    efficiency, cut = header.get("GH_EFF"), header.get("GH_CUT")
    if efficiency is not None and cuts_table is None:
        response.findings.append("GH_EFF in the header, but no table GH_CUTS")
    if efficiency is None and cuts_table is not None:
        # lstchain's interpolation notes the efficiency in the header of the cuts only
        efficiency = cuts_table.header.get("GH_EFF")
    if efficiency is None and cut is None:
        response.findings.append("no gammaness cut: neither GH_EFF nor GH_CUT in the header")
    if header.get("HDUCLAS3") == "POINT-LIKE":
        if tables[RAD_MAX] is None and "RAD_MAX" not in header:
            response.findings.append(
                "point-like without a radius: neither a table RAD_MAX_2D nor RAD_MAX in the header"
            )
        if "TH_CONT" in header and tables[RAD_MAX] is None:
            response.findings.append("TH_CONT in the header, but no table RAD_MAX_2D")
    elif header.get("HDUCLAS3") == "FULL-ENCLOSURE" and tables[PSF] is None:
        response.findings.append("full enclosure, but no table PSF_TABLE")
    response.facts |= {
        "gh_efficiency": _number(efficiency),
        "gh_cut": _number(cut),
        "theta_containment": _number(header.get("TH_CONT")),
        "rad_max_deg": _number(header.get("RAD_MAX")),
    }


def _empty_bins(area: fits.BinTableHDU, useful_tev: tuple[float, float] | None, response: Response) -> None:
    names = area.columns.names
    if not {"ENERG_LO", "ENERG_HI", "EFFAREA"} <= set(names) or not len(area.data):
        return
    low, high = np.ravel(area.data["ENERG_LO"]), np.ravel(area.data["ENERG_HI"])
    values = np.asarray(area.data["EFFAREA"], dtype=float)[0]
    if values.ndim != 2 or values.shape[1] != len(low):
        return
    best = values.max(axis=0)
    filled = np.flatnonzero(best > 0)
    if not len(filled):
        return
    if useful_tev is None:
        inside = (np.arange(len(low)) >= filled[0]) & (np.arange(len(low)) <= filled[-1])
    else:
        inside = (low >= useful_tev[0] * 0.999) & (high <= useful_tev[1] * 1.001)
    response.empty_bins = [(float(low[i]), float(high[i])) for i in np.flatnonzero(inside & (best <= 0))]
    response.facts |= {
        "energy_bins": len(low),
        "filled_bins": len(filled),
        "energy_min_tev": float(low[filled[0]]),
        "energy_max_tev": float(high[filled[-1]]),
        "area_max_m2": float(best.max()),
        "empty_bins_tev": [list(b) for b in response.empty_bins],
    }


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
