# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lines of Xen's event channels runs have executed: their file, and the page of several."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import page
from harness.results.directory import write_whole
from harness.verdict import ConfigError

PAGE, DOCUMENT = "lines.html", "lines.json"
_VERSION = 1


@dataclass(frozen=True)
class FileLines:
    """One source file: its text, and the lines (from 1) that have code, and that have run."""

    text: str
    code: frozenset[int]
    ran: frozenset[int]


@dataclass(frozen=True)
class HostLines:
    """What ran on one host."""

    name: str  # of the run, and of the host
    arch: str
    xen: str
    files: Mapping[str, FileLines]

    def count(self, file: str = "") -> tuple[int, int]:
        """Return how many lines ran, and how many have code; of ``file``, or of all."""
        chosen = [self.files[file]] if file else list(self.files.values())
        return sum(len(each.ran) for each in chosen), sum(len(each.code) for each in chosen)


def name_of(host: str) -> str:
    """Return the name of the file of ``host`` in a run directory."""
    return f"lines-{host}.json"


def save(found: HostLines, directory: Path, host: str) -> None:
    """Write ``found`` into the run ``directory``, and the page of all that is there.

    If the host was started before in this run, what ran then counts as well.  LabError if a file
    cannot be written.
    """
    path = directory / name_of(host)
    if path.exists():
        found = together([found, _read(path)])[0]
    files = {
        name: {"text": each.text, "code": sorted(each.code), "ran": sorted(each.ran)}
        for name, each in found.files.items()
    }
    body = {"version": _VERSION, "arch": found.arch, "xen": found.xen, "files": files}
    write_whole(path, json.dumps(body))
    write(load([directory]), directory)


def load(runs: Iterable[Path]) -> list[HostLines]:
    """Return what ran in each host of ``runs`` (run directories).

    ConfigError for one without such a file, or with one that cannot be read.
    """
    found = []
    for run in runs:
        paths = sorted(run.glob(name_of("*")))
        if not paths:
            raise ConfigError(
                "says nothing of lines", where=str(run), hint="make a run with --lines"
            )
        found += [_read(path) for path in paths]
    return found


def _read(path: Path) -> HostLines:
    try:
        body = json.loads(path.read_text())
        if body["version"] != _VERSION:
            raise ValueError(f"version {body['version']!r}")
        files = {
            str(name): FileLines(
                str(each["text"]),
                frozenset(int(line) for line in each["code"]),
                frozenset(int(line) for line in each["ran"]) & frozenset(each["code"]),
            )
            for name, each in body["files"].items()
        }
        host = path.stem.removeprefix("lines-")
        return HostLines(
            f"{path.parent.resolve().name}: {host}", str(body["arch"]), str(body["xen"]), files
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"cannot be read: {error}", where=str(path), hint="make the run again"
        ) from error


def together(found: Sequence[HostLines]) -> list[HostLines]:
    """Return what ran in any of ``found``, by architecture.

    ConfigError if the same file has another text, or its code other lines, in two of them.
    """
    joined: dict[str, HostLines] = {}
    for each in found:
        other = joined.get(each.arch)
        if other is None:
            joined[each.arch] = HostLines("together", each.arch, each.xen, each.files)
            continue
        files = {}
        for name in {**other.files, **each.files}:
            one, two = other.files.get(name), each.files.get(name)
            if one is None or two is None or (one.text, one.code) != (two.text, two.code):
                raise ConfigError(
                    f"{name} is not the same in {each.xen} and in {other.xen}",
                    where=each.name,
                    hint="give runs of one build of Xen",
                )
            files[name] = FileLines(one.text, one.code, one.ran | two.ran)
        joined[each.arch] = HostLines("together", each.arch, each.xen, files)
    texts = {(name, one.text) for each in joined.values() for name, one in each.files.items()}
    if len(texts) != len({name for name, _ in texts}):
        raise ConfigError(
            "the sources of the two architectures are not the same",
            where=found[-1].name,
            hint="give runs of one Xen",
        )
    return [joined[arch] for arch in sorted(joined)]


def document(found: Sequence[HostLines]) -> dict[str, Any]:
    """Return ``found`` as JSON values; docs/lines.md explains the keys."""

    def counts(each: HostLines) -> dict[str, Any]:
        ran, code = each.count()
        return {
            "name": each.name,
            "arch": each.arch,
            "xen": each.xen,
            "ran": ran,
            "code": code,
            "files": {
                name: {
                    "ran": each.count(name)[0],
                    "code": each.count(name)[1],
                    "not_run": sorted(lines.code - lines.ran),
                }
                for name, lines in each.files.items()
            },
        }

    return {
        "runs": [counts(each) for each in found],
        "together": [counts(each) for each in together(found)],
    }


def write(found: Sequence[HostLines], folder: Path) -> Path:
    """Write the page and the document of ``found`` into ``folder``; return the page's path."""
    joined = together(found)
    write_whole(folder / DOCUMENT, json.dumps(document(found), indent=1))
    path = folder / PAGE
    write_whole(
        path,
        page.render(
            "lines.html.j2",
            {"title": "Lines that ran", "counted": _table(found, joined), "files": _files(joined)},
            packages=["harness.results"],
            styles=["lines.css"],
        ),
    )
    return path


@dataclass(frozen=True)
class _Counted:
    name: str
    arch: str
    xen: str
    cells: Sequence[tuple[int, int]]  # of each file, and of all


@dataclass(frozen=True)
class _Listing:
    name: str
    archs: Sequence[str]
    lines: Sequence[tuple[int, Sequence[str], str]] = field(repr=False)  # marks: ran, not, ""


def _table(found: Sequence[HostLines], joined: Sequence[HostLines]) -> list[_Counted]:
    names = _names(joined)
    one_each = {each.arch for each in found}
    rows = [*found, *(each for each in joined if len(found) > len(one_each))]
    return [
        _Counted(
            each.name,
            each.arch,
            each.xen,
            [*(each.count(name) if name in each.files else (0, 0) for name in names), each.count()],
        )
        for each in rows
    ]


def _names(joined: Sequence[HostLines]) -> list[str]:
    return sorted({name for each in joined for name in each.files})


def _files(joined: Sequence[HostLines]) -> list[_Listing]:
    listings = []
    for name in _names(joined):
        having = [each for each in joined if name in each.files]
        text = having[0].files[name].text.removesuffix("\n").split("\n")  # as compilers count
        lines = []
        for number, line in enumerate(text, 1):
            marks = [_mark(each.files[name], number) for each in having]
            lines.append((number, marks, line))
        listings.append(_Listing(name, [each.arch for each in having], lines))
    return listings


def _mark(lines: FileLines, number: int) -> str:
    if number not in lines.code:
        return ""
    return "ran" if number in lines.ran else "not"
