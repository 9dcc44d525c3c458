# SPDX-License-Identifier: GPL-2.0-or-later
"""The agent itself, on this machine: without a Xen, its protocol has to hold all the same."""

from __future__ import annotations

import contextlib
import errno
import os
import random
from collections.abc import Iterator

import pytest

from harness.agent import workload
from harness.agent.build import agent_binary
from harness.agent.client import AgentClient
from harness.agent.wire import AgentLost, AgentRefused, Answer, OperationInFlight
from harness.arch import Arch
from harness.verdict import Verdict

from .channels import ProcessChannel

NO_XEN = not os.path.exists("/dev/xen/privcmd")  # noqa: PTH110
pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="runs the x86-64 agent")


@pytest.fixture
def channel() -> Iterator[ProcessChannel]:
    channel = ProcessChannel(agent_binary(Arch.X86_64), "serve")
    yield channel
    channel.close()


@pytest.fixture
def agent(channel: ProcessChannel) -> AgentClient:
    return AgentClient(channel, "here")


def test_hello_says_what_the_agent_is(agent: AgentClient) -> None:
    info = agent.hello()
    assert info.arch is Arch.X86_64
    assert info.vcpus == len(os.sched_getaffinity(0)) or info.vcpus == os.cpu_count()
    assert 1e8 < info.tick_hz < 1e10


@pytest.mark.skipif(not NO_XEN, reason="there is a Xen")
def test_the_steps_of_a_programme_are_no_commands(agent: AgentClient) -> None:
    """They are read whole, also if nothing can be made of them."""
    connection = agent.connection
    command = {"number": 7, "steps": 3, "peer": 1, "meeting": 77}
    connection.post([("programme", command)], b"\nhello\nquit\n".ljust(36, b"\n"))
    (refused,) = connection.collect(1)
    assert (refused.ok, refused.integer("errno")) == (False, errno.ENOENT)
    assert agent.hello().arch is Arch.X86_64


@pytest.mark.parametrize(
    "wrong", [{"steps": 16385}, {"number": 0}, {"peer": 65536}, {"on": 1 << 16}]
)
def test_a_programme_with_a_wrong_argument_is_refused(
    agent: AgentClient, wrong: dict[str, int]
) -> None:
    command = {"number": 7, "steps": 0, "peer": 1, "meeting": 77, **wrong}
    answer = agent.connection.attempt("programme", command)
    (key,) = wrong
    assert (answer.ok, answer.fields["what"]) == (False, f"argument-{key}")


@pytest.mark.skipif(not NO_XEN, reason="there is a Xen")
def test_without_xen_operations_are_refused_with_the_reason(agent: AgentClient) -> None:
    assert agent.hello().domid < 0
    with pytest.raises(AgentRefused) as refused:
        agent.raw.send(1)
    assert refused.value.errno == errno.EBADF
    assert refused.value.verdict is Verdict.ERROR  # nobody was asked
    with pytest.raises(AgentRefused) as refused:
        agent.device.read()
    assert refused.value.errno == errno.ENOENT


@pytest.mark.skipif(not NO_XEN, reason="there is a Xen")
@pytest.mark.parametrize(("verb", "vcpu"), [("init_control", {"vcpu": 0}), ("expand_array", {})])
def test_a_frame_of_the_agents_own_is_taken_only_when_asked_for(
    agent: AgentClient, verb: str, vcpu: dict[str, int]
) -> None:
    asked: list[dict[str, int]] = [{}, {"frame": 0}]
    for frame in asked:
        with pytest.raises(AgentRefused) as refused:
            agent.connection.ask(verb, {**vcpu, **frame})
        assert refused.value.errno == errno.EBADF  # of the hypercall
    with pytest.raises(AgentRefused) as refused:
        agent.connection.ask(verb, {**vcpu, "frame": 2})
    assert (refused.value.errno, "frame" in str(refused.value)) == (errno.EINVAL, True)


@pytest.mark.skipif(not NO_XEN, reason="there is a Xen")
@pytest.mark.parametrize(("verb", "vcpu"), [("init_control", {"vcpu": 0}), ("expand_array", {})])
def test_a_frame_whose_number_is_not_known_is_never_given_to_xen(
    agent: AgentClient, verb: str, vcpu: dict[str, int]
) -> None:
    """Xen would have refused a frame that does not exist, and the refusal was Xen's FAIL; a PV
    guest's Linux tells a number that is another frame's."""
    with pytest.raises(AgentRefused) as refused:
        agent.connection.ask(verb, {**vcpu, "frame": 1})
    assert (refused.value.errno, "argument-frame" in str(refused.value)) == (errno.ENODATA, True)
    assert refused.value.verdict is Verdict.ERROR  # nobody was asked


