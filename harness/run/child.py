"""A run of the harness as a child of the harness.

The loops around runs (bisect, compare, corpus, nightly) start each run as a process of its own.
So a run ends with everything that it started, whatever became of it, and the loop reads nothing
but its JSON document and its directory.

The child is the leader of its own process group.  Ctrl-C and SIGTERM are for us: we tell the
child to end, and it powers its machines off and writes its reports.  Should we be killed, by
SIGKILL as well, it is told so by a watcher (see ``harness.command``).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from harness import command
from harness.config.options import RunOptions, XenOptions, words
from harness.verdict import EXIT_USAGE, ConfigError, LabError

_END_SECONDS = 60.0  # for a child that was told to end, to power off and to write its reports
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
    """Run ``evtchn-harness run --json OPTIONS ARGUMENTS``, or the command ``of``, to its end.

    Returns its document: one with ``error`` if it ended in another way than by itself, {} if it
    printed none.  ``log`` gets what it says on the terminal, which else is ours.  ConfigError
    when it could not begin; LabError when it had to be ended, after ``seconds`` or by ``stop``.
    """
    with started([*of, *arguments], options, log=log) as child:
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
    log: Path | None = None,
    quiet: bool = False,
    nice: int = 0,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start ``evtchn-harness ARGUMENTS --json OPTIONS``; its stdout is a pipe.

    Its stderr is ours, or goes to ``log``, or nowhere if ``quiet``.  What is left of it at the
    end of the block is killed.
    """
    slow = [command.which("nice", "coreutils"), "-n", str(nice)] if nice else []
    # -P: not a harness that the working directory happens to have.
    program = [*slow, sys.executable, "-P", "-m", "harness.cli"]
    with contextlib.ExitStack() as stack:
        terminal = subprocess.DEVNULL if quiet else None
        child = stack.enter_context(
            command.child(
                [*program, *arguments, "--json", *words(options)],
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

    After ``seconds``, or once ``stop`` is set, it is told to end, and LabError says so.
    """
    began, ended = time.monotonic(), False
    try:
        while True:
            try:
                return child.communicate(timeout=_TICK)[0] or b""
            except subprocess.TimeoutExpired as late:
                if ended:  # what it left behind has the pipe open
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
    """Return the JSON document that a child printed; {} if it did not get that far."""
    try:
        document = json.loads(said)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _end(child: subprocess.Popen[bytes]) -> None:
    """Tell ``child`` to end, as Ctrl-C would, and give it time for that.

    Whoever presses Ctrl-C once more does not make it faster.
    """
    child.terminate()
    deadline = time.monotonic() + _END_SECONDS
    while child.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.communicate(timeout=_TICK)
