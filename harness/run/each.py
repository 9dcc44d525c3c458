# SPDX-License-Identifier: GPL-2.0-or-later
"""``run --each``: a run after every patch of a series, so that each patch has a verdict.

In the directory: ``series/`` (the mails, one a file), ``runs/<number>/`` (the runs) and
``each.json``.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.config.options import RunOptions
from harness.hypervisor import series
from harness.hypervisor.build import build
from harness.results import directory
from harness.results.directory import cannot_write, write_whole
from harness.run import child
from harness.run.plan import find_hosts, open_hypervisor, open_source
from harness.verdict import BuildError, ConfigError, Verdict, combine

DOCUMENT = "each.json"


@dataclass(frozen=True)
class Step:
    """What became of the tree after one patch, all earlier ones included."""

    number: int  # from 1
    file: str
    subject: str
    tree: str  # git's id of the whole tree
    verdict: Verdict
    message: str  # one line: why it is not a PASS
    path: str  # directory of the run; "" if there was none, because the tree does not build


Run = Callable[[RunOptions, Sequence[str]], dict[str, Any]]


def run_each(
    options: RunOptions,
    tests: Sequence[str],
    notice: Callable[[str], None],
    run: Run = child.run,
) -> dict[str, Any]:
    """Run ``tests`` after every patch of the series of ``options``; return the document.

    ``run`` makes one run and returns its document.
    docs/series.md has its keys.  Raises ConfigError, before anything is built, if there is no
    series, or a patch of it does not apply.
    """
    mails = series.read(options.series)
    if not mails:
        raise ConfigError("--each needs --series", hint="give the patches to test one by one")
    find_hosts(options)
    patches = open_source(options).series
    place = directory.create(options.out).path
    files = list(_written(mails, place / "series"))
    seed = secrets.randbits(32) if options.seed is None else options.seed
    steps: list[Step] = []
    for number, patch in enumerate(patches, 1):
        notice(f"-- patch {number} of {len(patches)}: {patch.subject}")
        out = place / "runs" / str(number)
        asked = replace(options, series=tuple(files[:number]), seed=seed, out=out)
        verdict, message, path = _run(asked, tests, run)
        steps.append(
            Step(number, patch.file, patch.subject, patch.tree, verdict, message, str(path or ""))
        )
        document = _document(steps, len(patches), place)
        write_whole(place / DOCUMENT, json.dumps(document, indent=2) + "\n")
    return document


def _written(mails: Sequence[series.Mail], folder: Path) -> Iterator[Path]:
    """Write each of ``mails`` to a file, as what the runs are given."""
    try:
        folder.mkdir()
        for number, mail in enumerate(mails, 1):
            path = folder / f"{number:04}.eml"
            path.write_bytes(mail.content)
            yield path
    except OSError as error:
        raise cannot_write(folder, error) from error


def _run(options: RunOptions, tests: Sequence[str], run: Run) -> tuple[Verdict, str, Path | None]:
    """Build the tree and run ``tests`` on it; return verdict, message and directory."""
    xen = open_hypervisor(options)
    try:
        for arch in {host.arch for host in find_hosts(options)}:
            build(xen.source, xen.flavour, arch, xen.how)
    except BuildError as error:
        return error.verdict, f"does not build: {error}", None
    ended = run(options, tests)
    message = next((h["message"] for h in ended.get("hosts", ()) if h["message"]), "")
    return (
        Verdict(ended.get("verdict", Verdict.MISS)),
        str(ended.get("error") or ended.get("message") or message),
        options.out,
    )


def _document(steps: Sequence[Step], count: int, place: Path) -> dict[str, Any]:
    verdict = combine([step.verdict for step in steps])
    first = next(step for step in steps if step.verdict is verdict)
    good = verdict in (Verdict.PASS, Verdict.DONE, Verdict.SKIP)
    return {
        "verdict": verdict,
        "message": ""
        if good
        else f"the first {verdict} is patch {first.number} of {count}, "
        f'"{first.subject}": {first.message}',
        "first": None if good else first.number,
        "patches": count,
        "path": str(place),
        "steps": [asdict(step) for step in steps],
    }
