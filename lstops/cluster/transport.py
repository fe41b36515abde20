"""How shell text reaches the scheduler's host: on this machine, or through SSH (see `ssh`).

Every script is framed by markers, so that banners of a login shell are left out and a cut answer is noticed.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
from dataclasses import dataclass
from typing import Protocol

from lstops.errors import TransportError


@dataclass(frozen=True)
class Completed:
    """What a script on the scheduler's host did."""

    status: int
    stdout: str
    stderr: str


class Transport(Protocol):
    """Runs shell text and waits for it."""

    @property
    def where(self) -> str:
        """The host, for messages."""

    def run(self, script: str, timeout_s: float = 60.0) -> Completed:
        """Run `script` in `/bin/sh`.

        Raises
        ------
        TransportError
            If the host cannot be reached, does not answer in time, or its answer is cut.
        """

    def close(self) -> None:
        """Give the connection back."""


class AsyncTransport(Protocol):
    """The same for the triggerer."""

    @property
    def where(self) -> str:
        """The host, for messages."""

    async def run(self, script: str, timeout_s: float = 60.0) -> Completed:
        """Like `Transport.run`."""

    async def close(self) -> None:
        """Give the connection back."""


@dataclass(frozen=True)
class Frame:
    """Markers around one script's output."""

    nonce: str

    @classmethod
    def new(cls) -> Frame:
        """A frame that no banner can imitate."""
        return cls(secrets.token_hex(8))

    def wrap(self, script: str) -> str:
        """Script that prints its output between the markers; in a subshell, so that `exit` does not end the frame."""
        return (
            f"printf '\\n%s\\n' 'lstops-begin-{self.nonce}'\n"
            f"(\n{script}\n)\n"
            f"printf '\\n%s %s\\n' 'lstops-end-{self.nonce}' \"$?\"\n"
        )

    def unwrap(self, stdout: str, stderr: str, where: str) -> Completed:
        """Read the framed output.

        Raises
        ------
        TransportError
            If a marker is missing: the answer was cut or the login shell did not run the script.
        """
        _, begin, rest = stdout.partition(f"\nlstops-begin-{self.nonce}\n")
        body, end, status = rest.rpartition(f"\nlstops-end-{self.nonce} ")
        if not begin or not end or not status.endswith("\n") or not status.strip().isdecimal():
            raise TransportError(
                f"the answer of {where} was cut: {(stderr or stdout).strip()[-300:]!r}.",
                "it is tried again; if it stays so, log in there and look at the shell's start-up files.",
            )
        return Completed(int(status), body, stderr)


def _silent(where: str, timeout_s: float) -> TransportError:
    return TransportError(f"{where} did not answer within {timeout_s:g} s.", "it is tried again; look at its load.")


class LocalTransport:
    """Runs the scheduler's programs on this machine."""

    where = "this machine"

    def run(self, script: str, timeout_s: float = 60.0) -> Completed:
        """See `Transport.run`."""
        frame = Frame.new()
        with subprocess.Popen(
            ["/bin/sh", "-s"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(frame.wrap(script), timeout=timeout_s)
            except subprocess.TimeoutExpired as error:
                os.killpg(process.pid, signal.SIGKILL)
                raise _silent(self.where, timeout_s) from error
        return frame.unwrap(out, err, self.where)

    def close(self) -> None:
        """Nothing to give back."""


class AsyncLocalTransport:
    """`LocalTransport` for the triggerer."""

    where = "this machine"

    async def run(self, script: str, timeout_s: float = 60.0) -> Completed:
        """See `Transport.run`."""
        frame = Frame.new()
        process = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-s",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(frame.wrap(script).encode()), timeout_s)
        except asyncio.TimeoutError as error:
            raise _silent(self.where, timeout_s) from error
        finally:
            # also when the trigger is cancelled: nothing of ours stays behind
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        return frame.unwrap(out.decode(errors="replace"), err.decode(errors="replace"), self.where)

    async def close(self) -> None:
        """Nothing to give back."""
