"""Angles on the sphere, without the cost of importing a coordinates package."""

from __future__ import annotations

import numpy as np

from lstops.quality.tables import FloatArray


def separation_deg(
    ra_deg: FloatArray, dec_deg: FloatArray, source_deg: tuple[float | FloatArray, float | FloatArray]
) -> FloatArray:
    """Return the angle between directions and a source, in degrees.

    Parameters
    ----------
    ra_deg, dec_deg : array of float, shape (n,)
        Directions, in the frame of the source.
    source_deg : tuple of float or array of float, shape (n,)
        Right ascension and declination of the source, or of one source for each direction.

    Returns
    -------
    array of float, shape (n,)
        By Vincenty's formula, accurate at all angles (as astropy.coordinates.angular_separation).
    """
    source_ra, source_dec = np.deg2rad(source_deg[0]), np.deg2rad(source_deg[1])
    with np.errstate(invalid="ignore"):
        difference, dec = np.deg2rad(ra_deg) - source_ra, np.deg2rad(dec_deg)
        sin_source, cos_source, sin_dec, cos_dec = np.sin(source_dec), np.cos(source_dec), np.sin(dec), np.cos(dec)
        across = cos_dec * np.sin(difference)
        along = cos_source * sin_dec - sin_source * cos_dec * np.cos(difference)
        cosine = sin_source * sin_dec + cos_source * cos_dec * np.cos(difference)
        angle: FloatArray = np.rad2deg(np.arctan2(np.hypot(across, along), cosine))
    return angle
