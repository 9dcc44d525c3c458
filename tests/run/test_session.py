# SPDX-License-Identifier: GPL-2.0-or-later
"""A session's status decides what check() raises, and what a test that failed is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.agent.wire import AgentLost, OperationInFlight
from harness.arch import Arch
from harness.bisect.signature import of_evidence
from harness.evidence import Crash, Hang, InFlight, Spin
from harness.machine.lease import Held
from harness.machine.tenure import LeaseLost
from harness.run import agents, hang
from harness.run.session import Session, Status
from harness.verdict import HarnessError, HypervisorError, LabError

SPIN = Spin(cpu=1, function="evtchn_write_lock", where="", port=33)
PANIC = Crash(what="panic", stream="xen", text="Panic on CPU 0:")
IN_FLIGHT = OperationInFlight(InFlight(domain="dom0", verb="close", arguments={"port": 3}))


class Host:
    """A machine with dom0 and its toolstack; tests make parts of it die."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dead: dict[str, HarnessError] = {}
        self.spinning: list[Spin] = []
        self.blind = False  # no CPU can be looked at
        self.looks = 0  # how often the CPUs were examined
        self.made = 5  # operations of the agent in dom0
        self.calls: list[str] = []
        monkeypatch.setattr(hang, "spins", lambda *_, **__: self._spins())
        monkeypatch.setattr(hang, "backtraces", lambda *_: [])
        monkeypatch.setattr(agents, "greet", lambda names, *_: dict.fromkeys(names, None))
        monkeypatch.setattr(agents, "operations", lambda known: dict.fromkeys(known, self.made))

    def _spins(self) -> list[Spin]:
        self.looks += 1
        if self.blind:
            raise LabError("no CPU can be looked at")
        return self.spinning

    def part(self, name: str) -> Any:
        def check() -> None:
            if name in self.dead:
                raise self.dead[name]

        def noted(what: str) -> Callable[..., None]:
            return lambda *_: self.calls.append(f"{name} {what}")

        return SimpleNamespace(
            check=check,
            cpus=lambda: [],
            memory=None,
            looks=1,
            lost_interrupt=lambda: None,
            close=noted("close"),
            save=noted("save"),
            freeze=noted("freeze"),
            restore=noted("restore"),
        )

    def session(self) -> Session:
        progress = SimpleNamespace(update=self.calls.append)
        any_: Any = SimpleNamespace(
            name="h", arch=Arch.X86_64, progress=progress, has_symbols=True, syms=None
        )
        machine, dom0, tools = (self.part(name) for name in ("machine", "dom0", "tools"))
        live = Session(any_, any_, any_, any_, any_, machine, dom0, tools)
        live.agents = dict.fromkeys(["dom0"])  # type: ignore[assignment]
        return live


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("dead", ["", "machine", "dom0", "tools"])
def test_what_check_raises_is_a_function_of_the_status(
    host: Host, status: Status, dead: str
) -> None:
    live = host.session()
    live.status = status
    live.lost = HypervisorError(PANIC) if status in (Status.LOST, Status.REPORTED) else None
    host.dead = {dead: LabError(f"{dead} is gone")} if dead else {}
    looked_at = {
        Status.UP: {"machine", "dom0", "tools"},
        Status.SAVED: {"machine"},
        Status.LOST: set[str](),
        Status.REPORTED: set[str](),
    }[status]
    if status is Status.LOST:
        with pytest.raises(HypervisorError, match="Panic") as lost:
            live.check()
        assert lost.value is live.lost
    elif status is Status.REPORTED:
        with pytest.raises(LabError, match=r"Xen was lost before \(panic: Panic"):
            live.check()
    elif dead in looked_at:
        with pytest.raises(LabError, match=f"{dead} is gone"):
            live.check()
    else:
        live.check()


def test_the_test_that_meets_a_hang_fails_and_those_after_it_miss(host: Host) -> None:
    live = host.session()
    host.spinning = [SPIN]
    cause = live.cause(IN_FLIGHT)
    assert isinstance(cause, HypervisorError) and cause.evidence == Hang(cpus=(SPIN,))
    assert live.status is Status.REPORTED
    assert live.cause(IN_FLIGHT) is cause  # whoever asks again is told the same
    after = live.cause(AgentLost("no answer"))
    assert isinstance(after, LabError)
    with pytest.raises(LabError, match="Xen was lost before"):
        live.check()


def test_a_crash_that_the_console_told_goes_before_the_tests_word(host: Host) -> None:
    live = host.session()
    host.dead = {"machine": HypervisorError(PANIC)}
    cause = live.cause(AssertionError("not so"))
    assert isinstance(cause, HypervisorError) and cause.evidence == PANIC
    assert (live.status, live.lost) == (Status.REPORTED, cause)
    assert "machine freeze" in host.calls


