"""DL3 files of one run.

`expect` of an output may hold

run : int
    Must be OBS_ID.
object : str
    Must be OBJECT.
min_live_fraction : float
    Smallest LIVETIME / ONTIME (lstchain drops gaps of 10 ms and more: a wrong one means lost events).
irf_zenith_tolerance_deg : float
    Largest distance between the zenith of the responses and that of the data. lstchain takes the *nearest* node when it
    cannot interpolate, with exit status 0; the header then holds the node's zenith.
nearest_node : bool
    The responses are meant to be those of the one IRF input, as they are. Default: interpolated.
useful_energy_tev : (low, high)
    True energies between which no node may have an empty bin. Nodes and weights of the responses become facts
    (`irf_nodes`), and the effective area must be the one interpolated from them, if the step has IRF inputs.
whole_run : bool
    True (default): ONTIME must be the time between the first and last shower of the DL2 in `counts_from`, without
    interruptions.
dropped_subruns : list of int
    Subruns that are left out; the step's inputs of kind DL1 are these. See `dl3_times` for what must hold then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from lstops.quality.sky import separation_deg
from lstops.step.model import ArtifactKind, Output
from lstops.step.verify import dl3_nodes, dl3_times, response
from lstops.step.verify.common import Facts, InputFacts, refuse, sources
from lstops.step.verify.fitsfile import by_name, read

_EVENT_COLUMNS = ("EVENT_ID", "TIME", "RA", "DEC", "ENERGY")
_HEADER = ("OBS_ID", "ONTIME", "LIVETIME", "DEADC", "RA_PNT", "DEC_PNT", "OBJECT", "RA_OBJ", "DEC_OBJ", "MJDREFI")
_SPAN_TOLERANCE_S = 1.0
#: between the mean pointing that lstchain notes and that of all events: without some subruns it is another one
_POINTING_DEG = 5.0
#: the offset of a source from the pointing is not exactly that of the wobble
_OFFSET_MARGIN_DEG = 0.05


def inspect(path: Path) -> Facts:
    """Run, times, target and number of events of a DL3 file.

    Raises
    ------
    DataError
        With everything that is wrong with it.
    """
    facts, findings = _examine(read(path))
    refuse(path, findings)
    return facts


def check(output: Output, path: Path, inputs: Sequence[InputFacts]) -> Facts:
    """Facts of a DL3 file that was just made.

    Raises
    ------
    DataError
        See `inspect`; also if run, live time or responses are not those of the data.
    """
    hdus = read(path)
    facts, findings = _examine(hdus)
    expect = output.expect
    run = expect.get("run")
    if run is not None and facts.get("obs_id") != run:
        findings.append(f"OBS_ID is {facts.get('obs_id')}, not run {run}")
    source = expect.get("object")
    if source is not None and facts.get("object") != source:
        findings.append(f"OBJECT is {facts.get('object')!r}, not {source!r}")
    live, on = facts.get("livetime_s", 0.0), facts.get("ontime_s", 0.0)
    least = float(expect.get("min_live_fraction", 0))
    if on > 0 and live < least * on:
        findings.append(f"LIVETIME is {live:.1f} s of {on:.1f} s, below {least:.0%}: events are missing")
    nearest = bool(expect.get("nearest_node", False))
    nodes, wrong = dl3_nodes.examine(hdus, facts, inputs, expect.get("useful_energy_tev"), nearest)
    facts |= nodes
    findings += wrong
    findings += _in_the_field(facts)
    findings += dl3_times.against_dropped(facts, expect.get("dropped_subruns", []), inputs)
    data = next((i for i in sources(output, inputs) if i.kind is ArtifactKind.DL2), None)
    if data is not None:
        findings += _against_data(facts, data, expect)
    refuse(path, findings, "check the DL2 file and the IRF nodes; read the step's log.")
    return facts


def _in_the_field(facts: Facts) -> list[str]:
    """The responses must be those of the place of the source in the field: gammapy takes the nearest bin silently."""
    low, high = facts.get("irf_offset_deg") or (0.0, np.inf)
    if "ra_obj_deg" not in facts:
        return []
    source, pointing = ((facts[f"ra_{of}_deg"], facts[f"dec_{of}_deg"]) for of in ("obj", "pnt"))
    offset = float(separation_deg(np.array([pointing[0]]), np.array([pointing[1]]), source)[0])
    if low - _OFFSET_MARGIN_DEG <= offset <= high + _OFFSET_MARGIN_DEG:
        return []
    return [
        f"{facts['object']} is {offset:.2f} deg from the pointing, the responses are those of {low:.2f} to {high:.2f} "
        "deg: correct the source in the run catalogue, or exclude the run"
    ]


def _against_data(facts: Facts, data: InputFacts, expect: dict[str, Any]) -> list[str]:
    findings = []
    if facts["events"] > data.facts["events"]:
        findings.append(f"{facts['events']} events, but {data.path.name} holds {data.facts['events']}")
    if "t_start" in data.facts and "t_stop" in data.facts:
        span, on = dl3_times.recorded_s(data.facts), facts.get("ontime_s", 0.0)
        too_short = expect.get("whole_run", True) and on < span - _SPAN_TOLERANCE_S
        if on > span + _SPAN_TOLERANCE_S or too_short:
            findings.append(f"ONTIME is {on:.3f} s, the data of {data.path.name} span {span:.3f} s")
    findings += _direction(facts, data.facts)
    tolerance = expect.get("irf_zenith_tolerance_deg")
    # where subruns were left out, only lstchain's note of the mean zenith is that of the events it used
    here, there = facts.get("irf_zd_deg"), facts.get("mean_zd_deg", data.facts.get("zd_deg"))
    if tolerance is not None and here is not None and there is not None and abs(here - there) > tolerance:
        findings.append(
            f"its responses are those of zenith {here:.2f} deg, the data were taken at {there:.2f} deg: "
            "lstchain took the nearest node instead of interpolating"
        )
    return findings


def _direction(facts: Facts, data: Mapping[str, Any]) -> list[str]:
    """lstchain takes the mean of the azimuths as numbers: on both sides of north it is that of the south."""
    if not {"mean_zd_deg", "mean_az_deg"} <= set(facts) or not {"zd_deg", "az_mean_deg"} <= set(data):
        return []
    noted, true = (facts["mean_az_deg"], facts["mean_zd_deg"]), (data["az_mean_deg"], data["zd_deg"])
    angle = separation_deg(np.array([noted[0]]), np.array([90 - noted[1]]), (true[0], 90 - true[1]))[0]
    if angle <= _POINTING_DEG:
        return []
    return [
        f"its responses are for azimuth {noted[0]:.1f} deg, the mean of azimuths on both sides of north; the telescope "
        f"pointed to {true[0]:.1f} deg"
    ]


def _examine(hdus: fits.HDUList) -> tuple[Facts, list[str]]:
    findings: list[str] = []
    events, gti = by_name(hdus, "EVENTS"), by_name(hdus, "GTI")
    findings += [f"no table {name}" for name, hdu in (("EVENTS", events), ("GTI", gti)) if hdu is None]
    responses = response.examine(hdus, None)
    findings += responses.findings
    facts: Facts = {
        "events": 0,
        "pointing_table": by_name(hdus, "POINTING") is not None,
        "irf_zd_deg": responses.facts.get("zd_deg"),
        "irf_az_deg": responses.facts.get("az_deg"),
        "irf_tables": responses.facts["tables"],
        "irf_offset_deg": responses.facts.get("offset_deg"),
        "gh_efficiency": responses.facts.get("gh_efficiency"),
        "gh_cut": responses.facts.get("gh_cut"),
        "cuts_sha256": hdus[0].header.get("CUTSHA"),
        "intensity_cut_pe": hdus[0].header.get("INTCUT"),
    }
    facts |= _target(by_name(hdus, "POINTING"))
    if events is None:
        return facts, findings
    facts |= _events(events, findings)
    if gti is not None:
        facts |= dl3_times.examine(gti, events, findings)
    return facts, findings


def _target(pointing: fits.BinTableHDU | None) -> Facts:
    """What lstchain interpolated the responses to: text such as "20.1 deg" in the header of POINTING."""
    found: Facts = {}
    for fact, key in (("mean_zd_deg", "MEAN_ZEN"), ("mean_az_deg", "MEAN_AZ"), ("b_delta_deg", "B_DELTA")):
        words = str(pointing.header.get(key, "")).split() if pointing is not None else []
        if len(words) == 2 and words[1] == "deg":
            found[fact] = float(words[0])
    return found


def _events(events: fits.BinTableHDU, findings: list[str]) -> Facts:
    header, data = events.header, events.data
    findings += [f"EVENTS lacks the column {n}" for n in _EVENT_COLUMNS if n not in events.columns.names]
    findings += [f"header of EVENTS lacks {key}" for key in _HEADER if key not in header]
    facts: Facts = {"events": len(data)}
    if not len(data):
        findings.append("EVENTS has no rows: not one event passed the cuts")
    for name in set(_EVENT_COLUMNS) & set(events.columns.names):
        bad = int((~np.isfinite(np.asarray(data[name], dtype=float))).sum())
        if bad:
            findings.append(f"EVENTS: {bad} of {len(data)} values of {name} are not finite")
    if any(key not in header for key in _HEADER):
        return facts
    on, live, deadc = (float(header[k]) for k in ("ONTIME", "LIVETIME", "DEADC"))
    if not on > 0 or not 0 < live <= on * (1 + 1e-6):
        findings.append(f"LIVETIME {live:.3f} s and ONTIME {on:.3f} s cannot be")
    elif abs(live - on * deadc) > 0.01 * on:
        findings.append(f"LIVETIME {live:.3f} s is not ONTIME {on:.3f} s x DEADC {deadc:.4f}")
    return facts | {
        "obs_id": int(header["OBS_ID"]),
        "object": str(header["OBJECT"]),
        "ra_obj_deg": float(header["RA_OBJ"]),
        "dec_obj_deg": float(header["DEC_OBJ"]),
        "ra_pnt_deg": float(header["RA_PNT"]),
        "dec_pnt_deg": float(header["DEC_PNT"]),
        "ontime_s": on,
        "livetime_s": live,
        "deadc": deadc,
    }
