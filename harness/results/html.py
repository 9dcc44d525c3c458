# SPDX-License-Identifier: GPL-2.0-or-later
"""report.html: the report of a run as one file that loads no other file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from harness import page
from harness.results import plots
from harness.results.console import Stream, read_streams
from harness.results.directory import RunDirectory, write_whole
from harness.results.manifest import read_manifest
from harness.results.records import Test
from harness.results.store import HostRun, Run
from harness.shown import printable
from harness.verdict import SEVERITY, Verdict

_BAD = (Verdict.FAIL, Verdict.ERROR, Verdict.MISS)

_MEANING: dict[Verdict, str] = {
    Verdict.FAIL: "The hypervisor did something the model forbids.",
    Verdict.ERROR: "The test or the harness is broken; this says nothing about the hypervisor.",
    Verdict.MISS: "The lab failed or the run was stopped; this says nothing about the hypervisor.",
    Verdict.PASS: "Everything that was observed was allowed.",
    Verdict.DONE: "Something was measured; nothing was checked.",
    Verdict.SKIP: "No test applies here.",
}


@dataclass(frozen=True)
class Trouble:
    """A test, or a whole host, that failed."""

    host: str
    name: str  # of the test; "" for the host itself
    verdict: Verdict
    message: str
    story: str
    artifacts: tuple[str, ...]


@dataclass(frozen=True)
class Consoles:
    """The console streams of one host."""

    host: str
    streams: tuple[Stream, ...]
    zero: datetime | None  # power-on: the times shown are relative to it
    is_open: bool  # True: the last lines of the logs are shown without a click

    @property
    def eventful(self) -> tuple[Stream, ...]:
        return tuple(stream for stream in self.streams if stream.excerpts)


def write_html(run: Run) -> None:
    """Write report.html of ``run``; LabError if it cannot be written."""
    # Escape sequences that a guest has printed: who looks at the page with `cat` is not to obey.
    write_whole(run.directory.report, printable(render_html(run)))


def render_html(run: Run) -> str:
    """Return the report of ``run`` as one HTML document that loads nothing else."""
    troubles = _troubles(run)
    headline, meaning = _headline(run, troubles)
    spread = plots.latency_range(run.hosts)
    names = dict.fromkeys(test.name for host in run.hosts for test in host.tests)
    latencies = [(host, plots.latency(host, spread)) for host in run.hosts if host.latencies]
    values = {
        "run": run,
        "name": run.directory.path.name,
        "headline": headline,
        "meaning": meaning,
        "troubles": troubles,
        "tally": _tally(run),
        "test_names": list(names),
        "tests": {(host.name, test.name): test for host in run.hosts for test in host.tests},
        "throughput": Markup(plots.throughput(run.hosts)),
        "latencies": [(host, Markup(plot)) for host, plot in latencies],
        "phases": Markup(plots.phases(run.hosts)),
        "consoles": [_consoles(run.directory, host) for host in run.hosts],
        "offset": _offset,
        "artifact": lambda path: _artifact(run.directory, path),
        "command": reproduce(run),
        "ingredients": _ingredients(read_manifest(run.directory)),
        "files": [path.name for path in _files(run.directory) if path.is_file()],
    }
    return page.render(
        "report.html.j2",
        values,
        packages=("harness.results",),
        styles=("report.css",),
        style_attributes=True,  # the plots have them
        filters={"duration": _duration, "count": lambda number: f"{number:,}"},
    )


def reproduce(run: Run) -> str:
    """Return the command line that repeats the run: with its seed, without --out."""
    if not run.argv:
        return ""
    words = [Path(run.argv[0]).name]
    rest = iter(run.argv[1:])
    for word in rest:
        if word == "--out":
            next(rest, None)
        elif not word.startswith("--out="):
            words.append(word)
    if run.seed is not None and not any(w == "--seed" or w.startswith("--seed=") for w in words):
        words += ["--seed", str(run.seed)]
    return shlex.join(words)


def _troubles(run: Run) -> list[Trouble]:
    found = []
    for host in run.hosts:
        bad = [test for test in host.tests if test.verdict in _BAD]
        found += [_trouble(test) for test in bad]
        unexplained = host.verdict in _BAD and host.verdict not in [test.verdict for test in bad]
        if unexplained and (run.state == "finished" or _has_begun(host)):
            found.append(Trouble(host.name, "", host.verdict, host.message, "", ()))
    return sorted(found, key=lambda trouble: SEVERITY.index(trouble.verdict))


def _has_begun(host: HostRun) -> bool:
    return bool(host.seconds or host.tests or host.arch)


def _trouble(test: Test) -> Trouble:
    message = test.message or _MEANING[test.verdict]
    return Trouble(test.host, test.name, test.verdict, message, test.story, test.artifacts)


def _headline(run: Run, troubles: Sequence[Trouble]) -> tuple[str, str]:
    """Return the main result in one sentence, and the meaning of the verdict."""
    meaning = _MEANING[run.verdict]
    if run.state == "running":
        meaning = "The run still goes on: this report shows the results so far."
    elif run.state == "interrupted":
        meaning = "The run was interrupted: this report shows the results until then."
    if run.state == "finished" and run.message:
        return run.message, meaning
    if troubles:
        return f"{troubles[0].host}: {troubles[0].message}", meaning
    return meaning, ""


def _tally(run: Run) -> list[tuple[Verdict, int]]:
    all_ = [test.verdict for host in run.hosts for test in host.tests]
    return [(verdict, all_.count(verdict)) for verdict in SEVERITY if verdict in all_]


def _consoles(directory: RunDirectory, host: HostRun) -> Consoles:
    folder = directory.console(host.name)
    streams = read_streams(folder, host.console_events) if directory.holds(folder) else ()
    zero = min((stream.begin for stream in streams if stream.begin), default=None)
    return Consoles(host.name, streams, zero, host.verdict in _BAD)


def _offset(time: datetime | None, zero: datetime | None) -> str:
    """Return seconds since power-on, "" when unknown."""
    return f"{(time - zero).total_seconds():.3f}" if time and zero else ""


def _artifact(directory: RunDirectory, path: str) -> str:
    """Return the link to artifact ``path``, "" if there is no such file in the run directory."""
    return quote(os.fsencode(path)) if directory.file(path) else ""


def _files(directory: RunDirectory) -> list[Path]:
    return [directory.journal, directory.junit, directory.manifest, directory.log]


def _ingredients(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Return (label, value) for each ingredient in the manifest, without the packages."""
    harness, machine = manifest.get("harness", {}), manifest.get("machine", {})
    rows = [("harness", _words(harness.get("version"), harness.get("commit")))]
    for item in manifest.get("ingredients", []):
        if item.get("what") != "package":
            value = _words(item.get("name"), item.get("version"), item.get("digest"))
            rows.append((item.get("what", ""), value))
    rows += [(name, text or "") for name, text in manifest.get("programs", {}).items()]
    rows.append(("kernel", _words(machine.get("kernel"), machine.get("system"))))
    cpus = f"{machine.get('cpus')} ×"
    rows.append(("processor", _words(cpus, machine.get("processor")) if machine else ""))
    return [(label, value) for label, value in rows if value]


def _words(*parts: object) -> str:
    return " ".join(str(part) for part in parts if part)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
