"""The real runner: each run is a process of its own, ``evtchn-harness run``.

A process each: a run ends with everything it started, whatever became of it, and dies
with us should we be killed.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from harness import command
from harness.config.nightly import Cell, Xen
from harness.verdict import EXIT_USAGE, ConfigError, LabError

_END_SECONDS = 60.0  # for a run that was told to stop, to power off and write its reports
_TICK = 0.2


@dataclass(frozen=True)
class ChildRunner:
    """Runs cells with the machines of lab file ``lab``; tests are below ``home`` (the plan's
    directory) or ``testcases``."""

    lab: Path | None
    home: Path
    testcases: Path
    notice: Callable[[str], None]

    def __call__(self, cell: Cell, out: Path, seconds: float, stop: Event, /) -> None:
        """Run ``cell``; its terminal goes to a file beside ``out``."""
        deadline = time.monotonic() + seconds
        out.parent.mkdir(parents=True, exist_ok=True)
        with self._host(cell, out, deadline, stop):
            log = out.with_name(f"{out.name}.log")
            # -P: not a harness that the working directory happens to have.
            program = [sys.executable, "-P", "-m", "harness.cli"]
            argv = [*program, "run", *self.words(cell), f"--out={out}"]
            code = _run(argv, log, deadline, stop)
        if code == EXIT_USAGE:
            raise ConfigError(_last_line(log))
        if code < 0:
            raise LabError(f"the run was killed by signal {-code}", where=str(log))

    @contextmanager
    def _host(self, cell: Cell, out: Path, deadline: float, stop: Event) -> Iterator[None]:
        """Have the host to ourselves."""
        host = cell.host
        if host.acquire:
            log = out.with_name(f"{out.name}.acquire.log")
            if _run(["sh", "-c", host.acquire], log, deadline, stop) != 0:
                raise LabError(f"acquire: {_last_line(log)}", where=host.name)
            log.unlink()
        try:
            yield
        finally:
            if host.release:
                log = out.with_name(f"{out.name}.release.log")
                if error := _release(host.release, log):
                    self.notice(f"{host.name} is still ours: release: {error}")

    def words(self, cell: Cell) -> list[str]:
        """Return the options and tests of ``run`` that say ``cell``."""
        suite = cell.suite
        said = {
            "host": cell.host.name,
            "flavour": cell.xen.flavour,
            "duration": f"{suite.duration:g}",
            "repeat": suite.repeat,
            "seed": suite.seed,
            "lab": self.lab,
            "suite": None if suite.tests else suite.suite,
            **tree(cell.xen, self.home),
        }
        words = [f"--{name}={value}" for name, value in said.items() if value is not None]
        words += ["--keep-going", *(["--snapshot"] if suite.snapshot else [])]
        return [*words, *(str(self.find(test)) for test in suite.tests)]

    def find(self, test: str) -> Path:
        """Return where ``test`` (a file, a directory or a pytest node id) is."""
        file = test.partition("::")[0]
        own = self.home / file
        return (self.home if own.exists() else self.testcases) / test


def tree(xen: Xen, home: Path) -> dict[str, str | None]:
    """Return the options that say where the source of ``xen`` is; paths are from ``home``."""
    local = None if xen.git is None else home / Path(xen.git).expanduser()
    return {
        "xen-release": xen.release,
        "xen-src": None if xen.src is None else str(home / Path(xen.src).expanduser()),
        "xen-git": str(local) if local is not None and local.is_dir() else xen.git,
        "xen-ref": xen.ref,
    }


def _run(argv: Sequence[str], log: Path, deadline: float, stop: Event) -> int:
    """Run ``argv`` to its end and return its exit code; LabError if it was told to end early,
    at ``deadline`` or by ``stop``."""
    began = time.monotonic()
    with command.child(argv, log=log) as child:
        while child.poll() is None:
            if stop.is_set():
                _end(child)
                raise LabError("stopped")
            if time.monotonic() > deadline:
                _end(child)
                raise LabError(f"did not end within {time.monotonic() - began:.0f} s")
            stop.wait(_TICK)
        return child.returncode


def _release(line: str, log: Path) -> str:
    """Give a host back, whatever else is to stop; return what went wrong."""
    try:
        code = _run(["sh", "-c", line], log, time.monotonic() + _END_SECONDS, Event())
    except LabError as error:
        return str(error)
    if code:
        return _last_line(log)
    log.unlink()
    return ""


def _end(child: subprocess.Popen[bytes]) -> None:
    """Tell ``child`` to end, as Ctrl-C would; its group is killed soon after if it does not."""
    child.terminate()
    try:
        child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    errors = [line.removeprefix("ERROR: ") for line in lines if "error:" in line.lower()]
    return (errors or lines)[-1].removeprefix("error: ").strip()
