"""The way to a site's scheduler for tasks and triggers.

The SSH provider's hook is not used for the connection itself: it reads `~/.ssh/config`, the agent and the system's
known_hosts, and a connection's extras can switch the check of host keys off. Here the site file says everything, or an
Airflow connection of type ssh does, and the check is always on.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from airflow.sdk import BaseHook

from lstops.cluster.client import AsyncClusterClient, ClusterClient, open_async_client, open_client
from lstops.errors import ConfigError, LstOpsError
from lstops.site.cluster import SshAccess
from lstops.site.model import Site, load_site


class ClusterHook(BaseHook):  # type: ignore[misc]
    """Client of the scheduler of a site.

    Parameters
    ----------
    site : str or None
        Site file; default: the environment variable LSTOPS_SITE.
    ssh_conn_id : str or None
        Airflow connection that replaces the site's host, port, user, `key_file` and `known_hosts` (the last two as
        extras). Passwords and private keys in a connection are refused.
    """

    conn_name_attr = "ssh_conn_id"
    default_conn_name = "lstops_cluster"
    conn_type = "ssh"
    hook_name = "LST-1 cluster"

    def __init__(self, site: str | None = None, ssh_conn_id: str | None = None) -> None:
        super().__init__()
        self.site_file = site
        self.ssh_conn_id = ssh_conn_id

    @cached_property
    def site(self) -> Site:
        """The site, with the connection's access if one is given."""
        site = load_site(self.site_file)
        if self.ssh_conn_id is None:
            return site
        access = access_from_connection(self.get_connection(self.ssh_conn_id), site.cluster.ssh)
        return site.model_copy(update={"cluster": site.cluster.model_copy(update={"ssh": access})})

    @cached_property
    def client(self) -> ClusterClient:
        """Client over one kept connection."""
        return open_client(self.site)

    def async_client(self) -> AsyncClusterClient:
        """A new client for the triggerer."""
        return open_async_client(self.site)

    def get_conn(self) -> ClusterClient:
        """Airflow's name for `client`."""
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """Look at the queue once."""
        try:
            self.client.poll(())
        except LstOpsError as error:
            return False, str(error)
        return True, f"{self.client.transport.where} answers"


def access_from_connection(connection: object, default: SshAccess | None) -> SshAccess:
    """Access data of an Airflow connection; what it leaves open comes from the site.

    Raises
    ------
    ConfigError
        If something is missing or if it holds a password.
    """
    extras = getattr(connection, "extra_dejson", {}) or {}
    if getattr(connection, "password", None) or "private_key" in extras:
        raise ConfigError(
            "the Airflow connection of the cluster holds a password or private key.",
            "remove it and give `key_file` and `known_hosts` in the extras.",
        )
    values = {
        "host": getattr(connection, "host", None) or (default.host if default else None),
        "port": getattr(connection, "port", None) or (default.port if default else 22),
        "user": getattr(connection, "login", None) or (default.user if default else None),
        "key_file": extras.get("key_file") or (default.key_file if default else None),
        "known_hosts": extras.get("known_hosts") or (default.known_hosts if default else None),
    }
    if missing := [name for name, value in values.items() if not value]:
        raise ConfigError(
            f"the Airflow connection of the cluster has no {', '.join(missing)}.", "fill it in, or the site file."
        )
    return SshAccess(
        host=str(values["host"]),
        port=int(str(values["port"])),
        user=str(values["user"]),
        key_file=Path(str(values["key_file"])),
        known_hosts=Path(str(values["known_hosts"])),
    )
