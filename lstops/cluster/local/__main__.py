"""Command line of the local scheduler; see the package."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from lstops.cluster.local.spool import MIN_JOB_AGE_S, Job, JobOptions, Spool, TaskState, write

_DEFAULT_TIME = "60"
# options of sbatch that are accepted because they have no meaning on one machine
_IGNORED = frozenset(
    {"account", "partition", "nice", "exclude", "nodes", "ntasks", "open-mode", "no-requeue", "parsable", "qos"}
)
_FORMAT = re.compile(r"%.|[^%]+")
_FLAGS = frozenset({"no-requeue", "parsable"})


class RefusedError(Exception):
    """The program is called in a way that it refuses, as SLURM's would be."""


def _fail(program: str, message: str) -> int:
    print(f"{program}: error: {message}", file=sys.stderr)
    return 1


def _options(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Long options (`--key=value`, `--key value`) and what remains."""
    found: dict[str, str] = {}
    words = list(words)
    while words and words[0].startswith("--"):
        key, equals, value = words.pop(0)[2:].partition("=")
        if not equals and key not in _FLAGS:
            if not words:
                raise RefusedError(f"option --{key} needs a value")
            value = words.pop(0)
        found[key] = value
    return found, words


def _seconds(text: str) -> float:
    """SLURM's times: minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
    try:
        days, dash, rest = text.rpartition("-")
        parts = [int(part) for part in rest.split(":")]
        if dash:
            hours, minutes, seconds = [*parts, 0, 0][:3]
            return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds
        if len(parts) == 1:
            return parts[0] * 60
        if len(parts) == 2:
            return parts[0] * 60 + parts[1]
        hours, minutes, seconds = parts
        return (hours * 60 + minutes) * 60 + seconds
    except ValueError:
        raise RefusedError(f"Invalid --time specification {text!r}") from None


def _megabytes(text: str) -> float:
    units = {"K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2}
    try:
        return float(text[:-1]) * units[text[-1]] if text[-1:] in units else float(text)
    except ValueError:
        raise RefusedError(f"Invalid --mem specification {text!r}") from None


def _positions(text: str) -> tuple[tuple[int, ...], int]:
    body, _, limit = text.partition("%")
    try:
        found: list[int] = []
        for part in body.split(","):
            first, dash, last = part.partition("-")
            found.extend(range(int(first), int(last) + 1) if dash else [int(first)])
        if not found or len(set(found)) != len(found):
            raise ValueError
        return tuple(sorted(found)), int(limit) if limit else len(found)
    except ValueError:
        raise RefusedError("Invalid job array specification") from None


def _job_options(options: dict[str, str], script: Path) -> JobOptions:
    known = {"array", "job-name", "time", "mem", "cpus-per-task", "output", "chdir", "comment"}
    if unknown := set(options) - known - _IGNORED:
        raise RefusedError(f"unrecognized option '--{sorted(unknown)[0]}'")
    positions, at_once = _positions(options["array"]) if "array" in options else (None, 1)
    chdir = options.get("chdir", str(Path.cwd()))
    if not Path(chdir).is_dir():
        raise RefusedError(f"Unable to change directory to {chdir}")
    return JobOptions(
        name=options.get("job-name", script.name),
        positions=positions,
        at_once=max(at_once, 1),
        time_s=_seconds(options.get("time", _DEFAULT_TIME)),
        mem_mb=_megabytes(options["mem"]) if "mem" in options else None,
        cpus=int(options.get("cpus-per-task", "1")),
        output=options.get("output", "slurm-%A_%a.out" if positions is not None else "slurm-%j.out"),
        chdir=chdir,
        comment=options.get("comment", ""),
    )


def sbatch(spool: Spool, words: list[str]) -> int:
    """Store the job and start its supervisor, detached."""
    given, rest = _options(words)
    if len(rest) != 1:
        raise RefusedError("one batch script is needed")
    script = Path(rest[0])
    try:
        text = script.read_text()
    except OSError as error:
        raise RefusedError(f"Unable to open file {script}: {error.strerror}") from error
    if not text.startswith("#!"):
        raise RefusedError("This does not look like a batch script.")
    directives: list[str] = []
    for line in text.splitlines():
        if line.startswith("#SBATCH"):
            directives += shlex.split(line[len("#SBATCH") :], comments=True)
        elif line.strip() and not line.startswith("#"):
            break
    in_script, odd = _options(directives)
    if odd:
        raise RefusedError(f"unrecognized words in the script's directives: {odd}")
    options = _job_options({**in_script, **given}, script)
    spool.forget_old()
    job, lock = spool.add(options, text)
    with (job.folder / "supervisor.log").open("ab") as log:
        # the lock goes over to the child, so that the job never looks dead in between
        subprocess.Popen(
            [sys.executable, "-m", "lstops.cluster.local", "supervise", str(job.number)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(lock,),
            start_new_session=True,
            cwd="/",
        )
    print(job.number if "parsable" in given else f"Submitted batch job {job.number}")
    return 0


def supervise(spool: Spool, words: list[str]) -> int:
    """Run one job (called by sbatch, with the job's lock held)."""
    from lstops.cluster.local.supervisor import Supervisor

    job = spool.read(int(words[0]))
    if job is None:
        raise RefusedError(f"no job {words[0]}")
    slots = int(os.environ.get("LSTOPS_LOCAL_SLOTS", "2"))
    Supervisor(spool, job, slots).run()
    return 0


def _clock(seconds: float) -> str:
    minutes, second = divmod(int(max(seconds, 0)), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02d}:{minute:02d}:{second:02d}" if days else f"{hour:02d}:{minute:02d}:{second:02d}"


def _date(when: float | None) -> str:
    return "Unknown" if when is None else time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(when))


def _ranges(positions: list[int]) -> str:
    parts: list[list[int]] = []
    for position in positions:
        if parts and parts[-1][1] == position - 1:
            parts[-1][1] = position
        else:
            parts.append([position, position])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def _rows(job: Job) -> list[tuple[str, TaskState]]:
    """(job id, state) as SLURM lists them: the waiting tasks of an array together."""
    waiting = [p for p, task in job.tasks.items() if p is not None and task.state == "PENDING"]
    rows = [
        (f"{job.number}" if position is None else f"{job.number}_{position}", task)
        for position, task in job.tasks.items()
        if position is None or task.state != "PENDING"
    ]
    if waiting:
        limit = f"%{job.options.at_once}" if job.options.at_once < len(job.tasks) else ""
        running = any(task.state == "RUNNING" for task in job.tasks.values())
        limited = running and sum(t.state == "RUNNING" for t in job.tasks.values()) >= job.options.at_once
        reason = "JobArrayTaskLimit" if limited else "Resources"
        rows.insert(0, (f"{job.number}_[{_ranges(sorted(waiting))}{limit}]", TaskState("PENDING", reason)))
    return rows


def _short_options(words: list[str], with_value: str, without: str) -> dict[str, str]:
    """Options of squeue, sacct and scancel in the forms that our client uses."""
    found: dict[str, str] = {}
    words = list(words)
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            key, _, value = word[2:].partition("=")
            found[key] = value
        elif len(word) == 2 and word[0] == "-" and word[1] in with_value:
            if not words:
                raise RefusedError(f"option {word} needs a value")
            found[word[1]] = words.pop(0)
        elif len(word) == 2 and word[0] == "-" and word[1] in without:
            found[word[1]] = ""
        elif not word.startswith("-") and "" not in found:
            found[""] = word
        else:
            raise RefusedError(f"invalid option {word!r}")
    return found


def squeue(spool: Spool, words: list[str]) -> int:
    """List what waits, runs, or ended lately."""
    options = _short_options(words, "ojt", "h")
    wanted = set(options["name"].split(",")) if "name" in options else None
    everything = options.get("t") == "all"
    # format letters, and literal text marked by a leading "="
    parts = [part if part.startswith("%") else f"={part}" for part in _FORMAT.findall(options.get("o", "%i %T %j"))]
    if unknown := [part for part in parts if part.startswith("%") and part[1:] not in "iAFTMlSNjrukPQ"]:
        raise RefusedError(f"Invalid job format specification: {unknown[0]}")
    now = time.time()
    for job in spool.all():
        if wanted is not None and job.options.name not in wanted:
            continue
        for name, task in _rows(job):
            if task.final and (not everything or (task.ended or 0) < now - MIN_JOB_AGE_S):
                continue
            values = {
                "%i": name,
                "%A": str(job.number),
                "%F": str(job.number),
                "%T": task.state,
                "%M": _clock((task.ended or now) - task.started) if task.started else "0:00",
                "%l": _clock(job.options.time_s),
                "%S": _date(task.started) if task.started else "N/A",
                "%N": os.uname().nodename if task.started else "",
                "%j": job.options.name,
                "%r": task.reason,
                "%u": pwd.getpwuid(os.getuid()).pw_name,
                "%k": job.options.comment,
                "%P": "local",
                # first come, first served
                "%Q": "1",
            }
            print("".join(values.get(part, part[1:]) for part in parts))
    return 0


def _accounting(job: Job, name: str, task: TaskState, step: str, now: float) -> dict[str, str]:
    state = f"CANCELLED by {task.cancelled_by}" if task.state == "CANCELLED" and not step else task.state
    return {
        "JobID": f"{name}.{step}" if step else name,
        "JobIDRaw": f"{job.number}.{step}" if step else str(job.number),
        "JobName": step or job.options.name,
        "State": state,
        "ExitCode": f"{task.exit_code}:{task.signal}",
        "Elapsed": _clock((task.ended or now) - task.started) if task.started else "00:00:00",
        "Timelimit": "" if step else _clock(job.options.time_s),
        "MaxRSS": f"{task.max_rss_kb}K" if step else "",
        "ReqMem": "" if step or job.options.mem_mb is None else f"{job.options.mem_mb:g}M",
        "TotalCPU": f"{_clock(task.cpu_s)}.{int(task.cpu_s * 1000) % 1000:03d}",
        "NodeList": os.uname().nodename if task.started else "None assigned",
        "Submit": _date(job.options.submitted),
    }


def sacct(spool: Spool, words: list[str]) -> int:
    """Accounting of jobs by number or name."""
    options = _short_options(words, "jSo", "XnP")
    jobs = set(options["j"].split(",")) if "j" in options else None
    wanted = set(options["name"].split(",")) if "name" in options else None
    fields = options.get("o", "JobID,State,ExitCode").split(",")
    now = time.time()
    for job in spool.all():
        if jobs is not None and str(job.number) not in jobs:
            continue
        if wanted is not None and job.options.name not in wanted:
            continue
        for name, task in _rows(job):
            for step in ("",) if "X" in options or not task.started else ("", "batch"):
                row = _accounting(job, name, task, step, now)
                if missing := [field for field in fields if field not in row]:
                    raise RefusedError(f"Invalid field requested: {missing[0]!r}")
                print("|".join(row[field] for field in fields))
    return 0


def scancel(spool: Spool, words: list[str]) -> int:
    """Ask a job's supervisor to end it."""
    number = _short_options(words, "", "Q").get("", "")
    job = spool.read(int(number)) if number.isdecimal() else None
    if job is None:
        raise RefusedError(f"Kill job error on job id {number}: Invalid job id specified")
    if not job.final:
        write(job.folder / "cancel", str(os.getuid()))
    return 0


PROGRAMS: dict[str, Callable[[Spool, list[str]], int]] = {
    "sbatch": sbatch,
    "squeue": squeue,
    "sacct": sacct,
    "scancel": scancel,
    "supervise": supervise,
}


def main(words: list[str]) -> int:
    """Run one of the programs; returns the exit status."""
    if not words or words[0] not in PROGRAMS:
        return _fail("lstops.cluster.local", f"the first word is one of {sorted(PROGRAMS)}")
    program = words[0]
    root = os.environ.get("LSTOPS_LOCAL_SPOOL")
    if not root:
        return _fail(program, "LSTOPS_LOCAL_SPOOL is not set: it names the folder of the local scheduler")
    spool = Spool(Path(root))
    try:
        if program != "supervise":
            from lstops.cluster.local.supervisor import reconcile

            reconcile(spool)
        return PROGRAMS[program](spool, words[1:])
    except RefusedError as refusal:
        return _fail(program, str(refusal))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
