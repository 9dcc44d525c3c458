"""The harness as a child of the harness: a run ends with everything it started, whatever
became of it, and the loops around runs only read its JSON document."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from harness import command
from harness.verdict import EXIT_INTERRUPTED, EXIT_USAGE, ConfigError

_END_SECONDS = 60.0


def start(words: Sequence[str], *, nice: int = 0, quiet: bool = False) -> subprocess.Popen[str]:
    """Start ``evtchn-harness WORDS``; its stdout is a pipe, its stderr ours unless ``quiet``.

    Should we be killed, SIGKILL included, the kernel sends it a SIGTERM, which ends it in
    order.  (The kernel counts the thread that calls this: it has to outlive the child.)
    """
    tied = [command.which("setpriv", "util-linux"), "--pdeathsig", "TERM"]
    slow = [command.which("nice", "coreutils"), "-n", str(nice)] if nice else []
    # -P: not a harness that the working directory happens to have.
    return subprocess.Popen(
        [*slow, *tied, sys.executable, "-P", "-m", "harness.cli", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else None,
        text=True,
    )


def run(words: Sequence[str], command: Sequence[str] = ("run",)) -> dict[str, Any]:
    """Run ``evtchn-harness run --json WORDS``; return its document, {} if it left none.

    Or another ``command`` that boots and tests.

    ConfigError when it could not begin; KeyboardInterrupt when it or we were interrupted.
    """
    child = start([*command, "--json", *words])
    try:
        said, _ = child.communicate()
    except KeyboardInterrupt:
        child.terminate()  # a second Ctrl-C to it does no harm: it is on its way out already
        child.communicate(timeout=_END_SECONDS)
        raise
    if child.returncode == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    document = read(said)
    if child.returncode == EXIT_USAGE:
        raise ConfigError(str(document.get("error", "the run could not begin")))
    return document


def read(said: str) -> dict[str, Any]:
    """Return the JSON document that a child printed; {} if it did not get that far."""
    try:
        document = json.loads(said)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
