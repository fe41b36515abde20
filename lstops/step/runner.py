"""Runs one step on a compute node: lock, check, stage, run, verify, rename, record.

Order matters: products are renamed into place only after they were verified, and the manifest is written last. Whoever
dies at any point (kill -9 included) leaves either no product, or a product without a manifest, which nobody uses.
What lies at the place of a product and is none of ours is taken over or moved aside (`adoption.py`), never overwritten.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import os
import platform
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TextIO

import lstops
from lstops.errors import BusyError, DataError, JobFailure, LstOpsError, ProductInvalid, StorageError
from lstops.site.layout import Layout
from lstops.site.model import Site
from lstops.step.adoption import adopted, is_foreign, set_aside
from lstops.step.assess import changed_outputs
from lstops.step.guards import storage_errors, terminable
from lstops.step.inputs import InputReader, environment_version
from lstops.step.manifest import ArtifactRecord, Manifest, full_state
from lstops.step.model import CORE_ENVIRONMENT, Plan, Step, step_key, substitute
from lstops.step.processes import Ended, Start, start_command
from lstops.step.report import Ending, StepReport, write_report
from lstops.step.staging import Staging, move_into_place, tidy

_TAIL_BYTES = 4000
#: A process on a node that was given up runs on until SLURM reaches the node again and has waited for its KillWait
#: (30 s unless configured); what waits for its lock must outlast that.
LOCK_PATIENCE_S = 120.0
_LOCK_INTERVAL_S = 1.0
_VERSIONED = ("lstchain", "ctapipe", "ctapipe-io-lst", "scikit-learn", "numpy", "tables", "astropy", "pyirf", "gammapy")


def run_step(
    plan: Plan,
    index: int,
    site: Site,
    job: str = "",
    start: Start = start_command,
    lock_patience_s: float = LOCK_PATIENCE_S,
) -> StepReport:
    """Run one step of a plan and report how it ended.

    Parameters
    ----------
    index : int
        Position in `plan.steps()`.
    job : str
        The scheduler's job id, for the record.
    start : callable
        How a command is started; a warm worker has its own way.
    lock_patience_s : float
        How long (s) another process that makes the same product is waited for.

    Returns
    -------
    StepReport
        Also written to the plan's folder. Ending DONE or UP_TO_DATE.

    Raises
    ------
    LstOpsError
        Any child: the report of the failure is written before it is raised.
    """
    step = step_at(plan, index)
    layout = Layout(site.base, site.work)
    attempt = _Attempt(plan, index, step, site, layout, job, start, lock_patience_s)
    started = _now()

    def report(ending: Ending, error: LstOpsError | None = None) -> StepReport:
        return StepReport(
            plan_id=plan.plan_id,
            index=index,
            label=attempt.step.label,
            subject=attempt.step.subject,
            ending=ending,
            error=type(error).__name__ if error else "",
            what=error.what if error else "",
            remedy=error.remedy if error else "",
            log_tail=attempt.log_tail() if isinstance(error, JobFailure | ProductInvalid) else "",
            signal=max((-ended.status for ended in attempt.ended if ended.status < 0), default=0),
            max_rss_mb=attempt.peak_mb,
            job=job,
            host=socket.gethostname(),
            started=started,
            ended=_now(),
        )

    try:
        with storage_errors(layout.base), terminable():
            ending = attempt.run()
    except LstOpsError as error:
        # On a full disk the report may not fit either; the first error is the one to tell.
        with contextlib.suppress(StorageError):
            write_report(layout.step_report(plan.plan_id, index), report(Ending.FAILED, error))
        raise
    finished = report(ending)
    write_report(layout.step_report(plan.plan_id, index), finished)
    return finished


def step_at(plan: Plan, index: int) -> Step:
    """The step of an index.

    Raises
    ------
    DataError
        If the plan has no such step.
    """
    steps = plan.steps()
    if not 0 <= index < len(steps):
        raise DataError(f"plan {plan.plan_id} has no step {index}.", f"use 0 to {len(steps) - 1}.")
    return steps[index]


@dataclass
class _Attempt:
    plan: Plan
    index: int
    step: Step
    site: Site
    layout: Layout
    job: str
    start: Start
    lock_patience_s: float
    records: list[ArtifactRecord] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)

    @property
    def peak_mb(self) -> float:
        """Largest memory of a command so far."""
        return max((round(ended.max_rss_mb, 1) for ended in self.ended), default=0.0)

    @property
    def log(self) -> Path:
        return self.layout.step_log(self.plan.plan_id, self.index)

    @property
    def identity(self) -> str:
        """Names the product in lock files and staging folders."""
        return hashlib.sha256(self.step.primary.path.encode()).hexdigest()[:24]

    def run(self) -> Ending:
        versions = software_versions(self.site, self.step)
        with self._lock():
            self._clear_staging()
            makers = {o.path: s.label for s in self.plan.steps()[: self.index] for o in s.outputs}
            reader = InputReader(self.layout)
            self.records = [reader.record(i, makers.get(i.path)) for i in self.step.inputs]
            digests = {r.name: r.state.sha256 for r in self.records}
            key = step_key(self.step, digests, environment_version(self.site, self.step))
            old = reader.store.read(self.step.primary.path)
            if old is not None and old.key == key and not changed_outputs(old, self.layout):
                return Ending.UP_TO_DATE
            foreign = ""
            if is_foreign(self.step.primary, self.layout):
                try:
                    found = adopted(self.plan, self.index, self.step, key, self.records, self.site)
                    reader.store.write(found)
                    return Ending.DONE
                except (DataError, ProductInvalid) as error:
                    foreign = error.what
            with self._staging() as staging:
                usage = self._execute(staging)
                verified = self._verify(staging)
                reader.store.remove(self.step.primary.path)
                for output, record in zip(self.step.outputs, verified, strict=True):
                    set_aside(output, self.layout, record.state.sha256, foreign or "no step of lstops made it.")
                    move_into_place(staging.out[output.name], self.layout.absolute(output.path), staging.root)
                reader.store.write(self._manifest(key, versions, verified, usage))
        return Ending.DONE

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.layout.locks.mkdir(parents=True, exist_ok=True)
        with (self.layout.locks / f"{self.identity}.lock").open("a+") as stream:
            until = time.monotonic() + self.lock_patience_s
            while not _locked(stream):
                if time.monotonic() >= until:
                    stream.seek(0)
                    raise BusyError(
                        f"{self.step.primary.path} is being made by another process ({stream.read().strip()}).",
                        "wait for it, or cancel one of the two jobs.",
                    )
                time.sleep(_LOCK_INTERVAL_S)
            stream.truncate(0)
            stream.write(f"host {socket.gethostname()}, pid {os.getpid()}, job {self.job or '-'}\n")
            stream.flush()
            yield

    def _clear_staging(self) -> None:
        """What a dead attempt left behind goes (we hold the lock), also if it had finished the product."""
        for left in self.layout.staging.glob(f"{self.identity}-*"):
            shutil.rmtree(left, ignore_errors=True)

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Staging]:
        """A fresh staging folder."""
        self.layout.staging.mkdir(parents=True, exist_ok=True)
        root = self.layout.staging / f"{self.identity}-{os.getpid()}"
        try:
            yield Staging.make(root, self.step, self.layout)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    def _execute(self, staging: Staging) -> _Usage:
        from lstops.science.environment import science_environ

        environ = {**os.environ, **science_environ(staging.scratch)}
        started, wall0 = _now(), time.monotonic()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("w") as log:
            for argv in self.step.commands:
                self._command([substitute(word, staging.values) for word in argv], staging.scratch, environ, log)
        cpu_s = sum(ended.cpu_s for ended in self.ended)
        return _Usage(started, _now(), time.monotonic() - wall0, cpu_s, self.peak_mb)

    def _command(self, argv: list[str], cwd: Path, environ: dict[str, str], log: TextIO) -> None:
        log.write(f"+ {' '.join(argv)}\n")
        log.flush()
        try:
            running = self.start(argv, cwd, environ, log)
        except FileNotFoundError:
            raise JobFailure(
                f"{self.step.label}: the command {argv[0]!r} is not in the science environment.",
                f"install it where lstchain {self.step.environment} is, or correct the site's environments.",
            ) from None
        try:
            ended = running.wait()
        except BaseException:
            # TerminatedError or interrupted: nothing of ours may run on.
            running.kill()
            raise
        self.ended.append(ended)
        if ended.status != 0:
            raise self._command_failure(argv[0], ended.status)

    def _command_failure(self, command: str, status: int) -> LstOpsError:
        if "No space left on device" in self.log_tail() or "Disk quota exceeded" in self.log_tail():
            return StorageError(
                f"{self.step.label}: {command} found no space left below {self.layout.base}.",
                "free space, then run again; nothing half-written was kept.",
            )
        if status < 0:
            name = signal.Signals(-status).name
            return JobFailure(
                f"{self.step.label}: {command} was killed by {name}.",
                "if it was SIGKILL, the memory limit is the usual cause: ask for more memory.",
            )
        words = [line.strip() for line in self.log_tail().splitlines() if line.strip() and not line.startswith("+ ")]
        last = f": {words[-1][-300:].rstrip('.')}." if words else "."
        return JobFailure(
            f"{self.step.label}: {command} ended with exit status {status}{last}", f"read the end of {self.log}."
        )

    def _verify(self, staging: Staging) -> list[ArtifactRecord]:
        from lstops.step.verify import InputFacts, verify

        known = [InputFacts(r.name, r.kind, self.layout.absolute(r.path), r.facts) for r in self.records]
        verified: list[ArtifactRecord] = []
        # the first one may be made from the others
        for output in reversed(self.step.outputs):
            path = staging.out[output.name]
            if not path.exists():
                raise ProductInvalid(
                    f"{self.step.label}: the commands ended with exit status 0 but made no {path.name}.",
                    f"read {self.log}.",
                )
            facts = verify(output, path, known)
            known.append(InputFacts(output.name, output.kind, path, facts))
            tidy(path)
            verified.insert(
                0,
                ArtifactRecord(
                    name=output.name, kind=output.kind, path=output.path, state=full_state(path), facts=facts
                ),
            )
        return verified

    def _manifest(self, key: str, versions: dict[str, str], outputs: list[ArtifactRecord], usage: _Usage) -> Manifest:
        return Manifest(
            key=key,
            kind=self.step.kind,
            label=self.step.label,
            subject=self.step.subject,
            commands=self.step.commands,
            files=self.step.files,
            environment=self.step.environment,
            versions=versions,
            inputs=tuple(self.records),
            outputs=tuple(outputs),
            plan_id=self.plan.plan_id,
            plan_context=self.plan.context,
            index=self.index,
            host=socket.gethostname(),
            job=self.job,
            started=usage.started,
            ended=usage.ended,
            wall_s=round(usage.wall_s, 3),
            cpu_s=round(usage.cpu_s, 3),
            max_rss_mb=usage.max_rss_mb,
            log=self.layout.relative(self.log),
        )

    def log_tail(self) -> str:
        """The end of the commands' output."""
        try:
            with self.log.open("rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(0, stream.tell() - _TAIL_BYTES))
                return stream.read().decode(errors="replace")
        except FileNotFoundError:
            return ""


def _locked(stream: TextIO) -> bool:
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True)
class _Usage:
    started: str
    ended: str
    wall_s: float
    cpu_s: float
    max_rss_mb: float


def software_versions(site: Site, step: Step) -> dict[str, str]:
    """Versions for the manifest.

    Raises
    ------
    DataError
        If this process does not run in the step's science environment.
    """
    versions = {"python": platform.python_version(), "lstops": lstops.__version__}
    for name in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    if step.environment != CORE_ENVIRONMENT:
        wanted = site.environment(step.environment).lstchain_version
        if versions.get("lstchain") != wanted:
            raise DataError(
                f"{step.label} needs lstchain {wanted}, this environment has {versions.get('lstchain', 'none')}.",
                f"correct `activate` of environment {step.environment!r} in the site file.",
            )
    return versions


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
