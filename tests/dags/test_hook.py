"""What an Airflow connection may say about the way to the cluster: keys and verified hosts, nothing else."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lstops.airflow.hook import access_from_connection
from lstops.errors import ConfigError
from lstops.site.cluster import SshAccess

SITE = SshAccess(host="site", port=2222, user="lst", key_file=Path("/k"), known_hosts=Path("/h"))


def connection(extra: dict[str, Any] | None = None, **values: Any) -> SimpleNamespace:
    return SimpleNamespace(
        **{"host": None, "port": None, "login": None, "password": None, "extra_dejson": extra or {}, **values}
    )


@pytest.mark.parametrize("bad", [connection(password="secret"), connection({"private_key": "-----BEGIN"})])
def test_passwords_and_keys_in_a_connection_are_refused_and_not_repeated(bad: SimpleNamespace) -> None:
    with pytest.raises(ConfigError, match="remove it and give `key_file`") as refusal:
        access_from_connection(bad, SITE)
    assert "secret" not in str(refusal.value)
    assert "BEGIN" not in str(refusal.value)


def test_what_it_leaves_open_comes_from_the_site() -> None:
    assert access_from_connection(connection(), SITE) == SITE
    found = access_from_connection(connection({"key_file": "/other"}, host="b", login="c", port=22), SITE)
    assert found == SshAccess(host="b", port=22, user="c", key_file=Path("/other"), known_hosts=Path("/h"))


def test_no_setting_of_a_connection_switches_the_check_of_host_keys_off() -> None:
    extra = {"no_host_key_check": True, "allow_host_key_change": True, "look_for_keys": True}
    assert access_from_connection(connection(extra), SITE) == SITE


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="has no user, key_file, known_hosts"):
        access_from_connection(connection(host="b"), None)
