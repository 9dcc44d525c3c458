# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict of lock functions that a compiler made: of good ones, and of ones with a fault."""

from __future__ import annotations

from pathlib import Path

import capstone
import pytest

from harness.arch import Arch
from harness.binary.check import BinaryCheck, check_binary
from harness.binary.copies import Text, branch_target
from harness.binary.findings import Departure
from harness.binary.judge import judge
from harness.binary.prove import prove
from harness.binary.tables import table_of
from harness.hypervisor.symbols import symbols
from harness.model.explore.memory_model import MemoryModel
from harness.model.explore.trace import trace_lines
from harness.verdict import ConfigError
from tests.binary.toy_locks import LOCKS, patched, toy

ARCHES = list(Arch)


def departures(found: BinaryCheck) -> list[Departure]:
    return [one for copy in found.copies for one in copy.departures]


def listing(elf: Path, arch: Arch, function: str) -> list[capstone.CsInsn]:
    symbol = symbols(elf)[function]
    return Text(elf, arch).between(symbol.address, symbol.address + symbol.size)


@pytest.mark.parametrize("level", ["-O1", "-O2", "-Os"])
@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("arch", ARCHES)
def test_a_lock_as_the_model_has_it(arch: Arch, lock: str, level: str) -> None:
    found = check_binary(toy(arch, lock, level))
    assert (found.arch, found.model.name) == (arch, lock)
    assert departures(found) == []
    assert [one for copy in found.copies for one in copy.not_covered] == []
    assert found.verdict == "as modelled"
    assert found.coverage == 1.0
    memory = MemoryModel.TSO if arch is Arch.X86_64 else MemoryModel.ARM
    assert {proof.verdict for proof in prove(found.model, found.copies, memory)} == {"proved"}


@pytest.mark.parametrize("arch", ARCHES)
def test_the_word_of_a_rwlock_as_xen_has_it_since_419(arch: Arch) -> None:
    assert check_binary(toy(arch, "rwlock", "-DSHIFT=14")).verdict == "as modelled"
    assert check_binary(toy(arch, "rwlock", "-DSHIFT=13")).verdict == "refuted"


@pytest.mark.parametrize("level", ["-O1", "-O2"])
@pytest.mark.parametrize("arch", ARCHES)
def test_the_word_of_a_rwlock_as_xen_had_it_before_414(arch: Arch, level: str) -> None:
    """The stable branches of 4.12 and 4.13 have the rwlock of channels and this word."""
    assert check_binary(toy(arch, "rwlock", level, "-DBYTE_WIDE")).verdict == "as modelled"
    keeps = check_binary(toy(arch, "rwlock", level, "-DBYTE_WIDE", "-DFAULT_KEEPS_BIT"))
    assert keeps.verdict == "refuted"


@pytest.mark.parametrize("arch", ARCHES)
def test_a_look_at_the_word_that_is_a_function_of_its_own_is_followed(arch: Arch) -> None:
    """As gcc leaves it out of line in master's dump_irqs."""
    found = check_binary(toy(arch, "rwlock", "-DCALLS_CAN_READ_LOCK"))
    code = listing(found.elf, arch, "send_guest_vcpu_virq")
    look = symbols(found.elf)["_can_read_lock"].address
    assert look in {branch_target(instruction, calls=True) for instruction in code}
    assert found.verdict == "as modelled"


@pytest.mark.parametrize("level", ["-O1", "-O2", "-Os"])
@pytest.mark.parametrize("arch", ARCHES)
def test_a_caller_that_tries_until_it_is_let_in_is_no_fault(arch: Arch, level: str) -> None:
    """An unmask that is not dropped; the compiler jumps back to the first look at the word."""
    found = check_binary(toy(arch, "counter", level, "-DTRIES_AGAIN"))
    # At -O1 DWARF has the step back as a copy of its own, which is then not covered.
    assert found.verdict == ("not covered" if level == "-O1" else "as modelled")
    assert [copy.departures for copy in found.copies if copy.departures] == []


@pytest.mark.parametrize("arch", ARCHES)
def test_one_that_does_not_step_back_before_it_tries_again_is_refuted(arch: Arch) -> None:
    found = check_binary(toy(arch, "counter", "-DTRIES_AGAIN", "-DFAULT_NO_STEP_BACK"))
    assert found.verdict == "refuted"


