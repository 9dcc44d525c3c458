# SPDX-License-Identifier: GPL-2.0-or-later
"""What is made late or early is what the send reads: else that nothing shows would say nothing."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.interleave.reorder_publish import publish
from harness.interleave.reorderings import Executed, Moved, Reordering
from harness.machine.patience import WALL
from harness.machine.rsp import Stop
from harness.verdict import LabError

HEAD, SECOND_HEAD, FIFO = 0x1008, 0x1018, 0x2000
NULL, POINTER = bytes(8), b"\1" * 8


def ordering(moved: Moved, flag: str = "control_block", passes: int = 0x20) -> Reordering:
    return Reordering(moved, "a_function", flag, 0x10, passes, "what", ())


def nothing(*_: object, **__: object) -> None:
    pass


class Machine:
    """CPUs whose next access is of the memory at ``cell``, which holds ``values``, one after the
    other."""

    def __init__(self, cell: int | None, values: tuple[bytes, ...] = (NULL, POINTER)) -> None:
        self.notes: list[str] = []
        self.written: list[tuple[int, bytes]] = []
        self._values = iter(values)
        self._cell = cell
        function = SimpleNamespace(address=0x100)
        target = SimpleNamespace(
            watch_returns=nothing,
            advance=nothing,
            registers=lambda _: {},
            read=self._read,
            write=lambda at, data: self.written.append((at, data)),
            halt_in_xen=lambda: 0,
        )
        stub = SimpleNamespace(go=nothing, go_only=nothing, wait=lambda _: Stop(5, 0))
        self.cpus = cast(
            Any,
            SimpleNamespace(
                ports=SimpleNamespace(numbers={"q": 7}, prepare=nothing),
                memory=SimpleNamespace(member=lambda _: FIFO, first_head=lambda _: HEAD),
                symbols=dict.fromkeys(("evtchn_send", "evtchn_fifo_init_control"), function),
                target=target,
                debugged=SimpleNamespace(stub=stub, qemu=SimpleNamespace(clock=WALL)),
                executed=lambda _: Executed(cast(Any, None), self._cell),
                note=lambda cpu, what: self.notes.append(f"CPU{cpu}: {what}"),
                **dict.fromkeys(("meet", "stand", "step"), nothing),
                started=nullcontext,
            ),
        )

    def _read(self, at: int, _size: int) -> bytes:
        assert at == self._cell
        return next(self._values)


@pytest.fixture(params=[True, False], ids=["control", "forced"])
def in_order(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


WRITTEN = (Moved.STORE_LATE, Moved.FLAG_FIRST)


@pytest.mark.parametrize("moved", WRITTEN)
def test_the_head_that_the_send_reads_is_late(moved: Moved, in_order: bool) -> None:
    machine = Machine(HEAD)
    publish(machine.cpus, ordering(moved), in_order)
    late = [(HEAD, NULL), (HEAD, POINTER)]
    assert machine.written == (late if moved is Moved.STORE_LATE and not in_order else [])
    assert machine.notes[-1] == "CPU0: is back in the guest"


@pytest.mark.parametrize("moved", WRITTEN)
@pytest.mark.parametrize("cell", [SECOND_HEAD, HEAD - 8, None])
def test_where_another_queues_head_is_late_nothing_is_forced(
    moved: Moved, cell: int | None, in_order: bool
) -> None:
    """clang -O2 writes the first queue's head and the control block by one instruction: what may be
    late is the second queue's head, of which a send to the first one sees nothing."""
    machine = Machine(cell)
    with pytest.raises(LabError, match="0x10 does not write what the send reads, at 0x1008"):
        publish(machine.cpus, ordering(moved), in_order)
    assert machine.written == []


def test_a_head_is_read_early() -> None:
    machine = Machine(HEAD)
    publish(machine.cpus, ordering(Moved.LOAD_EARLY), in_order=False)
    assert machine.written == [(HEAD, NULL), (HEAD, POINTER)]


@pytest.mark.parametrize("flag", ["control_block", "evtchn_port_ops"])
def test_data_that_is_the_same_before_and_after_shows_nothing(flag: str, in_order: bool) -> None:
    machine = Machine(HEAD if flag == "control_block" else FIFO, (POINTER, POINTER))
    with pytest.raises(LabError, match="is the same before"):
        publish(machine.cpus, ordering(Moved.LOAD_EARLY, flag), in_order)
    assert machine.written == []


def test_a_late_store_of_what_is_there_already_shows_nothing() -> None:
    machine = Machine(HEAD, (POINTER, POINTER))
    with pytest.raises(LabError, match="is the same before"):
        publish(machine.cpus, ordering(Moved.STORE_LATE), in_order=False)
    assert machine.written == []
