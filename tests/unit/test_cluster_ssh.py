"""What the end of a login means: a refused key is a matter for a person, an sshd that goes away is none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from lstops.cluster.ssh import SshTransport
from lstops.errors import ConfigError, TransportError
from lstops.site.cluster import SshAccess


class Login(paramiko.ServerInterface):
    """Refuses the key, or goes away instead of an answer."""

    def __init__(self, transport: paramiko.Transport, goes_away: bool) -> None:
        self.transport, self.goes_away = transport, goes_away

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        if self.goes_away:
            self.transport.sock.shutdown(socket.SHUT_RDWR)
        return int(paramiko.AUTH_FAILED)


class Server:
    """An SSH server for one connection at a time."""

    def __init__(self, folder: Path) -> None:
        self.goes_away = False
        self.host_key = paramiko.ECDSAKey.generate()
        self.listener = socket.create_server(("127.0.0.1", 0))
        port = self.listener.getsockname()[1]
        user_key, known = folder / "key", folder / "known_hosts"
        form = (Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        user_key.write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))
        known.write_text(f"[127.0.0.1]:{port} {self.host_key.get_name()} {self.host_key.get_base64()}\n")
        self.access = SshAccess(host="127.0.0.1", port=port, user="someone", key_file=user_key, known_hosts=known)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            transport = paramiko.Transport(connection)
            transport.add_server_key(self.host_key)
            transport.start_server(threading.Event(), Login(transport, self.goes_away))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    yield found
    found.listener.close()


def test_a_refused_key_is_a_matter_for_a_person(server: Server) -> None:
    with pytest.raises(ConfigError, match="does not accept the key"):
        SshTransport(server.access).run("true")


def test_an_sshd_that_ends_in_the_middle_of_a_login_is_a_passing_trouble(server: Server) -> None:
    server.goes_away = True
    with pytest.raises(TransportError, match="no connection to someone@"):
        SshTransport(server.access)._run_once("true", 60)
