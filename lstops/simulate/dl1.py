"""Write DL1 files with images, with lstchain's own containers, parametrisation and writers.

The first event of a file goes through ctapipe's HDF5TableWriter, which makes the tables with the columns, units and
attributes of the installed lstchain; the following ones are collected as rows of the same types and appended in one
piece, which is four times faster.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import numpy.typing as npt

from lstops.simulate.camera import Camera, lst1_camera

PARAMETERS = "/dl1/event/telescope/parameters/LST_LSTCam"
IMAGES = "/dl1/event/telescope/image/LST_LSTCam"
TEL = 1
#: Rows kept in memory before they are appended
BLOCK = 2000


class EventKind(Enum):
    """Kind of a triggered event: (ctapipe event type, trigger bits of LST)."""

    SHOWER = (32, 1)
    PEDESTAL = (2, 32)
    FLATFIELD = (0, 4)


@dataclass(frozen=True)
class TrueShower:
    """Truth of a simulated event: TeV, rad, m; ``mc_type`` 0 gamma, 101 proton."""

    mc_type: int
    energy_tev: float
    alt_rad: float
    az_rad: float
    core_x_m: float
    core_y_m: float


@dataclass(frozen=True)
class Event:
    """One event: charges (p.e.) and peak times (ns) of all pixels, time (unix, s), pointing (rad)."""

    event_id: int
    charge: npt.NDArray[np.float32]
    peak_time: npt.NDArray[np.float32]
    unix_s: float
    kind: EventKind
    alt_rad: float
    az_rad: float
    truth: TrueShower | None = None


class Dl1Writer:
    """One DL1 file of lstchain; use `dl1_writer`.

    Parameters
    ----------
    path : Path
        File to make; must not exist.
    config : dict
        lstchain configuration; its cleaning is applied and it is stored in the tables.
    obs_id : int
        Run number.
    run_config : ctapipe SimulationConfigContainer or None
        Header of a Monte Carlo file; None for real data.
    """

    def __init__(self, path: Path, config: dict[str, Any], obs_id: int, run_config: Any = None) -> None:
        from ctapipe.io import HDF5TableWriter
        from lstchain.io import HDF5_ZSTD_FILTERS, global_metadata, write_mcheader, write_metadata
        from lstchain.io.lstcontainers import (
            DL1MonitoringEventIndexContainer,
            DL1ParametersContainer,
            ExtraImageInfo,
        )
        from lstchain.reco.r0_to_dl1 import setup_writer

        self._camera: Camera = lst1_camera()
        self._config, self._obs_id = config, obs_id
        self._is_simulation = run_config is not None
        self._metadata = global_metadata()
        write_metadata(self._metadata, str(path))
        # "MonteCarloArray", as sim_telarray has it, makes lstchain's merging check fail with ctapipe 0.25
        self._camera.subarray.name = "LST-1 Monte Carlo" if self._is_simulation else "LST-1 subarray"
        self._camera.subarray.to_hdf(str(path))
        if self._is_simulation:
            write_mcheader(run_config, str(path), obs_id=obs_id, filters=HDF5_ZSTD_FILTERS, metadata=self._metadata)
        self._writer = HDF5TableWriter(
            str(path), group_name="dl1/event", mode="a", filters=HDF5_ZSTD_FILTERS, add_prefix=True
        )
        setup_writer(self._writer, self._camera.subarray, is_simulation=self._is_simulation)
        self._parameters = DL1ParametersContainer(prefix="")
        self._extra = ExtraImageInfo(prefix="")
        self._calibration_index = DL1MonitoringEventIndexContainer()
        self._meta = {**self._metadata.as_dict(), "config": json.dumps(config)}
        self._gain = np.zeros(self._camera.n_pixels, dtype=bool)
        self._rows: dict[str, npt.NDArray[Any]] = {}
        self._units: dict[str, u.Unit] = {}
        self._filled = 0
        self.n_events = 0

    def monitoring(self, container: Any) -> None:
        """Append a row to the pedestal, flat-field and calibration tables (MonitoringCameraContainer)."""
        from lstchain.io import add_config_metadata, add_global_metadata, write_calibration_data

        for part in (container.pedestal, container.flatfield, container.calibration):
            add_global_metadata(part, self._metadata)
            add_config_metadata(part, self._config)
        write_calibration_data(self._writer, self._calibration_index, container, new_ped=True, new_ff=True)

    def add(self, event: Event) -> None:
        """Parametrise an event and write it."""
        from lstchain.io import write_subarray_tables
        from lstchain.reco.r0_to_dl1 import get_dl1

        array_event = self._array_event(event)
        dl1 = array_event.dl1.tel[TEL]
        c = self._parameters
        c.reset()
        c.calibration_id = self._calibration_index.calibration_id
        c.obs_id, c.event_id = self._obs_id, event.event_id
        if event.truth is not None:
            self._set_truth(event)
        get_dl1(array_event, self._camera.subarray, TEL, dl1_container=c, custom_config=self._config)
        event_type, trigger_bits = event.kind.value
        c.trigger_type = event_type if self._is_simulation else trigger_bits
        c.alt_tel, c.az_tel = event.alt_rad * u.rad, event.az_rad * u.rad
        c.sin_az_tel = np.sin(event.az_rad)
        c.trigger_time, c.event_type = event.unix_s, array_event.trigger.event_type
        if not self._is_simulation:
            c.ucts_time, c.tib_time, c.dragon_time = 0, 0, event.unix_s
            c.ucts_jump, c.ucts_trigger_type = False, trigger_bits
        if self._is_simulation:
            write_subarray_tables(self._writer, array_event, self._metadata)
        if self._rows:
            self._collect(PARAMETERS, (array_event.index, c))
            self._collect(IMAGES, (array_event.index, dl1, self._extra))
            self._filled += 1
            if self._filled == BLOCK:
                self._append()
        else:
            self._first(array_event)
        self.n_events += 1

    def close(self) -> None:
        """Write what is left and close the file."""
        self._append()
        self._writer.close()

    def _array_event(self, event: Event) -> Any:
        from astropy.time import Time
        from ctapipe.containers import ArrayEventContainer, EventType, SimulatedEventContainer

        array_event = ArrayEventContainer()
        array_event.simulation = SimulatedEventContainer() if self._is_simulation else None
        array_event.index.event_id, array_event.index.obs_id = event.event_id, self._obs_id
        array_event.trigger.prefix = ""
        array_event.trigger.event_type = EventType(event.kind.value[0])
        array_event.trigger.tels_with_trigger = [TEL]
        if self._is_simulation:
            array_event.trigger.time = Time(event.unix_s, format="unix", scale="utc")
        dl1 = array_event.dl1.tel[TEL]
        dl1.prefix = ""
        dl1.image, dl1.peak_time, dl1.is_valid = event.charge, event.peak_time, True
        self._extra.tel_id, self._extra.selected_gain_channel = TEL, self._gain
        return array_event

    def _set_truth(self, event: Event) -> None:
        c, truth = self._parameters, event.truth
        assert truth is not None
        c.mc_type = truth.mc_type
        c.mc_energy, c.log_mc_energy = truth.energy_tev * u.TeV, np.log10(truth.energy_tev)
        c.mc_alt, c.mc_az = truth.alt_rad * u.rad, truth.az_rad * u.rad
        c.mc_alt_tel, c.mc_az_tel = event.alt_rad * u.rad, event.az_rad * u.rad
        c.mc_core_x, c.mc_core_y = truth.core_x_m * u.m, truth.core_y_m * u.m
        c.mc_core_distance = np.hypot(truth.core_x_m, truth.core_y_m) * u.m
        c.mc_h_first_int, c.mc_x_max = 20000.0 * u.m, 300.0 * u.g / u.cm**2

    def _first(self, array_event: Any) -> None:
        """Make the tables with the first event and learn their row types."""
        c, dl1 = self._parameters, array_event.dl1.tel[TEL]
        for part in (c, dl1, self._extra):
            part.meta.update(self._meta)
        name = PARAMETERS.rsplit("/", 1)[1]
        self._writer.write(f"telescope/parameters/{name}", [array_event.index, c])
        self._writer.write(f"telescope/image/{name}", [array_event.index, dl1, self._extra])
        self._writer.h5file.flush()
        for path in (PARAMETERS, IMAGES):
            table = self._writer.h5file.get_node(path)
            self._rows[path] = np.zeros(BLOCK, dtype=table.dtype)
        for field, spec in c.fields.items():
            if spec.unit is not None:
                self._units[field] = spec.unit

    def _collect(self, path: str, containers: tuple[Any, ...]) -> None:
        row = self._rows[path][self._filled]
        names = row.dtype.names
        for container in containers:
            for field in container.keys():  # noqa: SIM118 - a ctapipe Container is not iterable
                if field not in names:
                    continue
                value = getattr(container, field)
                if isinstance(value, u.Quantity):
                    unit = self._units.get(field)
                    value = value.value if unit is None or value.unit == unit else value.to_value(unit)
                elif isinstance(value, Enum):
                    value = value.value
                row[field] = value

    def _append(self) -> None:
        if self._filled:
            for path, rows in self._rows.items():
                self._writer.h5file.get_node(path).append(rows[: self._filled])
            self._filled = 0


@contextlib.contextmanager
def dl1_writer(path: Path, config: dict[str, Any], obs_id: int, run_config: Any = None) -> Iterator[Dl1Writer]:
    """Open a `Dl1Writer`; for Monte Carlo the disp columns are added at the end, as lstchain does.

    A file that could not be finished is removed.
    """
    from lstchain.io.io import dl1_params_lstcam_key
    from lstchain.reco.r0_to_dl1 import add_disp_to_parameters_table

    path.unlink(missing_ok=True)
    try:
        writer = Dl1Writer(path, config, obs_id, run_config)
        try:
            yield writer
        finally:
            writer.close()
        if run_config is not None:
            focal = lst1_camera().subarray.tel[TEL].optics.equivalent_focal_length
            add_disp_to_parameters_table(str(path), dl1_params_lstcam_key, focal)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
