# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness run`` as a user types it; the hosts are not booted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from harness.cli import run
from harness.results import store
from tests.hypervisor.tree import make_tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A command line up to its tests."""
    tree = make_tree(tmp_path / "xen")
    run = [sys.executable, "-m", "tests.cli.fake_run", "run", f"--xen-src={tree}"]
    return [*run, "--flavour=rwlock", f"--out={tmp_path / 'out'}", "--json"]


def write_test(tmp_path: Path, body: str) -> str:
    file = tmp_path / "test_mine.py"
    file.write_text(body)
    return str(file)


def call(words: list[str], broken: str = "") -> tuple[int, dict[str, Any], str]:
    """Return exit code, document, and what was said on the terminal."""
    environment = os.environ | {"BROKEN": broken, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    return ran.returncode, json.loads(ran.stdout), ran.stderr


def verdicts(document: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {h["name"]: {t["name"]: t["verdict"] for t in h["tests"]} for h in document["hosts"]}


def test_the_options_reach_the_tests(tmp_path: Path, words: list[str]) -> None:
    body = "import json\ndef test_a(xen, booted):\n    plan = booted._run.plan\n"
    body += "    assert (plan.seed, plan.duration, plan.repeat) == (7, 2.5, 2)\n"
    body += "    print(plan.hypervisor.flavour.name)\n"
    more = ["--seed=7", "--duration=2.5", "--repeat=2", "--host=qemu-arm64", "--host=qemu-arm64"]
    code, document, said = call([*words, *more, write_test(tmp_path, body)])
    assert code == 0, said
    assert [test["name"] for test in document["hosts"][0]["tests"]] == ["boot", "a", "a"]
    assert (document["seed"], len(document["hosts"])) == (7, 1)
    assert "rwlock" in said  # what a test prints is not part of the document


def test_both_hosts_are_tested_whatever_becomes_of_the_first(
    tmp_path: Path, words: list[str]
) -> None:
    hosts = ["--host=qemu-x86_64", "--host=qemu-arm64"]
    test = write_test(tmp_path, "def test_a(xen): pass\ndef test_b(xen): pass\n")
    code, document, said = call([*words, *hosts, test], broken="qemu-x86_64")
    assert code == 3
    assert verdicts(document) == {
        "qemu-x86_64": {"boot": "MISS", "a": "MISS"},
        "qemu-arm64": {"boot": "PASS", "a": "PASS", "b": "PASS"},
    }
    summary = said.splitlines()[-3:]
    assert summary[0].startswith("qemu-x86_64  MISS      boot: no KVM")
    assert summary[1] == "qemu-arm64   PASS"
    assert summary[2] == f"MISS: {tmp_path / 'out' / 'report.html'}"


@pytest.mark.parametrize(
    ("body", "node", "says"),
    [
        ("def test_a(:\n", "", "test_mine.py: SyntaxError: invalid syntax"),
        ("def test_a(xen): pass\n", "::test_b", "could not collect what was asked for"),
        ("def test_a(guesst): pass\n", "", "test_mine.py::test_a: fixture 'guesst' not found"),
        ("def test_a(): pass\n", "", "no test in what was asked for uses a host"),
    ],
)
def test_what_pytest_cannot_collect_is_a_mistake_of_the_user(
    tmp_path: Path, words: list[str], body: str, node: str, says: str
) -> None:
    code, document, said = call([*words, write_test(tmp_path, body) + node])
    assert code == 2
    assert says in document["message"] and says in said
    assert store.load(tmp_path / "out").state == "finished"


def test_a_test_file_is_never_an_option_of_pytest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "--co").write_text("")
    assert run.tests_of("lock", [Path("--co")]) == ["./--co"]


def test_a_conftest_that_cannot_be_read_is_a_mistake_of_the_user(
    tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "conftest.py").write_text("import no_such_module\n")
    code, document, said = call([*words, write_test(tmp_path, "def test_a(xen): pass\n")])
    assert code == 2
    assert "pytest could not begin" in document["message"] and "no_such_module" in said


@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_in_order(
    tmp_path: Path, words: list[str], blow: signal.Signals
) -> None:
    begun = tmp_path / "begun"
    body = f"import pathlib, time\ndef test_a(xen):\n    pathlib.Path({str(begun)!r}).touch()\n"
    test = write_test(tmp_path, f"{body}    time.sleep(120)\n")
    both = ["--host=qemu-x86_64", "--host=qemu-arm64", test]
    child = subprocess.Popen(
        [*words, *both], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.05)
    child.send_signal(blow)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 130
    document = json.loads(said)
    assert (document["verdict"], document["message"]) == ("MISS", "interrupted")
    assert "qemu-arm64" not in {h for h, tests in verdicts(document).items() if tests}
