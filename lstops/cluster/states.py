"""What every SLURM state means for us. A state not in the table stays unknown and is never taken for success."""

from __future__ import annotations

from enum import Enum


class StateClass(str, Enum):
    """What a job's state lets us conclude."""

    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    INFRASTRUCTURE = "infrastructure"
    MEMORY = "memory"
    TIME = "time"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def active(self) -> bool:
        """True while the job may still change by itself."""
        return self in (StateClass.WAITING, StateClass.RUNNING)


# The states of `man squeue` and `man sacct`, SLURM 20.11 to 24.11.
_CLASSES: dict[str, StateClass] = {
    "PENDING": StateClass.WAITING,
    "CONFIGURING": StateClass.WAITING,
    "POWER_UP_NODE": StateClass.WAITING,
    "REQUEUED": StateClass.WAITING,
    "REQUEUE_FED": StateClass.WAITING,
    "REQUEUE_HOLD": StateClass.WAITING,
    "RESV_DEL_HOLD": StateClass.WAITING,
    "SPECIAL_EXIT": StateClass.WAITING,
    "EXPEDITING": StateClass.WAITING,
    "RUNNING": StateClass.RUNNING,
    "COMPLETING": StateClass.RUNNING,
    "RESIZING": StateClass.RUNNING,
    "SIGNALING": StateClass.RUNNING,
    "STAGE_OUT": StateClass.RUNNING,
    "STOPPED": StateClass.RUNNING,
    "SUSPENDED": StateClass.RUNNING,
    "UPDATE_DB": StateClass.RUNNING,
    "COMPLETED": StateClass.COMPLETED,
    "BOOT_FAIL": StateClass.INFRASTRUCTURE,
    "LAUNCH_FAILED": StateClass.INFRASTRUCTURE,
    "NODE_FAIL": StateClass.INFRASTRUCTURE,
    "PREEMPTED": StateClass.INFRASTRUCTURE,
    "RECONFIG_FAIL": StateClass.INFRASTRUCTURE,
    "REVOKED": StateClass.INFRASTRUCTURE,
    "OUT_OF_MEMORY": StateClass.MEMORY,
    "TIMEOUT": StateClass.TIME,
    "DEADLINE": StateClass.FAILED,
    "FAILED": StateClass.FAILED,
    "CANCELLED": StateClass.CANCELLED,
}

#: every state of the table, for tests and documentation
KNOWN_STATES = tuple(_CLASSES)


def base_state(text: str) -> str:
    """The state's name alone: `CANCELLED by 1001` and the cut `CANCELLED+` are CANCELLED."""
    words = text.split()
    return words[0].rstrip("+") if words else ""


def classify_state(text: str) -> StateClass:
    """Class of a state as SLURM prints it."""
    return _CLASSES.get(base_state(text), StateClass.UNKNOWN)


def cancelled_by(text: str) -> int | None:
    """User number of `CANCELLED by 1001`, if there is one."""
    words = text.split()
    if len(words) == 3 and words[0] == "CANCELLED" and words[1] == "by" and words[2].isdecimal():
        return int(words[2])
    return None


# Reasons for which a pending job never starts by itself (slurm/slurm.h, enum job_state_reason), and what helps.
_HOPELESS: dict[str, str] = {
    "PartitionConfig": "it asks for more than the partition or its nodes allow; lower cpus, mem_mb or time_min",
    "PartitionNodeLimit": "it asks for more nodes than the partition allows; change the partition in the site file",
    "PartitionTimeLimit": "it asks for more time than the partition allows; lower time_min or change the partition",
    "BadConstraints": "no node can satisfy its constraints; lower cpus or mem_mb or change the partition",
    "DependencyNeverSatisfied": "it depends on a job that failed",
    "InvalidAccount": "the account is not valid; correct cluster.account in the site file",
    "InvalidQOS": "the quality of service is not valid; ask the administrators of the cluster",
    "AccountNotAllowed": "the account may not use this partition; correct the site file",
    "QOSNotAllowed": "the quality of service may not use this partition; ask the administrators of the cluster",
    "AssocMaxCpuPerJobLimit": "it asks for more CPUs than the account may use; lower cpus in the site file",
    "AssocMaxMemPerJob": "it asks for more memory than the account may use; lower mem_mb in the site file",
    "QOSMaxCpuPerJobLimit": "it asks for more CPUs than allowed; lower cpus in the site file",
    "QOSMaxMemoryPerJob": "it asks for more memory than allowed; lower mem_mb in the site file",
}

_REASONS: dict[str, str] = {
    "Resources": "for free CPUs or memory",
    "Priority": "behind jobs of higher priority",
    "JobArrayTaskLimit": "for other steps of this stage (limit of steps at the same time)",
    "Dependency": "for another job",
    "BeginTime": "for its start time",
    "JobHeldUser": "until somebody releases it (held by a user; scontrol release)",
    "JobHeldAdmin": "until an administrator releases it",
    "Reservation": "for a reservation",
    "ReqNodeNotAvail": "for a node that is down or reserved",
    "NodeDown": "for a node that is down",
    "PartitionDown": "for the partition to come up",
    "PartitionInactive": "for the partition to come up",
    "Licenses": "for a licence",
    "Cleaning": "for its earlier attempt to be cleaned up",
    "Prolog": "for the node to be prepared",
    "None": "for the scheduler to look at it",
    "": "for the scheduler to look at it",
}


def hopeless_reason(reason: str) -> str | None:
    """What is wrong if a pending job of this reason can never start, else None."""
    return _HOPELESS.get(reason.split(",")[0].strip("() "))


def describe_reason(reason: str) -> str:
    """What a pending job waits for, in words that follow "waits"."""
    name = reason.split(",")[0].strip("() ")
    if name in _REASONS:
        return _REASONS[name]
    if name.startswith("Nodes required for job are DOWN"):
        return "for a node that is down, drained or reserved"
    if name.startswith(("Assoc", "QOS", "Max")):
        return f"for a limit of the account to allow it ({name})"
    return f"for: {name}"
