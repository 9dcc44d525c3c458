# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine under the debugger: where each CPU stands, and how to run it to the next stop point."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.arch import Arch
from harness.hypervisor.symbols import symbols
from harness.interleave.stop_points import TICKET, Access, StopPoint
from harness.interleave.xen_memory import LockWords
from harness.machine.patience import Clock, Deadline
from harness.machine.rsp import Stop, Stub
from harness.verdict import LabError

# Seconds of the machine's time, as those below.
STEP_SECONDS = 2.0  # a CPU that runs alone and needs longer waits for another CPU
ARRIVE_SECONDS = 2.0  # from the agent's command to the lock; nearly always 0.1 are enough
_LATE_SECONDS = 1.0  # after that: CPUs that still come are late, the others never come
_ONE_INSTRUCTION = {Arch.X86_64: 15, Arch.ARM64: 4}  # bytes, at most

# Every return from Xen to the guest comes through this function.
_EXIT = {Arch.X86_64: "test_all_events", Arch.ARM64: "leave_hypervisor_to_guest"}
# The first registers in the stub's answer to "g", 8 bytes each.
_REGISTERS = {
    Arch.X86_64: (
        *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
        *(f"r{number}" for number in range(8, 16)),
        "rip",
    ),
    Arch.ARM64: (*(f"x{number}" for number in range(31)), "sp", "pc"),
}
# One instruction that is two steps in the model: the read before the first try, and before later
# ones.
_SAME = {("evtchn_tryread_lock", "read"): ("read", "again")}
_MOST_TICKETS = 9
_CPSR, _EL2 = 33 * 8, 2  # where arm64's program status is in "g"; its exception level in Xen
_HALT_SECONDS = 5.0
# Single steps for one instruction: one in some thousands returns and has executed nothing.
_STEPS = 3
_PC = {Arch.X86_64: "rip", Arch.ARM64: "pc"}


class Stuck(LabError):
    """A CPU did not come to where it was expected in time."""


class NotArrived(Stuck):
    """Some CPUs did not come to the lock; if ``returned``, their call has returned to the guest."""

    def __init__(self, cpus: set[int], seconds: float, returned: bool = False) -> None:
        names = ", ".join(f"CPU{cpu}" for cpu in sorted(cpus))
        how = "returned without the lock" if returned else "did not come to the lock"
        super().__init__(f"{names} {how} within {seconds:g} s")
        self.cpus = cpus
        self.returned = returned


@dataclass(frozen=True)
class Place:
    """Where a CPU stands: at a stop point of the lock under test, or at its return to the guest."""

    point: StopPoint | None  # None: it returns to the guest
    where: str  # "evtchn_tryread_lock+0x13/0x35"

    @property
    def label(self) -> str:
        """The model's step that comes next; "" before the return to the guest."""
        return self.point.label if self.point else ""

    @property
    def labels(self) -> tuple[str, ...]:
        """All names that the step may have in the model."""
        if self.point is None:
            return ()
        if self.label == TICKET:
            return tuple(f"take {number}" for number in range(_MOST_TICKETS))
        return _SAME.get((self.point.function, self.label), (self.label,))


