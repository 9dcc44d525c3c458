# SPDX-License-Identifier: GPL-2.0-or-later
"""PLAN.yaml of ``nightly``: which tests run on which hosts with which Xens, and how long::

budget_hours: 8
hosts:
  qemu-arm64:
xens:
  counter: {flavour: counter}
suites:
  hypercalls: {tests: [test_hypercalls.py], priority: 10}
  load: {tests: [test_load.py], duration: 60}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from harness import git
from harness.config.document import Document, did_you_mean, shown
from harness.config.options import RunOptions
from harness.verdict import ConfigError

_M = TypeVar("_M", bound="_Named")

# Names become directories, words on the command line and parts of KCIDB's ids.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ORIGIN = re.compile(r"[a-z0-9_]+")  # kcidb_io.schema: what an origin looks like
_FILE = "write for example `suites: {load: {tests: [test_load.py]}}`"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Named(_Section):
    name: str = ""  # the key in the file
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0


class PlanHost(_Named):
    """A host of the lab, and the commands that reserve and release it."""

    acquire: str | None = (
        None  # shell command before each run on the host; if it fails: a lab fault
    )
    release: str | None = None  # shell command after each run, also if the run failed


class Xen(_Named):
    """A hypervisor under test; if no source is given, the distribution's Xen 4.17."""

    flavour: str | None = None  # None: as without --flavour
    release: str | None = None  # of the distribution's, such as "4.14"
    src: str | None = None  # a directory
    git: str | None = None  # path or address of a repository
    ref: str | None = None  # commit, tag or branch in it
    series: tuple[str, ...] = ()  # files of mails whose patches are applied to that source
    model: Literal["counter", "rwlock", "spinlock"] | None = None  # None: recognised
    hosts: tuple[str, ...] | None = None  # None: all of the plan

    @field_validator("git", "ref")
    @classmethod
    def _is_no_option(cls, value: str | None, field: ValidationInfo) -> str | None:
        check = git.repository if field.field_name == "git" else git.revision
        try:
            return None if value is None else check(value, "")
        except ConfigError as error:
            raise ValueError(error.what) from error

    @model_validator(mode="after")
    def _has_one_source(self) -> Xen:
        given = [name for name in ("release", "src", "git") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other; keep one")
        if (self.git is None) != (self.ref is None):
            raise ValueError("git and ref belong together; give both")
        return self


class Suite(_Named):
    """Tests that run together in one boot."""

    suite: Literal["lock", "conformance"] = "lock"  # of our own tests, if no others are given
    tests: tuple[str, ...] = ()  # files or node ids, below the plan or testcases/
    duration: Annotated[float, Field(ge=0.5, le=86400)] = RunOptions.duration  # seconds of load
    repeat: Annotated[int, Field(ge=1, le=10000)] = RunOptions.repeat
    seed: int | None = None  # None: a fresh one for every run
    snapshot: bool = False
    timeout_minutes: Annotated[float, Field(gt=0, le=10080)] = 60.0
    xens: tuple[str, ...] | None = None  # None: all of the plan
    hosts: tuple[str, ...] | None = None

    @model_validator(mode="after")
    def _has_one_choice(self) -> Suite:
        if self.tests and self.suite != "lock":
            raise ValueError("tests and suite exclude each other; keep one")
        return self


class Kcidb(_Section):
    """How the results are labelled for KCIDB."""

    origin: str = "xen_evtchn_harness"
    url: str | None = None  # address at which the store's files can be read

    @field_validator("origin")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        if not _ORIGIN.fullmatch(value):
            raise ValueError(f"{value!r} cannot be an origin; use a-z, 0-9 and '_'")
        return value


class _Night(_Section):
    budget_hours: Annotated[float, Field(gt=0, le=168)] = 8.0
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    parallel: Annotated[int, Field(ge=1, le=1000)] | None = None


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix of hosts, Xens and suites: it is one run."""

    host: PlanHost
    xen: Xen
    suite: Suite

    @property
    def key(self) -> tuple[str, str, str]:
        """Names of host, Xen and suite; they identify the cell in every night."""
        return self.host.name, self.xen.name, self.suite.name

    @property
    def priority(self) -> int:
        """The sum of the three priorities; cells with a higher sum run earlier."""
        return self.host.priority + self.xen.priority + self.suite.priority


@dataclass(frozen=True)
class NightlyPlan:
    """A plan that was checked: every name in it exists."""

    path: Path
    hosts: Mapping[str, PlanHost]
    xens: Mapping[str, Xen]
    suites: Mapping[str, Suite]
    budget_hours: float
    retries: int  # of a run that the lab failed
    parallel: int | None  # runs at a time; None: as many as this machine has CPUs for
    kcidb: Kcidb

    def cells(self) -> list[Cell]:
        """Return the matrix, in the order of the file."""
        return [
            Cell(host, xen, suite)
            for suite in self.suites.values()
            for xen in self.xens.values()
            for host in self.hosts.values()
            if _wants(xen.hosts, host) and _wants(suite.hosts, host) and _wants(suite.xens, xen)
        ]


def load_plan(path: Path) -> tuple[NightlyPlan, Document]:
    """Return the plan in file ``path``, and the file, so that callers can add further problems.

    Raises ConfigError with one line per problem: file, line, field, and what to do.
    """
    document = Document(path, kind="plan", find="give the path of a plan", example=_FILE)
    sections = document.sections((*_Night.model_fields, "hosts", "xens", "suites", "kcidb"))
    night = document.validate(
        _Night, (), {name: sections[name] for name in _Night.model_fields if name in sections}
    )
    labels = sections.get("kcidb")
    if not isinstance(labels, dict | None):
        document.problem_at(("kcidb",), f"must be a mapping, not {shown(labels)}", "see origin")
        labels = None
    kcidb = document.validate(Kcidb, ("kcidb",), _words(labels or {}))
    plan = NightlyPlan(
        path=path,
        hosts=_named(document, PlanHost, "hosts", sections),
        xens=_named(document, Xen, "xens", sections),
        suites=_named(document, Suite, "suites", sections),
        budget_hours=night.budget_hours if night else 0,
        retries=night.retries if night else 0,
        parallel=night.parallel if night else None,
        kcidb=kcidb or Kcidb(),
    )
    _check_names(document, plan)
    document.finish()
    return plan, document


def _named(
    document: Document, model: type[_M], section: str, sections: Mapping[str, Any]
) -> dict[str, _M]:
    entries = sections.get(section)
    if not isinstance(entries, dict) or not entries:
        what = "must map names to fields" if section in sections else "missing"
        hint = f"write for example `{section}: {{{_EXAMPLES[section]}}}`"
        document.problem_at((section,), what, hint)
        return {}
    found = {}
    for name, fields in entries.items():
        entry = _entry(document, model, (section, name), fields)
        if entry is not None:
            found[entry.name] = entry
    return found


_EXAMPLES = {
    "hosts": "qemu-arm64: {}",
    "xens": "counter: {flavour: counter}",
    "suites": "load: {tests: [test_load.py]}",
}


def _entry(
    document: Document, model: type[_M], keys: tuple[str, object], fields: object
) -> _M | None:
    name = keys[1]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        hint = "use letters, digits, '.', '_' and '-' (quote a number)"
        document.problem_at(keys, f"{shown(name)} cannot be a name", hint)
        return None
    if not isinstance(fields, dict | None):
        what = f"must be a mapping of fields, not {shown(fields)}"
        document.problem_at(keys, what, f"write for example `{_EXAMPLES[keys[0]]}`")
        return None
    if fields and "name" in fields:
        document.problem_at((*keys, "name"), "unknown field", "the name is the key above it")
    return document.validate(model, keys, _words(fields or {}), name=name)


def _words(fields: dict[Any, Any]) -> dict[str, Any]:
    return {str(field): value for field, value in fields.items() if field != "name"}


def _check_names(document: Document, plan: NightlyPlan) -> None:
    """Note every name that a Xen or a suite limits itself to and that the plan does not have."""
    for section, entries in (("xens", plan.xens), ("suites", plan.suites)):
        for entry in entries.values():
            for field, known in (("hosts", plan.hosts), ("xens", plan.xens)):
                for name in getattr(entry, field, None) or ():
                    if name not in known:
                        hint = f"{did_you_mean(name, known)}known: {', '.join(known)}"
                        keys = (section, entry.name, field)
                        document.problem_at(keys, f"the plan has no {name!r}", hint)


def _wants(names: tuple[str, ...] | None, entry: _Named) -> bool:
    return names is None or entry.name in names
