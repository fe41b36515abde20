"""Where a run pointed: horizontal coordinates of its mean pointing at its middle."""

from __future__ import annotations

import math

from lstops.site.model import Observatory


def mean_azimuth_deg(ra_deg: float, dec_deg: float, middle_unix_s: float, observatory: Observatory) -> float:
    """Azimuth (north through east, 0 to 360 deg) of a sky position at a time.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Mean pointing (ICRS) in degrees.
    middle_unix_s : float
        Middle of the run, seconds since 1970 (UTC).

    Raises
    ------
    ValueError
        If an argument is not finite.
    """
    if not all(map(math.isfinite, (ra_deg, dec_deg, middle_unix_s))):
        raise ValueError(f"pointing ra {ra_deg} dec {dec_deg} at {middle_unix_s} is not finite")
    import astropy.units as u
    from astropy.coordinates import AltAz, EarthLocation, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    location = EarthLocation.from_geodetic(
        observatory.longitude_deg * u.deg, observatory.latitude_deg * u.deg, observatory.height_m * u.m
    )
    # The tables that come with astropy do: a second of time is 0.004 deg, and a download may hang for minutes.
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("iers_degraded_accuracy", "warn"):
        frame = AltAz(obstime=Time(middle_unix_s, format="unix"), location=location)
        return float(SkyCoord(ra_deg * u.deg, dec_deg * u.deg).transform_to(frame).az.deg)


def wobble(pointing_deg: tuple[float, float], source_deg: tuple[float, float]) -> tuple[float, float]:
    """Offset of a pointing from its source, and its position angle as seen from there (degrees, north through east).

    Parameters
    ----------
    pointing_deg, source_deg : tuple of float
        Right ascension and declination (ICRS) in degrees.
    """
    import astropy.units as u
    from astropy.coordinates import SkyCoord

    source, pointing = SkyCoord(*source_deg, unit=u.deg), SkyCoord(*pointing_deg, unit=u.deg)
    return float(source.separation(pointing).deg), float(source.position_angle(pointing).deg)
