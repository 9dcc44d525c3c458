# SPDX-License-Identifier: GPL-2.0-or-later
"""What machine code leaves open, and which access of a critical section may come behind its end."""

from __future__ import annotations

import capstone
import pytest

from harness.arch import Arch
from harness.binary.judge import judge
from harness.interleave.reorder_scenarios import (
    POLL_CLOSE,
    SEND_ALLOC,
    SEND_MAP,
    SEND_SWITCH,
    scenario_of,
)
from harness.interleave.reorderings import Executed, Moved, Reordering, may_be_late, reorderings
from tests.binary.toy_locks import toy

LOCK, DATA, ELSEWHERE = 0x1000, 0x2000, 0x3000
CODE = {  # as GNU as makes it
    "ldr w0, [x2, x3, lsl #2]": 0xB8637840,
    "cmp w0, #0": 0x7100001F,
    "cset w0, lt": 0x1A9FA7E0,
    "and w22, w0, #0xff": 0x12001C16,
    "cbnz w0, .": 0x35000000,
    "ldr x1, [x0]": 0xF9400001,
    "ldrb w0, [x25, #4]": 0x39401320,
    "str w1, [x4, #64]": 0xB9004081,
    "dmb ish": 0xD5033BBF,
    "ldar w0, [x4]": 0x88DFFC80,
    "str x0, [x5]": 0xF90000A0,
    "stp x29, x30, [sp, #-32]!": 0xA9BE7BFD,
    "mov x0, x25": 0xAA1903E0,
}
READ = ("ldr w0, [x2, x3, lsl #2]", DATA)
POLL = [READ, ("cmp w0, #0", None), ("cset w0, lt", None), ("and w22, w0, #0xff", None)]


def executed(*listed: tuple[str, int | None]) -> list[Executed]:
    engine = capstone.Cs(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM)
    engine.detail = True
    made = []
    for text, memory in listed:
        (instruction,) = engine.disasm(CODE[text].to_bytes(4, "little"), 0)
        made.append(Executed(instruction, memory))
    return made


@pytest.mark.parametrize(
    ("listed", "late"),
    [
        ([*POLL, ("mov x0, x25", None)], 0),  # its value is only kept
        ([("dmb ish", None), *POLL], 1),
        ([*POLL, ("dmb ish", None)], None),
        ([READ, ("ldar w0, [x4]", ELSEWHERE)], None),
        ([*POLL[:3], ("cbnz w0, .", None)], None),  # a branch depends on it
        ([READ, ("ldr x1, [x0]", ELSEWHERE)], 1),  # an address does; but not on the second one
        ([READ, ("ldr x1, [x0]", ELSEWHERE), ("cbnz w0, .", None)], 1),
        ([READ, ("str x0, [x5]", LOCK)], None),  # a store does
        ([READ, ("mov x0, x25", None), ("cbnz w0, .", None)], 0),  # overwritten before the branch
        ([("str w1, [x4, #64]", DATA), ("mov x0, x25", None)], 0),
        ([("ldrb w0, [x25, #4]", LOCK + 4)], None),  # too close to the lock word
        ([("stp x29, x30, [sp, #-32]!", None)], None),
        ([("str w1, [x4, #64]", DATA), READ, ("cbnz w0, .", None)], None),  # the same place
    ],
)
def test_what_armv8_lets_a_reader_do_behind_its_leave(
    listed: list[tuple[str, int | None]], late: int | None
) -> None:
    assert may_be_late(executed(*listed), LOCK) == late


def open_in(*flags: str, lock: str = "counter") -> dict[tuple[str, str], Reordering]:
    found = reorderings(judge(toy(Arch.ARM64, lock, *flags)))
    return {(each.function, each.flag): each for each in found}


@pytest.mark.parametrize("lock", ["counter", "rwlock"])
def test_where_barriers_are_nothing_is_open(lock: str) -> None:
    assert open_in("-DPUBLISHES", lock=lock) == {}


def test_a_read_side_without_its_release_barrier() -> None:
    (one,) = open_in("-DFAULT_NO_RELEASE").values()
    assert (one.moved, one.function, one.flag) == (Moved.CHANGE_EARLY, "evtchn_read_unlock", "")
    assert scenario_of(one) is POLL_CLOSE


def test_a_writer_that_reads_before_it_is_alone_has_no_scenario() -> None:
    (one,) = open_in("-DFAULT_EARLY_LOAD").values()
    assert (one.moved, one.function) == (Moved.LOAD_EARLY, "evtchn_write_lock")
    assert scenario_of(one) is None


def test_publication_on_both_sides() -> None:
    writes = open_in("-DPUBLISHES", "-DFAULT_NO_WMB")[("evtchn_allocate_port", "valid_evtchns")]
    assert writes.moved is Moved.STORE_LATE
    assert f"{writes.address:#x} " in writes.trace[-1] and "too late" in writes.trace[-1]
    assert f"{writes.passes:#x} " in writes.trace[0] and "valid_evtchns" in writes.trace[0]
    assert scenario_of(writes) is SEND_ALLOC
    reads = open_in("-DPUBLISHES", "-DFAULT_NO_RMB")[("evtchn_status", "valid_evtchns")]
    assert reads.moved is Moved.LOAD_EARLY
    assert 0 < reads.passes < reads.address
    assert scenario_of(reads) is None


def test_the_control_block_and_its_queues() -> None:
    late = open_in("-DPUBLISHES", "-DFAULT_NO_WMB_BEFORE_CONTROL_BLOCK")
    (writes,) = late.values()
    assert (writes.moved, writes.flag) == (Moved.STORE_LATE, "control_block")
    assert f"{writes.passes:#x} " in writes.trace[0] and "control_block" in writes.trace[0]
    assert scenario_of(writes) is SEND_MAP


def test_what_the_program_itself_has_in_the_wrong_order_moves_nothing() -> None:
    (one,) = open_in("-DPUBLISHES", "-DFAULT_FLAG_FIRST").values()
    assert (one.moved, one.function) == (Moved.FLAG_FIRST, "map_control_block")
    assert f"{one.address:#x} " in one.trace[-1] and "the queue's head" in one.trace[-1]
    assert one.passes == 0
    assert scenario_of(one) is SEND_MAP


def test_data_whose_flag_is_read_before_a_call() -> None:
    found = open_in("-DPUBLISHES", "-DFAULT_NO_RMB_BEFORE_FIFO")
    sends = found["evtchn_fifo_set_pending", "evtchn_port_ops"]
    assert (sends.moved, sends.passes) == (Moved.LOAD_EARLY, 0)
    assert f"{sends.address:#x} " in sends.trace[0] and "evtchn_fifo" in sends.trace[0]
    assert scenario_of(sends) is SEND_SWITCH
    assert scenario_of(found["evtchn_fifo_is_pending", "evtchn_port_ops"]) is None
