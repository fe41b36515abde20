"""Command lines for the scheduler's programs, as shell text in which every value is quoted.

Each builder returns a small POSIX shell script: the transports hand it to `/bin/sh`, on this machine or on the login
node. Nothing reaches the shell unquoted.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from lstops.errors import ConfigError
from lstops.site.cluster import Cluster, SchedulerKind

#: see `rows.QueueRow`; the reason comes last because it alone may hold any character
SQUEUE_FORMAT = "%i|%T|%M|%l|%S|%P|%Q|%N|%j|%r"
#: see `rows.AccountingRow`
SACCT_FIELDS = "JobID,JobName,State,ExitCode,Elapsed,Timelimit,MaxRSS,ReqMem,TotalCPU,NodeList,Submit"
#: prefix of all our jobs' names: what is not called so is not ours
JOB_PREFIX = "lstops-"
#: exit statuses of the look-up-or-submit script (sysexits(3): EX_TEMPFAIL, EX_UNAVAILABLE)
EXIT_LATER, EXIT_REFUSED = 75, 69
# a client call takes about 9 s while slurmctld is down
_CLIENT_TIMEOUT_S = 25
_LOOK_BACK = "now-7days"
# a site without accounting: sacct can say nothing, and squeue alone has to do
_NO_ACCOUNTING = "accounting storage is disabled"


@dataclass(frozen=True)
class Programs:
    """Shell text that starts each of the scheduler's programs (already quoted)."""

    sbatch: str = "sbatch"
    squeue: str = "squeue"
    sacct: str = "sacct"
    scancel: str = "scancel"


def programs_for(cluster: Cluster, spool: Path) -> Programs:
    """Programs of a site: SLURM's, or the local scheduler with its spool folder."""
    if cluster.scheduler is SchedulerKind.SLURM:
        return Programs()
    start = " ".join(
        (
            "env",
            shlex.quote(f"LSTOPS_LOCAL_SPOOL={spool}"),
            f"LSTOPS_LOCAL_SLOTS={cluster.slots}",
            shlex.quote(sys.executable),
            "-m lstops.cluster.local",
        )
    )
    return Programs(*(f"{start} {program}" for program in ("sbatch", "squeue", "sacct", "scancel")))


def job_name(dag_id: str, run_id: str, task_id: str, map_index: int, attempt: int) -> str:
    """The name by which a submission is found again, the same for every try to make it."""
    text = "\0".join((dag_id, run_id, task_id, str(map_index), str(attempt)))
    return JOB_PREFIX + hashlib.sha256(text.encode()).hexdigest()[:20]


def quote(value: str) -> str:
    """Quote one word.

    Raises
    ------
    ConfigError
        For line breaks and other control characters, which have no business in a job's options.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ConfigError(f"{value!r} holds a control character.", "use a name or path without line breaks.")
    return shlex.quote(value)


def _job_number(job: str) -> str:
    if not job.isascii() or not job.isdecimal():
        raise ConfigError(f"{job!r} is not a job number.", "give the number that sbatch printed.")
    return job


def _limited(command: str) -> str:
    # SLURM_BITSTR_LEN=0: array positions are not cut with "..."
    return f"env SLURM_BITSTR_LEN=0 timeout -k 5 {_CLIENT_TIMEOUT_S} {command} </dev/null"


def squeue(programs: Programs, everybody: bool = False) -> str:
    """All our user's jobs, also those ended within the scheduler's MinJobAge.

    With `everybody` the same query also tells where other users' waiting jobs stand: a line `+|job|partition|priority`
    each, of which nothing but numbers and partitions is passed on.
    """
    if not everybody:
        return _limited(f"{programs.squeue} -h -t all --me -o {quote(SQUEUE_FORMAT)}")
    # the user comes first: names and comments of other people may hold any character, also our separator
    rows = _limited(f"{programs.squeue} -h -t all -o {quote(f'%u|{SQUEUE_FORMAT}')}")
    return rf"""
rows=$({rows}) || exit $?
printf '%s\n' "$rows" | awk -F'|' -v me="$(id -un)" '
  $1 == me {{ sub(/^[^|]*[|]/, ""); print; next }}
  $3 == "PENDING" {{ print "+|" $2 "|" $7 "|" $8 }}'
"""


def comments(programs: Programs) -> str:
    """Number, state, name and comment of our user's jobs that have not ended; see `parsers.parse_named`."""
    return _limited(f"{programs.squeue} -h --me -o {quote('%F|%T|%j|%k')}")


def sacct(programs: Programs, jobs: tuple[str, ...], steps: bool = False) -> str:
    """Accounting of jobs by number; with `steps` also the rows of their steps (memory is only there)."""
    if not jobs:
        raise ConfigError("sacct needs at least one job.", "give job numbers.")
    numbers = ",".join(_job_number(job) for job in jobs)
    allocations = "" if steps else "-X "
    return _limited(f"{programs.sacct} {allocations}-n -P -j {numbers} -S {_LOOK_BACK} -o {SACCT_FIELDS}")


def scancel(programs: Programs, job: str) -> str:
    """Cancel a job or array; one that is gone already is no error."""
    return _limited(f"{programs.scancel} -Q {_job_number(job)}")


def tail(path: Path, lines: int) -> str:
    """Last lines of a text file."""
    return f"timeout 20 tail -n {int(lines)} -- {quote(str(path))} </dev/null"


def read_after(path: Path, offset: int) -> str:
    """What was appended to a file after `offset` bytes, for following a log."""
    return f"timeout 20 tail -c +{int(offset) + 1} -- {quote(str(path))} </dev/null"


def submit_or_adopt(programs: Programs, name: str, script: Path) -> str:
    """Look a job up by name and submit the script only if there is none, in one round trip.

    It prints `adopted ID` or `submitted ID`. If a look-up cannot be made it stops with `EXIT_LATER` before sbatch:
    better late than double. The lock keeps a script whose connection was cut, and which is still running there, and its
    repetition from submitting both.
    """
    by_name = f"--name={quote(name)}"
    return rf"""
umask 027
exec 9>{quote(f"{script}.lock")} || exit {EXIT_LATER}
flock -w 60 9 || exit {EXIT_LATER}
queue=$({_limited(f"{programs.squeue} -h -t all --me {by_name} -o %F")}) || exit {EXIT_LATER}
if [ -z "$queue" ]; then
  queue=$({_limited(f"{programs.sacct} -X -n -P {by_name} -S {_LOOK_BACK} -o JobID")} 2>&1)
  status=$?
  case $queue in *{quote(_NO_ACCOUNTING)}*) queue= status=0 ;; esac
  [ $status -eq 0 ] || {{ printf '%s\n' "$queue" >&2; exit {EXIT_LATER}; }}
fi
if [ -n "$queue" ]; then
  printf '%s\n' "$queue" | sed -e 's/^ *\([0-9][0-9]*\).*/adopted \1/' | head -n 1
  exit 0
fi
job=$({_limited(f"{programs.sbatch} --parsable {quote(str(script))}")}) || exit {EXIT_REFUSED}
printf 'submitted %s\n' "$job"
"""
