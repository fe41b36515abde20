"""Profiles and requests as files: what is read, and what is refused and how."""

from __future__ import annotations

import json
import os

import pytest
import yaml

from lstops.errors import ConfigError
from lstops.night import Night
from lstops.paths import CONFIG_VARIABLE, config_dir
from lstops.quality.profiles import Relation, changed, load_profile
from lstops.quality.request import SelectionRequest, load_request

PROFILES = ("notebook", "standard", "crab-paper-2023")


def write_profile(folder, **changes):
    content = {
        "name": "mine",
        "title": "Mine",
        "source": "me",
        "cuts": [
            {
                "name": "rate",
                "limits": [{"quantity": "mean_r422", "above": 1.4, "unit": "1/(s p.e.)", "failure": "Too few"}],
            }
        ],
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content | changes))
    return path


def with_limit(**changes):
    limit = {"quantity": "mean_r422", "above": 1.4, "unit": "1/(s p.e.)", "failure": "Too few"} | changes
    return {"cuts": [{"name": "rate", "limits": [{k: v for k, v in limit.items() if v != "absent"}]}]}


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_that_come_with_lstops(name):
    profile = load_profile(name)
    assert profile.name == name
    assert profile.source


def test_standard_differs_from_notebook_in_quantities_only():
    notebook, standard = load_profile("notebook"), load_profile("standard")
    assert [cut.name for cut in notebook.cuts] == [cut.name for cut in standard.cuts]
    for one, other in zip(notebook.cuts, standard.cuts, strict=True):
        for limit, mended in zip(one.limits, other.limits, strict=True):
            assert (limit.relation, limit.value, limit.variable) == (mended.relation, mended.value, mended.variable)
    mends = {mend.name for mend in standard.mends}
    assert {"window_edge", "one_subrun", "nan_nsb", "outliers", "duplicates", "period"} <= mends
    assert notebook.exact
    assert not notebook.mends


def test_a_user_adds_a_profile_without_code(tmp_path):
    folder = tmp_path / "profiles"
    folder.mkdir()
    path = write_profile(folder, **with_limit(since=20200101, until="2022-12-31"))
    by_path, by_name = load_profile(path), load_profile("mine", tmp_path)
    assert by_path == by_name
    limit = by_path.cuts[0].limits[0]
    assert (limit.relation, limit.value) == (Relation.ABOVE, 1.4)
    assert (limit.since, limit.until) == (Night.parse("20200101"), Night.parse("20221231"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"titel": "x"}, "titel: Extra inputs are not permitted"),
        ({"cuts": []}, "cuts: "),
        ({"name": "other"}, "calls itself 'other'"),
        (with_limit(quantity="mean_R422"), "unknown quantity 'mean_R422'"),
        (with_limit(unit="p.e."), "the limit in 'p.e.'"),
        (with_limit(unit="absent"), "the limit in 'no unit'"),
        (with_limit(below=2.0), "exactly one of above, below, not_above"),
        (with_limit(above="absent"), "exactly one of above, below, not_above"),
        (with_limit(above="much"), "cuts.0.limits.0.above"),
        (with_limit(failure="absent"), "cuts.0.limits.0.failure: Field required"),
        (with_limit(since=20221301), "is not a night"),
        (with_limit(since=20230101, until=20220101), "holds since 20230101 until 20220101"),
        ({"cuts": [{"name": "dates", "kind": "dates"}] * 2}, "cuts named twice: \\['dates'\\]"),
        ({"cuts": [{"name": "rate"}]}, "needs limits"),
        ({"cuts": [{"kind": "dates", **with_limit()["cuts"][0]}]}, "takes no limits"),
        ({"subruns": {"min_r422": 1.5, "max_deviation_r422": 0.2}}, "subruns.index: Field required"),
    ],
)
def test_a_mistake_in_a_profile_is_named(tmp_path, changes, words):
    path = write_profile(tmp_path, **changes)
    with pytest.raises(ConfigError, match=words) as caught:
        load_profile(path)
    assert str(path) in caught.value.what
    assert caught.value.remedy


