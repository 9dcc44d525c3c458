# SPDX-License-Identifier: GPL-2.0-or-later
"""What a load does when agents, domains or the hypervisor fail under it."""

from __future__ import annotations

import re
import time

import pytest

from harness.agent import load, load_agent
from harness.agent.client import AgentClient
from harness.agent.load import LoadPlan, LoadProgress, run_load
from harness.agent.wire import AgentLost, OperationInFlight
from harness.history.format.history import History
from harness.verdict import HarnessError, HypervisorError, LabError, Verdict

from .fake_agent import FakeAgent, ended, says, silent


class Lab:
    """dom0 and two domUs, all fake, and what a load on them gives."""

    def __init__(self) -> None:
        self.asked: list[str] = []  # of all agents
        self.channels = [FakeAgent(domid, self.asked) for domid in range(3)]
        names = ("dom0", "domu1", "domu2")
        self.agents = {
            name: AgentClient(channel, name)
            for name, channel in zip(names, self.channels, strict=True)
        }
        self.salvaged: History | None = None
        self.broke: BaseException | None = None
        self.progress: list[LoadProgress] = []
        self.watched = 0

    def watch(self) -> None:
        self.watched += 1

    def hear(self, error: BaseException) -> None:
        assert self.salvaged is None, "collecting comes after"
        self.broke = error

    def keep(self, history: History) -> None:
        self.salvaged = history

    def run(self, duration: float = 0.3) -> History:
        return run_load(
            self.agents,
            LoadPlan(seed=1, duration_s=duration),
            flavour="counter",
            release=(4, 17),
            arch="x86_64",
            host="fake",
            progress=self.progress.append,
            watch=self.watch,
            broke=self.hear,
            salvage=self.keep,
        )

    def fails(self, error: type[HarnessError], match: str) -> HarnessError:
        began = time.monotonic()
        with pytest.raises(error) as caught:
            self.run(duration=60)
        assert re.search(match, str(caught.value))
        assert time.monotonic() - began < 10
        assert self.broke is caught.value
        return caught.value

    def salvaged_domains(self) -> dict[str, int]:
        """Records brought home, by domain."""
        assert self.salvaged is not None and self.salvaged.meta["complete"] is False
        domains = dict.fromkeys(self.agents, 0)
        for log in self.salvaged.threads:
            domains[log.domain] += len(log.records)
        return domains


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setattr(load, "STATUS_EVERY", 0.1)
    monkeypatch.setattr(load_agent, "STATUS_TIMEOUT", 0.3)
    monkeypatch.setattr(load_agent, "SALVAGE_TIMEOUT", 0.3)
    monkeypatch.setattr(load_agent, "STALLED", 0.4)
    return Lab()


def test_a_load_ends_with_the_records_of_all_threads(lab: Lab) -> None:
    history = lab.run()
    history.validate()
    assert {(log.domain, log.thread) for log in history.threads} == {
        (domain, thread) for domain in lab.agents for thread in range(4)
    }
    assert history.operations == 3 * 4 * 3
    assert history.meta["complete"] is True and history.meta["open_ports"] == {}
    assert history.meta["cpu_error_ns"] == 50
    assert set(lab.progress[-1].operations.values()) == {200 * len(lab.progress)}
    assert lab.watched >= 3
    assert lab.salvaged is None and lab.broke is None


def test_ports_are_closed_only_after_every_domain_has_drained(lab: Lab) -> None:
    lab.run()
    verbs = [line.split()[0] for line in lab.asked]
    order = [verb for verb in verbs if verb in ("load_stop", "load_drain", "release")]
    assert order == ["load_stop"] * 3 + ["load_drain"] * 3 + ["release"] * 3


def test_every_agent_learns_the_ports_that_it_may_bind_to(lab: Lab) -> None:
    lab.run()
    asked = [line for line in lab.channels[1].asked if line.startswith("load_peer")]
    assert asked == ["load_peer domid=0 ports=12,13", "load_peer domid=2 ports=12,13"]


