# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs the hunks of a patch: the table is whole, and names only what there is."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.hunks import RUNS, mutants, scenarios
from harness.hypervisor.flavour import SHELF
from harness.hypervisor.hunks import hunks

ROOT = Path(__file__).parents[1]
# The lock's functions that one flavour has and the posting of 2020 has not.
OF_ONE_FLAVOUR = {
    *("evtchn_read_lock", "evtchn_read_trylock"),
    *("evtchn_lock", "evtchn_trylock", "evtchn_unlock"),
    *("evtchn_lock_change", "evtchn_unlock_change"),
}
MAIL = """\
From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
From: A Poster <poster@example.org>
Date: Mon, 30 Nov 2026 12:00:00 +0000
Subject: [PATCH] evtchn: three places

---
diff --git a/xen/common/event_channel.c b/xen/common/event_channel.c
--- a/xen/common/event_channel.c
+++ b/xen/common/event_channel.c
@@ -10,1 +10,1 @@ int evtchn_send(struct domain *ld, unsigned int lport)
-    a();
+    b();
@@ -20,1 +20,1 @@ int evtchn_send(struct domain *ld, unsigned int lport)
-    a();
+    b();
@@ -90,1 +90,1 @@ static void evtchn_nobody_knows(void)
-    a();
+    b();
--
2.26.2
"""


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    (tmp_path / "v1.eml").write_text(MAIL)
    return tmp_path / "v1.eml"


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["coverage", *words])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def changed(*patches: Path) -> set[str]:
    found = [hunk for patch in patches for hunk in hunks(patch.read_text())]
    return {name for hunk in found for name in hunk.functions}


def test_every_function_that_a_lock_flavour_changes_is_in_the_table() -> None:
    """The spinlock and the counter, made from the rwlock, change every user of the lock."""
    ours = changed(*(SHELF / "4.17" / name / f"{name}.patch" for name in ("spinlock", "counter")))
    assert ours - OF_ONE_FLAVOUR <= set(RUNS)
    assert set(RUNS) <= ours | set(mutants("4.17"))


@pytest.mark.parametrize("function", RUNS)
def test_every_test_that_is_named_is_there(function: str) -> None:
    for test in RUNS[function].tests:
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / "testcases" / file).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_function_is_run_and_judged() -> None:
    for function, runs in RUNS.items():
        run = bool(runs.tests or scenarios(function))
        assert run and runs.judged and not runs.why_not, function


def test_a_scenario_forces_what_its_threads_call() -> None:
    assert scenarios("dump_irqs") == ("dump-bind",)
    assert scenarios("evtchn_port_is_masked") == ("masked-close",)
    assert scenarios("send_guest_pirq") == ("bind-interrupt",)
    assert "masked-close" in scenarios("evtchn_close")
    assert "masked-close" not in scenarios("double_evtchn_lock"), "an interrupt has no other end"


def test_the_page_has_the_table() -> None:
    page = (ROOT / "docs" / "hunks.md").read_text()
    bad = mutants("4.17")
    for function, runs in RUNS.items():
        tests = "<br>".join(f"`{test}`" for test in runs.tests)
        named = (tests, ", ".join(scenarios(function)), ", ".join(bad.get(function, ())))
        cells = (f"`{function}`", *named, runs.judged or f"not run: {runs.why_not}")
        assert f"| {' | '.join(cells)} |\n" in page, f"docs/hunks.md needs the row of {function}"


def test_the_command_tells_what_runs_each_hunk(
    mail: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--series", str(mail)) == 0
    assert "2 of 3 hunks are run" in capsys.readouterr().out
    assert run("--series", str(mail), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    send, unknown = told["rows"]
    assert (send["function"], send["lines"], send["run"]) == ("evtchn_send", [10, 20], True)
    assert "send-leak" in send["mutants"] and "send-close" in send["scenarios"]
    assert (unknown["function"], unknown["run"]) == ("evtchn_nobody_knows", False)
    assert unknown["why_not"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no RUNS"),
        (["a-run", "--series", "v1.eml"], "--series takes neither RUNS nor --out"),
        (["--series", "nowhere.eml"], "cannot read the series"),
    ],
)
def test_a_mistake_is_one_clear_error(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    assert says in capsys.readouterr().err