def test_an_operation_that_xen_refuses_is_a_fail_where_nobody_expects_it() -> None:
    """A mutant of get_free_port, which stopped at a busy port, was an ERROR in the lock suite."""
    made = {"errno": "16", "what": "alloc_unbound", "call": "1", "ret": "2", "cpu": "0"}
    assert AgentRefused("dom0", "alloc_unbound", Answer(False, made)).verdict is Verdict.FAIL
    syntax = {"errno": "22", "what": "syntax"}
    assert AgentRefused("dom0", "x", Answer(False, syntax)).verdict is Verdict.ERROR


def test_commands_in_a_row_are_each_answered_and_the_first_refusal_is_told(
    agent: AgentClient,
) -> None:
    ticks = agent.connection.ask_in_a_row("ticks", [{}] * 40)
    counts = [answer.integer("ticks") for answer in ticks]
    assert counts == sorted(counts) and len(set(counts)) == 40
    with pytest.raises(AgentRefused, match="ports=7") as refused:
        agent.connection.ask_in_a_row("load_peer", [{"ports": 7}, {"ports": 8}])
    assert refused.value.answer.ok is False
    assert agent.ticks() > counts[-1]  # every answer was read: none is taken for this one


def test_every_operation_is_recorded_in_order(agent: AgentClient) -> None:
    for port in (3, 1, 2):
        with pytest.raises(AgentRefused):
            agent.raw.send(port)
    with pytest.raises(AgentRefused):
        agent.raw_on(1).close(9)
    sends = agent.collect(0)
    assert list(sends.records["port"]) == [3, 1, 2]
    assert (sends.records["ret"] >= sends.records["call"]).all()
    assert (sends.records["call"][1:] >= sends.records["ret"][:-1]).all()
    assert sends.lost == 0
    close = agent.collect(1).records
    assert list(close["port"]) == [9] and list(close["cpu"]) == [1]


def test_more_records_than_one_page_come_back_whole(agent: AgentClient) -> None:
    for port in range(300):
        with pytest.raises(AgentRefused):
            agent.raw.send(port)
    assert list(agent.collect(0).records["port"]) == list(range(300))


BAD_LINES = {
    b"nonsense": errno.ENOSYS,
    b"hello extra=1": errno.EINVAL,
    b"hello extra": errno.EINVAL,
    b"send": errno.EINVAL,
    b"send port=-1": errno.EINVAL,
    b"send port=": errno.EINVAL,
    b"send port=4294967296": errno.EINVAL,
    b"send port=1x": errno.EINVAL,
    b"send port=1 on=99": errno.EINVAL,
    b"send port=1 via=pigeon": errno.EINVAL,
    b"send port=1 via=device handle=16": errno.EINVAL,
    b"enable via=device ports=1,,2": errno.EINVAL,
    b"enable via=device ports=" + b"1," * 400 + b"1": errno.EINVAL,
    b"collect thread=60000": errno.ENOENT,
    b"join on=0": errno.ENOENT,
    b"load_go": errno.EINVAL,
    b"load_begin seed=1": errno.EINVAL,
    b"workload_digest seed=1 agent=0 thread=0 channels=0 steps=1": errno.EINVAL,
    b"hello\x00there": errno.EINVAL,
    b"\xff\xfe": errno.EINVAL,
    b"=": errno.ENOSYS,
    b" ": errno.EINVAL,
    b"a=b " * 30: errno.EINVAL,
    b"x" * 9000: errno.EMSGSIZE,
}


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
def test_operations_at_one_barrier_begin_together(agent: AgentClient) -> None:
    meeting = {"port": 1, "barrier": 2, "wait_ms": 0}
    connection = agent.connection
    connection.post([("send", {"on": 0} | meeting), ("join", {"on": 0, "wait_ms": 200})])
    begun, alone = connection.collect(2)
    assert begun.ok
    assert (alone.ok, alone.fields["what"]) == (False, "in-flight")
    joins = [("join", {"on": cpu, "wait_ms": 2000}) for cpu in (0, 1)]
    connection.post([("send", {"on": 1} | meeting), *joins])
    answers = connection.collect(3)
    assert [answer.integer("errno", 0) for answer in answers] == [0, errno.EBADF, errno.EBADF]


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
def test_an_operation_alone_at_its_barrier_gives_up(agent: AgentClient) -> None:
    words = {"on": 1, "port": 1, "barrier": 2, "wait_ms": 5000}
    with pytest.raises(AgentRefused) as refused:
        agent.connection.ask("send", words)
    assert refused.value.errno == errno.ETIMEDOUT


def test_nothing_is_sent_between_post_and_collect(agent: AgentClient) -> None:
    agent.connection.post([("ticks", {})])
    assert agent.connection.collect(1)[0].integer("ticks") > 0
    assert agent.ticks() > 0


@pytest.mark.parametrize("line", BAD_LINES)
def test_a_bad_line_gets_one_error_answer(
    line: bytes, channel: ProcessChannel, agent: AgentClient
) -> None:
    channel.write(line + b"\n")
    answer = channel.read(1000, 5.0)
    assert answer.startswith(b"err errno=%d " % BAD_LINES[line]), answer
    assert answer.count(b"\n") == 1
    assert agent.hello().vcpus > 0  # and the next command is understood


