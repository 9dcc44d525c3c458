# SPDX-License-Identifier: GPL-2.0-or-later
"""``corpus --generate``: its options, and its bench on a host that is not booted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from harness.cli import corpus, mutants
from harness.config.options import RunOptions
from harness.corpus.mutants.compiled import Fitted
from harness.hypervisor.event_channels import FILES
from harness.run.plan import make_plan
from harness.verdict import ConfigError
from tests.hypervisor.tree import make_tree

ROOT = Path(__file__).resolve().parents[2]
TESTS = """\
import pytest

def test_slow(xen):
    assert xen.on in (2, 0xFFFFFFFF), "a wrong answer"

def test_quick(xen):
    if xen.on == 3:
        from harness.verdict import LabError
        xen.trouble = LabError("QEMU is gone")
        raise xen.trouble

def test_not_here(xen):
    pytest.skip("not on this host")
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a bench has said after a few mutants."""
    folder = tmp_path_factory.mktemp("mutants")
    (folder / "test_toy.py").write_text(TESTS)
    words = [sys.executable, "-m", "tests.cli.fake_mutants"]
    words += [str(folder / "test_toy.py"), str(folder / "out")]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


def test_what_each_test_comes_by_is_seen_with_no_mutant_on(said: dict[str, Any]) -> None:
    reaches = {node.split("::")[1].partition("[")[0]: rest for node, *rest in said["reaches"]}
    assert reaches == {
        "test_slow": ["PASS", [1]],
        "test_quick": ["PASS", [1]],
        "test_not_here": ["SKIP", [1]],
    }


def test_the_tests_run_in_the_order_that_is_asked_for_until_one_fails(said: dict[str, Any]) -> None:
    assert said["1"] == [
        ["boot", "PASS"],
        ["not-here", "SKIP"],
        ["quick", "PASS"],
        ["slow", "FAIL"],
    ]
    assert said["3"] == [["boot", "PASS"], ["not-here", "SKIP"], ["quick", "MISS"]]


def test_the_machine_goes_back_and_boots_only_where_it_must(said: dict[str, Any]) -> None:
    lock = "boot snapshot=True keep=True"
    conformance = "boot snapshot=False keep=True"
    assert said["seen"] == [
        *(lock, "watch"),
        *("restore", "on 1"),
        *("restore", "on 3"),  # with which it dies
        *("off", lock, "on 2"),
        *("off", conformance, "on 1"),
        *("off", conformance, "on 2", "off"),
    ]


def test_the_seed_is_the_one_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []
    monkeypatch.setattr(corpus, "_generate", lambda plan, *_: seeds.append(plan.seed))
    tree = make_tree(tmp_path / "xen")
    for words in ([], ["--seed=0"], ["--seed=7"]):
        CliRunner().invoke(
            corpus.command, ["--generate=3", *words, f"--xen-src={tree}"], catch_exceptions=False
        )
    assert seeds == [1, 0, 7]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--alone=3"], "--alone needs --generate"),
        (["--suite=lock"], "--suite needs --generate"),
        (["--generate=3", "--entry=poll-leak"], "--entry excludes --generate"),
        (["--generate=3", "--repeat=3"], "--repeat excludes --generate"),
        (["--generate=3", "--host=qemu-arm64", "--host=qemu-x86_64"], "on one host"),
        (["--generate=3"], "no xen/common/event_channel.c"),
    ],
)
def test_what_cannot_be_is_told(words: list[str], told: str, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "xen")
    with pytest.raises(ConfigError, match=told):
        CliRunner().invoke(
            corpus.command,
            [*words, f"--xen-src={tree}", f"--out={tmp_path / 'out'}"],
            catch_exceptions=False,
        )
    assert not (tmp_path / "out").exists()


def test_results_of_other_mutants_are_left_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "out"
    (place / "diffs").mkdir(parents=True)
    (place / "diffs" / "1.patch").write_text("of another seed")
    (place / "mutants.jsonl").write_text('{"about": {"seed": 2}}\n')
    plan = make_plan(
        RunOptions(
            xen_src=make_tree(tmp_path / "xen"), flavour="rwlock", seed=1, host=("qemu-arm64",)
        )
    )
    texts = {FILES[0]: b"void f(int a)\n{\n    if ( a )\n        g();\n}\n"}
    monkeypatch.setattr(mutants, "flavoured", lambda *_: texts)
    monkeypatch.setattr(mutants, "fitted", lambda target, *_: Fitted((), {}, target.flavour))
    with pytest.raises(ConfigError, match="results of other mutants"):
        mutants.generate(plan, 1, ["lock"], place, False)
    assert (place / "diffs" / "1.patch").read_text() == "of another seed"
