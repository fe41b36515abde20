"""Plans as data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lstops.errors import ConfigError
from lstops.step.model import ArtifactKind, Output, Plan, relative_path, step_key, substitute

from .conftest import copy_step, make_plan


def test_plan_round_trip_keeps_identity() -> None:
    plan = make_plan((copy_step("a", "b"),), (copy_step("b", "c"),))
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.plan_id == plan.plan_id


def test_plan_identity_follows_content() -> None:
    assert make_plan((copy_step("a", "b"),)).plan_id != make_plan((copy_step("a", "c"),)).plan_id


def test_indices_of_stages() -> None:
    plan = make_plan((copy_step("a", "b"), copy_step("a", "c")), (), (copy_step("b", "d"),))
    assert list(plan.indices("s0")) == [0, 1]
    assert list(plan.indices("s1")) == []
    assert list(plan.indices("s2")) == [2]
    with pytest.raises(ConfigError, match=r"no stage 's9'.*use one of"):
        plan.indices("s9")


def test_two_steps_for_one_product_are_refused() -> None:
    with pytest.raises(ValidationError, match="is made by both"):
        make_plan((copy_step("a", "b"), copy_step("c", "b")))


@pytest.mark.parametrize("bad", ["/etc/passwd", "../up", "a/../../b", "", "a\nb"])
def test_paths_stay_below_the_base(bad: str) -> None:
    with pytest.raises(ValidationError, match="must be relative"):
        Output(name="o", kind=ArtifactKind.FILE, path=bad)


@given(st.text(min_size=1, max_size=40))
def test_relative_path_never_escapes(text: str) -> None:
    try:
        result = relative_path(text)
    except ValueError:
        return
    assert not result.startswith("/")
    assert ".." not in result.split("/")


@pytest.mark.parametrize("word", ["{in:x}", "{out:x}", "{indir:x}", "{file:x}"])
def test_unknown_placeholders_are_refused(word: str) -> None:
    with pytest.raises(ValidationError, match="names an unknown"):
        copy_step("a", "b", command=("cp", word))


def test_substitution_leaves_other_braces_alone() -> None:
    assert substitute("{x} {in:a} {1..3}", {("in", "a"): "/p q"}) == "{x} /p q {1..3}"


def test_key_depends_on_content_not_on_place() -> None:
    here, there = copy_step("x/a", "y/b"), copy_step("z/a", "w/b")
    assert step_key(here, {"a": "1"}, "core") == step_key(there, {"a": "1"}, "core")
    assert step_key(here, {"a": "1"}, "core") != step_key(here, {"a": "2"}, "core")
    assert step_key(here, {"a": "1"}, "core") != step_key(here, {"a": "1"}, "lstchain 0.12.3")
    changed = copy_step("x/a", "y/b", files={"c.json": "{}"})
    assert step_key(here, {"a": "1"}, "core") != step_key(changed, {"a": "1"}, "core")


def test_a_text_that_is_no_plan() -> None:
    with pytest.raises(ConfigError, match="is not a plan"):
        Plan.from_json('{"kind": 1}', "p.json")
