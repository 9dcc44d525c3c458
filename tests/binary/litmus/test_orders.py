# SPDX-License-Identifier: GPL-2.0-or-later
"""Orders that Armv8 allows or forbids, as assembly: what the published catalogue has shown to be
wrong in the lifter or in the model, in tests of our own.

Each is two or three threads and one question.  ``X1`` to ``X4`` are the addresses of w to z.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.binary.litmus.herd import read_test
from harness.binary.litmus.outside import OutsideError
from harness.binary.litmus.run import Ran, run

_WORDS = ("w", "x", "y", "z")
_SEND = "MOV W9,#1; STR W9,[X2]; STLR W9,[X3]"  # x, and then its flag y
_SEND_BACK = "LDR W5,[X2]; MOV W9,#1; STLR W9,[X3]"  # sees x, and then sets y


def ran(folder: Path, threads: tuple[str, ...], asked: str, values: str = "") -> Ran:
    """Write the test as herd has it, one column for each thread, and run it."""
    columns = [[line.strip() for line in thread.split(";")] for thread in threads]
    rows = [[f"P{number}" for number in range(len(threads))]]
    for row in range(max(map(len, columns))):
        rows.append([column[row] if row < len(column) else "" for column in columns])
    addresses = "".join(
        f"{thread}:X{number}={word}; "
        for thread in range(len(threads))
        for number, word in enumerate(_WORDS, 1)
    )
    body = "\n".join(" | ".join(row) + " ;" for row in rows)
    path = folder / "test.litmus"
    path.write_text(f"AArch64 test\n{{ {addresses}{values} }}\n{body}\nexists ({asked})\n")
    return run(read_test(path))


def observable(folder: Path, threads: tuple[str, ...], asked: str, values: str = "") -> bool:
    return ran(folder, threads, asked, values).observable


@pytest.mark.parametrize(
    ("reader", "allowed"),
    [
        ("LDR W5,[X3]; LDR W6,[X2]", True),
        ("LDR W5,[X3]; CBZ W5,to; to: LDR W6,[X2]", True),
        ("LDR W5,[X3]; CBZ W5,to; to: ISB; LDR W6,[X2]", False),
        ("LDR W5,[X3]; ISB; CBZ W5,to; to: LDR W6,[X2]", True),
        ("LDR W5,[X3]; EOR W7,W5,W5; LDR W8,[X4,W7,SXTW]; ISB; LDR W6,[X2]", False),
        ("LDR W5,[X3]; EOR W7,W5,W5; LDR W6,[X2,W7,SXTW]", False),
        ("LDR W5,[X3]; CMP W5,#0; CSEL W7,W8,W10,EQ; LDR W6,[X2,W7,SXTW]", True),
        ("LDR W5,[X3]; DMB ISHLD; LDR W6,[X2]", False),
        ("LDR W5,[X3]; DMB ISHST; LDR W6,[X2]", True),
        ("LDR W5,[X3]; DSB ISHLD; LDR W6,[X2]", False),
        ("LDAPR W5,[X3]; LDR W6,[X2]", False),
        ("MOV W9,#2; SWPA W9,W5,[X3]; LDR W6,[X2]", False),
        ("MOV W9,#0; LDADD W9,W5,[X3]; DMB ISHLD; LDR W6,[X2]", False),
    ],
)
def test_flag_and_data(reader: str, allowed: bool, tmp_path: Path) -> None:
    assert observable(tmp_path, (_SEND, reader), "1:X5=1 /\\ 1:X6=0") is allowed


@pytest.mark.parametrize(
    ("reader", "allowed"),
    [
        # The value goes to no register: the acquire is none, and a read barrier does not wait.
        ("MOV W9,#2; SWPA W9,WZR,[X3]; LDR W6,[X2]", True),
        ("MOV W9,#2; SWPA W9,W8,[X3]; LDR W6,[X2]", False),
        ("MOV W9,#2; SWPAL W9,WZR,[X3]; LDR W6,[X2]", True),
        ("MOV W9,#1; STADD W9,[X3]; DMB ISHLD; LDR W6,[X2]", True),
        ("MOV W9,#1; STADD W9,[X3]; DMB ISH; LDR W6,[X2]", False),
    ],
)
def test_an_atomic_access_whose_value_nobody_keeps(
    reader: str, allowed: bool, tmp_path: Path
) -> None:
    """The reader's access comes after the flag (y is 2), and does not see the data."""
    assert observable(tmp_path, (_SEND, reader), "y=2 /\\ 1:X6=0") is allowed


@pytest.mark.parametrize(
    ("between", "allowed"),
    [
        ("", True),
        ("DMB ISHST", True),
        ("DSB ISHST", False),
        ("DSB ISHLD", True),
        ("DMB ISH", False),
    ],
)
def test_a_store_before_a_load(between: str, allowed: bool, tmp_path: Path) -> None:
    threads = tuple(
        f"MOV W9,#1; STR W9,[{one}]; {between}; LDR W5,[{other}]"
        for one, other in (("X2", "X3"), ("X3", "X2"))
    )
    assert observable(tmp_path, threads, "0:X5=0 /\\ 1:X5=0") is allowed