def test_a_profile_that_is_not_there_or_no_yaml(tmp_path):
    with pytest.raises(ConfigError, match="no profile 'standart'") as caught:
        load_profile("standart")
    assert "standard" in caught.value.remedy
    with pytest.raises(ConfigError, match="Cannot read"):
        load_profile(tmp_path / "absent.yaml")
    (tmp_path / "mine.yaml").write_text("cuts: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_profile(tmp_path / "mine.yaml")
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(ConfigError, match="Wrong profile"):
        load_profile(tmp_path / "mine.yaml")


def test_a_request_changes_limits_by_the_notebooks_names():
    request = SelectionRequest.model_validate(
        {
            "max_diffuse_nsb_std_pe": 2.3,
            "set": {
                "min_drdi_at_422pe": "1.2",
                "max_pointing_dec_std": "0.02 * u.deg",
                "max_LS_periodogram_maxamplitude": "np.nan",
                "require_interleaved_pedestals": "False",
                "require_interleaved_flatfield": True,
            },
        }
    )
    profile = changed(load_profile("notebook"), request.changes())
    values = {limit.variable: limit.value for cut in profile.cuts for limit in cut.limits}
    assert values["max_diffuse_nsb_std"] == 2.3
    assert values["min_drdi_at_422pe"] == 1.2
    assert values["max_pointing_dec_std"] == 0.02
    assert values["max_LS_periodogram_maxamplitude"] is None
    assert values["require_interleaved_pedestals"] is None
    assert values["require_interleaved_flatfield"] == 0
    assert values["min_fraction_around_mode"] == 0.8
    with pytest.raises(ConfigError, match="no limit called min_drdi") as caught:
        changed(load_profile("notebook"), {"min_drdi": 1.0})
    assert "min_drdi_at_422pe" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"zenith": [0, 50]}, "zenith: Extra inputs"),
        ({"source_ra_deg": 83.6}, "given together or not at all"),
        ({"source_ra_deg": 83.6, "source_dec_deg": 91}, "source_dec_deg"),
        ({"source_ra_deg": "NaN", "source_dec_deg": 22}, "source_ra_deg"),
        ({"dates": [20200101, 20191201]}, "dates is the wrong way round"),
        ({"zenith_deg": [50, 0]}, "zenith_deg is the wrong way round"),
        ({"angle_to_source_deg": [0.45, 0.35]}, "angle_to_source_deg is the wrong way round"),
        ({"zenith_deg": [-1, 50]}, "beyond 0 to 180"),
        ({"set": {"min_drdi_at_422pe": "__import__('os')"}}, "neither a number nor True or False"),
        ([], "request"),
    ],
)
def test_a_mistake_in_a_request_is_named(tmp_path, content, words):
    path = tmp_path / "request.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=words) as caught:
        load_request(path)
    assert str(path) in caught.value.what


def test_a_request_that_is_not_there_or_no_json(tmp_path):
    with pytest.raises(ConfigError, match="Cannot read"):
        load_request(tmp_path / "absent.json")
    (tmp_path / "request.json").write_text("{")
    with pytest.raises(ConfigError, match="is not JSON"):
        load_request(tmp_path / "request.json")


def test_where_the_configuration_is_looked_for(tmp_path, monkeypatch, repository):
    monkeypatch.delenv(CONFIG_VARIABLE, raising=False)
    assert config_dir() == repository / "config"
    monkeypatch.setenv(CONFIG_VARIABLE, os.fspath(tmp_path))
    assert config_dir() == tmp_path
    other = tmp_path / "other"
    other.mkdir()
    assert config_dir(other) == other
    monkeypatch.setenv(CONFIG_VARIABLE, os.fspath(tmp_path / "absent"))
    with pytest.raises(ConfigError, match="LSTOPS_CONFIG"):
        config_dir()
