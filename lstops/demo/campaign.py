"""Runs the campaign: nights through `mc_production`, `nightly` and `reduction`, and the comparison with the truth."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from lstops.demo import driver
from lstops.demo.progress import Progress
from lstops.demo.setting import Setting
from lstops.embedded.rest import AirflowClient
from lstops.embedded.services import Services
from lstops.errors import JobFailure
from lstops.night import Night
from lstops.paths import config_dir
from lstops.plain_yaml import load_plain
from lstops.site.layout import Layout
from lstops.site.model import load_site
from lstops.step.manifest import write_atomically

SIZE = "campaign"
#: Targets of the list as the campaign's run catalogue names them
TARGETS = {"Crab": "Crab Nebula", "1ES 0647+250": "1ES 0647+250"}
#: What the requests ask of runs of seconds, where the observatory's profile is made for minutes: a cut run is kept if
#: this much of it (s) is good, and the index of the intensity spectrum may scatter more, in a subrun and in a run
MIN_GOOD_TIME_S, SUBRUN_INDEX, RUN_INDEX = 3, (-2.9, -1.55), (-2.6, -1.85)


@dataclass(frozen=True)
class Job:
    """One run of a DAG.

    Attributes
    ----------
    label : str
        Part of the run's id, the same when the campaign goes on: what has succeeded is not started again. It has a
        digest of what the run is about, so that a campaign that was changed is.
    """

    dag_id: str
    label: str
    conf: Mapping[str, Any]


def night_jobs(nights: list[dict[str, Any]]) -> Iterator[tuple[Night, tuple[Job, ...]]]:
    """What is run for each night: a production where the sky has a level that none was made for, and the night."""
    made: set[float] = set()
    for about in nights:
        night = Night.parse(about["night"])
        levels = {float(run["nsb_ghz"]) for run in about["runs"]}
        conf, label = {"night": str(night)}, _label(str(night), about)
        jobs = [Job("nightly", label, conf)]
        if not levels <= made:
            jobs.insert(0, Job("mc_production", label, conf))
        made |= levels
        yield night, tuple(jobs)


def brightest_night(nights: list[dict[str, Any]]) -> str:
    """The night with the brightest sky."""
    return str(max(nights, key=lambda night: max(run["nsb_ghz"] for run in night["runs"]))["night"])


def request_jobs(nights: list[dict[str, Any]], profile: Path, untuned: str) -> dict[str, Job]:
    """Analysis requests: each source over all nights, and the brightest night with tuned and with untuned models.

    Parameters
    ----------
    profile : Path
        Of the selection.
    """
    first, last = min(n["night"] for n in nights), max(n["night"] for n in nights)
    bright = brightest_night(nights)
    source = next(n["source"]["name"] for n in nights if n["night"] == bright)
    asked = {
        name: _request(name, first, last, profile)
        for name in dict.fromkeys(night["source"]["name"] for night in nights)
    }
    asked["tuned"] = _request(source, bright, bright, profile)
    asked["untuned"] = {**asked["tuned"], "production": untuned}
    about = [nights, profile.read_text()]
    return {name: Job("reduction", _label(name.replace(" ", "_"), [about, conf]), conf) for name, conf in asked.items()}


def _label(name: str, about: Any) -> str:
    return f"{name}_{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:8]}"


def _request(source: str, since: str, until: str, profile: Path) -> dict[str, str]:
    return {"target": TARGETS[source], "since": since, "until": until, "profile": str(profile)}


def run(setting: Setting, seed: int, nights: int) -> None:
    """Run the campaign, or go on with it, and compare its bundles with the truth.

    Raises
    ------
    LstOpsError
        If a part fails; what runs stays up until `make demo-stop`, and what is done is not done again.
    """
    progress = Progress()
    setting.home.mkdir(parents=True, exist_ok=True)
    os.environ.update(setting.environ())
    driver.write_environment(setting)
    services = Services(setting.home)
    site_made = driver.in_background(lambda: driver.make_site(setting, seed, progress, SIZE, ("--nights", str(nights))))
    driver.start_services(services, progress)
    profile = _write_profile(setting.home)
    truth = _truth(setting, site_made)
    told = truth.get("nights", [truth])
    with services.client() as client:
        for night, jobs in night_jobs(told):
            _wait_closed(setting, night, site_made, progress)
            for job in jobs:
                _run(client, job, setting, progress)
        site_made.wait()
        productions = _productions(setting)
        requests = request_jobs(told, profile, productions["untuned"].partition("@")[0])
        for job in requests.values():
            _run(client, job, setting, progress)
    write_atomically(setting.home / "timings.json", json.dumps(progress.timings, indent=1))
    folders = {name: _bundle(setting, job) for name, job in requests.items()}
    progress.timed("closure", lambda: _compare(setting, folders, brightest_night(told), productions))
    progress.say(f"figures and plots: {setting.home / 'closure'}")


def _run(client: AirflowClient, job: Job, setting: Setting, progress: Progress) -> None:
    work = partial(driver.run_dag, client, job.dag_id, job.label, dict(job.conf), setting, progress, once=True)
    progress.timed(f"{job.dag_id} {job.label}", work)


def _write_profile(home: Path) -> Path:
    """The observatory's profile for runs of seconds."""
    content = load_plain((config_dir() / "profiles" / "standard.yaml").read_text())
    content["name"] = SIZE
    content["subruns"] |= {"min_good_time_s": MIN_GOOD_TIME_S, "index": list(SUBRUN_INDEX)}
    cut = next(item for item in content["cuts"] if item["name"] == "drdi_index_selection")
    for limit in cut["limits"]:
        side = "above" if "above" in limit else "below"
        limit[side] = RUN_INDEX[side == "below"]
    path = home / f"{SIZE}.yaml"
    write_atomically(path, yaml.safe_dump(content, sort_keys=False))
    return path


