# SPDX-License-Identifier: GPL-2.0-or-later
"""A real night: two Xens on one host, killed in the middle, gone on with, reported."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from kcidb_io import schema

from tests.real.conftest import harness, machines, start

pytestmark = [pytest.mark.real, pytest.mark.timeout(2400)]

HOST = "qemu-arm64"  # boots and builds faster
PLAN = f"""\
budget_hours: 1
hosts: {{{HOST}: }}
xens:
  first: {{flavour: counter, priority: 1}}
  second: {{flavour: rwlock}}
suites:
  quick: {{tests: [test_notify_vcpu.py, test_load.py], duration: 1}}
"""


def _running(store: Path, xen: str) -> Path | None:
    """Return the directory of the run of ``xen`` once its machine is powered on."""
    if not (store / "nightly.sqlite").is_file():
        return None
    with closing(sqlite3.connect(store / "nightly.sqlite")) as db:
        rows = db.execute("SELECT run FROM cell WHERE xen = ? AND state = 'running'", (xen,))
        for (run,) in rows:
            journal = store / str(run) / "results.jsonl"
            if journal.exists() and '"kind": "host-start"' in journal.read_text():
                return journal.parent
    return None


def test_a_night_survives_kill_9(tmp_path: Path) -> None:
    plan, store = tmp_path / "plan.yaml", tmp_path / "store"
    plan.write_text(PLAN)
    words = ["nightly", str(plan), "--store", str(store), "--json"]
    child = start(*words)
    deadline = time.monotonic() + 1800
    while (cut := _running(store, "second")) is None:
        assert time.monotonic() < deadline and child.poll() is None, child.communicate()
        time.sleep(0.2)
    time.sleep(2)  # well into the boot
    child.kill()
    child.communicate()
    deadline = time.monotonic() + 15  # our watchers and libvirt see that their masters died
    while machines(HOST) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert machines(HOST) == []

    ran = harness(*words)
    assert ran.code == 0, ran.stderr
    said = ran.document
    assert said["verdict"] == "PASS" and said["state"] == "finished" and said["findings"] == []
    first, second = said["cells"]
    assert (first["xen"], first["verdict"], first["attempts"]) == ("first", "PASS", 1)
    assert (second["xen"], second["verdict"], second["attempts"]) == ("second", "PASS", 2)
    assert first["build_id"] != second["build_id"] and Path(second["run"]) != cut
    for cell in said["cells"]:
        assert Path(cell["run"], "report.html").is_file()
    assert schema.LATEST.is_valid_exactly(json.loads(Path(said["path"], "kcidb.json").read_text()))
    page = Path(said["dashboard"]).read_text()
    assert "operations_per_second" in page and page.count('class="tile pass"') == 2
    assert len(list((store / "nights").iterdir())) == 1
    assert machines(HOST) == []