@pytest.mark.parametrize("level", ["-O1", "-O2", "-Os"])
@pytest.mark.parametrize("arch", ARCHES)
def test_an_inlined_try_that_lets_everybody_in_is_refuted(arch: Arch, level: str) -> None:
    found = check_binary(toy(arch, "rwlock", level, "-DFAULT_SAYS_YES"))
    assert {copy.function for copy in found.copies if copy.departures} == {"_read_trylock"}
    (departure,) = departures(found)
    assert departure.kind == "value"
    assert departure.binary == "the caller goes on alike, whether it was let in or not"


def test_atomic_instructions_of_arm_81_are_understood() -> None:
    found = check_binary(toy(Arch.ARM64, "counter", "-march=armv8.1-a"))
    assert found.verdict == "as modelled"
    code = listing(found.elf, Arch.ARM64, "evtchn_tryread_lock")
    assert any(instruction.mnemonic.startswith("ldadd") for instruction in code)


def test_each_copy_that_is_inlined_is_looked_at() -> None:
    found = check_binary(toy(Arch.ARM64, "rwlock"))
    places = {(copy.function, copy.caller) for copy in found.copies}
    assert ("_read_lock", "evtchn_send") in places
    assert ("_read_unlock", "send_guest_vcpu_virq") in places
    assert ("queue_write_lock_slowpath", "queue_write_lock_slowpath") in places


@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize(
    ("lock", "fault", "function", "kind", "step"),
    [
        ("counter", "NO_STEP_BACK", "evtchn_tryread_lock", "path", "undo"),
        ("counter", "SAYS_YES", "evtchn_tryread_lock", "value", "read"),
        ("counter", "HALF_WRITER", "evtchn_write_lock", "value", "claim"),
        ("rwlock", "KEEPS_BIT", "_write_unlock", "value", "leave"),
    ],
)
def test_a_fault_in_what_is_done_is_refuted(
    arch: Arch, lock: str, fault: str, function: str, kind: str, step: str
) -> None:
    found = check_binary(toy(arch, lock, f"-DFAULT_{fault}"))
    assert found.verdict == "refuted"
    assert {copy.function for copy in found.copies if copy.departures} == {function}
    first = departures(found)[0]
    assert (first.kind, first.step) == (kind, step)
    assert first.line.startswith("event_channel.c:")
    assert first.instruction and first.trace
    assert prove(found.model, found.copies, MemoryModel.ARM) == ()


@pytest.mark.parametrize(
    ("lock", "fault", "function", "step", "model"),
    [
        ("counter", "EARLY_LOAD", "evtchn_write_lock", "spin", "smp_rmb() after spin"),
        ("counter", "NO_RELEASE", "evtchn_read_unlock", "leave", "smp_mb() before leave"),
        ("rwlock", "NO_RELEASE", "_read_unlock", "leave", "smp_mb() before leave"),
        ("spinlock", "NO_BARRIER_AFTER_TURN", "_spin_lock", "take 0", "smp_mb() after take 0"),
    ],
)
def test_a_barrier_that_is_missing_is_refuted_on_arm(
    lock: str, fault: str, function: str, step: str, model: str
) -> None:
    found = check_binary(toy(Arch.ARM64, lock, f"-DFAULT_{fault}"))
    assert {copy.function for copy in found.copies if copy.departures} == {function}
    first = departures(found)[0]
    assert (first.kind, first.step, first.model) == ("order", step, model)
    on_x86 = check_binary(toy(Arch.X86_64, lock, f"-DFAULT_{fault}"))
    assert on_x86.verdict == "as modelled", "the order of x86 does not depend on it"


def test_the_instruction_is_named_that_comes_too_early() -> None:
    """As posted, the counter leaves its spin by a load that nothing orders."""
    elf = toy(Arch.ARM64, "counter", "-DFAULT_EARLY_LOAD")
    (departure,) = departures(check_binary(elf))
    code = {i.address: i for i in listing(elf, Arch.ARM64, "evtchn_write_lock")}
    assert code[departure.address].mnemonic == "ldrb"
    assert departure.instruction.startswith("ldrb ")
    assert "no barrier between spin and this access" in departure.binary
    assert check_binary(elf, "counter-v2").verdict == "as modelled"


@pytest.mark.parametrize(
    ("lock", "fault"),
    [("counter", "EARLY_LOAD"), ("counter", "NO_RELEASE"), ("rwlock", "NO_RELEASE")],
)
def test_what_a_missing_barrier_allows_is_shown(lock: str, fault: str) -> None:
    found = check_binary(toy(Arch.ARM64, lock, f"-DFAULT_{fault}"))
    proofs = prove(found.model, found.copies, MemoryModel.ARM)
    refuted = [proof for proof in proofs if proof.verdict == "refuted"]
    assert refuted
    told = "\n".join(trace_lines(refuted[0].counterexamples[0].trace))
    assert "EARLY" in told or "LATE" in told
    in_order = prove(found.model, found.copies, MemoryModel.SC)
    assert {proof.verdict for proof in in_order} == {"proved"}


