"""Every path and file name of the on-site tree, both ways.

All methods return paths *relative to the site's base* (POSIX text); `Layout.absolute` makes them absolute and refuses
whatever would leave the base. The names are those that lstosa, lstmcpipe and lstchain use on La Palma.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from lstops.errors import ConfigError, DataError
from lstops.night import Night
from lstops.step.model import relative_path

_RUN_FILE = re.compile(
    r"^(?P<kind>dl1|dl2|dl3|datacheck_dl1|muons)_LST-1(?:\.\d)?\.Run(?P<run>\d{5})(?:\.(?P<subrun>\d{4}))?"
    r"\.(?P<extension>h5|fits|fits\.gz)$"
)
_NSB_DIR = re.compile(r"^nsb_tuning_(?P<ghz>\d+\.\d\d)$")


@dataclass(frozen=True)
class RunFile:
    """What the name of a run-wise or subrun-wise file says."""

    kind: str
    run: int
    subrun: int | None


def parse_run_file(name: str) -> RunFile:
    """Read a name like dl1_LST-1.Run02001.0003.h5.

    Raises
    ------
    DataError
        If it is not such a name.
    """
    match = _RUN_FILE.match(name)
    if not match:
        raise DataError(f"{name!r} is not the name of a run's file.", "expected KIND_LST-1.RunNNNNN[.SSSS].h5.")
    subrun = match.group("subrun")
    return RunFile(match.group("kind"), int(match.group("run")), None if subrun is None else int(subrun))


def nsb_dir(level_ghz: float) -> str:
    """Name of the DL2 directory of an NSB level."""
    if not 0 <= level_ghz < 100:
        raise ConfigError(f"NSB level {level_ghz} GHz is not between 0 and 100.", "correct the level.")
    return f"nsb_tuning_{level_ghz:.2f}"


def parse_nsb_dir(name: str) -> float:
    """Level (GHz) of a DL2 directory's name.

    Raises
    ------
    DataError
        If it is not such a name.
    """
    match = _NSB_DIR.match(name)
    if not match:
        raise DataError(f"{name!r} is not an NSB directory.", "expected nsb_tuning_Y.YY.")
    return float(match.group("ghz"))


@dataclass(frozen=True)
class Layout:
    """Names below the base of one site.

    Attributes
    ----------
    base : Path
        Absolute.
    work : str
        lstops' own area, relative to the base: plans, logs, staging, manifests.
    """

    base: Path
    work: str = "lstops"

    def absolute(self, relative: str) -> Path:
        """Absolute path of a relative one.

        Raises
        ------
        ConfigError
            If it would leave the base, through `..` or through a symbolic link.
        """
        try:
            checked = self.base / relative_path(relative)
        except ValueError as error:
            raise ConfigError(f"{error}.", "use a path below the site's base.") from error
        # as `Path.resolve`, at a third of its price: plans of the whole sky ask for thousands of paths
        real, base = os.path.realpath(checked), os.path.realpath(self.base)
        if real != base and not real.startswith(f"{base.rstrip('/')}/"):
            raise ConfigError(f"{checked} leads outside {self.base}.", "remove the symbolic link or the '..'.")
        return checked

    def relative(self, path: Path) -> str:
        """Relative path of an absolute one.

        Raises
        ------
        ConfigError
            If it is not below the base.
        """
        try:
            return path.relative_to(self.base).as_posix()
        except ValueError:
            raise ConfigError(f"{path} is not below the site's base {self.base}.", "move it or fix base.") from None

    # -- monitoring and lstosa ------------------------------------------------------------------------------------
    def run_summary(self, night: Night) -> str:
        """Table of the night's runs."""
        return f"monitoring/RunSummary/RunSummary_{night}.ecsv"

    def run_catalog(self, night: Night) -> str:
        """Table of the night's sources."""
        return f"monitoring/RunCatalog/RunCatalog_{night}.ecsv"

    def night_finished(self, night: Night, version: str) -> str:
        """The flag lstosa sets when the night is closed; never written by lstops."""
        return f"OSA/Closer/{night}/{version}/NightFinished.txt"

    def datacheck(self, night: Night, version: str) -> str:
        """Night-wise datacheck."""
        return f"DL1/datacheck_files/night_wise/{version}/{night}/DL1_datacheck_{night}.h5"

    def tailcuts(self, run: int) -> tuple[str, str]:
        """Configuration and log of the tailcut finder as lstosa leaves them (flat, unversioned)."""
        return self._tailcuts("auxiliary/TailCuts", run)

    def own_tailcuts(self, night: Night, run: int) -> tuple[str, str]:
        """The same, made by lstops where lstosa has not."""
        return self._tailcuts(f"{self.work}/tailcuts/{night}", run)

    @staticmethod
    def _tailcuts(folder: str, run: int) -> tuple[str, str]:
        return f"{folder}/dl1ab_Run{run:05d}.json", f"{folder}/log_find_tailcuts_Run{run:05d}.log"

    # -- data -----------------------------------------------------------------------------------------------------
    def dl1_dir(self, night: Night, version: str, tailcut: str) -> str:
        """Folder of a night's DL1."""
        return f"DL1/{night}/{version}/{tailcut}"

    def dl1_run(self, night: Night, version: str, tailcut: str, run: int) -> str:
        """Run-wise DL1, without images."""
        return f"{self.dl1_dir(night, version, tailcut)}/dl1_LST-1.Run{run:05d}.h5"

    def dl1_subrun(self, night: Night, version: str, tailcut: str, run: int, subrun: int) -> str:
        """Subrun-wise DL1, with images."""
        return f"{self.dl1_dir(night, version, tailcut)}/dl1_LST-1.Run{run:05d}.{subrun:04d}.h5"

    def dl2_run(self, night: Night, version: str, tailcut: str, level_ghz: float, run: int) -> str:
        """Run-wise DL2."""
        return f"DL2/{night}/{version}/{tailcut}/{nsb_dir(level_ghz)}/dl2_LST-1.Run{run:05d}.h5"

    def dl3_candidates(self, night: Night, version: str, production: str, cuts: str, source: str) -> str:
        """Where a night's DL3 of one source is made, in lstops' own area: nobody reads it but the publication."""
        return f"{self.work}/dl3/{night}/{version}/{slug(production)}/{slug(cuts)}/{slug(source)}"

    def reprocessed_candidates(
        self, name: str, night: Night, version: str, production: str, cuts: str, source: str
    ) -> str:
        """The same for a reprocessing: what the night itself was made of stays as it is."""
        return f"{self.reprocessing(name)}/dl3/{night}/{version}/{slug(production)}/{slug(cuts)}/{slug(source)}"

    def reprocessing(self, name: str) -> str:
        """A reprocessing's own area: its DL3 before publication, and what became of each night."""
        return f"{self.work}/reprocessing/{slug(name)}"

    def reprocessed_night(self, name: str, night: Night) -> str:
        """What a reprocessing made of a night."""
        return f"{self.reprocessing(name)}/nights/{night}.json"

    def comparison_report(self, name: str) -> str:
        """Page that compares what a reprocessing made with what was there; the same as JSON beside it."""
        return f"{self.work}/reports/reprocessing/{slug(name)}/comparison.html"

    def dl3_published(self, night: Night, version: str, production: str, cuts: str, source: str) -> str:
        """Folder that holds the published versions (v0001, v0002, ...) and the pointer `current`."""
        return f"DL3/{night}/{version}/{slug(production)}/{slug(cuts)}/{slug(source)}"

    def request_candidates(self, request: str) -> str:
        """Where the DL3 of an analysis request is made, in lstops' own area."""
        return f"{self.work}/dl3/requests/{slug(request)}"

    @staticmethod
    def request_published(request: str) -> str:
        """Folder that holds the published versions of an analysis request's bundle."""
        return f"DL3/requests/{slug(request)}"

    @staticmethod
    def dl3_name(run: int) -> str:
        """Name of a run's DL3 as lstchain writes it."""
        return f"dl3_LST-1.Run{run:05d}.fits"

    # -- models and Monte Carlo -----------------------------------------------------------------------------------
    def models(self, production: str, line: str) -> str:
        """Folder of the random forests of one declination line."""
        return f"models/AllSky/{production}/{line}"

    def mc_config(self, production: str) -> str:
        """The lstchain configuration of a production: the first that its plan makes, and all other steps read it."""
        return f"mc/DL1/AllSky/{production}/lstchain_config_{production}.json"

    def mc_dl1_train(self, production: str, line: str, particle: str, node: str) -> str:
        """Folder of a training node's DL1."""
        return f"mc/DL1/AllSky/{production}/TrainingDataset/{line}/{particle}/{node}"

    def mc_dl1_train_merged(self, production: str, line: str, particle: str) -> str:
        """Merged training DL1 of a declination line."""
        return (
            f"mc/DL1/AllSky/{production}/TrainingDataset/{line}/{particle}/dl1_{particle}_{line}_{production}_merged.h5"
        )

    def mc_dl1_test(self, production: str, particle: str, node: str) -> str:
        """Folder of a test node's DL1."""
        return f"mc/DL1/AllSky/{production}/TestingDataset/{particle}/{node}"

    def mc_dl2_test(self, production: str, particle: str, line: str, node: str) -> str:
        """Folder of a test node's DL2."""
        return f"mc/DL2/AllSky/{production}/TestingDataset/{particle}/{line}/{node}"

    def irf_dir(self, production: str, particle: str, line: str, cuts: str) -> str:
        """Folder of the IRFs of one cut set: interpolation needs all nodes in one folder."""
        return f"mc/IRF/AllSky/{production}/TestingDataset/{particle}/{line}/{cuts}"

    def night_report(self, night: Night) -> str:
        """The report of a night."""
        return f"{self.work}/reports/{night}/night_{night}.html"

    # -- lstops' own area -----------------------------------------------------------------------------------------
    @property
    def manifests(self) -> Path:
        """Root of the manifests."""
        return self.base / self.work / "manifests"

    @property
    def staging(self) -> Path:
        """Where steps write before their outputs are verified; same file system as the products."""
        return self.base / self.work / "staging"

    @property
    def locks(self) -> Path:
        """Lock files: one writer a product."""
        return self.base / self.work / "locks"

    @property
    def production_events(self) -> Path:
        """What became of productions and who wanted it, one file an event."""
        return self.base / self.work / "productions" / "events"

    @property
    def aside(self) -> str:
        """Where lies what was in the place of a product and not made by lstops, under its own path."""
        return f"{self.work}/aside"

    def plan_dir(self, plan_id: str) -> Path:
        """Folder of a plan, its logs, job scripts and step reports."""
        return self.base / self.work / "plans" / plan_id

    def plan_file(self, plan_id: str) -> Path:
        """The plan itself."""
        return self.plan_dir(plan_id) / "plan.json"

    def step_log(self, plan_id: str, index: int) -> Path:
        """Output of a step's commands."""
        return self.plan_dir(plan_id) / "logs" / f"step-{index:05d}.log"

    def step_report(self, plan_id: str, index: int) -> Path:
        """How the last attempt of a step ended."""
        return self.plan_dir(plan_id) / "reports" / f"step-{index:05d}.json"


def slug(text: str) -> str:
    """A source name as a folder: letters, digits, dots, plus and minus; anything else becomes one underscore."""
    cleaned = re.sub(r"[^A-Za-z0-9.+-]+", "_", text.strip()).strip("._")
    if not cleaned:
        raise ConfigError(f"source name {text!r} has no letter or digit.", "give the source a name.")
    return cleaned