def test_what_was_seen_while_a_line_was_silent_is_the_cause(host: Host) -> None:
    live = host.session()
    host.spinning = [SPIN]
    with pytest.raises(HypervisorError):
        live.diagnose("no word from agent of dom0 for 3 s")
    assert live.status is Status.LOST
    with pytest.raises(HypervisorError):
        live.check()
    cause = live.cause(AgentLost("no answer"))
    assert cause is live.lost
    assert _status(live) is Status.REPORTED


def test_lines_that_fall_silent_together_are_told_the_same(host: Host) -> None:
    """Seen: three threads examined the CPUs at once, and the last made a reported hang new."""
    live = host.session()
    host.spinning = [SPIN]
    together = threading.Barrier(3)

    def silent(line: int) -> BaseException | None:
        together.wait()
        try:
            live.diagnose(f"no answer from agent {line} for 3 s")
        except HypervisorError as seen:
            return seen
        return None

    with ThreadPoolExecutor(3) as pool:
        told = list(pool.map(silent, range(3)))
    assert told == [live.lost] * 3 and host.looks == 1
    live.cause(AgentLost("no answer"))
    assert silent_later(live) is live.lost and _status(live) is Status.REPORTED


def silent_later(live: Session) -> HypervisorError:
    with pytest.raises(HypervisorError) as late:
        live.diagnose("no answer from agent 3 for 3 s")
    return late.value


@pytest.mark.parametrize("blind", [False, True])
def test_an_operation_in_flight_without_a_spin_says_nothing_about_xen(
    host: Host, blind: bool
) -> None:
    live = host.session()
    host.blind = blind
    cause = live.cause(IN_FLIGHT)
    assert isinstance(cause, LabError) and live.status is Status.UP
    assert blind or cause.evidence == IN_FLIGHT.evidence
    live.check()
    with pytest.raises(LabError, match="has not come back from Xen, in an earlier test"):
        live.ready()  # for the next test


def test_the_symptom_is_no_part_of_which_hang_it_is(host: Host) -> None:
    """Seen: what follows the hang in its message was cut off at other words than it begins with,
    and a CPU that the symptom named was blamed."""
    host.spinning = [SPIN]
    signatures = set()
    for symptom in ("no word from dom0 for 3 s", "domu1: close; CPU9 spins in nothing"):
        with pytest.raises(HypervisorError, match="seen after") as caught:
            host.session().diagnose(symptom)
        signatures.add(of_evidence("poll", caught.value.evidence))
    assert len(signatures) == 1 and signatures.pop().site == "evtchn_write_lock"


def test_a_restore_brings_a_lost_machine_back(host: Host) -> None:
    live = host.session()
    live.save()
    assert live.status is Status.SAVED
    assert host.calls[:3] == ["tools close", "dom0 close", "machine save"]
    host.spinning = [SPIN]
    live.cause(IN_FLIGHT)
    assert _status(live) is Status.REPORTED
    live.restore()
    assert (live.status, live.lost) == (Status.SAVED, None)
    live.check()
    host.made += 1
    with pytest.raises(LabError, match="dom0 has made 6 operations, and 5 when"):
        live.restore()


def _status(live: Session) -> Status:
    """The status now: mypy takes an attribute to be what it was."""
    return live.status


def test_without_its_lease_a_run_says_nothing_about_xen(host: Host) -> None:
    """Trust, 2: what it saw, even a crash, may be the doing of the run that has the server now."""
    live = host.session()
    lost = LeaseLost("process 7 of lab-2 has taken it", "h")

    def check() -> None:
        raise lost

    live.held = cast(Held, SimpleNamespace(check=check))
    host.dead["machine"] = HypervisorError(PANIC)
    host.spinning = [SPIN]
    for error in (HypervisorError(PANIC), AssertionError("1 == 2"), IN_FLIGHT, LabError("gone")):
        assert live.cause(error) is lost
    for ask in (live.check, live.ready):
        with pytest.raises(LeaseLost):
            ask()
    line = SimpleNamespace(name="agent of dom0")
    live.listen(line)  # type: ignore[arg-type]
    with pytest.raises(LeaseLost):
        line.watch(10.0)
    assert host.looks == 0 and host.calls == []


def test_a_long_silence_is_looked_into_again_and_ever_more_seldom(host: Host) -> None:
    """At the first look a CPU may have been in an interrupt; a slow machine is left in peace."""
    live = host.session()
    live.machine.console = SimpleNamespace(check=lambda: None)  # type: ignore[misc, assignment]
    line: Any = SimpleNamespace(name="agent.1", watch=None)
    live.listen(line)
    looks = []
    for silent in (1.0, 3.0, 5.0, 8.9, 9.1, 20.0, 27.4, 29.9, 0.5, 3.1):
        line.watch(silent)
        looks.append(host.looks)
    assert looks == [0, 1, 1, 1, 2, 2, 3, 3, 3, 4]
