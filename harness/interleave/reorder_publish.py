# SPDX-License-Identifier: GPL-2.0-or-later
"""Lets one CPU publish data by a flag, and another one see the flag and miss the data.

The first CPU sends an event, and so reads the flag and the data; the second one writes both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from harness.interleave.reorder_cpus import (
    FIRST,
    MOST_INSTRUCTIONS,
    SECOND,
    Cpus,
    Registers,
    anyhow,
)
from harness.interleave.reorderings import Moved, Reordering
from harness.interleave.target import Stuck
from harness.interleave.threads import DOM0
from harness.machine.patience import Deadline
from harness.verdict import LabError

_VCPU = 1  # whose control block send-map maps
_MOST_PORTS = 4096  # to fill buckets with
_MEET_SECONDS = 20.0
_CRASH_SECONDS = 20.0  # until Xen has printed why it dies
_LOOK_SECONDS = 0.2
_BUCKET, _POINTER = 64, 8  # channels of a bucket; bytes


@dataclass(frozen=True)
class _Meeting:
    """A port to send to, and who publishes something that the send reads."""

    port: int
    data: int  # the address of the data
    publisher: str  # a function of Xen
    publishes: Callable[[Registers], bool]  # whether it does in this call


def publish(cpus: Cpus, reordering: Reordering, in_order: bool) -> None:
    """Force ``reordering``: the first CPU sees the flag, and misses the data.

    ``in_order``: every access is made when the program has it, at the same meeting of the CPUs.
    Raise what Xen dies of.  Stuck if a CPU does not come to its place.
    """
    meeting = _meeting(cpus, reordering.flag)
    early = reordering.moved is Moved.LOAD_EARLY
    publisher = cpus.symbols[meeting.publisher].address, meeting.publishes
    starts = {
        FIRST: (cpus.symbols["evtchn_send"].address, _about(meeting.port)),
        SECOND: publisher if early else (reordering.address, anyhow),
    }
    with cpus.started():
        cpus.meet(starts, alone=False, seconds=_MEET_SECONDS)
        cpus.target.watch_returns()
        if early:
            _load_early(cpus, reordering, meeting.data, in_order)
            return
        cell = _written(cpus, reordering, meeting)
        if in_order:
            _go_on(cpus, reordering)
            _run_into(cpus)
        elif reordering.moved is Moved.STORE_LATE:
            _store_late(cpus, reordering, cell)
        else:
            cpus.note(SECOND, f"has written {reordering.flag}, and not yet what it publishes")
            _run_into(cpus)


def _about(port: int) -> Callable[[Registers], bool]:
    return lambda registers: registers["x1"] & 0xFFFFFFFF == port  # a function's second argument


def _meeting(cpus: Cpus, flag: str) -> _Meeting:
    memory, numbers = cpus.memory, cpus.ports.numbers
    if flag == "valid_evtchns":
        port = numbers["p"] = _next_bucket(cpus)
        # asked for every port
        return _Meeting(port, memory.group(port), "evtchn_allocate_port", _about(port))
    cpus.ports.prepare()
    data = memory.member("evtchn_fifo")
    if flag == "control_block":
        with _in_xen(cpus):
            data = memory.first_head(_VCPU)
    return _Meeting(numbers["q"], data, "evtchn_fifo_init_control", anyhow)


@contextmanager
def _in_xen(cpus: Cpus) -> Iterator[None]:
    """Halt the running machine where Xen's memory can be read; then let it run."""
    cpus.target.reader = cpus.target.halt_in_xen()
    yield
    cpus.debugged.stub.go()


def _written(cpus: Cpus, reordering: Reordering, meeting: _Meeting) -> int:
    """Return the address of the data that the second CPU is about to write.

    LabError if the send does not read it.  A compiler may write each queue's head by an instruction
    of its own, or the first one together with the control block.
    """
    cpus.target.reader = SECOND
    cell = cpus.executed(cpus.target.registers(SECOND)).memory
    if cell is None or (reordering.flag == "control_block" and cell != meeting.data):
        raise LabError(
            f"{reordering.address:#x} does not write what the send reads, at {meeting.data:#x}: "
            f"that this store is late cannot be seen"
        )
    return cell


