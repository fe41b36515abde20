"""Transports through SSH: host keys verified against the site's known_hosts, one key file, nothing else.

No agent, no passwords, no other keys, no `~/.ssh/config`: what is allowed is in the site file.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
from tenacity import Retrying, before_sleep_log, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from lstops.cluster.transport import Completed, Frame
from lstops.errors import ConfigError, TransportError
from lstops.site.cluster import SshAccess

log = logging.getLogger(__name__)
# they tell every handshake and channel at INFO, which buries what a task's log has to say
for _talkative in ("paramiko", "asyncssh"):
    logging.getLogger(_talkative).setLevel(logging.WARNING)

# The login shell runs this; the script comes by standard input, where no shell expands it.
_SHELL = "/bin/sh -s"
_CONNECT_S = 30.0
_KEEPALIVE_S = 15
# sshd drops connections at random when many arrive at once (MaxStartups 10:30:100): try again, apart from each other.
# Seven attempts take at most about a minute, longer than an sshd restart.
_ATTEMPTS, _WAIT_MAX_S = 7, 20.0

# paramiko calls it a failed authentication, too, when sshd ended or was silent in the middle of it
_CUT_SHORT = re.compile(r"timeout|shut down|EOF", re.I)


def _where(access: SshAccess) -> str:
    return f"{access.user}@{access.host}:{access.port}"


def _check_files(access: SshAccess) -> None:
    if not access.key_file.is_file():
        raise ConfigError(f"there is no key file {access.key_file}.", "correct cluster.ssh.key_file in the site file.")
    if not access.known_hosts.is_file():
        raise _unknown_host(access)


def _unknown_host(access: SshAccess) -> ConfigError:
    return ConfigError(
        f"the host key of {access.host}:{access.port} is not in {access.known_hosts}.",
        f"add it with `ssh-keyscan -p {access.port} {access.host} >> {access.known_hosts}` after comparing its "
        "fingerprint with the one that the administrators tell.",
    )


def _changed_host(access: SshAccess) -> ConfigError:
    return ConfigError(
        f"the host key of {access.host}:{access.port} is not the one in {access.known_hosts}.",
        "ask the administrators whether it was changed on purpose; if so, remove the old line with "
        f"`ssh-keygen -f {access.known_hosts} -R '[{access.host}]:{access.port}'` and add the new key.",
    )


def _refused_key(access: SshAccess) -> ConfigError:
    return ConfigError(
        f"{_where(access)} does not accept the key {access.key_file}.",
        "put its public half into ~/.ssh/authorized_keys there, or correct user and key_file in the site file.",
    )


def _unreachable(access: SshAccess, error: BaseException) -> TransportError:
    return TransportError(
        f"no connection to {_where(access)}: {error or type(error).__name__}.",
        "it is tried again; if it stays so, look whether the host is up.",
    )


class _Unknown(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    """RejectPolicy with our own error."""

    def __init__(self, access: SshAccess) -> None:
        self.access = access

    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        """Refuse."""
        raise _unknown_host(self.access)


class SshTransport:
    """Runs scripts on the login node over one kept connection; safe to use from several threads, one at a time."""

    def __init__(self, access: SshAccess) -> None:
        self.access = access
        self._client: paramiko.SSHClient | None = None
        self._lock = threading.Lock()

    @property
    def where(self) -> str:
        """The host, for messages."""
        return _where(self.access)

    def run(self, script: str, timeout_s: float = 60.0) -> Completed:
        """See `Transport.run`; tries again after a broken connection."""
        retrying = Retrying(
            retry=retry_if_exception_type(TransportError),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=1, max=_WAIT_MAX_S),
            before_sleep=before_sleep_log(log, logging.INFO),
            reraise=True,
        )
        with self._lock:
            return retrying(self._run_once, script, timeout_s)

    def _run_once(self, script: str, timeout_s: float) -> Completed:
        frame = Frame.new()
        client = self._connected()
        try:
            stdin, stdout, stderr = client.exec_command(_SHELL, timeout=timeout_s)
            stdin.write(frame.wrap(script))
            stdin.flush()
            stdin.channel.shutdown_write()
            out, err = stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace")
        except (paramiko.SSHException, OSError, EOFError) as error:
            self._drop()
            raise _unreachable(self.access, error) from error
        try:
            return frame.unwrap(out, err, self.where)
        except TransportError:
            self._drop()
            raise

    def _connected(self) -> paramiko.SSHClient:
        if self._client is not None:
            transport = self._client.get_transport()
            if transport is not None and transport.is_active():
                return self._client
            self._drop()
        _check_files(self.access)
        client = paramiko.SSHClient()
        client.load_host_keys(str(self.access.known_hosts))
        client.set_missing_host_key_policy(_Unknown(self.access))
        try:
            client.connect(
                self.access.host,
                port=self.access.port,
                username=self.access.user,
                key_filename=str(self.access.key_file),
                timeout=_CONNECT_S,
                banner_timeout=_CONNECT_S,
                auth_timeout=_CONNECT_S,
                allow_agent=False,
                look_for_keys=False,
            )
        except paramiko.BadHostKeyException as error:
            raise _changed_host(self.access) from error
        except paramiko.AuthenticationException as error:
            client.close()
            if _CUT_SHORT.search(str(error)):
                raise _unreachable(self.access, error) from error
            raise _refused_key(self.access) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            client.close()
            raise _unreachable(self.access, error) from error
        except ConfigError:
            client.close()
            raise
        transport = client.get_transport()
        if transport is not None:
            transport.set_keepalive(_KEEPALIVE_S)
        self._client = client
        return client

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        """Close the connection."""
        self._drop()


class AsyncSshTransport:
    """The triggerer's connection. It makes one attempt a call: the poller decides when to try again."""

    def __init__(self, access: SshAccess) -> None:
        self.access = access
        self._connection: asyncssh.SSHClientConnection | None = None

    @property
    def where(self) -> str:
        """The host, for messages."""
        return _where(self.access)

    async def run(self, script: str, timeout_s: float = 60.0) -> Completed:
        """See `Transport.run`."""
        frame = Frame.new()
        connection = await self._connected()
        try:
            done = await asyncio.wait_for(
                connection.run(_SHELL, input=frame.wrap(script), check=False, errors="replace"), timeout_s
            )
        except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
            await self.close()
            raise _unreachable(self.access, error) from error
        try:
            return frame.unwrap(str(done.stdout or ""), str(done.stderr or ""), self.where)
        except TransportError:
            await self.close()
            raise

    async def _connected(self) -> asyncssh.SSHClientConnection:
        if self._connection is not None:
            return self._connection
        _check_files(self.access)
        try:
            self._connection = await asyncio.wait_for(
                asyncssh.connect(
                    self.access.host,
                    port=self.access.port,
                    username=self.access.user,
                    client_keys=[str(self.access.key_file)],
                    known_hosts=str(self.access.known_hosts),
                    agent_path=None,
                    config=None,
                    password=None,
                    preferred_auth="publickey",
                    keepalive_interval=_KEEPALIVE_S,
                    keepalive_count_max=3,
                ),
                _CONNECT_S,
            )
        except asyncssh.HostKeyNotVerifiable as error:
            raise (_changed_host if _is_listed(self.access) else _unknown_host)(self.access) from error
        except asyncssh.PermissionDenied as error:
            raise _refused_key(self.access) from error
        except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
            raise _unreachable(self.access, error) from error
        return self._connection

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()


def _is_listed(access: SshAccess) -> bool:
    keys = paramiko.HostKeys(str(Path(access.known_hosts)))
    name = access.host if access.port == 22 else f"[{access.host}]:{access.port}"
    return keys.lookup(name) is not None
