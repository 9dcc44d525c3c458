# SPDX-License-Identifier: GPL-2.0-or-later
"""A run of the harness as a child process.

The commands that make many runs (bisect, compare, corpus, nightly) start each run as a process of
its own.  When this process ends, in whatever way, everything that it started ends too.  The parent
reads only the run's JSON document and its directory.

The child is the leader of its own process group, so Ctrl-C reaches only the parent.  On Ctrl-C or
SIGTERM the parent tells the child to end; the child then powers its machines off and writes its
reports.  If the parent is killed, even by SIGKILL, a watcher tells the child (``harness.command``).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from harness import bounded, command
from harness.config.options import RunOptions, XenOptions, words
from harness.verdict import EXIT_USAGE, ConfigError, LabError

_END_SECONDS = 60.0  # after it was told to end, for powering off and writing reports
_TICK = 0.2


def run(
    options: RunOptions,
    arguments: Sequence[str] = (),
    *,
    of: Sequence[str] = ("run",),
    log: Path | None = None,
    seconds: float | None = None,
    stop: Event | None = None,
) -> dict[str, Any]:
    """Run ``evtchn-harness run --json OPTIONS -- ARGUMENTS``, or the command ``of``, to its end.

    Returns its JSON document, which has ``error`` if the run was killed; {} if it printed none.
    Its stderr goes to the file ``log`` if that is given, else to our stderr.  ConfigError if it
    could not begin; LabError if we ended it, after ``seconds`` or because ``stop`` was set.
    """
    with started(of, options, operands=arguments, log=log) as child:
        said = wait(child, seconds=seconds, stop=stop)
    document = read(said)
    if child.returncode < 0:
        return {"error": f"the run was killed by signal {-child.returncode}"}
    if child.returncode == EXIT_USAGE:
        why = document.get("error") or document.get("message") or "the run could not begin"
        raise ConfigError(str(why))
    return document


@contextmanager
def started(
    arguments: Sequence[str],
    options: XenOptions,
    *,
    operands: Sequence[str] = (),
    log: Path | None = None,
    quiet: bool = False,
    nice: int = 0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``evtchn-harness ARGUMENTS --json OPTIONS -- OPERANDS``; its stdout is a pipe.

    ``operands`` may come from a plan or a command line, and are never taken for options.

    Its stderr is ours, or goes to the file ``log``, or is dropped if ``quiet``.  At the end of the
    block, what is left of its process group is killed.
    """
    slow = [command.which("nice", "coreutils"), "-n", str(nice)] if nice else []
    # -P: do not import a package ``harness`` from the working directory.
    program = [*slow, sys.executable, "-P", "-m", "harness.cli"]
    with contextlib.ExitStack() as stack:
        terminal = subprocess.DEVNULL if quiet else None
        child = stack.enter_context(
            command.child(
                [*program, *arguments, "--json", *words(options), "--", *operands],
                stdout=subprocess.PIPE,
                stderr=stack.enter_context(command.log_file(log)) if log else terminal,
                patience=_END_SECONDS,
            )
        )
        yield child


def wait(
    child: subprocess.Popen[bytes], *, seconds: float | None = None, stop: Event | None = None
) -> bytes:
    """Wait until ``child`` ends; return what it wrote to the pipe that is its stdout.

    After ``seconds``, or as soon as ``stop`` is set, tell it to end, and raise LabError.
    """
    began, ended = time.monotonic(), False
    try:
        while True:
            try:
                return child.communicate(timeout=_TICK)[0] or b""
            except subprocess.TimeoutExpired as late:
                if ended:  # a process that it left behind keeps the pipe open
                    return late.stdout or b""
            ended = child.poll() is not None
            if stop is not None and stop.is_set():
                raise LabError("stopped")
            if seconds is not None and time.monotonic() - began > seconds:
                raise LabError(f"did not end within {seconds:.0f} s")
    except BaseException:
        _end(child)
        raise


def read(said: bytes) -> dict[str, Any]:
    """Return the JSON document that a child printed; {} if it printed none."""
    try:
        document = bounded.json_value(said)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _end(child: subprocess.Popen[bytes]) -> None:
    """Send SIGINT to ``child``, as Ctrl-C would, and wait for its end.

    Another Ctrl-C does not shorten the wait.
    """
    child.terminate()
    deadline = time.monotonic() + _END_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.communicate(timeout=_TICK)
