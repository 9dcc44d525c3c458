# SPDX-License-Identifier: GPL-2.0-or-later
"""The connection to dom0: commands and byte streams through one SSH connection."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import paramiko

from harness.bounded import size
from harness.domains.call_timeout import within
from harness.domains.keys import RunKeys
from harness.machine.patience import WALL, Clock, Deadline
from harness.verdict import LabError

_RETRY_SECONDS = 0.25
# For the first attempt to log in, and for a later one; the key exchange is slow under TCG.  Seconds
# of the wall: paramiko knows no other.
_HANDSHAKE_SECONDS, _LONGEST_HANDSHAKE = 15.0, 120.0
_LOOK_SECONDS = 0.25  # between two looks at the clock
_CHUNK = 65536
_MOST = 64 << 20  # bytes that a command may print
_PING_SECONDS = 1.0
_SILENT_SECONDS = 6.0  # without an answer to a ping; so reported within 10 s on a quiet computer
_SEE = "see the dom0 console log"
logging.getLogger("paramiko").addHandler(logging.NullHandler())  # our exceptions say it all
logging.getLogger("paramiko").propagate = False


@dataclass(frozen=True)
class Output:
    """What a command in dom0 printed, and its exit status."""

    stdout: str
    stderr: str
    status: int


class NoAnswer(LabError):
    """sshd in dom0 has not let us in in time."""


class ExecChannel:
    """A program in dom0 as a byte stream."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self._channel = channel

    def write(self, data: bytes) -> None:
        """Send all of ``data``; OSError if the connection is lost."""
        self._channel.sendall(data)

    def close(self) -> None:
        """Close the stream; the program sees the end of its input."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.close()

    def chunks(self) -> Iterator[bytes]:
        """Yield what the program prints until it ends."""
        self._channel.settimeout(None)
        while True:
            try:
                data = self._channel.recv(_CHUNK)
            except (OSError, EOFError):
                return
            if not data:
                return
            yield data


class Dom0:
    """An SSH session with dom0 as root."""

    def __init__(self, client: paramiko.SSHClient, clock: Clock = WALL) -> None:
        self._client = client
        self.clock = clock  # on which everybody waits for dom0
        self._heard = clock.now()
        threading.Thread(target=self._ping, name="ssh-ping", daemon=True).start()

    @classmethod
    def connect(
        cls,
        address: tuple[str, int],
        keys: RunKeys,
        *,
        timeout: float,
        check: Callable[[], None],
        clock: Clock = WALL,
    ) -> Dom0:
        """Log in as soon as sshd answers, for at most ``timeout`` seconds of ``clock``.

        ``check`` is called between attempts and raises when waiting has become pointless.
        NoAnswer after that; LabError at once if dom0 has another host key than this run gave it.
        """
        host, port = address
        deadline = Deadline(clock, timeout)
        problem = "no attempt was made"
        patience = _HANDSHAKE_SECONDS
        while not deadline.over:
            check()
            client = paramiko.SSHClient()
            client.get_host_keys().add(f"[{host}]:{port}", "ssh-ed25519", keys.host_key())
            client.set_missing_host_key_policy(paramiko.RejectPolicy())
            try:
                client.connect(
                    host,
                    port,
                    username="root",
                    pkey=keys.user_key(),
                    allow_agent=False,
                    look_for_keys=False,
                    timeout=patience,
                    banner_timeout=patience,
                    auth_timeout=patience,
                )
            except paramiko.BadHostKeyException as error:
                client.close()
                raise LabError(
                    "dom0 shows another SSH host key than this run gave it",
                    where=f"{host}:{port}",
                    hint="another program or machine answers at this port",
                ) from error
            except (paramiko.SSHException, OSError, EOFError) as error:
                client.close()
                problem = str(error) or type(error).__name__
                patience = min(2 * patience, _LONGEST_HANDSHAKE)
                time.sleep(_RETRY_SECONDS)
                continue
            return cls(client, clock)
        raise NoAnswer(
            f"dom0 does not answer by SSH within {timeout:.0f} s: {problem}",
            where=f"{host}:{port}",
            hint="see the dom0 console log",
        )

    def run(self, command: str | list[str], timeout: float = 30.0, *, stdin: bytes = b"") -> Output:
        """Run a shell ``command`` (or an argument list) to its end.

        LabError when the connection is lost or the command does not end in time.
        """
        line = command if isinstance(command, str) else shlex.join(command)
        deadline = Deadline(self.clock, timeout)
        channel = self._open(line, timeout)
        try:
            for at in range(0, len(stdin), _CHUNK):
                channel.sendall(stdin[at : at + _CHUNK])
            if stdin:
                channel.shutdown_write()
            stdout = _all_of(channel, channel.recv, deadline)
            stderr = _all_of(channel, channel.recv_stderr, deadline)
            while not channel.status_event.wait(_LOOK_SECONDS):
                if deadline.over:
                    raise TimeoutError
            return Output(
                stdout.decode(errors="replace"),
                stderr.decode(errors="replace"),
                channel.recv_exit_status(),
            )
        except TimeoutError:
            raise LabError(f"`{line}` did not end within {timeout:.0f} s", where="dom0") from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise LabError(f"connection lost during `{line}`: {error}", where="dom0") from error
        finally:
            channel.close()

    def start(self, command: str | list[str]) -> ExecChannel:
        """Start a program and return its stdin/stdout as a byte stream."""
        line = command if isinstance(command, str) else shlex.join(command)
        return ExecChannel(self._open(line))

    def channel(self, words: list[str]) -> paramiko.Channel:
        """Start a program; return the SSH channel that is its stdin and stdout."""
        return self._open(shlex.join(words))

    def shell(self, columns: int, lines: int) -> paramiko.Channel:
        """Return an interactive shell with a terminal of that size."""
        return self._client.invoke_shell(os.environ.get("TERM", "vt100"), columns, lines)

    def session(self, line: str) -> paramiko.Channel:
        """Start a program; return the SSH channel itself, stderr joined to stdout."""
        channel = self._open(line)
        channel.set_combine_stderr(True)
        return channel

    def alive(self) -> bool:
        """Return whether the connection still exists."""
        transport = self._client.get_transport()
        return transport is not None and transport.is_active()

    def check(self) -> None:
        """Raise LabError if dom0 has not answered for 6 s, or the connection is lost."""
        if not self.alive():
            raise LabError("the SSH connection has ended", where="dom0", hint=_SEE)
        silent = self.clock.now() - self._heard
        if silent > _SILENT_SECONDS:
            raise LabError(
                f"dom0 has not answered by SSH for {silent:.0f} s", where="dom0", hint=_SEE
            )

    def close(self) -> None:
        """Close the connection and every stream on it."""
        self._client.close()

    def _ping(self) -> None:
        """Send sshd a request, as OpenSSH's ServerAliveInterval does; any answer will do."""
        transport = self._client.get_transport()
        while transport is not None and transport.is_active():
            try:
                transport.global_request("keepalive@openssh.com", wait=True)
            except (paramiko.SSHException, OSError, EOFError):
                return
            self._heard = self.clock.now()
            time.sleep(_PING_SECONDS)

    def _open(self, line: str, timeout: float = 10.0) -> paramiko.Channel:
        transport = self._client.get_transport()

        def opened() -> paramiko.Channel:
            if transport is None:
                raise EOFError("closed")
            channel = transport.open_session(timeout=20 * timeout)
            channel.exec_command(line)
            return channel

        try:
            return within(timeout, f"`{line}`", "dom0", opened, self.clock)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise LabError(f"connection lost: {error}", where="dom0") from error


def _all_of(
    channel: paramiko.Channel, receive: Callable[[int], bytes], deadline: Deadline
) -> bytes:
    """Return what comes until the stream ends; TimeoutError if that is after ``deadline``.

    LabError if it is too much.
    """
    channel.settimeout(_LOOK_SECONDS)
    said = bytearray()
    while True:
        if said and deadline.over:  # who prints without pause is late, too
            raise TimeoutError
        try:
            data = receive(_CHUNK)
        except TimeoutError:
            if deadline.over:
                raise
            continue
        if not data:
            return bytes(said)
        said += data
        if len(said) > _MOST:
            raise LabError(f"it prints more than {size(_MOST)}", where="dom0")
