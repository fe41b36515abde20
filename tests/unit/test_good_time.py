"""Runs without some of their subruns: which events go, and what time is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tables

from lstops.errors import DataError
from lstops.science.drop_subruns import cut_dl2, read_dropped, showers
from lstops.science.good_time import DroppedSubrun, Interval, Span, good_intervals, is_told, split_at
from lstops.step.verify import dl2

from . import products


def dropped(start_s: float, stop_s: float, subrun: int = 1) -> DroppedSubrun:
    return DroppedSubrun(subrun, np.arange(0), Span(start_s, stop_s))


def half_dead(times_s: np.ndarray, delta_t_s: np.ndarray) -> tuple[float, float]:
    """As if half of the time were dead."""
    return float(np.ptp(times_s)) / 2, float(np.ptp(times_s))


TIMES = np.concatenate([np.linspace(0, 10, 101), np.linspace(20, 30, 101), np.linspace(40.01, 50, 101)])


def test_blocks_between_dropped_subruns() -> None:
    blocks = split_at(TIMES, [dropped(30.02, 40.0, 3), dropped(10.1, 19.9, 1)])
    assert [len(block) for block in blocks] == [101, 101, 101]
    intervals = good_intervals(TIMES, TIMES, [dropped(30.02, 40.0, 3), dropped(10.1, 19.9, 1)], half_dead)
    assert [(i.span.start_s, i.span.stop_s, i.deadc) for i in intervals] == [
        (0, 10, 0.5), (20, 30, 0.5), (40.01, 50, 0.5),
    ]  # fmt: skip
    assert sum(i.length_s for i in intervals) == pytest.approx(29.99)


def test_the_first_and_the_last_subrun() -> None:
    assert len(split_at(TIMES, [dropped(-10, -0.1)])) == 1
    assert len(split_at(TIMES, [dropped(-10, -0.1), dropped(50.1, 60)])) == 1
    # neighbours that are dropped leave no empty interval between them
    assert len(split_at(TIMES, [dropped(10.1, 15), dropped(15, 19.9)])) == 2


def test_events_within_a_dropped_subrun_are_a_disorder() -> None:
    with pytest.raises(DataError, match="10 events that are kept lie within a dropped subrun") as caught:
        split_at(TIMES, [dropped(9.0, 19.9)])
    assert "exclude the run" in caught.value.remedy
    # the streams of neighbouring subruns may overlap by some events
    assert len(split_at(TIMES, [dropped(9.96, 19.9)])) == 2


def test_too_few_events_to_tell_the_dead_time() -> None:
    few = np.concatenate([TIMES, np.linspace(60, 61, 5)])
    with pytest.raises(DataError, match="only 5 showers are left"):
        good_intervals(few, few, [dropped(50.1, 59.9)], half_dead)


def test_an_interruption_is_no_good_time() -> None:
    """Ten seconds in which nothing was recorded, in the middle of what is left beside a dropped subrun."""
    times = np.concatenate([TIMES[TIMES < 25], TIMES[TIMES > 40]])
    intervals = good_intervals(times, times, [dropped(10.1, 19.9)], lambda t, _: (len(t) * 0.05, len(t) * 0.1))
    assert [(i.span.start_s, i.span.stop_s, i.deadc) for i in intervals] == [
        (0, 10, 0.5), (20, pytest.approx(24.9), 0.5), (40.01, 50, 0.5),
    ]  # fmt: skip
    assert [i.span.stop_s for i in good_intervals(TIMES, TIMES, [], half_dead)] == [10, 30, 50]
    alone = np.append(TIMES, 500.0)
    with pytest.raises(DataError, match=r"500\.000 s since 1970 stands alone between two interruptions"):
        good_intervals(alone, alone, [], half_dead)


def test_a_subrun_that_was_merged_twice() -> None:
    """The span of the run is as it was, its middle has twice the events."""
    times = np.concatenate([TIMES[:202], TIMES[101:]])
    with pytest.raises(DataError, match=r"goes back by 10\.000 s, from 30\.000 s .*: a subrun is in the file twice"):
        good_intervals(times, times, [], half_dead)
    # where that part is dropped there is nothing to complain of
    rest = np.delete(times, slice(101, 303))
    assert len(good_intervals(rest, rest, [dropped(20, 30)], half_dead)) == 2


def test_an_interval_from_the_first_to_the_last_of_a_few_selected_events(tmp_path: Path) -> None:
    """That of many is near enough to what was observed, and stays as lstchain wrote it."""

    def told(selected_s: list[float], *parts: tuple[float, float]) -> bool:
        path = tmp_path / "dl3.fits"
        path.unlink(missing_ok=True)
        products.dl3(path, times=selected_s, gti=([selected_s[0]], [selected_s[-1]]))
        return is_told(path, [Interval(Span(*part), 0.9) for part in parts])

    assert told([0.2, 500, 1199.8], (0, 1200))
    assert not told([0.4, 500, 1199.4], (0, 1200))
    assert told([0.04, 1, 1.97], (0, 2))
    assert not told([0.1, 1, 1.89], (0, 2))
    assert not told([0.0, 1, 2], (0, 0.9), (1, 2))


def subrun_file(folder: Path, number: int, ids: range, run: int = 2001) -> Path:
    n = len(ids)
    return products.dl1(
        folder / f"dl1_LST-1.Run02001.{number:04d}.h5", n, run=run, event_id=np.array(ids),
        dragon_time=products.T0 + np.array(ids) * 0.5,
    )  # fmt: skip


def test_events_go_by_their_number(tmp_path: Path) -> None:
    whole = products.dl2(tmp_path / "dl2_LST-1.Run02001.h5", 200, delta_t=np.full(200, 0.5))
    item = read_dropped(subrun_file(tmp_path, 1, range(50, 120)), 2001)
    assert item.subrun == 1
    assert (item.span.start_s, item.span.stop_s) == (products.T0 + 25, products.T0 + 59.5)
    rest = tmp_path / "rest.h5"
    assert cut_dl2(whole, rest, [item]) == 70
    times, _ = showers(rest)
    assert (times - products.T0).tolist() == [n * 0.5 for n in (*range(50), *range(120, 200))]
    with tables.open_file(str(rest)) as file, tables.open_file(str(whole)) as before:
        assert file.get_node(dl2.PARAMETERS).description._v_dtype == before.get_node(dl2.PARAMETERS).dtype
        assert file.root._v_attrs["LSTCHAIN_VERSION"] == "0.12.3"


def test_nothing_left_another_run_and_no_subrun(tmp_path: Path) -> None:
    whole = products.dl2(tmp_path / "dl2_LST-1.Run02001.h5", 200)
    with pytest.raises(DataError, match="nothing is left"):
        cut_dl2(whole, tmp_path / "rest.h5", [read_dropped(subrun_file(tmp_path, 0, range(200)), 2001)])
    with pytest.raises(DataError, match=r"holds the runs \[2002\], not run 2001"):
        read_dropped(subrun_file(tmp_path, 1, range(10), run=2002), 2001)
    with pytest.raises(DataError, match="is no subrun"):
        read_dropped(products.dl1(tmp_path / "dl1_LST-1.Run02001.h5"), 2001)
