# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that goes on from a snapshot: what is written down of it, and what if it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.evidence import Crash
from harness.machine.kept import Kept
from harness.run import snapshot, up
from harness.run.snapshot import Facts, NotRestored
from harness.verdict import HypervisorError, LabError
from tests.run.toy_plan import plan

NAMES = st.text(min_size=1, max_size=8)
COUNTS = st.dictionaries(NAMES, st.integers(1, 9), max_size=3)


@given(
    st.builds(
        Facts,
        when=NAMES,
        operations=COUNTS,
        domus=st.dictionaries(NAMES, st.tuples(st.integers(1, 9), NAMES), max_size=3),
        before=st.dictionaries(NAMES, COUNTS.map(Counter), max_size=3),
    )
)
def test_the_facts_come_back_as_they_were(facts: Facts) -> None:
    assert Facts.of(Kept(Path("/nowhere"), "", facts.to_json())) == facts


@pytest.mark.parametrize("key", ["when", "operations", "domus", "before"])
def test_facts_that_lack_something_are_damaged(key: str) -> None:
    whole = Facts("w", {"dom0": 1}, {"domu1": (1, "pv")}, {}).to_json()
    for wrong in ({k: v for k, v in whole.items() if k != key}, whole | {key: None}):
        if key == "when" and key in wrong:
            continue
        with pytest.raises(LabError, match="description is damaged"):
            Facts.of(Kept(Path("/nowhere"), "", wrong))


def test_agents_that_have_done_more_are_not_those_that_were_kept() -> None:
    facts = Facts("w", {"dom0": 5}, {}, {})
    snapshot.same(facts, {"dom0": 5})
    with pytest.raises(LabError, match="have made"):
        snapshot.same(facts, {"dom0": 6})


def booting(notes: list[str]) -> Any:
    return SimpleNamespace(
        host=SimpleNamespace(name="h"), progress=SimpleNamespace(note=notes.append)
    )


def test_a_machine_that_cannot_be_restored_is_booted(monkeypatch: pytest.MonkeyPatch) -> None:
    tries, notes = list[bool](), list[str]()

    @contextmanager
    def running(what: Any, _recorder: Any) -> Iterator[str]:
        tries.append(what.plan.keep)
        if what.plan.keep:
            raise NotRestored("dom0 takes no new keys (a snapshot, now removed)")
        yield "booted"

    monkeypatch.setattr(up, "_running", running)
    any_: Any = SimpleNamespace(name="h")
    what = up._Booting(plan(keep=True), any_, any_, any_, any_, any_, any_, any_, None)
    with up._up(what, booting(notes)) as live:
        assert str(live) == "booted"
    assert tries == [True, False]
    assert notes == [
        "h            booting it instead: dom0 takes no new keys (a snapshot, now removed)"
    ]


def test_an_error_of_the_test_itself_boots_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    @contextmanager
    def running(_what: Any, _recorder: Any) -> Iterator[str]:
        tries.append(1)
        yield "restored"

    monkeypatch.setattr(up, "_running", running)
    any_: Any = SimpleNamespace(name="h")
    what = up._Booting(plan(keep=True), any_, any_, any_, any_, any_, any_, any_, None)
    with pytest.raises(ZeroDivisionError), up._up(what, booting([])):
        raise ZeroDivisionError
    assert tries == [1]


def test_a_panic_that_is_printed_a_moment_later_is_the_cause() -> None:
    # clang and 4.17.0: libvirt in dom0 is gone at once, Xen's panic is read 0.1 s later.
    panic = HypervisorError(Crash(what="panic", stream="xen", text="Panic on CPU 1:"))
    looks = []

    def check() -> None:
        looks.append(1)
        if len(looks) > 2:
            raise panic

    from harness.run.diagnosis import Diagnosis

    any_: Any = SimpleNamespace(name="h", check=check)
    live: Any = SimpleNamespace(diagnosis=Diagnosis(any_, any_, any_))
    with pytest.raises(HypervisorError) as seen, up._explained(live, None):
        raise LabError("the domU does not start: End of file while reading data")
    assert seen.value is panic