@pytest.mark.parametrize("flags", [(), ("-DFAULT_EARLY_LOAD",)])
def test_a_writer_that_spins_with_load_acquires_needs_no_barrier(flags: tuple[str, ...]) -> None:
    """ldapr, which a compiler takes for Armv8.3."""
    assert judge(toy(Arch.ARM64, "counter", "-DBY_LDAPR", *flags)).verdict == "as modelled"


@pytest.mark.parametrize("level", ["-O1", "-O2", "-Os"])
def test_a_barrier_that_comes_before_a_branch_to_either_copy_is_theirs(level: str) -> None:
    """clang's double_evtchn_lock() of 4.14 on arm64; only an access behind it is not ordered."""
    good = check_binary(toy(Arch.ARM64, "rwlock", level, "-DHOISTED_BARRIER"))
    assert (departures(good), good.verdict) == ([], "as modelled")
    flags = "-DHOISTED_BARRIER", "-DFAULT_ACCESS_BEHIND_IT"
    bad = departures(check_binary(toy(Arch.ARM64, "rwlock", level, *flags)))
    assert {(one.kind, one.step, one.before) for one in bad} == {("order", "claim", True)}


def test_a_store_release_made_plain_by_hand_is_refuted(tmp_path: Path) -> None:
    good = toy(Arch.ARM64, "counter", "-DBY_STORE_RELEASE")
    assert check_binary(good).verdict == "as modelled"
    (store,) = [i for i in listing(good, Arch.ARM64, "evtchn_read_unlock") if i.mnemonic == "stlxr"]
    word = int.from_bytes(store.bytes, "little") & ~(1 << 15)  # the bit that makes it release
    bad = patched(good, store.address, word.to_bytes(4, "little"), tmp_path)
    (departure,) = departures(check_binary(bad))
    assert (departure.kind, departure.step, departure.before) == ("order", "leave", True)
    assert departure.line.startswith("event_channel.c:")


def test_a_lock_prefix_removed_by_hand_is_refuted(tmp_path: Path) -> None:
    good = toy(Arch.X86_64, "counter")
    code = listing(good, Arch.X86_64, "evtchn_read_unlock")
    (locked,) = [i for i in code if i.mnemonic.startswith("lock")]
    bad = patched(good, locked.address, b"\x90", tmp_path)
    (departure,) = departures(check_binary(bad))
    assert (departure.kind, departure.step) == ("value", "leave")
    assert "with a plain store" in departure.binary


def test_a_retry_removed_by_hand_is_not_passed(tmp_path: Path) -> None:
    good = toy(Arch.ARM64, "counter")
    code = listing(good, Arch.ARM64, "evtchn_read_unlock")
    (retry,) = [i for i in code if i.mnemonic == "cbnz"]
    nop = bytes.fromhex("1f2003d5")
    found = check_binary(patched(good, retry.address, nop, tmp_path))
    assert found.verdict != "as modelled"


def test_a_bug_by_udb_is_a_trap(tmp_path: Path) -> None:
    good = toy(Arch.X86_64, "counter", "-O1", "-fno-reorder-blocks-and-partition")
    code = listing(good, Arch.X86_64, "evtchn_write_unlock")
    (trap,) = [i for i in code if i.mnemonic == "ud2"]
    found = check_binary(patched(good, trap.address, b"\xd6\x90", tmp_path))
    assert found.verdict == "as modelled"


@pytest.mark.parametrize(
    ("arch", "mnemonic"), [(Arch.X86_64, "lock xadd"), (Arch.ARM64, "stlxr"), (Arch.ARM64, "dmb")]
)
def test_an_instruction_that_is_not_understood_is_not_passed(arch: Arch, mnemonic: str) -> None:
    table = table_of(arch)
    del table.meanings[mnemonic]
    found = check_binary(toy(arch, "counter"), table=table)
    assert found.verdict == "not covered"
    assert found.coverage < 1.0
    gaps = [gap for copy in found.copies for gap in copy.not_covered]
    assert all(gap.why.startswith(mnemonic) for gap in gaps)
    assert prove(found.model, found.copies, MemoryModel.ARM) == ()


def test_without_lock_functions_there_is_nothing_to_check() -> None:
    with pytest.raises(ConfigError, match="none of the lock functions evtchn_read_unlock"):
        check_binary(toy(Arch.X86_64, "rwlock"), "counter")
