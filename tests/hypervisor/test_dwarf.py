# SPDX-License-Identifier: GPL-2.0-or-later
"""What DWARF says of an address, of what the compilers of both architectures make of small code."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.agent.build import compiler
from harness.arch import Arch
from harness.hypervisor.code import code
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.dwarf import frames, inlined, values
from harness.hypervisor.dwarf.types import record
from harness.hypervisor.dwarf.units import units
from harness.hypervisor.stack import stack
from harness.hypervisor.symbols import symbols
from harness.verdict import HarnessError, LabError
from tests.hypervisor.toy_xen import Toy, toy

BUILDS = [
    pytest.param((arch, flags), id=f"{arch}{''.join(flags)}")
    for arch in Arch
    for flags in [("-O1",), ("-O2",), ("-O2", "-gdwarf-4")]
]


def nothing(*_: object) -> bytes:
    raise LabError("memory cannot be read")


@pytest.fixture(params=BUILDS)
def xen(request: pytest.FixtureRequest) -> Toy:
    arch, flags = request.param
    return toy(arch, *flags)


def functions(xen: Toy, label: str) -> list[tuple[str, bool]]:
    chain = inlined.chain(xen.elf, xen.address(label))
    return [(level.function, level.inlined) for level in chain]


def test_the_whole_inline_chain_is_told_innermost_first(xen: Toy) -> None:
    assert functions(xen, "here_channel") == [
        ("evtchn_write_lock", True),
        ("evtchn_alloc_unbound", True),
        ("do_event_channel_op", False),
    ]
    assert functions(xen, "here_spinlock") == [("_spin_lock", False)]


def test_each_level_has_its_place_in_the_source(xen: Toy) -> None:
    text = (Path(__file__).parent / "toy" / "event_channel.c").read_text().splitlines()
    told = [
        (level.file, text[level.line - 1].strip())
        for level in inlined.chain(xen.elf, xen.address("here_rwlock"))
    ]
    assert [file for file, _ in told] == ["event_channel.c"] * 3
    assert [line for _, line in told[1:]] == [
        "_write_lock(&d->event_lock);",
        "case 1: return evtchn_close(d);",
    ]
    assert "here_rwlock" in told[0][1]


def test_outside_of_every_function_nothing_is_known(xen: Toy) -> None:
    assert inlined.chain(xen.elf, 0x1234) == ()


@pytest.mark.parametrize(
    ("folder", "file"),
    [(".", "common/event_channel.c"), ("common", "event_channel.c")],
    ids=["from the top", "in each folder"],
)
def test_a_function_is_found_wherever_make_was_started(
    tmp_path: Path, folder: str, file: str
) -> None:
    """Until 4.16 make goes into every folder, and DWARF has the file's name alone."""
    (tmp_path / "common").mkdir()
    (tmp_path / "common/event_channel.c").write_text(
        "static inline __attribute__((always_inline)) int evtchn_write_lock(int *l) "
        "{ return ++*l; }\nint evtchn_close(int *l) { return evtchn_write_lock(l); }\n"
    )
    words = ["gcc", "-g", "-O1", "-c", file, "-o", str(tmp_path / "xen-syms")]
    subprocess.run(words, cwd=tmp_path / folder, check=True)
    names = frozenset({"evtchn_write_lock"})
    (copy,) = inlined.copies(tmp_path / "xen-syms", names, ("common/event_channel.c",))
    assert (copy.function, copy.caller) == ("evtchn_write_lock", "evtchn_close")


@pytest.fixture
def hasty() -> Iterator[None]:
    """Python changes the thread as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_threads_may_ask_at_the_same_time(xen: Toy, tmp_path: Path) -> None:
    """When Xen hangs, the line of each agent has the CPUs examined, in a thread of its own."""
    labels = ["here_channel", "here_rwlock", "here_spinlock"] * 2
    cpus = [xen.cpu(label, 0x123450) for label in labels]
    for turn in range(5):
        elf = Path(shutil.copy(xen.elf, tmp_path / f"xen-syms-{turn}"))  # nothing is cached of it

        def ask(cpu: Cpu, elf: Path = elf) -> tuple[str, ...]:
            return stack(elf, xen.arch, cpu, nothing).texts

        with ThreadPoolExecutor(len(cpus)) as pool:
            assert list(pool.map(ask, cpus)) == list(map(ask, cpus))


def test_units_are_found_without_aranges(xen: Toy) -> None:
    """clang writes none."""
    table = units(xen.elf)
    bare = type(table)(xen.elf)
    bare.__dict__["_aranges"] = type(table._aranges)([], [])
    found = bare.function(xen.address("here_channel"))
    assert found is not None and found.attributes["DW_AT_name"].value == b"do_event_channel_op"


def test_units_are_found_where_only_others_have_aranges(xen: Toy) -> None:
    """What is written in assembly has them, beside clang's."""
    table, address = units(xen.elf), xen.address("here_channel")
    own, index = table.unit(address), table._aranges
    assert own is not None
    kept = [(index.starts[0] - 16, (index.starts[0] - 8, own.cu_offset + 1))]
    kept += [
        (low, span)
        for low, span in zip(index.starts, index.spans, strict=True)
        if span[1] != own.cu_offset
    ]
    bare = type(table)(xen.elf)
    bare.__dict__["_aranges"] = type(index)([low for low, _ in kept], [span for _, span in kept])
    found = bare.function(address)
    assert found is not None and found.attributes["DW_AT_name"].value == b"do_event_channel_op"


