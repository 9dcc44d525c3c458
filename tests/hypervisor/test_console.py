# SPDX-License-Identifier: GPL-2.0-or-later
"""Xen's console: the splitter under any chunking, the grammar against logs of real crashes."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.hypervisor.console import Blame, Splitter, explained, scan, symptom

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
        ("dom0", "[   12.3] Internal error: Oops - bad mode: 0 [#1] SMP", "oops", Blame.DOM0),
        ("dom0", "[   12.3] general protection fault, maybe for address 0x1: 0000 [#1] SMP",
         "oops", Blame.DOM0),
        ("dom0", "divide error: 0000 [#1] SMP", "oops", Blame.DOM0),
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


@pytest.mark.parametrize(
    ("reason", "blame"),
    [
        ("FATAL TRAP: vector = 2 (nmi)", Blame.MACHINE),
        ("FATAL TRAP: vec 2, NMI[0000] IN INTERRUPT CONTEXT", Blame.MACHINE),
        ("FATAL TRAP: type 2, NMI, vec 2, NMI", Blame.MACHINE),
        ("FATAL TRAP: vector = 18 (machine check)", Blame.MACHINE),
        ("FATAL TRAP: vec 18, #MC[0000]", Blame.MACHINE),
        ("HARDWARE ERROR", Blame.MACHINE),
        ("FATAL TRAP: vec 20, #VE[0000]", Blame.HYPERVISOR),
        ("FATAL TRAP: vector = 20 (virtualisation exception)", Blame.HYPERVISOR),
        ("FATAL PAGE FAULT", Blame.HYPERVISOR),
        ("Not enough RAM for domain 0 initrd", Blame.MACHINE),
        ("Domain 0 allocation is too small for kernel image", Blame.MACHINE),
        ("Dom0 allocation too small for initial P->M table", Blame.MACHINE),
        ("Not enough memory in the first bank for the kernel+dtb+initrd", Blame.MACHINE),
        ("Not enough memory to relocate the dom0 kernel image", Blame.MACHINE),
        ("Xenheap is not big enough for memory map", Blame.HYPERVISOR),
    ],
)
def test_the_reason_of_a_panic_says_who_is_to_blame(reason: str, blame: Blame) -> None:
    event = scan("xen", "Panic on CPU 0:")
    assert event is not None
    assert explained(event, reason).blame is blame


@pytest.mark.parametrize(
    "text",
    [
        "[   12.345678] Kernel panic - not syncing: x",
        "dom0 login: [   12.345678] Kernel panic - not syncing: x",
        "root@dom0:/tmp# [   12.345678][    C3] Kernel panic - not syncing: x",
        "\x1b[?2004h\x1b[1m[root@dom0 ~]$ \x1b[0m[   12.345678] Kernel panic - not syncing: x",
        "<0>[   12.345678] Kernel panic - not syncing: x",
        "(early) [    0.345678] Kernel panic - not syncing: x",
        "\x1b[1;31m[   12.345678] Kernel panic - not syncing: x\x1b[0m",
        "Nov  3 04:05:06 server kernel: [   12.345678] Kernel panic - not syncing: x",
        "2026-11-03T04:05:06.123456+00:00 server kernel: Kernel panic - not syncing: x",
        "[2026-11-03 04:05:06] [   12.345678] Kernel panic - not syncing: x",
        "[Tue Nov  3 04:05:06 2026] [   12.345678] Kernel panic - not syncing: x",
        "[04:05:06.789] [   12.345678] Kernel panic - not syncing: x",
        "loading 99%\r[   12.345678] Kernel panic - not syncing: x",
        "[   12.345678] xenbus: x[   12.345679] Kernel panic - not syncing: x",
        "server login: Kernel panic - not syncing: x",
        "Starting network...[   12.345678] Kernel panic - not syncing: x",
        "Nov  3 04:05:06 [   12.345678] Kernel panic - not syncing: x",
        "04:05:06 04:05:07 [   12.345678] Kernel panic - not syncing: x",
        "Kernel panic - not syncing: x",
    ],
)
def test_what_comes_with_a_kernels_line_does_not_hide_it(text: str) -> None:
    event = scan("dom0", text)
    assert event is not None
    assert (event.kind, event.text) == ("kernel panic", "Kernel panic - not syncing: x")


@pytest.mark.parametrize(
    ("stream", "text", "kind", "blame"),
    [
        ("xen", "UBSAN: Undefined behaviour in common/x.c:1:2", "warning", Blame.HYPERVISOR),
        ("xen", "Hardware domain 0 did unsupported soft reset, rebooting.", "dom0 reboot",
         Blame.DOM0),
        ("xen", "Domain 0 shutdown: rebooting machine.", "dom0 reboot", Blame.DOM0),
        ("xen", "CPU1: Machine Check Exception:                5", "hardware error",
         Blame.MACHINE),
        ("dom0", "[ 1.2] NMI watchdog: Watchdog detected hard LOCKUP on cpu 1", "hard lockup",
         Blame.DOM0),
        ("dom0", "[ 1.2] watchdog: CPU7: Watchdog detected hard LOCKUP on cpu 7", "hard lockup",
         Blame.DOM0),
        ("dom0", "[ 1.2] BUG: KASAN: use-after-free in x+0x1/0x2", "kernel bug", Blame.DOM0),
        ("dom0", "[ 1.2] BUG: Bad page state in process sh  pfn:1a2b", "kernel bug", Blame.DOM0),
        ("dom0", "[ 1.2] WARNING: CPU: 1 PID: 7 at drivers/xen/events/events_base.c:1 x+0x1/0x2",
         "warning", Blame.DOM0),
        ("dom0", "[ 1.2] UBSAN: shift-out-of-bounds in x.c:1:2", "warning", Blame.DOM0),
        ("dom0", "[ 1.2] NMI watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", "soft lockup",
         Blame.DOM0),
        ("dom0", "[ 1.2] rcu: rcu_sched kthread starved for 5 jiffies!", "rcu stall", Blame.DOM0),
        ("domu1", "Nov  3 04:05:06 u kernel: watchdog: BUG: soft lockup - CPU#5 stuck for 22s!",
         "soft lockup", Blame.DOMU),
    ],
)  # fmt: skip
def test_one_symptom(stream: str, text: str, kind: str, blame: Blame) -> None:
    assert scan(stream, text) is None
    event = symptom(stream, text)
    assert event is not None
    assert (event.kind, event.blame) == (kind, blame)


@pytest.mark.parametrize(
    "text",
    [
        "configure: step 3: 0000 [#1] done",  # a program's own words
        "UBSAN: not a kernel's line",
        "report: [   12.3] Kernel panic - not syncing: quoted by a program",
        "abrt: oops=[   12.345678] Kernel panic - not syncing: quoted by a program",
        "values [   12.5] kernel BUG at nowhere",
        "Nov  3 04:05:06 server logger[12]: Kernel panic - not syncing: x",
        "[    1.0] usb 1-1: WARNING: descriptor",
    ],
)
def test_what_a_program_says_is_no_event(text: str) -> None:
    assert scan("dom0", text) is None
    assert symptom("dom0", text) is None


@pytest.mark.parametrize(
    ("serial", "lines"),
    [
        (b"(XEN) (XEN) one\n", ["", "one"]),
        (b"(XEN) half a line (XEN) one\r\n", ["half a line ", "one"]),
        (b"((XEXEN) N) one\n", ["one"]),
        (b"(X(XEENN) ) one\n", ["one"]),
        (b"(XEN) two((XEN) XEN) one\n", ["two", "one"]),
    ],
)
def test_marks_of_xen_that_ran_into_each_other(serial: bytes, lines: list[str]) -> None:
    assert Splitter().feed(serial) == [("xen", line) for line in lines]


def test_a_stall_is_a_symptom_not_a_death() -> None:
    text = "[   60.1] rcu: INFO: rcu_sched detected stalls on CPUs/tasks:"
    assert scan("dom0", text) is None
    event = symptom("dom0", text)
    assert event is not None and event.kind == "rcu stall"


def test_golden_logs_name_no_machine() -> None:
    for log in GOLDEN:
        assert not re.search(r"/(tmp|root|home|work)/", log.read_text()), log.name
