# SPDX-License-Identifier: GPL-2.0-or-later
"""A Xen that breaks dom0 before any test, and tests that want dom0 alone."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest

from harness.config.releases import DEFAULT_RELEASE
from tests.bisect.xen_history import keep_domid_self
from tests.real.conftest import from_apt, harness, machines

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

HOST = "qemu-arm64"
POWER_ON_SECONDS = 60.0
CASES = Path(__file__).parents[2] / "testcases"


def test_a_xen_that_keeps_domid_self_is_told_by_the_hypercall(tmp_path: Path) -> None:
    tree, out = tmp_path / "xen", tmp_path / "out"
    shutil.copytree(from_apt(DEFAULT_RELEASE).tree, tree, symlinks=True)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)
    keep_domid_self(tree)
    words = ["--host", HOST, "--flavour", "rwlock", "--xen-src", str(tree), "--out", str(out)]
    ran = harness("run", *words, "--json")
    assert ran.code == 1, ran.stderr
    (boot,) = [test for test in ran.document["hosts"][0]["tests"] if test["name"] == "boot"]
    assert boot["verdict"] == "FAIL"
    seen = boot["evidence"]
    assert seen["kind"] == "wrong-answer"
    assert (seen["after"]["verb"], seen["operation"]["verb"]) == ("AllocUnbound", "Status")
    assert "dom=32752" in seen["seen"] and "dom=0" in seen["allowed"][0]
    assert "FATAL: Failed to initialize dom0: Invalid argument" in boot["message"]
    told = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    (when,) = [
        line["time"] for line in told if (line["kind"], line.get("name")) == ("test", "boot")
    ]
    first = (out / "console" / HOST / "xen.log").read_text().split()[0]
    spent = datetime.fromisoformat(when) - datetime.fromisoformat(first)
    assert spent.total_seconds() <= POWER_ON_SECONDS
    assert machines(HOST) == []


def test_a_test_that_wants_dom0_alone_gets_dom0_alone(tmp_path: Path) -> None:
    test = "test_notify_vcpu.py::test_global_virq_comes_up_on_the_notify_vcpu"
    words = ["--host", HOST, "--flavour", "rwlock", "--out", str(tmp_path / "out"), "--json"]
    ran = harness("run", *words, str(CASES / test))
    assert ran.code == 0, ran.stderr
    (host,) = ran.document["hosts"]
    assert host["toolstack"] == "none"
    assert [domain["name"] for domain in host["domains"]] == ["dom0"]
    verdicts = {test["name"]: test["verdict"] for test in host["tests"]}
    assert set(verdicts.values()) == {"PASS"} and "nothing-leaked" in verdicts