def _go_on(cpus: Cpus, reordering: Reordering) -> None:
    """Let the second CPU publish all of it."""
    cpus.target.advance(SECOND)
    cpus.note(SECOND, f"writes the data and {reordering.flag}, and returns to the guest")


def _store_late(cpus: Cpus, reordering: Reordering, cell: int) -> None:
    target = cpus.target
    old = target.read(cell, _POINTER)
    cpus.stand(SECOND, reordering.passes)
    cpus.step(SECOND)
    new = _changed(cpus, cell, old)
    target.write(cell, old)
    cpus.note(SECOND, f"has written {reordering.flag}, what it wrote before is not there yet")
    _run_into(cpus)
    target.write(cell, new)


def _load_early(cpus: Cpus, reordering: Reordering, cell: int, in_order: bool) -> None:
    target = cpus.target
    _to_flag(cpus, reordering)
    target.reader = FIRST
    old = target.read(cell, _POINTER)
    _go_on(cpus, reordering)
    cpus.stand(FIRST, reordering.address)
    if cpus.executed(target.registers(FIRST)).memory != cell:
        raise Stuck(f"CPU0 does not read {cell:#x} at {reordering.address:#x}")
    new = _changed(cpus, cell, old)
    if not in_order:
        target.write(cell, old)
        cpus.step(FIRST)
        target.write(cell, new)
        cpus.note(FIRST, f"has read the data before it read {reordering.flag}")
    _run_into(cpus)


def _changed(cpus: Cpus, cell: int, old: bytes) -> bytes:
    """Return the data at ``cell``; LabError if it is ``old``: who reads that sees no difference."""
    new = cpus.target.read(cell, _POINTER)
    if new == old:
        raise LabError(
            f"the data at {cell:#x} is the same before and after it is published: that it is "
            f"missed cannot be seen"
        )
    return new


def _to_flag(cpus: Cpus, reordering: Reordering) -> None:
    """Let the first CPU alone run until it is about to read the flag.

    Where that is not known, the flag is a member of ``struct domain``, found by its address.
    """
    if reordering.passes:
        cpus.stand(FIRST, reordering.passes)
        return
    cpus.target.reader = FIRST
    flag = cpus.memory.member(reordering.flag)
    for _ in range(MOST_INSTRUCTIONS):
        if cpus.executed(cpus.target.registers(FIRST)).memory == flag:
            return
        cpus.step(FIRST)
    raise Stuck(f"CPU0 does not read {reordering.flag} in its send")


def _next_bucket(cpus: Cpus) -> int:
    """Allocate ports until the next one is the first of a new bucket; return that."""
    with _in_xen(cpus):
        valid = cpus.memory.valid_ports()
    raw = cpus.debugged.live.agents[DOM0].raw
    for _ in range(_MOST_PORTS):  # Xen gives the lowest free one
        port = raw.alloc_unbound()
        if port >= valid:
            valid += _BUCKET
        if port == valid - 1:
            return valid
    raise LabError(f"{_MOST_PORTS} ports of dom0 fill no bucket")


def _run_into(cpus: Cpus) -> None:
    """Let the first CPU run alone until it is back in the guest; raise what Xen dies of."""
    stub, deadline = cpus.debugged.stub, Deadline(cpus.debugged.qemu.clock, _CRASH_SECONDS)
    cpus.note(FIRST, "goes on with its send")
    stub.go_only([FIRST])
    while not deadline.over:
        stop = stub.wait(_LOOK_SECONDS)
        if stop is not None:
            cpus.note(FIRST, "is back in the guest")
            return
        cpus.debugged.live.check()
    stub.halt()
    raise Stuck(f"CPU0 is in {cpus.target.describe(FIRST)}")