def _truth(setting: Setting, site_made: driver.Background) -> dict[str, Any]:
    path = setting.base / "truth.json"
    _wait(path, site_made)
    return dict(json.loads(path.read_text()))


def _wait_closed(setting: Setting, night: Night, site_made: driver.Background, progress: Progress) -> None:
    site = load_site(setting.site_file)
    flag = site.base / Layout(site.base, site.work).night_finished(night, site.nightly.pipeline_version)
    if not flag.exists():
        progress.say(f"waiting for the night {night.iso}")
    _wait(flag, site_made)


def _wait(path: Path, site_made: driver.Background) -> None:
    while not path.exists():
        if site_made.ended:
            site_made.wait()
            if not path.exists():
                raise JobFailure(f"the synthetic site was made, but {path} is missing.", "run the campaign again.")
        time.sleep(2)


def _productions(setting: Setting) -> dict[str, str]:
    """The productions with the brightest and the darkest sky, as NAME@LEVEL."""
    from lstops.catalog.database import catalog_session
    from lstops.catalog.productions import current_productions

    line = load_site(setting.site_file).nightly.declination_line
    with catalog_session() as session:
        found = sorted((row.nsb_level_ghz, row.name) for row in current_productions(session, line))
    if not found:
        raise JobFailure("no production is registered.", "look at the runs of mc_production, then run it again.")
    return {what: f"{name}@{level}" for what, (level, name) in (("tuned", found[-1]), ("untuned", found[0]))}


def _bundle(setting: Setting, job: Job) -> Path:
    from lstops.publish.model import CURRENT
    from lstops.reduction.request import parse_request

    request = parse_request(job.conf)
    return setting.base / Layout.request_published(request.name) / CURRENT


def _compare(setting: Setting, folders: Mapping[str, Path], bright: str, productions: Mapping[str, str]) -> None:
    out = setting.home / "closure"
    out.mkdir(exist_ok=True)
    command = [str(setting.science_python), "-m", "lstops.science.closure"]
    command += ["--base", str(setting.base), "--night", bright, "--out", str(out)]
    for name, production in productions.items():
        command += ["--models", f"{name}={production}"]
    for name, folder in folders.items():
        command += ["--bundle", f"{name}={folder}"]
    done = subprocess.run(
        command, env={**os.environ, **driver.offline_environ(setting)}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise JobFailure(
            f"the comparison with the truth failed:\n{done.stderr[-2000:]}", "run the campaign again; it goes on here."
        )
