# SPDX-License-Identifier: GPL-2.0-or-later
"""A server of the test rack, known only by BMC, serial line and SSH: caught, explained, home again.

One server for all of it, in the order of the file; its emulated machine takes its turn with the
others of this computer for as long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.command import CommandFailed
from harness.data import TESTCASES
from harness.machine.cpu_slots import slot
from tests.real.conftest import harness
from tests.real.rack.rack import PASSWORD, Rack, server
from tests.real.rack.server import press

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]
_LEAK = f"{TESTCASES}/test_hypercalls.py::test_poll_of_a_closed_port_leaves_it_usable"


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with server(tmp_path_factory.mktemp("rack")) as found, slot(2, print):
        yield found


def test_a_wrong_password_is_told_and_the_server_untouched(rack: Rack, tmp_path: Path) -> None:
    (rack.folder / "wrong").write_text("wrong\n")
    power = [rack.entry["power"][0] | {"password": {"file": str(rack.folder / "wrong")}}]
    ran = harness(
        *("run", "--host", rack.name, "--lab", str(rack.lab(power=power)), "--json"),
        *("--out", str(tmp_path / "out"), _LEAK),
    )
    assert ran.code == 3
    assert (
        "the BMC refuses the user or the password"
        in ran.document["hosts"][0]["tests"][0]["message"]
    )
    assert press(rack.folder, "state") == "off"


def test_poll_leak_is_caught_and_explained_and_the_server_comes_home(
    rack: Rack, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ran = harness(
        *("run", "--host", rack.name, "--lab", str(rack.lab()), "--flavour", "poll-leak"),
        *("--out", str(out), "--json", _LEAK),
    )
    assert ran.code == 1, ran.stderr
    tests = {test["name"]: test for test in ran.document["hosts"][0]["tests"]}
    caught = tests["poll-of-a-closed-port-leaves-it-usable"]
    assert caught["verdict"] == "FAIL"
    assert "lock word = 8193 = one writer + 1 reader" in caught["message"]
    assert tests["back-in-the-default-system"]["verdict"] == "PASS"
    entry = rack.ssh("grub-editenv /boot/grub/grubenv list")
    assert not re.search(r"^next_entry=\S", entry, re.MULTILINE), entry
    for path in out.rglob("*"):
        assert not path.is_file() or PASSWORD.encode() not in path.read_bytes(), path
    assert PASSWORD not in ran.stderr


def test_a_scenario_runs_with_random_delays_where_there_is_no_debugger(
    rack: Rack, tmp_path: Path
) -> None:
    ran = harness(
        *("interleave", "run", "send-close", "close-bind", "--host", rack.name),
        *("--lab", str(rack.lab()), "--out", str(tmp_path / "out"), "--json"),
    )
    assert (ran.code, ran.document["forced_by"]) == (0, "delays"), ran.stdout + ran.stderr
    for part in ran.document["scenarios"]:
        assert part["verdict"] == "PASS"
        assert part["walked"] == 300 and all(part["ends"].values()), part["ends"]
    journal = (tmp_path / "out" / "results.jsonl").read_text()
    assert '"name": "back-in-the-default-system", "verdict": "PASS"' in journal


def test_what_was_placed_is_listed_and_removed(rack: Rack) -> None:
    lab = str(rack.lab())
    checked = harness("lab", "check", "--lab", lab, "--json")
    assert checked.code == 0, checked.stdout
    cleaned = harness("lab", "clean", rack.name, "--lab", lab, "--json")
    removed = json.loads(cleaned.stdout)["removed"][rack.name]
    assert "/boot/xen-evtchn-harness/xen" in removed and "/boot/grub/custom.cfg" in removed
    with pytest.raises(CommandFailed):
        rack.ssh("ls /boot/xen-evtchn-harness /boot/grub/custom.cfg")
