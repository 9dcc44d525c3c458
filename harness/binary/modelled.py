# SPDX-License-Identifier: GPL-2.0-or-later
"""What the model has for each lock function of Xen, and what the lock word says to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from harness.arch import Arch
from harness.binary.values import OTHER_CPU, OWN_CPU, Value
from harness.hypervisor.rwlock_word import LAYOUTS, RwlockWord
from harness.model.explore.formula import compile_numpy
from harness.model.explore.program import (
    AccessKind,
    AtomicStep,
    Branch,
    Fence,
    Program,
    Role,
    System,
    local,
)
from harness.model.lock.flavours import MAX_VIRT_CPUS
from harness.model.lock.lock_functions import Lock
from harness.model.lock.locks import LOCKS
from harness.model.lock.ticket_lock import ticketed

SECTION = "section"
_SECTION = (local(SECTION, "inside the lock", Branch("", "")),)
_TICKETS = 5  # threads of the ticket lock


@dataclass(frozen=True)
class Written:
    """What a step leaves in the lock word."""

    bits: int
    own_cpu: int = 0  # these bits are the number of the CPU that does it

    def is_written_by(self, value: Value, size: int) -> bool:
        """Say whether ``value`` is it; what is not known must come from elsewhere."""
        mask = (1 << size * 8) - 1
        if value.base:
            return False
        unknown = ~value.known & mask
        if unknown and (not self.own_cpu or value.taint):
            return False
        return not (value.bits ^ self.bits) & value.known & mask & ~self.own_cpu


@dataclass(frozen=True)
class Word:
    """The lock word, as Xen has it and as the model has it."""

    size: int  # bytes
    words: tuple[int, ...]  # with which the functions are run
    variables: Callable[[int], Mapping[str, int]]
    # The word that has these variables, made from the one before; None: no word has them.
    written: Callable[[Mapping[str, int], int], Written | None]
    constants: Mapping[str, int]

    def branch(self, step: AtomicStep, word: int) -> Branch | None:
        """Return the branch that ``step`` takes when it finds ``word``; None: it waits."""
        names = {**self.constants, **self.variables(word)}
        return next((b for b in step.branches if compile_numpy(b.when)(names)), None)

    def after(self, branch: Branch, word: int) -> Written | None:
        """Return what ``branch`` leaves where it found ``word``; None: ``word`` cannot be there."""
        variables = dict(self.variables(word))
        for name, value in branch.adds:
            if name in variables:
                variables[name] += self._constant(value)
        variables.update({name: value for name, value in branch.sets if name in variables})
        return self.written(variables, word)

    def writes(self, branch: Branch) -> bool:
        names = self.variables(0)
        return any(name in names for name, _ in (*branch.adds, *branch.sets))

    def _constant(self, value: int | str) -> int:
        if isinstance(value, int):
            return value
        number = self.constants[value.removeprefix("-")]
        return -number if value.startswith("-") else number


@dataclass(frozen=True)
class Function:
    """A lock function: from which step of which program it goes to which others."""

    name: str
    program: Program
    start: str
    ends: Mapping[str, int | None]  # the steps before which it ends, and what it returns there
    without_callback: bool = False  # its second argument is looked at as NULL
    words: tuple[int, ...] = ()  # with which it is run, if not with all: who unlocks has the lock


@dataclass(frozen=True)
class ModelledLock:
    """All lock functions of one flavour."""

    name: str
    lock: Lock
    word: Word
    functions: Mapping[str, Function]
    member: str  # of struct evtchn, that the functions are given; "": the word itself
    type: str  # of the lock's structure, which begins with the word
    size: int = 4  # of that structure, bytes
    # Steps that the model makes atomic, and that a plain load and store may make as well: none
    # but the one who holds the lock writes there.
    only_writer: frozenset[str] = field(default_factory=frozenset)


def modelled_lock(name: str, arch: Arch, layout: RwlockWord = LAYOUTS[0]) -> ModelledLock:
    """Return what the model has for the flavour ``name``; ``layout`` is for a rwlock."""
    lock = LOCKS[name]
    match name:
        case "rwlock":
            return _rwlock(lock, layout)
        case "spinlock":
            return _spinlock(lock)
        case _:
            return _counter(lock, MAX_VIRT_CPUS[arch.value])


# -- the three locks -----------------------------------------------------------------------


def _counter(lock: Lock, width: int) -> ModelledLock:
    half = width // 2
    words = (0, 1, 2, half, half + 1, width - 1, width, width + 1, width + 2, 2 * width, -1)

    def variables(word: int) -> Mapping[str, int]:
        return {"L": word - (1 << 32) if word >> 31 else word}

    def written(variables: Mapping[str, int], _: int) -> Written:
        return Written(variables["L"] & 0xFFFFFFFF)

    word = Word(4, tuple(w & 0xFFFFFFFF for w in words), variables, written, {"W": width})
    write = lock.write("write", _SECTION, "", False)
    tryread = lock.tryread("tryread", _SECTION, "")
    functions = (
        Function("evtchn_write_lock", write, "claim", {SECTION: None}),
        Function("evtchn_write_unlock", write, "leave", {"claim": None}),
        Function("evtchn_tryread_lock", tryread, "read", {SECTION: 1, "read": 0}),
        Function("evtchn_read_unlock", tryread, "leave", {"read": None}),
    )
    return ModelledLock(lock.name, lock, word, {f.name: f for f in functions}, "lock", "atomic_t")


def _rwlock(lock: Lock, layout: RwlockWord) -> ModelledLock:
    cpu = layout.cpu

    def word_of(readers: int, mode: int) -> int:
        return readers << layout.readers | layout.bits(mode)

    def variables(word: int) -> Mapping[str, int]:
        return {"readers": layout.count(word), "wmode": layout.mode(word)}

    def written(variables: Mapping[str, int], before: int) -> Written | None:
        readers, mode = variables["readers"], variables["wmode"]
        if readers < 0 or mode not in (0, 1, 3):
            return None
        bits = word_of(readers, mode)
        if mode == 3 and layout.mode(before) != 3:
            return Written(bits, own_cpu=cpu)
        return Written(bits | (before & cpu if mode == 3 else 0))

    others = {0: 0, 1: 0, 3: OTHER_CPU & cpu}
    words = tuple(word_of(n, mode) | other for mode, other in others.items() for n in range(3))
    own = tuple(word_of(readers, 3) | OWN_CPU & cpu for readers in range(3))
    word = Word(4, words, variables, written, {"qlock": 0})
    write = lock.write("write", _SECTION, "", False)
    read = lock.read("read", _SECTION, "")
    tryread = lock.tryread("tryread", _SECTION, "")
    functions = (
        Function("_write_lock", write, "claim", {SECTION: None}),
        Function("queue_write_lock_slowpath", write, "queue", {SECTION: None}),
        Function("_write_unlock", write, "leave", {"claim": None}, words=own),
        Function("_read_lock", read, "read", {SECTION: None}),
        Function("queue_read_lock_slowpath", read, "undo", {SECTION: None}),
        Function("_read_trylock", tryread, "read", {SECTION: 1, "read": 0}),
        Function("_read_unlock", tryread, "leave", {"read": None}),
    )
    return ModelledLock("rwlock", lock, word, {f.name: f for f in functions}, "", "rwlock_t")


def _spinlock(lock: Lock) -> ModelledLock:
    """xen/common/spinlock.c: tickets.head in the low half of the word, tickets.tail above."""
    writer = lock.write("spin", _SECTION, "", False)
    roles = (Role(writer, _TICKETS),)
    tags = ("writing", "irqs_off", "spinning", "reading")
    variables = tuple(v for v in lock.variables if v.name == "lock")
    program = ticketed(System("tickets", roles, variables, tags=tags), "lock").roles[0].program
    # Head and tail are one word in Xen: no barrier is needed between the draw and the first look.
    steps = (
        replace(step, after=Fence.NONE)
        if step is program.steps[0]
        else replace(step, before=Fence.NONE)
        if step.kind is AccessKind.LOAD
        else step
        for step in program.steps
    )
    program = replace(program, steps=tuple(steps))

    def values(word: int) -> Mapping[str, int]:
        return {"lock_head": word & 0xFFFF, "lock_tail": word >> 16}

    def written(variables: Mapping[str, int], _: int) -> Written | None:
        head, tail = variables["lock_head"], variables["lock_tail"]
        return Written(head | tail << 16) if head <= tail else None

    words = tuple(head | tail << 16 for tail in range(_TICKETS) for head in range(tail + 1))
    take, leave = program.steps[0].name, {program.steps[0].name: None}
    locks = ("_spin_lock", "_spin_lock_cb", "_spin_lock_irqsave", "evtchn_lock")
    unlocks = ("_spin_unlock", "_spin_unlock_irqrestore", "evtchn_unlock")
    functions = (
        *(
            Function(name, program, take, {SECTION: None}, name == "_spin_lock_cb")
            for name in locks
        ),
        *(Function(name, program, "leave", leave) for name in unlocks),
    )
    word = Word(4, words, values, written, {})
    table = {f.name: f for f in functions}
    return ModelledLock(
        "spinlock", lock, word, table, "", "spinlock_t", only_writer=frozenset({"leave"})
    )
