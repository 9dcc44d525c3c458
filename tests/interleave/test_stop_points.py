# SPDX-License-Identifier: GPL-2.0-or-later
"""Stop points, found in what the compilers of both architectures make of a small lock."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from harness.agent.build import compiler
from harness.arch import NAMES, Arch
from harness.interleave.force_orders import points_of
from harness.interleave.stop_points import Access, Labels, StopPoint, lock_entries, stop_points
from harness.verdict import ConfigError, HarnessError

# The counter out of line, a lock that is inlined and lies at an offset, and a spinlock's callers.
SOURCE = """
struct channel { int other; int lock; unsigned char state; };
void _spin_lock(int *lock);
void _spin_unlock(int *lock);

__attribute__((noinline)) int evtchn_tryread_lock(int *lock)
{
    if ( *(volatile int *)lock >= 128 )
        return 0;
    if ( __atomic_add_fetch(lock, 1, __ATOMIC_SEQ_CST) < 128 )
        return 1;
    __atomic_sub_fetch(lock, 1, __ATOMIC_RELAXED);
    return 0;
}

int evtchn_unmask(int *lock)
{
    return evtchn_tryread_lock(lock) + 1;
}

static inline __attribute__((always_inline)) void _read_lock(int *lock)
{
    __atomic_add_fetch(lock, 4, __ATOMIC_SEQ_CST);
}

int evtchn_send(struct channel *c)
{
    _read_lock(&c->lock);
    return c->state;
}

__attribute__((noinline)) void queue_read_lock_slowpath(int *lock)
{
    _spin_lock(lock);
    while ( *(volatile int *)lock )
        ;
    _spin_unlock(lock);
}

__attribute__((noinline)) void _spin_lock(int *lock) { *lock = 1; }
__attribute__((noinline)) void _spin_unlock(int *lock) { *lock = 0; }
void _start(void) { }
"""
FLAGS = ("-g", "-O1", "-ffreestanding", "-nostdlib", "-static", "-fno-pie", "-no-pie")
EXTRA = {Arch.X86_64: (), Arch.ARM64: ("-mno-outline-atomics",)}
READ: Labels = {
    "evtchn_tryread_lock": {Access.LOAD: ("read",), Access.RMW: ("add", "undo")},
}
INLINED: Labels = {"_read_lock": {Access.RMW: ("read",)}}
QUEUE: Labels = {
    "queue_read_lock_slowpath": {Access.LOAD: ("look",), Access.CALL: ("queue", "unqueue")}
}


@pytest.fixture(scope="module", params=list(Arch))
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    arch: Arch = request.param
    folder = tmp_path_factory.mktemp(arch.value) / "common"
    folder.mkdir()
    (folder / "event_channel.c").write_text(SOURCE)
    words = [compiler(arch), *FLAGS, *EXTRA[arch], "-o", "xen-syms", "common/event_channel.c"]
    subprocess.run(words, cwd=folder.parent, check=True)
    (folder.parent / "arch").write_text(arch.value)
    return folder.parent / "xen-syms"


def arch_of(elf: Path) -> Arch:
    return Arch((elf.parent / "arch").read_text())


def found(elf: Path, labels: Labels, offset: int = 0) -> list[StopPoint]:
    return list(stop_points(elf, arch_of(elf), labels, offset))


def listing(elf: Path) -> dict[int, str]:
    """What objdump has at each address."""
    objdump = f"{NAMES[arch_of(elf)].triplet}-objdump"
    text = subprocess.run(
        [objdump, "-d", "--no-show-raw-insn", elf], capture_output=True, text=True, check=True
    ).stdout
    pattern = re.compile(r"^\s*([0-9a-f]+):\s+(.*)$", re.MULTILINE)
    return {int(address, 16): code for address, code in pattern.findall(text)}


def test_accesses_of_an_out_of_line_lock(built: Path) -> None:
    points = found(built, READ)
    code = listing(built)
    assert [point.label for point in points] == ["read", "add", "undo"]
    assert [point.access for point in points] == [Access.LOAD, Access.RMW, Access.RMW]
    atomic = "lock" if arch_of(built) is Arch.X86_64 else "ld.*xr"
    for point in points[1:]:
        assert re.match(atomic, code[point.address]), code[point.address]
        assert point.caller == point.function == "evtchn_tryread_lock"
    for point in points:  # what is between is one access
        assert point.end in code
        between = [a for a in code if point.address < a < point.end]
        assert not between or arch_of(built) is Arch.ARM64
        if between:
            assert code[max(between)].startswith("cbnz")


def test_an_inlined_lock_is_found_where_it_is_used(built: Path) -> None:
    points = found(built, INLINED, 4)
    assert [(p.function, p.caller, p.label) for p in points] == [
        ("_read_lock", "evtchn_send", "read")
    ]


def test_a_lock_at_another_offset_is_another_lock(built: Path) -> None:
    if arch_of(built) is Arch.ARM64:
        pytest.skip("exclusive accesses have no offset: the address is in the register")
    with pytest.raises(HarnessError, match="no lock function"):
        found(built, INLINED, 8)


def test_calls_of_a_spinlock_count_as_one_step(built: Path) -> None:
    points = found(built, QUEUE)
    assert {p.label for p in points} == {"queue", "look", "unqueue"}
    calls = [point for point in points if point.access is Access.CALL]
    code = listing(built)
    assert [p.label for p in calls] == ["queue", "unqueue"]
    assert all(re.match(r"(call|bl)\b.*_spin_(un)?lock", code[p.address]) for p in calls)


def test_a_missing_lock_function_is_an_error(built: Path) -> None:
    with pytest.raises(HarnessError, match="no lock function of evtchn_lock"):
        found(built, {"evtchn_lock": {Access.CALL: ("take",)}})


def test_a_lock_entry_is_a_call_of_the_lock_in_one_function(built: Path) -> None:
    (entry,) = lock_entries(
        built, arch_of(built), ["evtchn_unmask", "evtchn_send"], found(built, READ)
    )
    assert (entry.label, entry.access, entry.caller) == ("read", Access.CALL, "evtchn_unmask")
    assert re.match(r"(call|bl)\b.*evtchn_tryread_lock", listing(built)[entry.address])
    assert entry.end in listing(built)


def test_where_the_lock_is_inlined_its_first_access_is_the_entry(built: Path) -> None:
    points = found(built, INLINED, 4)
    assert list(lock_entries(built, arch_of(built), ["evtchn_send"], points)) == points
    assert lock_entries(built, arch_of(built), ["evtchn_close"], points) == ()


def test_a_lock_that_no_function_of_its_own_leaves_is_refused(built: Path) -> None:
    """Seen with 4.14.0, whose users call spin_lock(): each order was a FAIL, "never touched"."""
    with pytest.raises(ConfigError, match="no function leaves the channel's lock"):
        points_of(built, arch_of(built), "counter")
