"""Run lstchain's own command-line tools inside this (forked) process, and prepare a process for forking."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from lstops.errors import JobFailure


def run_tool(name: str, arguments: Sequence[str]) -> None:
    """Run ``lstchain.scripts.<name>`` as its command would.

    Raises
    ------
    JobFailure
        If it ends with another status than 0.
    """
    main = importlib.import_module(f"lstchain.scripts.{name}").main
    argv, sys.argv = sys.argv, [name, *arguments]
    try:
        main()
    except SystemExit as stop:
        if stop.code not in (None, 0):
            raise JobFailure(
                f"{name} {' '.join(arguments)} ended with status {stop.code}.", "Read the log of this task."
            ) from stop
    finally:
        sys.argv = argv


def stay_offline() -> None:
    """Use the Earth-rotation tables that are installed: lstchain's data check would try to download them 50 times."""
    from astropy.utils import data, iers

    iers.conf.auto_download = False
    iers.conf.auto_max_age = None
    data.conf.allow_internet = False


def remember_stars() -> None:
    """Let lstchain's data check look its star catalogue up once a pointing, not three times a subrun (2 s each).

    The stars within 3 deg are the same for all subruns at one pointing; proper motion within a night is nothing.
    """
    from lstchain.datachecks import containers

    original = containers.get_bright_stars
    if getattr(original, "remembers", False):
        return
    known: dict[tuple[Any, ...], Any] = {}

    def get_bright_stars(time: Any, pointing: Any, radius: Any, magnitude_cut: float) -> Any:
        icrs = pointing.icrs
        key = (round(icrs.ra.deg, 1), round(icrs.dec.deg, 1), radius.to_value("deg"), magnitude_cut)
        if key not in known:
            known[key] = original(time=time, pointing=pointing, radius=radius, magnitude_cut=magnitude_cut)
        return known[key]

    get_bright_stars.remembers = True  # type: ignore[attr-defined]
    containers.get_bright_stars = get_bright_stars


def look_up_stars(pointings: Sequence[Any], time: Any) -> None:
    """Fill the memory of `remember_stars` for some ICRS pointings, so that forked children have it."""
    import astropy.units as u
    from lstchain.datachecks import containers

    for pointing in pointings:
        containers.get_bright_stars(time=time, pointing=pointing, radius=3 * u.deg, magnitude_cut=8)


def warm_up() -> None:
    """Import lstchain and compile its numba functions, once, before children are forked."""
    stay_offline()
    remember_stars()
    import numpy as np
    from ctapipe.image import apply_time_delta_cleaning, number_of_islands, tailcuts_clean
    from lstchain.image.cleaning import apply_dynamic_cleaning
    from lstchain.io.lstcontainers import DL1ParametersContainer
    from lstchain.reco.r0_to_dl1 import parametrize_image

    from lstops.simulate.camera import lst1_camera

    for script in (
        "lstchain_check_dl1",
        "lstchain_longterm_dl1_check",
        "lstchain_cherenkov_transparency",
        "lstchain_merge_hdf5_files",
    ):
        importlib.import_module(f"lstchain.scripts.{script}")
    camera = lst1_camera()
    image = (100.0 * np.exp(-(camera.x_m**2 / 0.02 + camera.y_m**2 / 0.005))).astype(np.float32)
    peak_time = (20.0 + camera.x_m).astype(np.float32)
    mask = tailcuts_clean(camera.geometry, image, picture_thresh=8, boundary_thresh=4)
    mask = apply_time_delta_cleaning(camera.geometry, mask, peak_time, 1, 2)
    mask = apply_dynamic_cleaning(image, mask, 267, 0.03)
    number_of_islands(camera.geometry, mask)
    focal = camera.subarray.tel[1].optics.equivalent_focal_length
    parametrize_image(image, peak_time, mask, camera.geometry, focal, DL1ParametersContainer())
