"""Have numba compile what lstchain's image processing uses, on a toy image, before steps are forked.

The results do not change: numba compiles per type of the arguments, whoever asks first. Nothing here opens an HDF5
file, starts a thread or touches a global random generator.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

#: operations of lstops that a warm process runs itself (`python -m NAME`), and what they import
PRELOAD: Mapping[str, tuple[str, ...]] = {
    "lstops.science.dl3": ("lstchain.tools.lstchain_create_dl3_file", "lstchain.reco.utils", "tables"),
    "lstops.science.run_responses": ("lstchain.tools.lstchain_create_irf_files", "lstchain.reco.utils"),
    "lstops.science.stamp": ("astropy.io.fits", "h5py"),
}
#: commands that clean and parametrise images; the others have nothing to compile
_IMAGES = frozenset({"lstchain_dl1ab", "lstchain_mc_r0_to_dl1", "lstchain_data_r0_to_dl1"})
# a shower-like ellipse: centre (m), width and length (m), charge (p.e.)
_CENTRE_M, _WIDTH_M, _LENGTH_M, _CHARGE_PE = (0.3, 0.2), 0.07, 0.15, 40.0


def warm_up(tools: Iterable[str]) -> None:
    """Compile what these commands need."""
    if _IMAGES & set(tools):
        _clean_and_parametrise()


def _clean_and_parametrise() -> None:
    import numpy as np
    from ctapipe.image import apply_time_delta_cleaning, number_of_islands, tailcuts_clean
    from ctapipe_io_lst import LSTEventSource
    from lstchain.image.modifier import random_psf_smearer
    from lstchain.io.lstcontainers import DL1ParametersContainer
    from lstchain.reco.disp import disp
    from lstchain.reco.r0_to_dl1 import parametrize_image

    telescope = LSTEventSource.create_subarray(tel_id=1).tel[1]
    camera = telescope.camera.geometry
    x = (camera.pix_x.to_value("m") - _CENTRE_M[0]) / _WIDTH_M
    y = (camera.pix_y.to_value("m") - _CENTRE_M[1]) / _LENGTH_M
    shower = _CHARGE_PE * np.exp(-(x**2 + y**2) / 2)
    peak_time = (20 + 2 * y).astype(np.float32)
    # as read from a file, and after noise was added
    for image in (shower.astype(np.float32), shower):
        mask = tailcuts_clean(camera, image, 8.0, 4.0, False, 2)
        mask = apply_time_delta_cleaning(camera, mask, peak_time, 1, 2.0)
        number_of_islands(camera, mask)
        parameters = DL1ParametersContainer()
        parametrize_image(
            image=image,
            peak_time=peak_time,
            signal_pixels=mask,
            camera_geometry=camera,
            focal_length=telescope.optics.equivalent_focal_length,
            dl1_container=parameters,
        )
        disp(parameters["x"].to_value("m"), parameters["y"].to_value("m"), 0.0, 0.0, parameters["psi"].to_value("rad"))
        # nothing to smear: compiled, but the generator of numba is not used
        neighbours = camera.neighbor_matrix_sparse
        random_psf_smearer(np.zeros_like(image), 0.1, neighbours.indices, neighbours.indptr)
