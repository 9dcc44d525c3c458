# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a plan, and check that its hosts, Xens and test files exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.config.document import Document, did_you_mean
from harness.config.nightly import NightlyPlan, Xen, load_plan
from harness.config.physical import Host
from harness.config.releases import DEFAULT_RELEASE, RELEASES
from harness.hypervisor import flavour as flavours
from harness.verdict import ConfigError


def read_plan(path: Path, lab: Mapping[str, Host], testcases: Path) -> NightlyPlan:
    """Return the plan in file ``path``; ConfigError with one line per problem in it.

    Whether a source tree or a repository has a Xen shows only when it is built.
    """
    plan, document = load_plan(path)
    for name in plan.hosts:
        if name not in lab:
            hint = f"{did_you_mean(name, lab)}known: {', '.join(sorted(lab))}"
            document.problem_at(("hosts", name), "the lab has no such host", hint)
    for xen in plan.xens.values():
        _check_xen(document, xen, path.parent)
    for suite in plan.suites.values():
        for test in suite.tests:
            file = test.partition("::")[0]
            if not any((home / file).exists() for home in (path.parent, testcases)):
                hint = "files are looked for beside the plan, then in testcases/"
                document.problem_at(("suites", suite.name, "tests"), f"no test file {file}", hint)
    document.finish()
    if not plan.cells():
        raise ConfigError(
            "the plan has no cell: the fields hosts and xens exclude every combination",
            where=str(path),
            hint="change hosts of a Xen or a suite, or xens of a suite",
        )
    return plan


def _check_xen(document: Document, xen: Xen, home: Path) -> None:
    keys = ("xens", xen.name)
    if xen.src is not None and not (home / Path(xen.src).expanduser()).is_dir():
        document.problem_at((*keys, "src"), f"no directory {xen.src}", "paths are from the plan")
    for file in xen.series:
        if not (home / Path(file).expanduser()).is_file():
            document.problem_at((*keys, "series"), f"no file {file}", "paths are from the plan")
    if xen.src is not None or xen.git is not None:
        return
    release = xen.release or DEFAULT_RELEASE
    if release not in RELEASES:
        hint = f"use {', '.join(RELEASES)}, or src or git"
        document.problem_at((*keys, "release"), f"no distribution has Xen {release}", hint)
        return
    known = flavours.names([release])
    if xen.flavour is not None and xen.flavour not in known:
        hint = f"{did_you_mean(xen.flavour, known)}known: {', '.join(known)}"
        what = f"there is no flavour {xen.flavour} for Xen {release}"
        document.problem_at((*keys, "flavour"), what, hint)


def limit_to_hosts(plan: NightlyPlan, hosts: Sequence[str]) -> NightlyPlan:
    """Return ``plan`` with only ``hosts``; ConfigError if it does not have one of them."""
    for name in hosts:
        if name not in plan.hosts:
            raise ConfigError(
                f"the plan has no host {name!r}",
                where="--host",
                hint=f"{did_you_mean(name, plan.hosts)}known: {', '.join(plan.hosts)}",
            )
    chosen = {name: host for name, host in plan.hosts.items() if name in hosts}
    return replace(plan, hosts=chosen)
