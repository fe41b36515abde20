"""Process trees from /proc: who belongs to a task, how much memory they use, and how to end them all."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024


@dataclass(frozen=True)
class ProcessInfo:
    """Some of /proc/PID/stat."""

    pid: int
    parent: int
    session: int
    started: str
    rss_kb: int


def read_process(pid: int) -> ProcessInfo | None:
    """One process, or None if it is gone (or a zombie)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the name, in brackets, may hold anything; the fields after it are numbered from 3 in proc(5)
    fields = text.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    return ProcessInfo(pid, int(fields[1]), int(fields[3]), fields[19], int(fields[21]) * _PAGE_KB)


def tree(root: int) -> list[ProcessInfo]:
    """The process, its descendants, and whatever else is in its session."""
    everybody = [p for entry in os.listdir("/proc") if entry.isdecimal() and (p := read_process(int(entry)))]
    children: dict[int, list[ProcessInfo]] = {}
    for process in everybody:
        children.setdefault(process.parent, []).append(process)
    found = {p.pid: p for p in everybody if p.pid == root or p.session == root}
    queue = list(found)
    while queue:
        for child in children.get(queue.pop(), []):
            if child.pid not in found:
                found[child.pid] = child
                queue.append(child.pid)
    return list(found.values())


def memory_kb(processes: list[ProcessInfo], limit_kb: float | None) -> int:
    """Memory of a process tree: the sum of the resident sets, or, where that is over the limit, of the shares of it.

    Forked processes share pages, which the plain sum counts several times; the exact figure costs more to read.
    """
    plain = sum(process.rss_kb for process in processes)
    if limit_kb is None or plain <= limit_kb:
        return plain
    return sum(_share_kb(process) for process in processes)


def _share_kb(process: ProcessInfo) -> int:
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    except PermissionError:
        return process.rss_kb
    return process.rss_kb


def end_tree(root: int, number: signal.Signals) -> None:
    """Send a signal to every process of a tree."""
    for process in tree(root):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, number)
