# SPDX-License-Identifier: GPL-2.0-or-later
"""The real runner: each run is a child process, ``evtchn-harness run``."""

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
    """Runs cells on the hosts of lab file ``lab`` and the built-in ones.

    Test files are looked for below ``plan_dir`` (the plan's directory), then below ``testcases``.
    """

    lab: Path | None
    plan_dir: Path
    testcases: Path
    notice: Callable[[str], None]

    def __call__(self, cell: Cell, out: Path, seconds: float, stop: Event, /) -> None:
        """Run ``cell``; what the run prints goes to a file beside ``out``."""
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
        """Run the plan's ``acquire`` command before the block, and ``release`` after it."""
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
                    self.notice(f"{host.name} was not released: {error}")

    def options(self, cell: Cell, out: Path | None = None) -> RunOptions:
        """Return the options of ``run`` for ``cell``."""
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
            no_snapshot=True,  # a night tests the boot as well
            keep_going=True,
        ).with_xen(xen_options(cell.xen, self.plan_dir))

    def find(self, test: str) -> Path:
        """Return the path of ``test``: a file, a directory or a pytest node id."""
        file = test.partition("::")[0]
        beside_plan = (self.plan_dir / file).exists()
        return (self.plan_dir if beside_plan else self.testcases) / test


def xen_options(xen: Xen, plan_dir: Path) -> XenOptions:
    """Return the options for ``xen``; its paths are relative to ``plan_dir``."""
    local = None if xen.git is None else plan_dir / Path(xen.git).expanduser()
    return XenOptions(
        flavour=xen.flavour,
        xen_release=xen.release,
        xen_src=None if xen.src is None else plan_dir / Path(xen.src).expanduser(),
        xen_git=str(local) if local is not None and local.is_dir() else xen.git,
        xen_ref=xen.ref,
        series=tuple(plan_dir / Path(file).expanduser() for file in xen.series),
        model=xen.model,
    )


def _shell(line: str, log: Path, seconds: float, stop: Event) -> int:
    """Run ``line`` in a shell and return its exit code.

    LabError if it takes longer than ``seconds``, or ``stop`` is set.
    """
    with (
        command.log_file(log) as sink,
        command.child(["sh", "-c", line], stdout=sink) as started,
    ):
        child.wait(started, seconds=seconds, stop=stop)
    return started.returncode


def _release(line: str, log: Path) -> str:
    """Run the release command, also when the nightly is being stopped; return its error, or ""."""
    try:
        code = _shell(line, log, _RELEASE_SECONDS, Event())
    except LabError as error:
        return str(error)
    if code:
        return _last_line(log)
    log.unlink()
    return ""


def _last_line(log: Path) -> str:
    """Return the last line of ``log`` with an error, or just the last line."""
    lines = log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"]
    errors = [line for line in lines if "error:" in line.lower()]
    return (errors or lines)[-1].removeprefix("error: ").strip()