@pytest.mark.parametrize("verb", ["clock", "load_begin", "load_go", "load_status", "load_drain"])
def test_a_lost_channel_is_a_miss_and_the_others_are_saved(verb: str, lab: Lab) -> None:
    lab.channels[2].faults[verb] = ended
    if verb == "load_drain":
        with pytest.raises(AgentLost, match=r"domu2.*channel ended"):
            lab.run()
    else:
        error = lab.fails(AgentLost, r"domu2.*channel ended")
        assert error.verdict is Verdict.MISS
    saved = lab.salvaged_domains()
    assert saved["domu2"] == 0
    assert saved["dom0"] > 0 or verb == "clock"


def test_a_silent_agent_is_noticed_within_ten_seconds(lab: Lab) -> None:
    lab.channels[1].faults |= {"load_status": silent, "collect": silent}
    lab.fails(AgentLost, r"domu1.*no answer")
    saved = lab.salvaged_domains()
    assert saved["dom0"] == saved["domu2"] == 12 and saved["domu1"] == 0


def test_a_lost_agents_threads_stay_in_the_history_for_what_memory_gives(lab: Lab) -> None:
    lab.channels[2].faults["load_status"] = ended
    lab.fails(AgentLost, "domu2")
    assert lab.salvaged is not None
    lost = [log for log in lab.salvaged.threads if log.domain == "domu2"]
    assert [log.thread for log in lost] == [0, 1, 2, 3]
    assert [log.vcpu for log in lost] == [0, 1, 0, 1]


def test_an_operation_that_does_not_return_is_the_hypervisors_fault(lab: Lab) -> None:
    lab.channels[0].faults["load_status"] = says(
        "ok state=running alive=2 full=0 operations=5,7 in_flight=3:5:22:1500"
    )
    error = lab.fails(OperationInFlight, r"dom0: thread 3: CLOSE of port 22 not back after 1500 ms")
    assert error.verdict is Verdict.FAIL
    assert lab.salvaged_domains()["dom0"] > 0


def test_a_thread_that_gets_no_time_is_the_labs_fault(lab: Lab) -> None:
    lab.channels[0].faults["load_status"] = says(
        "ok state=running alive=2 full=0 operations=5,7 in_flight="
    )
    error = lab.fails(LabError, r"dom0: thread 2 has made no operation")
    assert error.verdict is Verdict.MISS


def test_a_full_buffer_is_no_stall(lab: Lab) -> None:
    for channel in lab.channels:
        channel.faults["load_status"] = says(
            "ok state=running alive=0 full=2 operations=262000,262000 in_flight="
        )
    began = time.monotonic()
    lab.run(duration=60)
    assert time.monotonic() - began < 5


def test_threads_stuck_at_the_end_are_told_of(lab: Lab) -> None:
    lab.channels[1].faults["load_stop"] = says("ok stuck=3")
    with pytest.raises(OperationInFlight, match=r"domu1.*\[3\]"):
        lab.run()


def test_what_the_console_shows_ends_the_load_at_once(lab: Lab) -> None:
    def crashed() -> None:
        if lab.progress:
            raise HypervisorError("Xen panicked", where="console")

    lab.watch = crashed  # type: ignore[method-assign]
    lab.fails(HypervisorError, "Xen panicked")
    assert lab.salvaged_domains()["domu1"] > 0


def test_open_ports_are_reported(lab: Lab) -> None:
    lab.channels[2].faults["release"] = says("ok asked=9 open=14,15")
    assert lab.run().meta["open_ports"] == {"domu2": [14, 15]}


def test_a_policy_against_channels_between_domus_is_named(lab: Lab) -> None:
    lab.channels[1].faults["load_begin"] = says("err errno=1 what=load_begin")
    error = lab.fails(LabError, r"domu1: .*SILO.*xsm=dummy")
    assert error.verdict is Verdict.MISS


def test_a_load_needs_dom0(lab: Lab) -> None:
    del lab.agents["dom0"]
    with pytest.raises(HarnessError, match="dom0"):
        lab.run()
