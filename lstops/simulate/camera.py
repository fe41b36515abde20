"""LST-1's camera as lstchain knows it (imports ctapipe_io_lst: science environment only)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import astropy.units as u
import numpy as np
import numpy.typing as npt

Array32 = npt.NDArray[np.float32]
N_GAINS = 2


@dataclass(frozen=True)
class Camera:
    """Geometry and readout of LST-1.

    Attributes
    ----------
    subarray : ctapipe.instrument.SubarrayDescription
        One LST, named ``LSTCam``, as lstchain writes it into DL1.
    x_m, y_m : ndarray (n_pixels,)
        Pixel positions in the camera frame.
    pixel_area_m2 : float
        Area of a pixel.
    neighbours : scipy sparse matrix (n_pixels, n_pixels)
        Neighbour matrix.
    metres_per_degree : float
        Plate scale at the effective focal length.
    pulses : ndarray (2, n)
        Reference pulses of the two gains.
    pulse_step_ns, sample_ns : float
        Sampling of the reference pulses, and of the readout.
    """

    subarray: Any
    x_m: Array32
    y_m: Array32
    pixel_area_m2: float
    neighbours: Any
    metres_per_degree: float
    pulses: npt.NDArray[np.float64]
    pulse_step_ns: float
    sample_ns: float

    @property
    def n_pixels(self) -> int:
        """Number of pixels (1855)."""
        return len(self.x_m)

    @property
    def geometry(self) -> Any:
        """ctapipe CameraGeometry."""
        return self.subarray.tel[1].camera.geometry

    @property
    def effective_focal_length(self) -> u.Quantity:
        """Effective focal length, to be used for directions."""
        return self.subarray.tel[1].optics.effective_focal_length


@cache
def lst1_camera() -> Camera:
    """LST-1 from ctapipe_io_lst's resources (the same object for every caller in a process)."""
    from ctapipe_io_lst import LSTEventSource

    subarray = LSTEventSource.create_subarray(tel_id=1)
    telescope = subarray.tel[1]
    geometry, readout = telescope.camera.geometry, telescope.camera.readout
    focal = telescope.optics.effective_focal_length.to_value(u.m)
    return Camera(
        subarray=subarray,
        x_m=geometry.pix_x.to_value(u.m).astype(np.float32),
        y_m=geometry.pix_y.to_value(u.m).astype(np.float32),
        pixel_area_m2=float(geometry.pix_area[0].to_value(u.m**2)),
        neighbours=geometry.neighbor_matrix_sparse.astype(np.float32),
        metres_per_degree=float(focal * np.pi / 180.0),
        pulses=np.asarray(readout.reference_pulse_shape, dtype=float),
        pulse_step_ns=float(readout.reference_pulse_sample_width.to_value(u.ns)),
        sample_ns=float(1.0 / readout.sampling_rate.to_value(u.GHz)),
    )
