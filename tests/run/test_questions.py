# SPDX-License-Identifier: GPL-2.0-or-later
"""When dom0 does not come up, it asks Xen: over a real stream; the agent's Xen is the model."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from harness.agent.wire import OperationInFlight
from harness.arch import Arch
from harness.conformance.own_domain import ask_own_domain
from harness.evidence import BringUp, Hang, InFlight, Spin, WrongAnswer
from harness.machine.patience import WALL
from harness.model.evtchn.operations import AllocUnbound, Operation
from harness.model.evtchn.outcome import AllowedOutcome
from harness.run import hang
from harness.run import session as sessions
from harness.run.questions import ask
from harness.run.session import Session, Status
from harness.verdict import HypervisorError, LabError
from tests.conformance.model_agent import ModelHost
from tests.conformance.test_reference_model import WORLD

NOT_UP = BringUp(
    stage="boot",
    domain="dom0",
    step="xenstore",
    reason="FATAL: no",
    last_words=("kernel up", "FATAL: no"),
)


class Dom0:
    """dom0 with an SSH session: an agent can be started there, and commands run."""

    def __init__(self, host: ModelHost) -> None:
        self._host = host
        self.answers = True
        self.connected = True
        self.said: list[str] = []

    def alive(self) -> bool:
        return self.connected

    def check(self) -> None:
        pass

    def run(self, command: str) -> Any:
        signals = [word for word in ("-STOP", "-CONT") if word in command]
        self.said += signals or ["look"]
        return SimpleNamespace(stdout="" if signals else "xenstored runs, and waits in poll\n")

    def channel(self, words: list[str]) -> socket.socket:
        self.said.append(words[-1])
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._serve, args=(theirs,), daemon=True).start()
        return ours

    def _serve(self, end: socket.socket) -> None:
        channel = self._host.agent(0, "dom0").connection._channel
        while self.answers and (asked := end.recv(65536)):
            channel.write(asked)
            end.sendall(channel.read(1 << 20, 0))
        end.close()


class Host:
    def __init__(self) -> None:
        (dom0,) = (domain for domain in WORLD.domains if domain.domid == 0)
        self.xen = ModelHost(replace(WORLD, domains=(dom0,)))
        self.dom0 = Dom0(self.xen)
        console = SimpleNamespace(
            check=lambda: None, tail=lambda *_: [], expect=lambda *_: pytest.fail("no CPU comes")
        )
        machine = SimpleNamespace(
            console=console,
            check=lambda: None,
            cpus=lambda: [],
            memory=None,
            looks=1,
            lost_interrupt=lambda: None,
            clock=WALL,
        )
        any_: Any = SimpleNamespace(
            name="h",
            arch=Arch.X86_64,
            source=None,
            progress=SimpleNamespace(update=lambda _: None),
        )
        self.live = Session(any_, any_, any_, any_, any_, machine, self.dom0, None)  # type: ignore[arg-type]

    def ask(self, questions: Callable[[Session], int] = ask_own_domain) -> LabError:
        symptom = LabError(NOT_UP)
        ask(self.live, questions, symptom)
        return symptom


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    rules = SimpleNamespace(rules=WORLD.rules)
    monkeypatch.setattr(sessions, "find_rules", lambda _: rules)
    return Host()


def test_right_answers_are_told_with_what_the_daemons_do(host: Host) -> None:
    symptom = host.ask()
    *last, asked, daemons = symptom.story.splitlines()
    assert tuple(last) == NOT_UP.last_words
    assert asked.startswith("dom0 has asked Xen: ") and asked.endswith("every answer was right")
    assert daemons == "xenstored runs, and waits in poll"
    assert host.dom0.said == ["-STOP", "serve", "-CONT", "look"]
    assert host.live.agents == {}


def test_a_wrong_answer_is_xens_fault_and_tells_where_it_was_seen(host: Host) -> None:
    def refuse(operation: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        if isinstance(operation, AllocUnbound):
            return replace(outcome, result=replace(outcome.result, rc=-22))
        return outcome

    host.xen.lie = refuse
    with pytest.raises(HypervisorError) as caught:
        host.ask()
    assert isinstance(caught.value.evidence, WrongAnswer)
    assert "seen after dom0 does not come up: xenstore failed: FATAL: no" in str(caught.value)
    assert caught.value.story.startswith("kernel up\nFATAL: no\n")
    assert host.dom0.said[-1] == "-CONT"
    assert host.live.agents == {}


def test_a_question_that_does_not_come_back_may_be_a_hang(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    spin = Spin(cpu=1, function="evtchn_write_lock", where="", port=3)
    monkeypatch.setattr(hang, "spins", lambda *_, **__: [spin])
    monkeypatch.setattr(hang, "backtraces", lambda *_: [])

    def stuck(_: Session) -> int:
        raise OperationInFlight(InFlight(domain="dom0", verb="close", arguments={"port": 3}))

    with pytest.raises(HypervisorError) as caught:
        host.ask(stuck)
    assert caught.value.evidence == Hang(cpus=(spin,))
    assert host.live.status is not Status.UP


def test_a_dom0_that_cannot_be_asked_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hang, "spins", lambda *_, **__: [])
    monkeypatch.setattr(hang, "backtraces", lambda *_: [])
    host.dom0.answers = False
    assert "Xen could not be asked: " in host.ask().story
    host.dom0.connected = False
    assert host.ask().story.endswith("Xen was not asked: dom0 does not answer by SSH")