class Target:
    """The CPUs and the stop points of a Xen that runs under a gdbstub."""

    def __init__(
        self,
        stub: Stub,
        arch: Arch,
        syms: Path,
        cpus: int,
        points: Mapping[str, tuple[StopPoint, ...]],
        lock_entries: Mapping[str, tuple[StopPoint, ...]],
        clock: Clock,
    ) -> None:
        """``points``: stop points by lock word; ``lock_entries``: those where the functions of the
        threads' calls are about to take the lock; ``clock``: the machine's."""
        self.stub = stub
        self._clock = clock
        self._arch = arch
        self._symbols = symbols(syms)
        self._cpus = cpus
        self._exit = self._symbols[_EXIT[arch]].address
        self._points: dict[int, list[tuple[str, StopPoint]]] = {}
        self._inner = {point.address for _, point in _pairs(points)}
        self._entries = {point.address for _, point in _pairs(lock_entries)}
        for word, point in _pairs(points, lock_entries):
            if (word, point) not in self._points.setdefault(point.address, []):
                self._points[point.address].append((word, point))
        self._words = LockWords({})
        self._set: set[int] = set()
        self.stops = 0
        self.reader = 0  # the CPU through which Xen's memory is read

    # -- stop points -----------------------------------------------------------------------

    def watch(self, words: LockWords) -> None:
        """Stop at the lock entries of ``words``.  The machine must be halted."""
        self._words = words
        for address in self._entries:
            self._insert(address)

    def _watch_more(self) -> None:
        """From now on stop at every access of the lock, and before the return to the guest."""
        for address in self._set - self._inner:
            self.stub.remove(address)
        self._set &= self._inner
        for address in (*self._inner, self._exit):
            self._insert(address)

    def watch_returns(self) -> None:
        """Stop before the return to the guest.  The machine must be halted."""
        self._insert(self._exit)

    def unwatch(self) -> None:
        """Remove every stop point.  The machine must be halted."""
        for address in tuple(self._set):
            self.stub.remove(address)
            self._set.discard(address)

    def _insert(self, address: int) -> None:
        if address not in self._set:
            self.stub.insert(address)
            self._set.add(address)

    # -- CPUs ------------------------------------------------------------------------------

    def place(self, cpu: int) -> Place | None:
        """Return where ``cpu`` stands; None if it is at no stop point of the lock under test."""
        return self._place(self.registers(cpu))

    def _place(self, registers: Mapping[str, int]) -> Place | None:
        pc = registers[_PC[self._arch]]
        if pc == self._exit:
            return Place(None, self._symbols.describe(pc))
        for word, point in self._points.get(pc, ()):
            address = (registers[point.register] + point.offset) & (1 << 64) - 1
            if self._is(word, point, address):
                return Place(point, self._symbols.describe(pc))
        return None

    def _is(self, word: str, point: StopPoint, address: int) -> bool:
        found = self._words.at(address)
        return found == word or (
            found == "qlock" and word == "cnts" and point.access is Access.CALL
        )

    def halt_in_xen(self) -> int:
        """Halt the machine while a CPU is in Xen; return this CPU: it can read Xen's memory."""
        deadline = Deadline(self._clock, _HALT_SECONDS)
        while not deadline.over:
            self.stub.halt()
            for cpu in range(self._cpus):
                if self._in_xen(cpu):
                    return cpu
            self.stub.go()
        raise Stuck("no CPU was found in Xen")

    def read(self, address: int, size: int) -> bytes:
        """Return ``size`` bytes of Xen's memory."""
        return self.stub.read(self.reader, address, size)

    def write(self, address: int, data: bytes) -> None:
        """Write to Xen's memory."""
        self.stub.write(self.reader, address, data)

    def _in_xen(self, cpu: int) -> bool:
        if self._arch is Arch.X86_64:  # Xen is mapped in every PV guest's page tables
            return True
        state = self.stub.registers(cpu)[_CPSR : _CPSR + 4]
        return int.from_bytes(state, "little") >> 2 & 3 == _EL2

    def pc(self, cpu: int) -> int:
        """Return the address of the instruction that ``cpu`` executes next."""
        return self.registers(cpu)[_PC[self._arch]]

    def describe(self, cpu: int) -> str:
        """Return where ``cpu`` is, as Xen prints it."""
        return self._symbols.describe(self.pc(cpu))

    def registers(self, cpu: int) -> dict[str, int]:
        """Return the general registers of ``cpu``."""
        data = self.stub.registers(cpu)
        names = _REGISTERS[self._arch]
        return {
            name: int.from_bytes(data[number * 8 : number * 8 + 8], "little")
            for number, name in enumerate(names)
        }

    def arrive(
        self,
        cpus: Iterable[int],
        frozen: Collection[int],
        calls: Mapping[int, str],
        last: int | None,
        timeout: float,
    ) -> dict[int, Place]:
        """Let the machine run until each of ``cpus`` stands at a lock entry; return where.

        CPUs that have arrived stay halted, and so do those of ``frozen``.  ``calls``: functions of
        Xen that some of the CPUs are about to enter; when one returns, its CPU will not come any
        more.  ``last``: this CPU is halted at its function until all others have arrived.
        NotArrived has the CPUs that have not come after ``timeout`` seconds, or will not come.
        """
        missing, places, returns = set(cpus), dict[int, Place](), dict[int, int]()
        functions = {
            cpu: self._symbols[name].address for cpu, name in calls.items() if name in self._symbols
        }
        for address in functions.values():
            self._insert(address)
        deadline = Deadline(self._clock, timeout)
        waits = False  # whether ``last`` waits at its function
        while missing:
            halted = {*places, *frozen, *([last] if waits else [])}
            self.stub.go_only(cpu for cpu in range(self._cpus) if cpu not in halted)
            stop = self._wait(deadline)
            if stop is None:
                raise NotArrived(missing, timeout)
            registers = self.registers(stop)
            place = self._place(registers) if stop in missing else None
            if place is not None and place.point is not None:
                places[stop] = place
                missing.discard(stop)
                waits = waits and missing != {last}
                continue
            pc = registers[_PC[self._arch]]
            if stop == last and pc == functions.get(stop) and missing > {last} and not waits:
                waits = True
                continue
            if stop in missing and pc == returns.get(stop):
                raise NotArrived({stop}, timeout, returned=True)
            if stop in missing and pc == functions.get(stop) and stop not in returns:
                returns[stop] = self._return_address(stop)
                self._insert(returns[stop])
            self.stub.step(stop)
        return places

    def _return_address(self, cpu: int) -> int:
        """Return the return address of the function at whose first instruction ``cpu`` stands."""
        registers = self.registers(cpu)
        if self._arch is Arch.ARM64:
            return registers["x30"]
        return int.from_bytes(self.stub.read(cpu, registers["rsp"], 8), "little")

    def enter_lock_functions(self, places: Mapping[int, Place]) -> dict[int, Place]:
        """Let the CPUs at ``places``, lock entries, run one by one to their first accesses."""
        self._watch_more()
        return {cpu: self._inside(cpu, place) for cpu, place in places.items()}

    def _inside(self, cpu: int, place: Place) -> Place:
        """Let ``cpu`` run to the first access in a lock function, if it stands before its call."""
        point = place.point
        if point is None or point.address in self._inner:
            return place
        self.stub.step(cpu)
        return self.advance(cpu)

    def run_freely(self) -> set[int]:
        """Let all CPUs run for 1 s; return those that came to the lock after all."""
        came, deadline = set[int](), Deadline(self._clock, _LATE_SECONDS)
        while True:
            self.stub.go()
            stop = self._wait(deadline)
            if stop is None:
                return came
            place = self.place(stop)
            if place is not None and place.point is not None:
                came.add(stop)
            self.stub.step(stop)

    def make_access(self, cpu: int, place: Place) -> None:
        """Let ``cpu`` make the access that it stands before, and no further instruction."""
        point = place.point
        assert point is not None
        for _ in range(_STEPS):
            self.stub.step(cpu)
            self.stops += 1
            if self.pc(cpu) != point.address:
                break
        else:
            raise Stuck(f"CPU{cpu} does not execute its instruction at {place.where}")
        if point.access is Access.CALL or point.end - point.address > _ONE_INSTRUCTION[self._arch]:
            self._run_to(cpu, point)

    def proceed(self, cpu: int, place: Place, until: int | None = None) -> Place:
        """Do what ``make_access`` and ``advance`` do, with half the stops.

        Not for an access that may be the next one again: the CPU would not stop there.
        """
        assert place.point is not None
        address = place.point.address
        self.stub.remove(address)
        self._set.discard(address)
        try:
            return self.advance(cpu, until)
        finally:
            self._insert(address)

    def _run_to(self, cpu: int, point: StopPoint) -> None:
        """Let ``cpu`` alone run to the end of ``point``: a call, or a loop around an access."""
        fresh = point.end not in self._set
        self._insert(point.end)
        try:
            deadline = Deadline(self._clock, STEP_SECONDS)
            while self.pc(cpu) != point.end:
                self.stub.go_only([cpu])
                if self._wait(deadline) is None:
                    raise Stuck(
                        f"CPU{cpu} alone did not complete its access in {point.function} within "
                        f"{STEP_SECONDS:.0f} s: it is in {self.describe(cpu)}"
                    )
                if self.pc(cpu) != point.end:
                    self.stub.step(cpu)  # another stop point, or the loop once more
        finally:
            if fresh:
                self.stub.remove(point.end)
                self._set.discard(point.end)

    def advance(self, cpu: int, until: int | None = None) -> Place:
        """Let ``cpu`` alone run to its next access of the lock, or its return to the guest.

        Return where it then stands.

        ``until``: the return address of an interrupt; the CPU stops there as if it left Xen.
        """
        fresh = until is not None and until not in self._set
        if until is not None:
            self._insert(until)
        try:
            return self._advance(cpu, until)
        finally:
            if until is not None and fresh:
                self.stub.remove(until)
                self._set.discard(until)

    def _advance(self, cpu: int, until: int | None) -> Place:
        deadline = Deadline(self._clock, STEP_SECONDS)
        while True:
            self.stub.go_only([cpu])
            if self._wait(deadline) is None:
                raise Stuck(
                    f"CPU{cpu} alone did not come to its next step within {STEP_SECONDS:.0f} s: "
                    f"it is in {self.describe(cpu)}"
                )
            if until is not None and self.pc(cpu) == until:
                return Place(None, self._symbols.describe(until))
            place = self.place(cpu)
            if place is not None:
                return place
            self.stub.step(cpu)  # another channel's lock

    def _wait(self, deadline: Deadline) -> int | None:
        """Return the CPU that stopped; at the deadline, halt the machine and return None."""
        stop = stopped(self.stub, deadline)
        self.stops += 1
        if stop is not None:
            return stop.cpu
        self.stub.halt()
        return None


def stopped(stub: Stub, deadline: Deadline) -> Stop | None:
    """Wait until a CPU stops, and return where; None when the deadline is over before."""
    while True:
        stop = stub.wait(max(0.0, deadline.left))
        if stop is not None or deadline.over:
            return stop


def _pairs(*many: Mapping[str, tuple[StopPoint, ...]]) -> Iterator[tuple[str, StopPoint]]:
    for points in many:
        for word, listed in points.items():
            yield from ((word, point) for point in listed)
