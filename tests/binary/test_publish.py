# SPDX-License-Identifier: GPL-2.0-or-later
"""The order between data and its flag in what a compiler made, with and without a fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.arch import Arch
from harness.binary.copies import Text
from harness.binary.judge import MEMORY, document, judge
from harness.binary.publish import verdict
from harness.binary.publish.jump_table import is_jump
from harness.binary.publish.rows import PUBLICATIONS
from harness.binary.publish.verdict import Publishing, published
from harness.binary.tables import table_of
from harness.hypervisor.symbols import symbols
from harness.model.explore.memory_model import MemoryModel
from tests.binary.toy_locks import toy

ARCHES = list(Arch)
_SWITCH = ("-DSWITCH", "-fjump-tables", "--param=case-values-threshold=4")


def found(arch: Arch, *flags: str, memory: MemoryModel | None = None) -> tuple[Publishing, ...]:
    text = Text(toy(arch, "counter", "-DPUBLISHES", *flags), arch)
    return published(text, table_of(arch), memory or MEMORY[arch])


def refuted(ones: tuple[Publishing, ...]) -> set[tuple[str, str]]:
    return {(one.flag, one.caller) for one in ones if one.departures}


@pytest.mark.parametrize("level", ["-O1", "-O2", "-Os"])
@pytest.mark.parametrize("arch", ARCHES)
def test_what_keeps_the_order(arch: Arch, level: str) -> None:
    ones = found(arch, level)
    assert {(one.flag, one.caller) for one in ones} >= {
        ("valid_evtchns", "evtchn_allocate_port"),
        ("valid_evtchns", "evtchn_status"),
        ("valid_evtchns", "evtchn_fifo_expand_array"),
        ("control_block", "map_control_block"),
        ("control_block", "evtchn_fifo_set_pending"),
        ("num_evtchns", "evtchn_fifo_expand_array"),
    }
    assert [gap for one in ones for gap in one.not_covered] == []
    assert refuted(ones) == set()
    steps = {(one.flag, step) for one in ones for _, step in one.accesses}
    for flag, data in (
        ("valid_evtchns", "the bucket of the port"),
        ("control_block", "the queue's head"),
        ("num_evtchns", "the page in event_array"),
    ):
        wanted = {(flag, f"{did} {what}") for did in ("reads", "writes") for what in (flag, data)}
        assert wanted <= steps
    assert ("evtchn_port_ops", "reads evtchn_fifo") in steps


@pytest.mark.parametrize("way", ["ACQUIRE", "LDAPR", "DSB"])
def test_other_ways_of_order_are_order_enough(way: str) -> None:
    ones = found(Arch.ARM64, f"-DBY_{way}")
    assert {one.verdict for one in ones} == {"as modelled"}


@pytest.mark.parametrize(
    ("fault", "flag", "callers"),
    [
        ("NO_WMB", "valid_evtchns", {"evtchn_allocate_port"}),
        ("NO_RMB", "valid_evtchns", {"evtchn_status", "evtchn_fifo_expand_array"}),
        ("NO_WMB_BEFORE_CONTROL_BLOCK", "control_block", {"map_control_block"}),
        ("BIT_ORDERS_NOTHING", "control_block", {"evtchn_fifo_set_pending"}),
        ("NO_WMB_BEFORE_NUM", "num_evtchns", {"evtchn_fifo_expand_array"}),
        (
            "NO_RMB_BEFORE_ARRAY",
            "num_evtchns",
            {"evtchn_fifo_set_pending", "evtchn_fifo_is_pending"},
        ),
        (
            "NO_RMB_BEFORE_FIFO",
            "evtchn_port_ops",
            {"evtchn_fifo_set_pending", "evtchn_fifo_is_pending"},
        ),
    ],
)
def test_a_barrier_that_is_missing_is_refuted_on_arm(
    fault: str, flag: str, callers: set[str]
) -> None:
    ones = found(Arch.ARM64, f"-DFAULT_{fault}")
    assert refuted(ones) == {(flag, caller) for caller in callers}
    assert [gap for one in ones for gap in one.not_covered] == []
    in_order = found(Arch.ARM64, f"-DFAULT_{fault}", memory=MemoryModel.SC)
    assert refuted(in_order) == set()
    assert refuted(found(Arch.X86_64, f"-DFAULT_{fault}")) == set(), "x86 keeps this order itself"


@pytest.mark.parametrize("memory", [None, MemoryModel.SC])
@pytest.mark.parametrize("arch", ARCHES)
def test_a_flag_that_is_written_first_is_refuted_everywhere(
    arch: Arch, memory: MemoryModel | None
) -> None:
    ones = found(arch, "-DFAULT_FLAG_FIRST", memory=memory)
    assert refuted(ones) == {("control_block", "map_control_block")}
    (departure,) = [d for one in ones for d in one.departures]
    assert departure.line.startswith("event_fifo.c:")
    assert (
        departure.binary == "the queue's head is written behind control_block, which publishes it"
    )
    first, second, third, late = departure.trace
    assert first.endswith(")") and ": writes control_block (event_fifo.c:" in first
    assert second == "another CPU reads control_block: it is set"
    assert third == "another CPU reads the queue's head: it is not there yet"
    assert late.startswith(f"{departure.address:#x} {departure.instruction}: ")
    assert late.endswith(": too late")


def test_who_does_what_is_told_in_the_order_of_events() -> None:
    ones = found(Arch.ARM64, "-DFAULT_NO_RMB")
    (departure,) = [d for one in ones if one.caller == "evtchn_status" for d in one.departures]
    read, written, flag, last = departure.trace
    assert read.startswith(f"{departure.address:#x} {departure.instruction}: ")
    assert "before its own read of valid_evtchns: it is not there yet" in read
    assert written == "another CPU writes the bucket of the port"
    assert flag == "another CPU writes valid_evtchns"
    assert ": reads valid_evtchns (event.h:" in last and last.endswith(": it is set")


@pytest.mark.parametrize(
    ("arch", "mnemonic"),
    [(Arch.ARM64, "ldr"), (Arch.ARM64, "str"), (Arch.X86_64, "mov"), (Arch.X86_64, "cmp")],
)
def test_an_access_that_is_not_understood_is_not_passed(arch: Arch, mnemonic: str) -> None:
    table = table_of(arch)
    del table.meanings[mnemonic]
    text = Text(toy(arch, "counter", "-DPUBLISHES"), arch)
    ones = published(text, table, MEMORY[arch])
    assert "refuted" not in {one.verdict for one in ones}
    assert any(mnemonic in gap.why for one in ones for gap in one.not_covered)


@pytest.mark.parametrize("size", ["-O2", "-Os"])
@pytest.mark.parametrize("arch", ARCHES)
def test_a_jump_through_a_table_is_followed(arch: Arch, size: str) -> None:
    flags = (*_SWITCH, *(("-fpie",) if arch is Arch.X86_64 else ()), size)
    elf = toy(arch, "counter", "-DPUBLISHES", *flags)
    symbol = symbols(elf)["do_event_channel_op"]
    code = Text(elf, arch).between(symbol.address, symbol.address + symbol.size)
    assert [instruction for instruction in code if is_jump(instruction)]
    good = found(arch, *flags)
    assert {one.verdict for one in good} == {"as modelled"}
    reads = next(one for one in good if one.caller == "do_event_channel_op")
    assert {step for _, step in reads.accesses} >= {"reads the bucket of the port"}
    if arch is Arch.ARM64:  # x86-64 keeps the order of loads
        bad = found(arch, *flags, "-DFAULT_NO_RMB")
        assert ("valid_evtchns", "do_event_channel_op") in refuted(bad)


def test_a_jump_to_nobody_knows_where_is_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Text, "constants", lambda *_: b"")
    ones = found(Arch.ARM64, *_SWITCH)
    (bad,) = [one for one in ones if one.not_covered]
    assert (bad.caller, bad.verdict) == ("do_event_channel_op", "not covered")
    assert "br" in bad.not_covered[0].why


def test_who_only_says_that_a_port_is_valid_is_not_covered() -> None:
    """Its callers read the bucket: whether they do so in order is not looked at."""
    ones = found(Arch.ARM64, "-DOUT_OF_LINE")
    bad = {one.caller for one in ones if one.verdict == "not covered"}
    assert bad == {"port_is_valid"}


def test_a_member_that_has_another_name_is_not_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [replace(row, data=replace(row.data, member="other")) for row in PUBLICATIONS]
    monkeypatch.setattr(verdict, "PUBLICATIONS", rows)
    ones = found(Arch.ARM64)
    assert {one.verdict for one in ones} == {"not covered"}
    assert "common/event_channel.c has not domain.valid_evtchns and domain.other" in {
        gap.why for one in ones for gap in one.not_covered
    }


@pytest.mark.parametrize("arch", ARCHES)
def test_a_hypervisor_without_these_structures_has_nothing_of_it(arch: Arch) -> None:
    text = Text(toy(arch, "counter"), arch)
    assert published(text, table_of(arch), MEMORY[arch]) == ()


def test_it_is_a_part_of_the_whole_verdict() -> None:
    good = judge(toy(Arch.ARM64, "counter", "-DPUBLISHES"))
    assert good.verdict == "as modelled"
    bad = judge(toy(Arch.ARM64, "counter", "-DPUBLISHES", "-DFAULT_NO_WMB"))
    assert (bad.found.verdict, bad.verdict) == ("as modelled", "refuted")
    told = document(bad)
    (one,) = told["refuted"]
    assert (
        one["property"] == "valid_evtchns is written behind what it publishes, and read before it"
    )
    assert one["function"] == one["caller"] == "evtchn_allocate_port"
    assert one["line"].startswith("event_channel.c:")
    publishes = {each["name"]: each["publishes"] for each in told["functions"]}
    assert publishes["evtchn_write_lock"] is None
    assert publishes["evtchn_allocate_port"] == "valid_evtchns"
