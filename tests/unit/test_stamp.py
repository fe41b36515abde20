"""What a product says of how it was made, in itself."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits

import lstops
from lstops.errors import DataError
from lstops.science.stamp import main, stamp

from . import products

VALUES = {"MODELS": "20240115_v0.12.3_nsb_tuning_0.14", "MODELSHA": "ab" * 32, "IRFN0001": "irf.fits.gz"}


def test_a_dl3_says_it_in_two_headers_and_is_otherwise_the_same(tmp_path: Path) -> None:
    path = products.dl3(tmp_path / "dl3_LST-1.Run02001.fits")
    with fits.open(path) as hdus:
        before = [(hdu.name, None if hdu.data is None else np.array(hdu.data), hdu.header.copy()) for hdu in hdus]
    main([str(path), *(f"{key}={value}" for key, value in VALUES.items())])
    with fits.open(path) as hdus:
        hdus.verify("exception")
        for hdu, (name, data, header) in zip(hdus, before, strict=True):
            added = {key: hdu.header[key] for key in hdu.header if key not in header}
            assert added == (VALUES | {"LSTOPS": lstops.__version__} if name in ("PRIMARY", "EVENTS") else {})
            assert data is None or np.array_equal(np.array(hdu.data), data)


def test_a_dl2_says_it_in_attributes(tmp_path: Path) -> None:
    path = products.dl2(tmp_path / "dl2.h5")
    stamp(path, VALUES)
    with h5py.File(path) as file:
        assert file.attrs["LSTOPS_MODELSHA"] == "ab" * 32
        assert file.attrs["LSTOPS_VERSION"] == lstops.__version__
        assert file.attrs["LSTCHAIN_VERSION"]


def test_what_cannot_be_stamped_is_named(tmp_path: Path) -> None:
    path = products.dl3(tmp_path / "dl3_LST-1.Run02001.fits")
    content = path.read_bytes()
    with pytest.raises(DataError, match="'too_long_a_key' cannot be a keyword"):
        stamp(path, {"too_long_a_key": "x"})
    with pytest.raises(DataError, match="has the keyword OBJECT already"):
        stamp(path, {"OBJECT": "1"})
    assert path.read_bytes() == content
    with pytest.raises(DataError, match="cannot be opened"):
        stamp(tmp_path / "no.fits", VALUES)
    with pytest.raises(DataError, match="cannot be opened"):
        stamp(tmp_path / "no.h5", VALUES)
