"""Text of sbatch, squeue, sacct and scontrol into rows.

Lines that cannot be read are returned beside the rows, so that the caller can refuse to conclude anything from a
damaged answer.
"""

from __future__ import annotations

import re

from lstops.cluster.rows import (
    UNKNOWN_EXIT,
    AccountingRow,
    AccountingText,
    NamedJob,
    QueueRow,
    QueueText,
    TaskId,
    Waiting,
)

# slurm.conf(5): MaxArraySize is at most 4000001; a range beyond that is garbage and must not fill the memory
_MAX_POSITION = 4_000_001

_JOB = re.compile(r"^(?P<job>\d+)(?:_(?:(?P<one>\d+)|\[(?P<many>[^\]]*)\]))?(?:\.(?P<step>[A-Za-z0-9_+]+))?$")
_RANGE = re.compile(r"^(\d+)(?:-(\d+)(?::(\d+))?)?$")
_CLOCK = re.compile(r"^(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)(\.\d+)?$")
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([KMGTP]?)[nc]?$")
_UNIT_MB = {"": 1.0, "K": 1 / 1024, "M": 1.0, "G": 1024.0, "T": 1024.0**2, "P": 1024.0**3}


def parse_positions(text: str) -> tuple[tuple[int, ...], bool]:
    """Array positions of `0-3,7,9-15:2%4` and whether the list was cut by SLURM.

    Raises
    ------
    ValueError
        If it is no such list.
    """
    body, _, limit = text.partition("%")
    if limit and not limit.isdecimal():
        raise ValueError(f"array limit {limit!r} is no number")
    cut = body.endswith("...")
    positions: list[int] = []
    for part in body.removesuffix("...").rstrip(",").split(","):
        match = _RANGE.match(part)
        if not match:
            if cut and not part:
                continue
            raise ValueError(f"array positions {text!r} are no list of ranges")
        first, last = int(match[1]), int(match[2] or match[1])
        step = int(match[3] or 1)
        if last < first or step < 1 or last > _MAX_POSITION:
            raise ValueError(f"array range {part!r} is out of bounds")
        positions.extend(range(first, last + 1, step))
    return tuple(positions), cut


def format_positions(positions: tuple[int, ...]) -> str:
    """Shortest text of increasing positions, as SLURM writes it: (0, 1, 2, 7) -> `0-2,7`."""
    parts: list[str] = []
    first = last = None
    for position in sorted(set(positions)):
        if last is not None and position == last + 1:
            last = position
            continue
        if first is not None:
            parts.append(str(first) if first == last else f"{first}-{last}")
        first = last = position
    if first is not None:
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts)


def parse_task_id(text: str) -> TaskId:
    """Read `123`, `123_4`, `123_[5-9%2]`, `123.batch` or `123_4.extern`.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    match = _JOB.match(text.strip())
    if not match:
        raise ValueError(f"{text!r} is no job number")
    job, step = match["job"], match["step"] or ""
    if match["one"] is not None:
        return TaskId(job, (int(match["one"]),), True, False, step)
    if match["many"] is not None:
        positions, cut = parse_positions(match["many"])
        return TaskId(job, positions, True, cut, step)
    return TaskId(job, step=step)


def parse_clock(text: str) -> int | None:
    """Seconds of `D-HH:MM:SS`, `HH:MM:SS`, `MM:SS`; None for UNLIMITED, INVALID, N/A and the like."""
    match = _CLOCK.match(text.strip())
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:4])
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def parse_cpu(text: str) -> float | None:
    """Seconds of sacct's CPU times, which may have a fraction: `01:02.345`."""
    whole = parse_clock(text)
    match = _CLOCK.match(text.strip())
    return None if whole is None or match is None else whole + float(match[5] or 0)


def parse_mb(text: str) -> float | None:
    """MB of `2000M`, `1.5G`, `812K`; SLURM's bare numbers are MB in ReqMem, bytes never occur with -P."""
    match = _SIZE.match(text.strip())
    return float(match[1]) * _UNIT_MB[match[2]] if match else None


def parse_submitted(text: str) -> str | None:
    """Job number of `sbatch --parsable` (`123` or `123;cluster`), or None."""
    for line in reversed(text.splitlines()):
        if match := re.match(r"^(\d+)(?:;[\w.-]+)?$", line.strip()):
            return match[1]
    return None


def _waiting(line: str) -> Waiting:
    """Read `+|job|partition|priority`. Raises ValueError if it is none."""
    _, job, partitions, priority = line.split("|")
    return Waiting(int(parse_task_id(job).job), tuple(partitions.strip().split(",")), int(priority))


def parse_squeue(text: str) -> QueueText:
    """Rows of `commands.squeue`."""
    rows: list[QueueRow] = []
    unreadable: list[str] = []
    others: list[Waiting] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        fields = line.split("|", 9)
        try:
            if line.startswith("+|"):
                others.append(_waiting(line))
                continue
            if len(fields) != 10 or not fields[1].strip():
                raise ValueError("fields are missing")
            task = parse_task_id(fields[0])
        except ValueError:
            unreadable.append(line)
            continue
        state, elapsed, limit, start, partition, priority, node, name, reason = (field.strip() for field in fields[1:])
        rows.append(
            QueueRow(
                task,
                state,
                parse_clock(elapsed),
                parse_clock(limit),
                start,
                partition,
                int(priority) if priority.isascii() and priority.isdecimal() else None,
                node,
                name,
                reason.strip("()"),
            )
        )
    return QueueText(tuple(rows), tuple(unreadable), tuple(others))


def parse_named(text: str) -> tuple[NamedJob, ...]:
    """Rows of `commands.comments`.

    Lines that are none are passed over: other programs of the same user may have line breaks in their comments, and a
    job that is not seen here is left alone.
    """
    fields = [line.split("|", 3) for line in text.splitlines()]
    return tuple(
        NamedJob(*(part.strip() for part in one))
        for one in fields
        if len(one) == 4 and one[0].isascii() and one[0].isdecimal()
    )


def parse_sacct(text: str) -> AccountingText:
    """Rows of `sacct -n -P -o SACCT_FIELDS`."""
    rows: list[AccountingRow] = []
    unreadable: list[str] = []
    for line in text.splitlines():
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("|")]
        try:
            if len(fields) != 11 or not fields[2]:
                raise ValueError("fields are missing")
            task = parse_task_id(fields[0])
            code, _, signal = fields[3].partition(":")
            # a step that was not ended properly (TIMEOUT, NODE_FAIL of its job) has no exit code yet, or never
            numbers = (int(code), int(signal or 0)) if fields[3] else (UNKNOWN_EXIT, 0)
        except ValueError:
            unreadable.append(line)
            continue
        rows.append(
            AccountingRow(
                task,
                fields[1],
                fields[2],
                numbers[0],
                numbers[1],
                parse_clock(fields[4]),
                parse_clock(fields[5]),
                parse_mb(fields[6]) if fields[6] else None,
                parse_mb(fields[7]) if fields[7] else None,
                parse_cpu(fields[8]),
                fields[9],
                fields[10],
            )
        )
    return AccountingText(tuple(rows), tuple(unreadable))


def parse_scontrol(text: str) -> dict[str, str]:
    """`Key=Value` words of the first record of `scontrol show job`; values with blanks are cut at the next key."""
    record = text.strip().split("\n\n", 1)[0]
    found = re.findall(r"(?:^|\s)([A-Z][\w/:]*)=(.*?)(?=\s+[A-Z][\w/:]*=|\s*$)", record, flags=re.S)
    return {key: " ".join(value.split()) for key, value in found}