def test_noise_does_not_end_the_agent(channel: ProcessChannel) -> None:
    chaos = random.Random(7)
    noise = b"".join(
        chaos.randbytes(chaos.randrange(200)).replace(b"quit", b"quip") + b"\n" for _ in range(300)
    )
    channel.write(noise + b"hello\n")
    seen = b""
    while b"ok protocol=" not in seen:
        seen += channel.read(65536, 5.0)
    assert all(line.startswith((b"err ", b"ok ")) for line in seen.splitlines())


def test_the_end_of_the_stream_ends_the_agent(channel: ProcessChannel) -> None:
    channel.close()
    assert channel.process.returncode == 0


def test_a_dead_agent_is_lost_at_once_and_stays_lost(
    channel: ProcessChannel, agent: AgentClient
) -> None:
    agent.hello()
    channel.process.kill()
    for _ in range(2):
        with pytest.raises(AgentLost, match=r"here.*channel ended"):
            agent.raw.send(1)


def test_a_silent_agent_is_lost(channel: ProcessChannel, agent: AgentClient) -> None:
    agent.hello()
    channel.process.send_signal(19)  # SIGSTOP
    with pytest.raises(AgentLost, match="no answer"):
        agent.connection.ask("ticks", timeout=0.3)
    channel.process.send_signal(18)
    with pytest.raises(AgentLost, match="no answer"):  # the late answer is not taken for this one
        agent.connection.ask("hello")


@pytest.mark.skipif(not NO_XEN, reason="there is a Xen")
def test_an_operation_that_does_not_return_is_told_from_a_dead_agent(agent: AgentClient) -> None:
    flight = agent.begin("send", on=1, port=4)
    with pytest.raises(AgentRefused) as refused:
        flight.join()
    assert refused.value.errno == errno.EBADF
    assert refused.value.verdict is Verdict.ERROR  # nobody was asked
    with pytest.raises(AgentRefused, match="ENOENT"):
        flight.join()


def test_agent_and_harness_compute_the_same_workload(agent: AgentClient) -> None:
    for seed, number, thread, channels in (
        (0, 0, 0, 1),
        (7, 1, 3, 26),
        ((1 << 64) - 1, 2, 63, 256),
    ):
        words = {"seed": seed, "agent": number, "thread": thread, "channels": channels}
        answer = agent.connection.ask("workload_digest", words | {"steps": 3000})
        digest = workload.digest(seed, number, thread, channels, 3000)
        assert answer.integer("digest") == digest


def test_what_recording_costs_needs_a_xen_to_be_measured(agent: AgentClient) -> None:
    if NO_XEN:
        with pytest.raises(AgentRefused, match="EBADF"):
            agent.recording_cost(0.1)
    else:
        assert agent.recording_cost(0.5).ratio > 0.9


def test_in_flight_errors_are_the_hypervisors_fault() -> None:
    assert OperationInFlight("x").exit_code == 1 and AgentLost("x").exit_code == 3


def test_answers_come_while_the_rest_is_made(agent: AgentClient) -> None:
    answers = agent.connection.stream([("ticks", {}), ("nonsense", {}), ("ticks", {})])
    first = next(answers)
    assert first.ok and not agent.connection._turn.acquire(blocking=False), "nobody else asks"
    assert [answer.ok for answer in answers] == [False, True]
    assert agent.connection.ask("ticks").integer("ticks") > first.integer("ticks")


def test_who_wants_no_more_answers_leaves_none_behind(agent: AgentClient) -> None:
    with contextlib.closing(agent.connection.stream([("ticks", {})] * 20)) as answers:
        next(answers)
    assert agent.connection.ask("hello").integer("protocol") == 2


def test_an_agent_that_ends_in_a_message_is_lost_after_the_answers_that_came(
    agent: AgentClient,
) -> None:
    answers = agent.connection.stream([("ticks", {}), ("quit", {}), ("ticks", {})])
    assert next(answers).ok and next(answers).ok
    with pytest.raises(AgentLost, match="the channel ended during 'ticks'"):
        next(answers)
    with pytest.raises(AgentLost):
        agent.connection.ask("ticks")


def test_an_agent_that_ends_when_nobody_listens_any_more_is_lost_later(agent: AgentClient) -> None:
    with contextlib.closing(agent.connection.stream([("ticks", {}), ("quit", {}), ("ticks", {})])):
        pass  # not even sent
    assert agent.connection.ask("ticks").ok
    with contextlib.closing(
        agent.connection.stream([("ticks", {}), ("quit", {}), ("ticks", {})])
    ) as answers:
        next(answers)
    with pytest.raises(AgentLost, match="interrupted"):
        agent.connection.ask("ticks")