@pytest.mark.parametrize(("load", "allowed"), [("LDAR", False), ("LDAPR", True)])
def test_an_acquire_after_a_release(load: str, allowed: bool, tmp_path: Path) -> None:
    threads = (
        f"MOV W9,#1; STLR W9,[X2]; {load} W5,[X3]",
        "MOV W9,#1; STR W9,[X3]; DMB ISH; LDR W5,[X2]",
    )
    assert observable(tmp_path, threads, "0:X5=0 /\\ 1:X5=0") is allowed


_STORE = "MOV W9,#1; STR W9,[X2]"
_SWAP = "MOV W9,#2; LDXR W5,[X3]; STXR W7,W9,[X3]"
_CHOSEN = "LDR W5,[X3]; CMP W5,#0; CSEL W7,W8,W10,EQ"


@pytest.mark.parametrize(
    ("way", "allowed"),
    [
        # Between the read and the write of an atomic access others of its thread may come.
        (f"MOV W9,#2; SWP W9,W5,[X3]; {_STORE}", True),
        (f"MOV W9,#2; SWPA W9,W5,[X3]; {_STORE}", False),
        (f"{_SWAP}; {_STORE}", True),
        # That a store-exclusive went well is no dependency; the value that was read is one.
        (f"{_SWAP}; CBNZ W7,to; {_STORE}; to:", True),
        (f"{_SWAP}; CBZ W5,to; {_STORE}; to:", False),
        # What a csel has chosen waits if it is a store, or if a store comes after it.
        (f"{_CHOSEN}; MOV W9,#1; STR W9,[X2,W7,SXTW]", False),
        (f"{_CHOSEN}; LDAR W6,[X4]; {_STORE}", True),
        (f"{_CHOSEN}; LDR W6,[X4,W7,SXTW]; DMB ISHLD; {_STORE}", False),
        (f"{_CHOSEN}; STR W7,[X4]; LDAR W6,[X4]; LDR W11,[X1]; {_STORE}", False),
    ],
)
def test_a_store_after_what_was_read(way: str, allowed: bool, tmp_path: Path) -> None:
    went_well = " /\\ 1:X7=0" if "STXR" in way else ""
    asked = f"0:X5=1 /\\ 1:X5=1{went_well}"
    assert observable(tmp_path, (_SEND_BACK, way), asked) is allowed


@pytest.mark.parametrize(
    ("swap", "allowed"),
    [
        # It compares with what was read: equal, so what is read next may depend on the swap alone.
        ("EOR W7,W5,W5; CAS W7,W8,[X4]; EOR W7,W7,W7", True),
        ("MOV W9,#1; CAS W9,W8,[X3]; EOR W7,W9,W9", True),
        ("EOR W7,W5,W5; CAS W11,W7,[X4]; LDR W7,[X4]; EOR W7,W7,W7", False),
    ],
)
def test_compare_and_swap(swap: str, allowed: bool, tmp_path: Path) -> None:
    reader = f"LDR W5,[X3]; {swap}; LDR W6,[X2,W7,SXTW]"
    assert observable(tmp_path, (_SEND, reader), "1:X5=1 /\\ 1:X6=0") is allowed


def test_two_loads_of_a_word_may_change_places_where_they_read_the_same_store(
    tmp_path: Path,
) -> None:
    tail = "EOR W7,W5,W5; LDR W6,[X4,W7,SXTW]; LDR W8,[X4]; EOR W7,W8,W8; LDR W10,[X2,W7,SXTW]"
    same = (_SEND, f"LDR W5,[X3]; {tail}")
    assert observable(tmp_path, same, "1:X5=1 /\\ 1:X10=0")
    different = (*same, "MOV W9,#1; STR W9,[X4]")
    assert not observable(tmp_path, different, "1:X5=1 /\\ 1:X10=0 /\\ 1:X6=1 /\\ 1:X8=0")
    assert not observable(tmp_path, different, "1:X5=1 /\\ 1:X10=0 /\\ 1:X6=0 /\\ 1:X8=1")


def test_nobody_writes_between_the_halves_of_an_atomic_access(tmp_path: Path) -> None:
    add = "MOV W9,#1; LDADD W9,W5,[X2]"
    final = {
        tuple(int(end["x5"].number or 0) for end in one.registers)
        for one in ran(tmp_path, (add, add), "x=2").finals
    }
    assert final == {(0, 1), (1, 0)}
    both = ("MOV W9,#2; LDXR W5,[X2]; STXR W7,W9,[X2]", "MOV W9,#1; STR W9,[X2]")
    assert not observable(tmp_path, both, "0:X5=0 /\\ 0:X7=0 /\\ x=2")
    assert observable(tmp_path, both, "0:X5=0 /\\ 0:X7=1 /\\ x=1")


@pytest.mark.parametrize(
    ("thread", "why"),
    [
        ("LDP X5,X6,[X2]", "beside the named words"),
        ("LDRB W5,[X2]; STR W5,[X2]", "different sizes"),
        ("again: LDR W5,[X2]; CBZ W5,again", "a loop"),
        ("UDIV W5,W6,W7; STR W5,[X2]", "not known"),
        ("CASP X6,X7,X8,X9,[X2]", "not in the table: casp"),
        ("FROB X1", "GNU as"),
        ("BL to; to: NOP", "a call"),
    ],
)
def test_what_is_not_understood_is_said(thread: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(OutsideError, match=why):
        ran(tmp_path, (thread,), "x=0")
