"""Names of targets."""

from __future__ import annotations

import pytest
import yaml

from lstops.errors import ConfigError
from lstops.quality.targets import load_targets


@pytest.mark.parametrize("text", ["Crab", "crab nebula", "CRAB_NEBULA", "Crab-Nebula", " M1 ", "PSR B0531+21"])
def test_names_are_forgiving(text):
    position = load_targets().find(text)
    assert (position.name, position.ra_deg, position.dec_deg) == ("Crab Nebula", 83.6333, 22.0145)


@pytest.mark.parametrize("text", ["83.63 22.01", "83.63, 22.01", "83.63,+22.01"])
def test_coordinates(text):
    position = load_targets().find(text)
    assert (position.ra_deg, position.dec_deg) == (83.63, 22.01)
    assert load_targets().find("266.4 -29.0").dec_deg == -29


@pytest.mark.parametrize(
    "text",
    [
        "05:34:31.9 +22:00:52",
        "05h34m31.9s+22d00m52s",
        "5 34 31.9 22 0 52",
        "05:34:31.9, 22:00:52",
        "05h34m31.9s 22°00′52″",
    ],
)
def test_coordinates_in_hours_and_degrees(text):
    position = load_targets().find(text)
    assert position.ra_deg == pytest.approx(83.63292, abs=1e-5)
    assert position.dec_deg == pytest.approx(22.01444, abs=1e-5)
    assert load_targets().find("17 45 40 -00 30 00").dec_deg == -0.5


def test_an_unknown_name_is_answered_with_near_ones():
    with pytest.raises(ConfigError, match="'Grab' is unknown") as caught:
        load_targets().find("Grab")
    assert "Did you mean: Crab Nebula" in caught.value.remedy
    with pytest.raises(ConfigError) as caught:
        load_targets().find("Mrk 412")
    assert "Mrk 421" in caught.value.remedy


def test_a_sign_in_a_designation_counts():
    assert load_targets().find("1es1959+650").name == "1ES 1959+650"
    with pytest.raises(ConfigError, match="is unknown"):
        load_targets().find("1ES 1959-650")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Grab", "unknown"),
        ("", "unknown"),
        ("1 2 3", "unknown"),
        ("nan 1", "no right"),
        ("361 0", "no right ascension 361"),
        ("10 -91", "declination -91"),
        ("25:00:00 +22:00:00", "no right ascension 375"),
        ("05:61:00 +22:00:00", "minutes and seconds"),
    ],
)
def test_what_is_no_target(text, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_targets().find(text)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (
            [{"name": "A", "ra_deg": 1, "dec_deg": 2}, {"name": "B", "aliases": ["a"], "ra_deg": 3, "dec_deg": 4}],
            "names both",
        ),
        ([{"name": "A", "ra_deg": 400, "dec_deg": 2}], "targets.0.ra_deg"),
        ([{"name": "A", "ra": 1, "dec_deg": 2}], "targets.0.ra: Extra inputs"),
        ("x", "targets"),
    ],
)
def test_a_mistake_in_a_list_is_named(tmp_path, targets, words):
    path = tmp_path / "targets.yaml"
    path.write_text(yaml.safe_dump({"targets": targets}))
    with pytest.raises(ConfigError, match=words) as caught:
        load_targets(path)
    assert str(path) in caught.value.what


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read the target list"):
        load_targets(tmp_path / "absent.yaml")
