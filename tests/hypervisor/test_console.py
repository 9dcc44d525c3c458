# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's console: the splitter under any chunking, the grammar against logs of real crashes."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.hypervisor.console import Blame, Splitter, scan, symptom

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.log"))

SERIAL = (
    b"SeaBIOS (version 1)\r\nBooting from ROM..(XEN) Xen version 4.17.5\n"
    b"[    0.1] dom0 li(XEN) [  12.5] broke in\r\n(XEN) twice\r\nne ends\r\n"
    b"(XEN) alone\r\n\r\n(d1) from a domU\nuses (d1) and (XEN)no mark\nlogin: "
)
LINES = [
    ("xen", "SeaBIOS (version 1)"),
    ("xen", "Booting from ROM.."),
    ("xen", "Xen version 4.17.5"),
    ("xen", "[  12.5] broke in"),
    ("xen", "twice"),
    ("dom0", "[    0.1] dom0 line ends"),
    ("xen", "alone"),
    ("dom0", ""),
    ("xen", "(d1) from a domU"),
    ("dom0", "uses (d1) and (XEN)no mark"),
    ("dom0", "login: "),
]


@given(st.lists(st.integers(0, len(SERIAL)), max_size=40))
def test_splitter_does_not_care_where_chunks_end(cuts: list[int]) -> None:
    splitter = Splitter()
    lines = []
    edges = [0, *sorted(cuts), len(SERIAL)]
    for start, end in itertools.pairwise(edges):
        lines += splitter.feed(SERIAL[start:end])
    assert lines + splitter.flush() == LINES


def test_every_byte_is_its_own_chunk() -> None:
    splitter = Splitter()
    lines = [line for byte in SERIAL for line in splitter.feed(bytes([byte]))]
    assert lines + splitter.flush() == LINES


def test_flush_gives_what_xen_broke_into() -> None:
    splitter = Splitter()
    assert splitter.feed(b"(XEN) up\nhalf a li(XEN) dead\n") == [("xen", "up"), ("xen", "dead")]
    assert splitter.flush() == [("dom0", "half a li")]
    assert splitter.flush() == []


@given(st.binary(max_size=300))
def test_no_byte_of_garbage_raises(data: bytes) -> None:
    splitter = Splitter()
    for stream, text in splitter.feed(data) + splitter.flush():
        scan(stream, text)
        symptom(stream, text)


@pytest.mark.parametrize("log", GOLDEN, ids=lambda path: path.stem)
def test_golden_log(log: Path) -> None:
    """The first lines of a golden file ("# stream kind blame text") are the events to find."""
    data = log.read_bytes()
    wanted = [line[2:] for line in data.decode().splitlines() if line.startswith("# ")]
    serial = b"\n".join(line for line in data.split(b"\n") if not line.startswith(b"# "))
    splitter = Splitter()
    found = []
    for stream, text in splitter.feed(serial) + splitter.flush():
        for how, seen in (("dies", scan(stream, text)), ("ails", symptom(stream, text))):
            if seen:
                found.append(f"{how} {stream}: {seen.kind}, {seen.blame}: {seen.text}")
    assert found == wanted


def test_there_are_golden_logs() -> None:
    assert len(GOLDEN) >= 8


@pytest.mark.parametrize(
    ("stream", "text", "kind", "blame"),
    [
        ("xen", "Watchdog timer detects that CPU1 is stuck!", "watchdog", Blame.HYPERVISOR),
        ("xen", "[2026-01-01 10:00:00] Panic on CPU 3:", "panic", Blame.HYPERVISOR),
        ("xen", "[   12.345678] Xen BUG at common/x.c:1", "bug", Blame.HYPERVISOR),
        ("xen", "Domain 0 (vcpu#1) crashed on cpu#0:", "domain crash", Blame.DOM0),
        ("xen", "Domain 7 (vcpu#0) crashed on cpu#1:", "domain crash", Blame.DOMU),
        ("xen", "Domain 1 reported crashed by domain 0 on cpu#1:", "domain crash", Blame.DOMU),
        ("xen", "d2v0 Triple fault - invoking HVM shutdown action 1", "domain crash", Blame.DOMU),
        ("xen", "Watchdog timer fired for domain 0", "domain watchdog", Blame.DOM0),
        ("xen", "   The processor has reported a hardware error which cannot", "hardware error",
         Blame.MACHINE),
        ("dom0", "[ 12.3][    T1] Kernel panic - not syncing: x", "kernel panic", Blame.DOM0),
        ("dom0", "[   12.3] Oops: 0002 [#1] PREEMPT SMP NOPTI", "oops", Blame.DOM0),
        ("dom0", "[   12.3] Internal error: Oops: 96000004 [#1] SMP", "oops", Blame.DOM0),
        ("dom0", "[   12.3] Out of memory: Killed process 12 (sh)", "out of memory", Blame.DOM0),
        ("domu1", "[   12.3] kernel BUG at mm/slub.c:1!", "kernel bug", Blame.DOMU),
    ],
)  # fmt: skip
def test_one_line(stream: str, text: str, kind: str, blame: Blame) -> None:
    event = scan(stream, text)
    assert event is not None
    assert (event.kind, event.blame) == (kind, blame)


@pytest.mark.parametrize(
    ("stream", "text"),
    [
        ("xen", "Hardware Dom0 halted: halting machine"),
        ("xen", "Xen version 4.17.5 (debug=y)"),
        ("xen", "traps.c:1: the last Xen BUG at x was long ago"),
        ("dom0", "Xen BUG at common/x.c:1"),  # dom0 cannot speak for Xen
        ("xen", "Kernel panic - not syncing"),
        ("dom0", "agent: kernel BUG at nowhere"),  # a program's own words
        ("dom0", "[    1.0] Kernel command line: panic=1 oops=panic"),
        ("dom0", "[    1.0] Linux version 6.1.0 [#1]"),
    ],
)
def test_nothing_died(stream: str, text: str) -> None:
    assert scan(stream, text) is None


def test_a_stall_is_a_symptom_not_a_death() -> None:
    text = "[   60.1] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"
    assert scan("dom0", text) is None
    event = symptom("dom0", text)
    assert event is not None and event.kind == "rcu stall"


def test_golden_logs_name_no_machine() -> None:
    for log in GOLDEN:
        assert not re.search(r"/(tmp|root|home|work)/", log.read_text()), log.name
