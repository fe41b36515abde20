"""Runs several steps, one after the other, each in a forked process of its own.

What they share is what is the same for all of them and dear: lstchain's import and numba's compilation, about nine
seconds of CPU, done once in the process that forks. A step that crashes, is killed or fails fails alone; its manifest,
report, log and staging are those of `lstops.step.runner`, which does the work here too.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import FrameType

from lstops.errors import JobFailure, LstOpsError, StepKilled, StorageError
from lstops.science.forests import TOOL, preload, shared_models
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.guards import TerminatedError
from lstops.step.inputs import InputReader
from lstops.step.model import Input, Plan, Step
from lstops.step.processes import Ended, Start, fork, start_command, threads, wait_for
from lstops.step.report import Ending, StepReport, read_report, write_report
from lstops.step.runner import run_step, step_at
from lstops.step.worker_tools import WarmTools, console_scripts, freeze, load_tools, tools_worth_warming

Say = Callable[[str], None]

# what it means if a step's own process was killed, by signal
_CRASHES: dict[int, type[LstOpsError]] = {signal.SIGKILL: StepKilled, signal.SIGTERM: TerminatedError}


def run_steps(plan: Plan, indices: Sequence[int], site: Site, job: str = "", say: Say = print) -> int:
    """Run steps of a plan in this order.

    Parameters
    ----------
    job : str
        The scheduler's job id, for the records.
    say : callable
        Tells how each step ended (for the job's log).

    Returns
    -------
    int
        0 if all are done or up to date, else the exit status of the failures' class, or that of `JobFailure` if they
        differ; 143 if the process was asked to end (the steps that had not begun are then left alone).

    Raises
    ------
    LstOpsError
        With a single step that has nothing to share: as `run_step`.
    """
    steps = [step_at(plan, index) for index in indices]
    scripts = console_scripts() if site.cluster.warm else {}
    tools = tools_worth_warming(steps, scripts)
    if len(indices) == 1 and not tools:
        report = run_step(plan, indices[0], site, job)
        say(f"{report.label}: {report.ending.value}")
        return 0
    failures: set[int] = set()
    models = shared_models(steps) if TOOL in tools else None
    with _Interrupts() as interrupts, _warm(tools, scripts, models, site, say) as start:
        for index, step in zip(indices, steps, strict=True):
            if interrupts.asked:
                say("asked to end: the steps that have not begun are left alone")
                return TerminatedError.exit_code
            status = _run_apart(plan, index, step, site, job, start, interrupts, say)
            if status:
                failures.add(status)
    if interrupts.asked:
        return TerminatedError.exit_code
    return failures.pop() if len(failures) == 1 else JobFailure.exit_code if failures else 0


class _Interrupts:
    """SIGTERM (time limit, scancel) goes to the step that runs; no further one is begun."""

    def __init__(self) -> None:
        self.asked = False
        self.child = 0

    def __enter__(self) -> _Interrupts:
        self._previous = signal.signal(signal.SIGTERM, self._on_term)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._previous)

    def _on_term(self, signum: int, frame: FrameType | None) -> None:
        self.asked = True
        self.pass_on()

    def pass_on(self) -> None:
        """Ask the step that runs to end."""
        if self.child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGTERM)

    def wait(self, pid: int) -> Ended:
        """Wait for a step's process."""
        self.child = pid
        if self.asked:
            # it came between the fork and here
            self.pass_on()
        try:
            return wait_for(pid)
        except KeyboardInterrupt:
            self.pass_on()
            wait_for(pid)
            raise
        finally:
            self.child = 0


@contextlib.contextmanager
def _warm(tools: Sequence[str], scripts: dict[str, str], models: Input | None, site: Site, say: Say) -> Iterator[Start]:
    """Import what `tools` need, and load the forests that they share; the way to start commands from then on."""
    if not tools:
        yield start_command
        return
    from lstops.science.environment import science_environ

    # not TemporaryDirectory: its exit function would run in the children too
    scratch = Path(tempfile.mkdtemp(prefix="lstops-worker-"))
    before = dict(os.environ)
    try:
        # numpy, astropy and matplotlib read these when they are imported
        os.environ.update(science_environ(scratch))
        start = _load(tools, scripts, say)
        if models is not None and start is not start_command:
            _load_forests(models, site, say)
        # a step's variables begin with those that this process was given
        os.environ.clear()
        os.environ.update(before)
        yield start
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _load(tools: Sequence[str], scripts: dict[str, str], say: Say) -> Start:
    from lstops.science.warm_up import warm_up

    began = time.monotonic()
    try:
        mains = load_tools(tools, scripts)
        warm_up(tools)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        # nothing depends on this but time: the command itself will say what is wrong, in its step's log
        say(f"not warm, each command runs by itself: {type(error).__name__}: {error}")
        return start_command
    freeze()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s, wall_s, peak_mb = usage.ru_utime + usage.ru_stime, time.monotonic() - began, usage.ru_maxrss / 1024
    say(f"warm: {', '.join(tools)}; {cpu_s:.1f} CPU s, {wall_s:.1f} s, {peak_mb:.0f} MB")
    if (number := threads()) > 1:
        say(f"{number} threads are running after the import: each command runs by itself")
    return WarmTools(mains)


def _load_forests(models: Input, site: Site, say: Say) -> None:
    """Load forests before the steps are forked; what is wrong with them, the steps will say."""
    import pickle

    layout, began = Layout(site.base, site.work), time.monotonic()
    try:
        # compares their content with the manifest and with what the plan pins, before anything is unpickled
        InputReader(layout).record(models, None)
        number = preload(layout.absolute(models.path))
    except (LstOpsError, OSError, EOFError, ImportError, AttributeError, ValueError, pickle.UnpicklingError) as error:
        say(f"forests are loaded by each step: {type(error).__name__}: {error}")
        return
    gc.freeze()
    say(f"{number} forests of {models.path} loaded once, {time.monotonic() - began:.1f} s")


def _run_apart(
    plan: Plan, index: int, step: Step, site: Site, job: str, start: Start, interrupts: _Interrupts, say: Say
) -> int:
    """Run one step in a forked process; returns its exit status, that of `JobFailure` for one that was killed."""
    path = Layout(site.base, site.work).step_report(plan.plan_id, index)
    before, started = _identity(path), _now()

    def child() -> int:
        # until the runner has its own: end at once, and let the parent write the report
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            run_step(plan, index, site, job, start)
        except LstOpsError as error:
            return error.exit_code
        return 0

    ended = interrupts.wait(fork(child))
    if _identity(path) == before and ended.status != 0:
        # a full disk may be the reason that there is none
        with contextlib.suppress(StorageError):
            write_report(path, _crash_report(plan, index, step, job, started, ended))
    report = read_report(path)
    if ended.status == 0 and report is not None:
        say(f"{report.label}: {report.ending.value}")
        return 0
    print(f"{step.label}: {report.error}: {report.what}" if report else f"{step.label}: failed", file=sys.stderr)
    if report and report.remedy:
        print(f"  remedy: {report.remedy}", file=sys.stderr)
    return ended.status if ended.status > 0 else JobFailure.exit_code


def _identity(path: Path) -> tuple[int, int] | None:
    """Changes when a file is replaced."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _crash_report(plan: Plan, index: int, step: Step, job: str, started: str, ended: Ended) -> StepReport:
    """The report of a step whose process could not write one."""
    killed = -ended.status if ended.status < 0 else 0
    if killed:
        how = f"was killed by {signal.Signals(killed).name}"
        remedy = "if it was SIGKILL, the memory limit is the usual cause: ask for more memory."
    else:
        how, remedy = f"ended with exit status {ended.status} before it could report why", "read the job's log."
    return StepReport(
        plan_id=plan.plan_id,
        index=index,
        label=step.label,
        subject=step.subject,
        ending=Ending.FAILED,
        error=_CRASHES.get(killed, JobFailure).__name__,
        what=f"{step.label}: its process {how}.",
        remedy=remedy,
        signal=killed,
        max_rss_mb=round(ended.max_rss_mb, 1),
        job=job,
        host=socket.gethostname(),
        started=started,
        ended=_now(),
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
