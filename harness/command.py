# SPDX-License-Identifier: GPL-2.0-or-later
"""Run external programs, with a log and a deadline; no process of theirs outlives the call.

Every child is the leader of its own process group, which is killed when the call ends, also by an
exception.  If the harness itself is killed, even by SIGKILL, a watcher process notices that and
kills the group: no compiler goes on after its run is dead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from harness.verdict import LabError

# The watcher reads the number of the group, then waits for a second line, which says that the
# group has ended.  If the end of file comes instead, we are dead.  $1: how many seconds the group
# then has to end by itself.  PR_SET_PDEATHSIG would not do: it does not reach the children of
# make, and already acts when the calling thread ends.
_WATCHER = """
read -r group && ! read -r ended || exit
[ "$1" = 0 ] || kill -TERM "-$group"
while [ "$1" -gt 0 ] && kill -0 "-$group"; do sleep 1; set -- $(($1 - 1)); done
kill -KILL "-$group"
"""


class CommandFailed(LabError):
    """A program failed or did not end in time; ``output`` is what it printed."""

    def __init__(self, what: str, *, output: str, where: str = "", hint: str = "") -> None:
        super().__init__(what, where=where, hint=hint)
        self.output = output


def which(program: str, package: str) -> str:
    """Return the path of ``program``; LabError says which Debian ``package`` to install."""
    found = shutil.which(program)
    if found is None:
        for folder in ("/usr/sbin", "/sbin", "/usr/local/sbin"):  # not on a user's PATH
            candidate = Path(folder, program)
            if os.access(candidate, os.X_OK):
                return str(candidate)
        raise LabError(f"{program} is not installed", hint=f"run: sudo apt-get install {package}")
    return found


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    log: Path | None = None,
    timeout: float | None = None,
    stdin: bytes | None = None,
) -> str:
    """Run ``argv`` to its end and return what it printed (stdout and stderr together).

    ``env`` is added to the environment (the value None removes a variable); ``timeout`` is in
    seconds.  If ``log`` is given, the output is written there while the program runs.  Raises
    CommandFailed; on any exception, also KeyboardInterrupt, the whole process group is killed.
    """
    words = [str(word) for word in argv]
    see = f"see {log}" if log else ""
    with log_file(log) if log else contextlib.nullcontext(subprocess.PIPE) as sink:
        try:
            fed = subprocess.DEVNULL if stdin is None else subprocess.PIPE
            with _group(words, cwd=cwd, env=env, stdin=fed, stdout=sink) as child:
                out, _ = child.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired as expired:
            raise CommandFailed(
                f"{' '.join(words[:3])} did not end within {timeout:g} s",
                output=_text(log, expired.stdout),
                hint=see,
            ) from None
    text = _text(log, out)
    if child.returncode != 0:
        lines = text.strip().splitlines() or [""]
        full = [line for line in lines if "no space left" in line.lower()]
        last = full[-1:] or lines[-1:]  # lines after "no space left" are only consequences
        raise CommandFailed(
            f"{' '.join(words[:3])} {_ending(child.returncode)}: {last[0].strip()}",
            output=text,
            hint=see,
        )
    return text


@contextlib.contextmanager
def child(
    argv: Sequence[str | Path],
    *,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int | None = subprocess.STDOUT,
    patience: float = 0.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``argv``; at the end of the block, kill what is left of its process group.

    For programs that the caller may ask to end early; for others use run().  If the harness is
    killed, the watcher sends SIGTERM to the group, and SIGKILL ``patience`` seconds later.
    """
    words = [str(word) for word in argv]
    with _group(words, stdout=stdout, stderr=stderr, patience=patience) as started:
        yield started


def check(words: Sequence[str], env: Mapping[str, str | None]) -> None:
    """CommandFailed if Linux cannot pass one of ``words``, or a variable of ``env``, to a program:
    a text from a file may have a NUL or half a character in it."""
    shown = [(word, repr(word)) for word in words]
    shown += [(f"{name}={value}", f"${name}") for name, value in env.items()]  # may be a secret
    for text, told in shown:
        try:
            passed = b"\0" not in os.fsencode(text)
        except UnicodeEncodeError:
            passed = False
        if not passed:
            name = words[0] if words[0].isprintable() else repr(words[0])
            raise CommandFailed(f"cannot start {name}: {told} cannot be passed on", output="")


@contextlib.contextmanager
def log_file(log: Path) -> Iterator[IO[bytes]]:
    """Open ``log`` for the output of a program; LabError if it cannot be written."""
    try:
        sink = log.open("wb")
    except OSError as error:
        raise LabError(f"cannot write the log: {error.strerror}", where=str(log)) from error
    with sink:
        yield sink


@contextlib.contextmanager
def _group(
    words: list[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str | None] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: IO[bytes] | int,
    stderr: IO[bytes] | int | None = subprocess.STDOUT,
    patience: float = 0.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``words`` as the leader of a new process group that ends with the block."""
    with _watcher(patience) as watch:
        try:
            child = subprocess.Popen(
                words,
                cwd=cwd,
                env=_environment(env or {}),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            raise CommandFailed(f"cannot start {words[0]}: {error.strerror}", output="") from error
        except ValueError:
            check(words, env or {})
            raise
        try:
            watch(f"{child.pid}\n")
            yield child
        finally:
            _kill_group(child)
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
            child.wait()


def _kill_group(leader: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the group of ``leader``.

    Once the leader is reaped, its number stays reserved only as long as somebody is in the group.
    A process that has it now is a stranger: so nobody is left, and the group is the stranger's.
    """
    with contextlib.suppress(ProcessLookupError):  # the whole group has ended already
        if leader.returncode is None or not _exists(leader.pid):
            os.killpg(leader.pid, signal.SIGKILL)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        pass
    return True


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    changed = {**os.environ, **changes}
    return {name: value for name, value in changed.items() if value is not None}


@contextlib.contextmanager
def _watcher(patience: float) -> Iterator[Callable[[str], None]]:
    """Start the watcher process and yield the function that writes to it; end it with the block."""
    watcher = subprocess.Popen(
        ["/bin/sh", "-c", _WATCHER, "watcher", f"{patience:.0f}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so Ctrl-C does not end the watcher
    )
    assert watcher.stdin is not None
    line = watcher.stdin

    def write(text: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # the watcher was killed: go on without it
            os.write(line.fileno(), text.encode())

    try:
        yield write
    finally:
        write("ended\n")
        line.close()
        watcher.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"exited {code}"
    return f"was killed by signal {-code} ({signal.strsignal(-code)})"


def _text(log: Path | None, out: bytes | None) -> str:
    return (log.read_bytes() if log else out or b"").decode(errors="replace")
