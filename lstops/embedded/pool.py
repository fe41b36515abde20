"""Airflow's pool of tasks that log in to the cluster, so that sshd's MaxStartups is never met."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lstops.embedded.rest import AirflowClient
from lstops.errors import ConfigError
from lstops.site.cluster import QueueLimits
from lstops.site.model import load_site

#: given to Airflow's processes as LSTOPS_SUBMIT_POOL; see `lstops.airflow.policy.submission_pool`
NAME = "lstops_submit"
DESCRIPTION = "Tasks that log in to the cluster at the same time"


def slots_for(env: Mapping[str, str]) -> int:
    """Size of the pool: the site's `cluster.queue.submissions_at_once`, or the default where no site is set yet."""
    site = env.get("LSTOPS_SITE", "")
    if not site or not Path(site).is_file():
        return QueueLimits().submissions_at_once
    try:
        return load_site(site).cluster.queue.submissions_at_once
    except ConfigError:
        # a site file whose variables are set for tasks only; who reads it there says what is wrong with it
        return QueueLimits().submissions_at_once


def ensure_pool(client: AirflowClient, slots: int) -> None:
    """Make the pool, or give it its size.

    Raises
    ------
    ServiceError
        If the API server refuses.
    """
    known = {pool["name"] for pool in client.request("GET", "/pools", params={"limit": 100})["pools"]}
    body = {"name": NAME, "slots": slots, "description": DESCRIPTION, "include_deferred": False}
    if NAME in known:
        client.request("PATCH", f"/pools/{NAME}", json={"pool": NAME, **{k: body[k] for k in body if k != "name"}})
    else:
        client.request("POST", "/pools", json=body)
