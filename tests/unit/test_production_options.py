"""Options that steps give on, to sbatch and to lstchain's scripts: what is read, what is refused and how."""

from __future__ import annotations

import pytest

from lstops.errors import ConfigError
from lstops.production.mc_files import relative_to_base
from lstops.production.slurm_options import resources
from lstops.production.stages import SlurmOptions
from lstops.production.step_options import irf_options, merge_options
from lstops.step.model import Resources


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cpus-per-task", -4),
        ("cpus-per-task", "many"),
        ("cpus-per-task", 10**30),
        ("mem", "1.5GB"),
        ("mem", 0),
        ("mem", "9" * 30),
        ("time", "UNLIMITED"),
        ("time", 0),
        ("partition", "long\n#SBATCH --account=x"),
    ],
)
def test_what_cannot_be_asked_for_names_step_and_key(key: str, value: object) -> None:
    options = SlurmOptions.model_validate({key: value})
    with pytest.raises(ConfigError, match=rf"stages\.train_pipe\[0\]\.extra_slurm_options\.{key}: ") as caught:
        resources(options, Resources(), "stages.train_pipe[0]")
    assert caught.value.remedy


def test_other_options_of_sbatch_are_kept_as_they_are() -> None:
    given = {"mem": "6GB", "ntasks-per-node": 4, "dependency": "afterok:1"}
    options = SlurmOptions.model_validate(given)
    assert options.model_dump(by_alias=True, exclude_unset=True) == given
    assert resources(options, Resources(), "x") == Resources(mem_mb=6144)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--point-like",
        "--gh-efficiency 0.7 --theta-containment=0.7 --energy-dependent-gh --energy-dependent-theta  --point-like",
        "--DL3Cuts.gh_efficiency=0.7 --allowed-tels 1",
    ],
)
def test_options_that_the_script_has(options: str) -> None:
    assert irf_options(options) == tuple(options.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--pointlike", "no option --pointlike, the nearest is --point-like"),
        ("--point-like --gh-eficiency 0.7", "no option --gh-eficiency, the nearest is --gh-efficiency"),
        ("--point-like -o /tmp/x.fits", "-o is given by the step's"),
        ("--IRFFITSWriter.output_irf_file=x", "no option --IRFFITSWriter.output_irf_file"),
        ("--gh-efficiency", "needs a number"),
        ("--gh-efficiency high", "needs a number, not 'high'"),
        ("point-like", "belongs to no option"),
        ('--point-like "x', "No closing quotation"),
    ],
)
def test_options_that_the_script_does_not_have(options: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        irf_options(options)
    assert caught.value.remedy


@pytest.mark.parametrize("options", ["--pattern '*/*.h5", "--pattern /*/*.h5", "--pattern ../*.h5", "--fast"])
def test_merges_that_cannot_be_planned(options: str) -> None:
    with pytest.raises(ConfigError):
        merge_options(options)


def test_a_root_above_the_base_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not below"):
        relative_to_base("/fefs/aswg/data/mc/x", (("/fefs/aswg/data/", "../.."),))
