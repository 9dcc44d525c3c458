# SPDX-License-Identifier: GPL-2.0-or-later
"""``evtchn-harness model binary``: exit codes, text and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.arch import Arch
from harness.binary import x86
from harness.cli import main
from tests.binary.toy_locks import toy


def called(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["model", "binary", *words])
    return int(ended.value.code or 0), capsys.readouterr().out


def test_as_modelled_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    elf = toy(Arch.ARM64, "counter")
    code, out = called(capsys, str(elf.parent))  # a build's directory
    assert code == 0
    assert f"{elf}: arm64, counter: as modelled" in out
    assert "4 copies of 4 lock functions: 4 as modelled; 100.0% of" in out
    assert "a writer sees a reader's section whole: proved, memory arm" in out


def test_refuted_is_1_and_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    elf = toy(Arch.ARM64, "counter", "-DFAULT_EARLY_LOAD")
    code, out = called(capsys, str(elf), "--json")
    assert code == 1
    told = json.loads(out)
    assert told["verdict"] == "refuted"
    first, second = told["refuted"]
    assert first["function"] == "evtchn_write_lock"
    assert first["instruction"].startswith("ldrb ")
    assert first["line"].startswith("event_channel.c:")
    assert first["model"] == "smp_rmb() after spin"
    assert second["property"] == "a writer sees a reader's section whole"
    assert second["trace"]
    assert {one["name"]: one["refines"] for one in told["functions"]} == {
        "evtchn_read_unlock": True,
        "evtchn_tryread_lock": True,
        "evtchn_write_lock": False,
        "evtchn_write_unlock": True,
    }
    assert told["coverage"] == 1.0 and told["seconds"] >= 0


def test_in_order_memory_needs_no_barrier_but_the_lock_is_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    elf = toy(Arch.ARM64, "counter", "-DFAULT_EARLY_LOAD")
    code, out = called(capsys, str(elf), "--memory", "sc", "--json")
    assert code == 1
    assert {one["verdict"] for one in json.loads(out)["properties"]} == {"proved"}


def test_not_covered_is_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(x86._MEANINGS, "lock xadd")
    code, out = called(capsys, str(toy(Arch.X86_64, "counter")))
    assert code == 3
    assert "counter: not covered" in out
    assert "evtchn_tryread_lock: not covered at 0x" in out
    assert "not explored" in out


def test_a_directory_that_is_neither_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["model", "binary", str(tmp_path)])
    assert ended.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "neither XEN nor --arch is given"),
        ((".", "--arch", "arm64"), "XEN is built already"),
        ((".", "--flavour", "counter"), "XEN is built already"),
    ],
)
def test_a_built_xen_or_a_tree(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["model", "binary", *words])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
