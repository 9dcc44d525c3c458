"""The real runner: each run is a process of its own, ``evtchn-harness run``."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from harness import command
from harness.config.nightly import Cell, Xen
from harness.config.options import RunOptions, XenOptions
from harness.run import child
from harness.verdict import LabError

_RELEASE_SECONDS = 60.0


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
        with self._host(cell, out, seconds, stop):
            ended = child.run(
                self.options(cell, out),
                [str(self.find(test)) for test in cell.suite.tests],
                log=out.with_name(f"{out.name}.log"),
                seconds=deadline - time.monotonic(),
                stop=stop,
            )
        if "error" in ended:
            raise LabError(str(ended["error"]))

    @contextmanager
    def _host(self, cell: Cell, out: Path, seconds: float, stop: Event) -> Iterator[None]:
        """Have the host to ourselves."""
        host = cell.host
        if host.acquire:
            log = out.with_name(f"{out.name}.acquire.log")
            if _shell(host.acquire, log, seconds, stop) != 0:
                raise LabError(f"acquire: {_last_line(log)}", where=host.name)
            log.unlink()
        try:
            yield
        finally:
            if host.release:
                log = out.with_name(f"{out.name}.release.log")
                if error := _release(host.release, log):
                    self.notice(f"{host.name} is still ours: release: {error}")

    def options(self, cell: Cell, out: Path | None = None) -> RunOptions:
        """Return the options of ``run`` that say ``cell``."""
        suite = cell.suite
        return RunOptions(
            host=(cell.host.name,),
            duration=suite.duration,
            repeat=suite.repeat,
            seed=suite.seed,
            lab=self.lab,
            out=out,
            suite=RunOptions.suite if suite.tests else suite.suite,
            snapshot=suite.snapshot,
            keep_going=True,
        ).with_xen(xen_options(cell.xen, self.home))

    def find(self, test: str) -> Path:
        """Return where ``test`` (a file, a directory or a pytest node id) is."""
        file = test.partition("::")[0]
        own = self.home / file
        return (self.home if own.exists() else self.testcases) / test


def xen_options(xen: Xen, home: Path) -> XenOptions:
    """Return the options that say ``xen``; paths are from ``home``."""
    local = None if xen.git is None else home / Path(xen.git).expanduser()
    return XenOptions(
        flavour=xen.flavour,
        xen_release=xen.release,
        xen_src=None if xen.src is None else home / Path(xen.src).expanduser(),
        xen_git=str(local) if local is not None and local.is_dir() else xen.git,
        xen_ref=xen.ref,
    )


def _shell(line: str, log: Path, seconds: float, stop: Event) -> int:
    """Run ``line`` in a shell and return its exit code; LabError if it was ended early."""
    with (
        command.log_file(log) as sink,
        command.child(["sh", "-c", line], stdout=sink) as started,
    ):
        child.wait(started, seconds=seconds, stop=stop)
    return started.returncode


def _release(line: str, log: Path) -> str:
    """Give a host back, whatever else is to stop; return what went wrong."""
    try:
        code = _shell(line, log, _RELEASE_SECONDS, Event())
    except LabError as error:
        return str(error)
    if code:
        return _last_line(log)
    log.unlink()
    return ""


def _last_line(log: Path) -> str:
    """Return the last error that a program of the user's told of, else its last words."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
    errors = [line for line in lines if "error:" in line.lower()]
    return (errors or lines)[-1].removeprefix("error: ").strip()
