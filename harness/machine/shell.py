# SPDX-License-Identifier: GPL-2.0-or-later
"""A root shell in a server's default system, through SSH; lab.yaml has the host key."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

import paramiko

from harness.bounded import size
from harness.machine.tenure import LeaseLost
from harness.verdict import ConfigError, LabError

_CONNECT_SECONDS = 15.0
_PIECE = 1 << 20  # bytes sent at once: after every packet paramiko copies all of the rest
_MOST = 64 << 20  # bytes that a command may print
_PAUSE = 1.0  # between two attempts to log in
logging.getLogger("paramiko").addHandler(logging.NullHandler())  # our exceptions say it all
logging.getLogger("paramiko").propagate = False


class WrongHostKey(LabError):
    """The server that answers by SSH has another host key than lab.yaml says."""


class Shell:
    """A connection to the server; every method raises LabError if the connection is lost."""

    def __init__(self, client: paramiko.SSHClient, where: str) -> None:
        self._client = client
        self.where = where

    def run(self, command: str, *, timeout: float = 60.0, stdin: bytes = b"") -> str:
        """Run a shell ``command``; return its output.  LabError if it fails."""
        channel = self.channel(command)
        channel.settimeout(timeout)
        channel.set_combine_stderr(True)
        try:
            for at in range(0, len(stdin), _PIECE):
                channel.sendall(stdin[at : at + _PIECE])
            channel.shutdown_write()
            said: str = channel.makefile("rb").read(_MOST + 1).decode(errors="replace")
            if len(said) > _MOST:
                raise LabError(
                    f"`{_short(command)}` prints more than {size(_MOST)}", where=self.where
                )
            if not channel.status_event.wait(timeout):
                raise TimeoutError
        except TimeoutError:
            raise LabError(
                f"`{_short(command)}` did not end within {timeout:.0f} s", where=self.where
            ) from None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise LabError(
                f"connection lost during `{_short(command)}`: {error}", where=self.where
            ) from None
        finally:
            channel.close()
        if status := channel.recv_exit_status():
            last = (said.strip().splitlines() or [f"exit status {status}"])[-1]
            raise LabError(f"`{_short(command)}` failed: {last}", where=self.where)
        return said

    def put(self, source: Path | bytes, target: str, *, mode: int = 0o600) -> None:
        """Write ``source`` (a local file, or bytes) to the server's ``target``, or raise."""
        body = source.read_bytes() if isinstance(source, Path) else source
        part = f"{target}.part"
        digest = hashlib.sha256(body).hexdigest()
        self.run(f"umask 077; cat >{part}", stdin=body, timeout=600)
        said = self.run(f"sha256sum {part} && chmod {mode:o} {part} && sync", timeout=120)
        if said.split()[:1] != [digest]:
            raise LabError(
                "the copied file is not identical to the original", where=f"{self.where}:{target}"
            )
        self.run(f"mv {part} {target}")

    def channel(self, command: str) -> paramiko.Channel:
        """Start a program; return its stdin and stdout as an SSH channel."""
        transport = self._client.get_transport()
        try:
            if transport is None:
                raise EOFError("closed")
            channel = transport.open_session(timeout=_CONNECT_SECONDS)
            channel.exec_command(command) if command else channel.invoke_shell()
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise LabError(f"connection lost: {error}", where=self.where) from None
        return channel

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def connect(address: str, port: int, user: str, key_file: str, host_key: str) -> Shell:
    """Log in, with one attempt; WrongHostKey if the host key differs, LabError if it fails."""
    where = f"{user}@{address}:{port}"
    client = paramiko.SSHClient()
    kind, key = _host_key(host_key)
    client.get_host_keys().add(address if port == 22 else f"[{address}]:{port}", kind, key)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    try:
        client.connect(
            address,
            port,
            username=user,
            key_filename=str(Path(key_file).expanduser()),
            allow_agent=False,
            look_for_keys=False,
            timeout=_CONNECT_SECONDS,
            banner_timeout=_CONNECT_SECONDS,
            auth_timeout=_CONNECT_SECONDS,
        )
    except paramiko.BadHostKeyException:
        client.close()
        raise WrongHostKey(
            "the server shows another SSH host key than the one in lab.yaml",
            where=where,
            hint="if the server was reinstalled, read its key on its console and set ssh.host_key",
        ) from None
    except paramiko.AuthenticationException:
        client.close()
        raise LabError(
            "the server refuses our SSH key", where=where, hint="check ssh.key_file"
        ) from None
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        client.close()
        raise ConfigError(
            f"cannot read the SSH key: {error.strerror}", where=str(key_file)
        ) from None
    except (paramiko.SSHException, OSError, EOFError) as error:
        client.close()
        raise LabError(
            f"the server does not answer by SSH: {str(error) or type(error).__name__}", where=where
        ) from None
    return Shell(client, where)


def wait_for(log_in: Callable[[], Shell], seconds: float) -> Shell:
    """Call ``log_in`` until it succeeds; after ``seconds``, raise its last LabError.

    WrongHostKey and LeaseLost are raised at once.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return log_in()
        except (WrongHostKey, LeaseLost):
            raise
        except LabError as error:
            if time.monotonic() > deadline:
                raise LabError(f"{error.what} within {seconds:.0f} s", where=error.where) from None
        time.sleep(_PAUSE)


def _host_key(text: str) -> tuple[str, paramiko.PKey]:
    kind, _, rest = text.strip().partition(" ")
    with contextlib.suppress(binascii.Error, paramiko.SSHException, ValueError, IndexError):
        blob = base64.b64decode(rest.split()[0], validate=True)
        return kind, paramiko.PKey.from_type_string(kind, blob)
    raise ConfigError(
        "not an SSH host key",
        where="ssh.host_key",
        hint="copy a line of `ssh-keyscan` without the host's name, such as: ssh-ed25519 AAAA...",
    )


def _short(command: str) -> str:
    return command if len(command) <= 60 else f"{command[:57]}..."
