"""Whether the task that submitted a job still waits for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from lstops.cluster.client import open_client
from lstops.cluster.orphans import clear_orphans
from lstops.cluster.records import Owner
from lstops.site.model import Site

log = logging.getLogger(__name__)
#: a task in one of these states does nothing any more; all others may come back to their job
_OVER = frozenset({"success", "failed", "skipped", "removed", "upstream_failed"})


def owner_check(task_states: Callable[..., dict[str, Any]]) -> Callable[[Owner], str | None]:
    """A check for `orphans.find_orphans`.

    Parameters
    ----------
    task_states : callable
        A running task's `get_task_states`: states by run and task.
    """

    def gone(owner: Owner) -> str | None:
        index = owner.map_index if owner.map_index >= 0 else None
        runs = task_states(dag_id=owner.dag_id, map_index=index, task_ids=[owner.task_id], run_ids=[owner.run_id])
        states = list(runs.get(owner.run_id, {}).values())
        if not states:
            return f"its task {owner.dag_id}.{owner.task_id} of {owner.run_id} is not there any more"
        over = [str(getattr(state, "value", state)) for state in states]
        if all(state in _OVER for state in over):
            return f"its task {owner.dag_id}.{owner.task_id} of {owner.run_id} is over ({over[0]})"
        return None

    return gone


def cancel_orphans(site: Site, task_instance: Any) -> list[str]:
    """Cancel the jobs that nobody waits for; returns what was done, in words."""
    client = open_client(site)
    try:
        found = clear_orphans(site, client, owner_check(task_instance.get_task_states))
    finally:
        client.close()
    for orphan in found:
        log.warning("cancelled %s", orphan.text())
    if not found:
        log.info("nothing of ours is in the queue that nobody waits for")
    return [orphan.text() for orphan in found]