@pytest.mark.parametrize(
    ("label", "level", "variable"),
    [("here_channel", 1, "chn"), ("here_rwlock", 0, "lock"), ("here_spinlock", 0, "lock")],
)
def test_a_variable_is_read_from_where_it_is(
    xen: Toy, label: str, level: int, variable: str
) -> None:
    cpu = xen.cpu(label, 0x123450)
    frame = frames.first(xen.elf, xen.arch, cpu.pc, cpu.registers)
    found = inlined.chain(xen.elf, cpu.pc)[level]
    (wanted,) = [one for one in values.variables(found) if one.name == variable]
    assert wanted.target
    assert values.value(xen.elf, [frame], 0, found, wanted, nothing) == 0x123450


def test_what_the_compiler_did_not_keep_is_not_guessed(xen: Toy) -> None:
    frame = frames.first(xen.elf, xen.arch, xen.address("here_channel"), {})
    level = inlined.chain(xen.elf, frame.pc)[0]
    for variable in values.variables(level):
        assert values.value(xen.elf, [frame], 0, level, variable, nothing) is None


def test_members_are_where_the_compiler_put_them(xen: Toy) -> None:
    lock = record(xen.elf, "rwlock_t", "event_channel.c")
    assert (lock["cnts.counter"].offset, lock["lock"].offset) == (0, 4)
    noted = lock["lock.debug.cpu"]
    assert (noted.offset, noted.bits) == (10, (0, 12))
    domain = record(xen.elf, "domain", "event_channel.c")
    assert domain["evtchn_group"].element == 8 and domain["evtchn_group"].size == 16
    with pytest.raises(HarnessError, match="has no struct queue"):
        record(xen.elf, "queue", "event_channel.c")


# Two callers that keep values in registers which a callee preserves, and what they called with.
CALLS = """
struct channel { int lock; };
extern int use(void *, ...);
__attribute__((noinline)) void taker(struct channel *chn, int port)
{
    asm volatile ( ".globl inside\\ninside: nop" : : "r" (port) : "memory", PRESERVED );
}
__attribute__((noinline)) int wants(struct channel *chn, long domain)
{
    taker(chn + 1, 7);
    asm volatile ( "" : : "r" (chn), "r" (domain) : "memory" );
    return chn->lock;
}
__attribute__((noinline)) int outer(struct channel *chn)
{
    int got = wants(chn, 5);
    asm volatile ( "" : : "r" (chn) : "memory" );
    return got + chn->lock;
}
void _start(void) { struct channel one = { 1 }; outer(&one); for ( ; ; ) asm volatile ( "" ); }
"""
PRESERVED = {Arch.X86_64: '"rbx", "r12", "r13"', Arch.ARM64: '"x19", "x20", "x21"'}


@pytest.fixture(params=BUILDS)
def calls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Arch, Path]:
    arch, flags = request.param
    elf = tmp_path / "xen-syms"
    words = "-g -ffreestanding -nostdlib -static -fno-pic -fno-omit-frame-pointer -x c -"
    more = ["-fno-asynchronous-unwind-tables", f"-DPRESERVED={PRESERVED[arch]}", *flags]
    if arch is Arch.X86_64:
        more.append("-fcf-protection=none")
    subprocess.run(
        [compiler(arch), *more, *words.split(), "-o", str(elf)], input=CALLS, text=True, check=True
    )
    return arch, elf


def test_a_callers_variables_are_found_where_the_callee_saved_them(
    calls: tuple[Arch, Path],
) -> None:
    """By .debug_frame on x86-64, by the function's first instructions on arm64, where Xen's link
    script discards it."""
    arch, elf = calls
    if arch is Arch.ARM64:
        _without_frames(elf)
    top, size = 0x8000, 0x100
    frame_register = "RBP" if arch is Arch.X86_64 else "X29"
    inside = symbols(elf)["inside"].address
    (back, above) = (
        _return_to(elf, arch, "wants", "taker"),
        _return_to(elf, arch, "outer", "wants"),
    )
    if arch is Arch.X86_64:
        words = {top: top + size, top + 8: back, top + size: 0, top + size + 8: above}
    else:  # taker calls nobody: it has no frame of its own
        words = {top: top + size, top + 8: above}

    def memory(_cpu: int, address: int, length: int) -> bytes:
        found = (words.get(at, at) for at in range(address, address + length, 8))
        return b"".join(word.to_bytes(8, "little") for word in found)

    stack_register = "RSP" if arch is Arch.X86_64 else "SP"
    below = top - (24 if arch is Arch.X86_64 else 32)
    own = {name: 0x9000 + 16 * n for n, name in enumerate(frames.NUMBERS[arch].names)}
    own |= {"X30": back} if arch is Arch.ARM64 else {}
    cpu = Cpu(0, inside, own | {frame_register: top, stack_register: below})
    seen = stack(elf, arch, cpu, memory)
    assert [site.function for site in seen.sites][:3] == ["taker", "wants", "outer"]
    found = {variable.name: value for variable, value in seen.pointers(seen.sites[1])}
    # Each word of the stack holds its own address: so that says where the value was.  gcc keeps
    # it in a register that it knows the callee not to touch, where it can.
    preserved = {own[frames.NUMBERS[arch].names[n]] for n in frames.NUMBERS[arch].preserved}
    assert found["chn"] is not None
    assert below <= found["chn"] < top + size or found["chn"] in set(own.values()) - preserved


def _return_to(elf: Path, arch: Arch, function: str, callee: str) -> int:
    symbol = symbols(elf)[function]
    target = symbols(elf)[callee].address
    for one in code(elf, arch).instructions(symbol.address, symbol.address + symbol.size):
        if one.mnemonic in ("call", "bl") and one.operands[0].imm == target:
            return int(one.address + one.size)
    raise AssertionError(f"{function} does not call {callee}")


def _without_frames(elf: Path) -> None:
    table = units(elf)
    table.info.debug_frame_sec = None
    table.info.eh_frame_sec = None
