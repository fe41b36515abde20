"""People's decisions laid over verdicts."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstops.errors import ConfigError
from lstops.quality.intervals import cut_runs
from lstops.quality.judge import judge
from lstops.quality.overlay import (
    OverlayAction,
    OverlayRecord,
    asked_cuts,
    check_new,
    dropped,
    effective_selection,
    parse_subruns,
    subrun_words,
    with_overlay,
)
from lstops.quality.profiles import load_profile
from lstops.quality.quantities import run_table
from lstops.quality.request import SelectionRequest
from lstops.quality.tables import SubrunTable

from .datachecks import flatfield_of, subruns, summary

WHEN = datetime(2026, 1, 2, tzinfo=timezone.utc)
INCLUDE, EXCLUDE, DROP = OverlayAction.INCLUDE, OverlayAction.EXCLUDE, OverlayAction.DROP_SUBRUNS


def record(run: int, action: OverlayAction, *, identity: int = 1, revoked: bool = False, subruns=(), **text: str):
    values = {"author": "ana", "reason": "cars"} | text
    return OverlayRecord(
        identity, run, action, values["author"], values["reason"], WHEN, tuple(subruns), WHEN if revoked else None
    )


@pytest.fixture(scope="module")
def night():
    """Run 2001 is good, 2002 is too dim, 2003 is good; all point at the Crab."""
    table = SubrunTable.concatenate([subruns(run=2001), subruns(run=2002, r422=np.full(20, 1.2)), subruns(run=2003)])
    return run_table(table, summary(2001, 2002, 2003), flatfield_of(table)), table


def test_a_decision_beats_the_profile_and_leaves_its_verdict(night):
    judgement = judge(night[0], load_profile("standard"))
    plain = with_overlay(judgement.verdict(0), [])
    assert (plain.selected, plain.decision, plain.reasons) == (True, "", ())
    out = with_overlay(judgement.verdict(0), [record(2001, EXCLUDE)])
    assert (out.selected, out.verdict.selected) == (False, True)
    assert out.reasons == ("excluded, by ana on 2026-01-02: cars",)
    taken = with_overlay(judgement.verdict(1), [record(2002, INCLUDE), record(2001, EXCLUDE)])
    assert (taken.selected, taken.verdict.selected) == (True, False)
    assert taken.decision == "included, by ana on 2026-01-02: cars"
    assert "rate is too low" in taken.reasons[0]
    assert not with_overlay(judgement.verdict(1), [record(2002, INCLUDE, revoked=True)]).selected
    part = with_overlay(judgement.verdict(2), [record(2003, DROP, subruns=(3, 7, 8)), record(2003, DROP, subruns=(1,))])
    assert (part.selected, part.dropped_subruns) == (True, (1, 3, 7, 8))
    assert "without subruns 3,7-8, by ana" in part.decision


def test_an_included_run_still_has_to_be_what_was_asked_for(night):
    profile = load_profile("standard")
    overlay = {2002: (record(2002, INCLUDE),), 2003: (record(2003, EXCLUDE),)}

    def selected(request: SelectionRequest) -> list[bool]:
        judgement = judge(night[0], profile, request)
        return effective_selection(judgement, overlay, asked_cuts(judgement)).tolist()

    assert selected(SelectionRequest()) == [True, True, False]
    assert selected(SelectionRequest(dates=(20240116, 20240117))) == [False, False, False]
    assert selected(SelectionRequest(max_diffuse_nsb_std_pe=1.0)) == [False, False, False]
    assert selected(SelectionRequest(source_ra_deg=166.1, source_dec_deg=38.2)) == [False, False, False]
    assert effective_selection(judge(night[0], profile), {}).tolist() == [True, False, True]


def test_each_run_against_its_own_source(night):
    """As the nightly chain judges: a run without a source has no region to miss."""
    own = (np.array([83.63, 166.1, np.nan]), np.array([22.01, 38.2, np.nan]))
    judgement = judge(night[0], load_profile("standard"), own_sources=own)
    assert judgement.masks["skyregion_selection"].tolist() == [True, False, True]
    assert [sum(r.cut == "skyregion_selection" for r in judgement.verdict(row).results) for row in range(3)] == [
        2,
        2,
        0,
    ]


def test_dropped_subruns_are_not_good_time(night):
    table, rows = night
    mask = dropped(rows, {2001: (record(2001, DROP, subruns=(3, 4)), record(2001, DROP, subruns=(9,), revoked=True))})
    assert rows.subrun[mask].tolist() == [3, 4]
    cut = cut_runs(table, rows, load_profile("standard"), dropped=mask)
    assert [(part.first_subrun, part.last_subrun) for part in cut.good_time[0].intervals] == [(0, 2), (5, 19)]
    assert cut.good_time[0].good_s == pytest.approx(180)


@pytest.mark.parametrize(
    ("new", "message", "remedy"),
    [
        (record(7, EXCLUDE), "Run 7 is already included, by ana", "lstops overlay revoke 1"),
        (record(7, INCLUDE), "Run 7 is already included, by ana", "Nothing needs"),
        (record(7, INCLUDE, reason="  "), "needs an author and a reason", "--reason"),
        (record(7, INCLUDE, author=""), "needs an author and a reason", "--author"),
        (record(7, INCLUDE, subruns=(1,)), "takes no subruns", "Leave them out"),
        (record(7, DROP, subruns=(5, 20, 21)), "Run 7 has no subruns 20-21", "It has 0-5"),
        (record(7, DROP, subruns=(2,)), "subruns 2 of run 7 are dropped already", "3,7-12"),
        (record(7, DROP), "are dropped already", "3,7-12"),
        (record(7, DROP, subruns=(0, 1, 3, 4, 5)), "Nothing would be left of run 7", "Exclude"),
    ],
)
def test_decisions_that_contradict_or_say_nothing_are_refused(new, message, remedy):
    active = [record(7, INCLUDE), record(7, DROP, identity=2, subruns=(2,)), record(8, EXCLUDE, identity=3)]
    with pytest.raises(ConfigError, match=message) as caught:
        check_new(new, active, range(6))
    assert remedy in caught.value.remedy


def test_decisions_that_go_together():
    check_new(record(7, DROP, subruns=(2, 3)), [record(7, INCLUDE)], range(6))
    check_new(record(7, DROP, subruns=(3,)), [record(7, DROP, subruns=(2,))], range(6))
    check_new(record(7, EXCLUDE), [record(8, INCLUDE)], ())


@given(st.sets(st.integers(0, 99_999), min_size=1, max_size=30))
def test_subruns_as_text_and_back(numbers):
    assert parse_subruns(subrun_words(numbers)) == tuple(sorted(numbers))


def test_subruns_as_people_write_them():
    assert parse_subruns("3, 7-12,8") == (3, 7, 8, 9, 10, 11, 12)
    for text in ("", "a", "3,,4", "-3", "3-", "12-7", "0-100000", "1" * 20):
        with pytest.raises(ConfigError):
            parse_subruns(text)
