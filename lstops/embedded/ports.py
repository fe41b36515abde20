"""Loopback ports, chosen once and remembered."""

from __future__ import annotations

import json
import random
import socket
from pathlib import Path

from lstops.embedded.errors import ServiceError

LOOPBACK = "127.0.0.1"
#: below Linux' range for outgoing connections (32768 and up), so that a stopped server finds its port again
PORT_RANGE = range(20000, 32000)


def is_free(port: int) -> bool:
    """Return True if a server could bind this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Return distinct free loopback ports."""
    found: list[int] = []
    for port in random.sample(PORT_RANGE, len(PORT_RANGE)):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    if len(found) < count:
        raise ServiceError(
            f"Fewer than {count} of the ports {PORT_RANGE.start} to {PORT_RANGE.stop - 1} are free.",
            "End what holds them; see `ss --listening --tcp --processes`.",
        )
    return found


class PortBook:
    """The ports of one installation, by name, in a JSON file.

    A port stays the same from start to start, so that bookmarks and connections keep working; it is replaced only
    when something else has taken it meanwhile.

    Parameters
    ----------
    path : pathlib.Path
        The JSON file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, name: str) -> int | None:
        """Return the remembered port of a service, or None."""
        return self._read().get(name)

    def claim(self, name: str) -> int:
        """Return a port that the service, which is not running now, can bind."""
        book = self._read()
        port = book.get(name)
        if port is None or not is_free(port):
            taken = set(book.values())
            port = next(p for p in free_ports(len(taken) + 1) if p not in taken)
            book[name] = port
            self.path.parent.mkdir(parents=True, exist_ok=True)
            staged = self.path.with_name(f".{self.path.name}.new")
            staged.write_text(json.dumps(book, indent=1, sort_keys=True) + "\n")
            staged.replace(self.path)
        return port

    def _read(self) -> dict[str, int]:
        if not self.path.exists():
            return {}
        try:
            book = json.loads(self.path.read_text())
            return {str(name): int(port) for name, port in book.items()}
        except (ValueError, AttributeError, TypeError) as error:
            raise ServiceError(
                f"{self.path} does not hold ports by name: {error}.", "Delete the file; new ports are chosen."
            ) from error
