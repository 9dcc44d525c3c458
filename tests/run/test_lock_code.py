# SPDX-License-Identifier: GPL-2.0-or-later
"""The lock in machine code as a part of a run: judged once, a FAIL if it is refuted."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import cache
from harness.arch import Arch
from harness.binary import kept, x86
from harness.progress import Progress
from harness.results import directory, records
from harness.results.document import run_document
from harness.results.html import render_html
from harness.results.store import Run, load
from harness.run.lock_code import judge_lock_code, judging
from harness.run.recorder import Recorder
from harness.verdict import LabError, Verdict
from tests.binary.toy_locks import toy
from tests.run.toy_plan import plan


class Book:
    """A run of one host, of which only the lock's machine code is looked at."""

    def __init__(self, folder: Path) -> None:
        self.said = io.StringIO()
        self.place = directory.create(folder)
        self.recorder = Recorder(plan(), self.place, Progress(self.said))
        self.recorder.add(records.RunStart(1, ("x",), "0", ("h",)))

    def judged(self, syms: Path | None) -> None:
        judge_lock_code(built(syms), "h", self.recorder)

    def ended(self) -> Run:
        self.recorder.add(records.Test("h", "boot", Verdict.PASS, 0.0))
        self.recorder.end_host("h")
        self.recorder.end_run()
        self.recorder.close()
        return load(self.place.path)


def built(syms: Path | None) -> Any:
    """Return a build of ``syms``."""
    return SimpleNamespace(has_symbols=syms is not None, syms=syms, build_id="b1", design="counter")


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Book]:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    yield Book(tmp_path / "run")


def test_a_lock_as_modelled_is_no_test_and_no_message(book: Book) -> None:
    book.judged(toy(Arch.ARM64, "counter"))
    run = book.ended()
    (host,) = run.hosts
    assert (host.verdict, host.message) == (Verdict.PASS, "")
    assert [test.name for test in host.tests] == ["boot"]
    told = run_document(run)["hosts"][0]["lock_code"]
    assert (told["verdict"], told["copies"], told["coverage"]) == ("as modelled", 4, 1.0)
    assert "The lock in the machine code" in render_html(run)


def test_a_refuted_lock_is_a_fail_with_its_witness(book: Book) -> None:
    book.judged(toy(Arch.ARM64, "counter", "-DFAULT_EARLY_LOAD"))
    run = book.ended()
    (host,) = run.hosts
    failed = host.tests[0]
    assert (run.verdict, failed.name, failed.verdict) == (Verdict.FAIL, "lock-code", Verdict.FAIL)
    assert failed.message.startswith("evtchn_write_lock at 0x")
    assert "no barrier between spin and this access" in failed.message
    assert "ldxr" in failed.story and "event_channel.c:" in failed.story
    assert host.lock_code is not None
    first, second = host.lock_code.witnesses
    assert first.what == failed.message
    assert "a writer sees a reader's section whole" in second.what and second.trace
    assert all(line.split()[0] in render_html(run) for line in first.trace)


def test_not_covered_is_said_and_changes_no_verdict(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(x86._MEANINGS, "lock xadd")
    book.judged(toy(Arch.X86_64, "counter"))
    (host,) = book.ended().hosts
    assert host.verdict is Verdict.PASS
    assert host.message.startswith("lock code not covered: 2 of 4 copies of lock functions, first")
    assert "lock xadd" in host.message
    assert host.message in book.said.getvalue()


def test_a_build_without_symbols_is_not_covered(book: Book) -> None:
    book.judged(None)
    (host,) = book.ended().hosts
    assert host.verdict is Verdict.PASS
    assert host.message.endswith("the distribution's own build has no symbols")


def test_a_file_that_cannot_be_read_stops_no_run(book: Book, tmp_path: Path) -> None:
    (tmp_path / "xen-syms").write_bytes(b"no ELF")
    book.judged(tmp_path / "xen-syms")
    (host,) = book.ended().hosts
    assert host.verdict is Verdict.PASS
    assert "lock code not covered: ELFError" in host.message


def test_a_host_that_boots_anew_is_judged_once(book: Book) -> None:
    for _ in range(2):
        book.judged(toy(Arch.ARM64, "counter", "-DFAULT_EARLY_LOAD"))
    (host,) = book.ended().hosts
    assert [test.name for test in host.tests] == ["lock-code", "boot"]


def test_it_is_judged_in_another_process_while_the_host_comes_up(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    elf = toy(Arch.ARM64, "counter", "-DFAULT_EARLY_LOAD")
    with judging(built(elf), "h", book.recorder) as judge:
        deadline = time.monotonic() + 300  # it has a low priority
        while not kept.is_kept("b1", "counter"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert not book.recorder.has_lock_code("h")
        monkeypatch.setattr(kept, "judge", None)  # it is not made a second time, here
        judge()
    (host,) = book.ended().hosts
    assert [test.name for test in host.tests] == ["lock-code", "boot"]


def test_a_xen_that_does_not_come_up_is_judged_too(book: Book) -> None:
    elf = toy(Arch.ARM64, "counter", "-DFAULT_EARLY_LOAD")
    with pytest.raises(LabError, match="no boot"), judging(built(elf), "h", book.recorder):
        raise LabError("no boot")
    (host,) = book.ended().hosts
    assert host.tests[0].name == "lock-code"


def test_ctrl_c_waits_for_no_verdict(book: Book) -> None:
    elf = toy(Arch.ARM64, "counter", "-DFAULT_EARLY_LOAD")
    with pytest.raises(KeyboardInterrupt), judging(built(elf), "h", book.recorder):
        raise KeyboardInterrupt
    assert not book.recorder.has_lock_code("h")


def test_a_verdict_is_made_once_for_a_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path))
    elf = toy(Arch.ARM64, "counter")
    first = kept.kept_document(elf, "b1", "counter")
    assert kept.kept_document(Path("/nowhere"), "b1", "counter") == first
    with pytest.raises(LabError, match="nowhere"):
        kept.kept_document(Path("/nowhere"), "b2", "counter")
