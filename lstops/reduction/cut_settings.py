"""What decides about a response, wherever it was said: configuration, command line, or lstchain's own values.

lstchain_create_irf_files takes what its configuration does not say from itself, without a word: a production of
lstmcpipe whose configuration has no cuts was made without any cut on the intensity.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import zip_longest
from typing import Any

#: (section, name) -> value; the switches of the tool are in the section IRFFITSWriter
Settings = dict[tuple[str, str], Any]

#: lstchain/io/event_selection.py, 0.10 to 0.12; what only source-dependent analyses and backgrounds need is left out
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "EventSelector": {
        "filters": {"r": [0, 1], "wl": [0.01, 1], "leakage_intensity_width_2": [0, 1], "event_type": [32, 32]},
        "finite_params": ["intensity", "length", "width"],
    },
    "DL3Cuts": {
        "min_event_p_en_bin": 100, "global_gh_cut": 0.6, "gh_efficiency": 0.95, "min_gh_cut": 0.1, "max_gh_cut": 0.95,
        "global_theta_cut": 0.2, "theta_containment": 0.68, "min_theta_cut": 0.1, "max_theta_cut": 0.32,
        "fill_theta_cut": 0.32, "allowed_tels": [1],
    },
    "DataBinning": {
        "true_energy_min": 0.005, "true_energy_max": 500, "true_energy_n_bins": 25, "scale_true_energy": 1,
        "reco_energy_min": 0.005, "reco_energy_max": 500, "reco_energy_n_bins": 25,
        "energy_migration_min": 0.2, "energy_migration_max": 5, "energy_migration_n_bins": 30,
        "fov_offset_min": 0.1, "fov_offset_max": 1.1, "fov_offset_n_edges": 9,
        "source_offset_min": 0, "source_offset_max": 1, "source_offset_n_edges": 101,
    },
    "IRFFITSWriter": {
        "point_like": False, "energy_dependent_gh": False, "energy_dependent_theta": False, "source_dep": False,
        "energy_dependent_alpha": False,
    },
}  # fmt: skip
#: options of the tool that have a name of their own
_OPTIONS = {
    "global-gh-cut": ("DL3Cuts", "global_gh_cut"),
    "fixed-gh-cut": ("DL3Cuts", "global_gh_cut"),
    "gh-efficiency": ("DL3Cuts", "gh_efficiency"),
    "global-theta-cut": ("DL3Cuts", "global_theta_cut"),
    "fixed-theta-cut": ("DL3Cuts", "global_theta_cut"),
    "theta-containment": ("DL3Cuts", "theta_containment"),
    "allowed-tels": ("DL3Cuts", "allowed_tels"),
    "scale-true-energy": ("DataBinning", "scale_true_energy"),
    **{name.replace("_", "-"): ("IRFFITSWriter", name) for name in DEFAULTS["IRFFITSWriter"]},
}
#: values that count only if a switch is set, or only if it is not
_ONLY_WITH = {
    ("IRFFITSWriter", "energy_dependent_gh"): (("gh_efficiency", "min_gh_cut", "max_gh_cut"), ("global_gh_cut",)),
    ("IRFFITSWriter", "energy_dependent_theta"): (
        ("theta_containment", "min_theta_cut", "max_theta_cut", "fill_theta_cut"),
        ("global_theta_cut",),
    ),
}


#: what lstchain knows besides: for source-dependent analyses and backgrounds
_ALSO = {
    "DL3Cuts": ("alpha_containment", "global_alpha_cut", "min_alpha_cut", "max_alpha_cut", "fill_alpha_cut"),
    "DataBinning": ("bkg_fov_offset_min", "bkg_fov_offset_max", "bkg_fov_offset_n_edges"),
    "IRFFITSWriter": ("irf_obs_time",),
}
_SHARES = ("gh_efficiency", "theta_containment")


def mistakes(document: Mapping[str, Any]) -> list[str]:
    """What is wrong in the sections of a cut set; lstchain itself would find it in the last step of a production."""
    found = []
    for section, defaults in DEFAULTS.items():
        given = document.get(section) or {}
        known = (*defaults, *_ALSO.get(section, ()))
        for name, value in given.items():
            if name not in known:
                near = get_close_matches(name, known, n=1)
                found.append(f"{section}.{name} is unknown" + (f", the nearest is {near[0]}" if near else ""))
            elif section == "EventSelector":
                found += _wrong_filters(value) if name == "filters" else []
            elif section == "IRFFITSWriter" and name in defaults and not isinstance(value, bool):
                found.append(f"{section}.{name} is {value!r}, not true or false")
            elif name in _SHARES and not (_is_number(value) and 0 < value <= 1):
                found.append(f"{section}.{name} is {value!r}, not between 0 and 1")
            elif name not in defaults or not isinstance(defaults[name], bool | list):
                found += [] if _is_number(value) else [f"{section}.{name} is {value!r}, no number"]
    return found


def _wrong_filters(filters: Any) -> list[str]:
    if not isinstance(filters, Mapping):
        return [f"EventSelector.filters is {filters!r}, not limits by quantity"]
    return [
        f"EventSelector.filters.{name} is {limits!r}, not a lower and an upper limit"
        for name, limits in filters.items()
        if not (isinstance(limits, list) and len(limits) == 2 and all(map(_is_number, limits)))
        or sorted(limits) != limits
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


def settings_of(document: Mapping[str, Any], command: Sequence[str] = ()) -> Settings:
    """What a response was made with.

    Parameters
    ----------
    document : mapping
        A cut set, or an lstchain configuration.
    command : sequence of str
        The command that made the response: its options count more than the configuration.
    """
    found: Settings = {}
    for section, values in DEFAULTS.items():
        given = document.get(section) or {}
        found |= {(section, name): _plain(given.get(name, value)) for name, value in values.items()}
    for place, value in _options(command).items():
        if place in found:
            found[place] = _plain(value if isinstance(value, list) or place[1] != "allowed_tels" else [value])
    for switch, (on, off) in _ONLY_WITH.items():
        for name in off if found[switch] else on:
            del found["DL3Cuts", name]
    filters = found.pop(("EventSelector", "filters"))
    return found | {("EventSelector", f"filters.{name}"): limits for name, limits in filters.items()}


def differences(response: Settings, wanted: Settings) -> list[str]:
    """What of the settings of a response is other than wanted, for a person."""
    return [
        f"{section}.{name} {_words(response, (section, name))}, not {_words(wanted, (section, name))}"
        for section, name in sorted(response.keys() | wanted.keys())
        if response.get((section, name)) != wanted.get((section, name))
    ]


def _words(settings: Settings, place: tuple[str, str]) -> str:
    return json.dumps(settings[place]) if place in settings else "none"


def _options(command: Sequence[str]) -> Settings:
    """Settings on a command line: as an option, or by the full name of a trait."""
    found: Settings = {}
    for word, after in zip_longest(command, command[1:], fillvalue=""):
        name, equals, value = word.lstrip("-").partition("=")
        section, dot, trait = name.partition(".")
        place = (section, trait) if dot else _OPTIONS.get(name)
        if not word.startswith("--") or place is None:
            continue
        is_switch = place[0] == "IRFFITSWriter" and not equals and not dot
        found[place] = True if is_switch else _value(value if equals else after)
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text


def _plain(value: Any) -> Any:
    """Numbers as they compare: 1 and 1.0 are the same limit."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
