# SPDX-License-Identifier: GPL-2.0-or-later
"""Agents whose Xen is the model itself, and which can be made to lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from harness.agent.client import AgentClient
from harness.conformance.bare import after_upcall, cleared, expected_events
from harness.conformance.changes import settled
from harness.model.evtchn import operations as ops
from harness.model.evtchn import qemu
from harness.model.evtchn.abi import DOMID_SELF
from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.domain import Domain, State, World
from harness.model.evtchn.operations import Operation, Result
from harness.model.evtchn.outcome import AllowedOutcome
from harness.model.evtchn.predict import predict
from harness.model.evtchn.qemu_cases import DOMID_QEMU

LINUX = frozenset({0, 1})  # domids
HZ = 1_000_000_000
_STATUS = {State.UNBOUND: 1, State.INTERDOMAIN: 2, State.PIRQ: 3, State.VIRQ: 4, State.IPI: 5}

Lie = Callable[[Operation, AllowedOutcome], AllowedOutcome]


@dataclass
class ModelHost:
    """One world, which the agents of all its domains share.  ``lie`` changes what happens.

    ``busy`` is the share of polls during which the vCPU takes an interrupt, sleep or not.
    """

    world: World
    lie: Lie = lambda _operation, outcome: outcome
    made: list[Operation] = field(default_factory=list)
    busy: float = 0.0
    chance: Random = field(default_factory=lambda: Random(1))
    linux: frozenset[int] = LINUX

    def agent(self, domid: int, name: str) -> AgentClient:
        """Return a client of domain ``domid``'s agent."""
        return AgentClient(_Channel(self, domid), name)

    def make(self, operation: Operation) -> Result:
        """Let ``operation`` happen."""
        self.made.append(operation)
        outcome = self.lie(operation, predict(self.world, operation)[-1])
        self.world = settled(outcome.world, self.linux)
        return outcome.result

    def domain(self, domid: int) -> Domain:
        found = self.world.domain(domid)
        assert found is not None
        return found


class _Channel:
    def __init__(self, host: ModelHost, domid: int) -> None:
        self._host, self._domid = host, domid
        self._said = b""

    def write(self, data: bytes) -> None:
        for line in data.decode().splitlines():
            verb, *words = line.split()
            arguments = dict(word.partition("=")[::2] for word in words)
            self._said += f"{self._answer(verb, arguments)}\n".encode()

    def read(self, limit: int, timeout: float) -> bytes:
        if not self._said:
            raise TimeoutError
        said, self._said = self._said[:limit], self._said[limit:]
        return said

    def close(self) -> None:
        pass

    def _answer(self, verb: str, words: dict[str, str]) -> str:
        special = getattr(self, f"_{verb}", None)
        if special is not None:
            return str(special(words))
        result = self._host.make(_operation(verb, words, self._domid))
        if result.rc < 0:
            return f"err errno={-result.rc} what={verb} call=1 ret=2"
        more = ""
        if result.status is not None:
            s = result.status
            more = f" state={s.status} vcpu={s.vcpu} remote={s.dom} detail={s.detail}"
        if verb == "poll":
            sleeps = result.blocked and words["timeout"] == "0"
            host, times = self._host, int(words["times"])
            woken = [sleeps or host.chance.random() < host.busy for _ in range(times)]
            took = 4000 if sleeps else 40
            more = f" woken={','.join(str(int(each)) for each in woken)}"
            more += f" took={','.join([str(took)] * times)}"
        return f"ok result={result.code} call=1 ret=2 cpu=0{more}"

    def _hello(self, _: dict[str, str]) -> str:
        vcpus = len(self._host.domain(self._domid).vcpus)
        return (
            f"ok protocol=2 arch=x86_64 domid={self._domid} vcpus={vcpus} tick_hz={HZ} "
            f"page=4096 xen={self._host.world.rules.release}"
        )

    def _list_ports(self, words: dict[str, str]) -> str:
        domain = self._host.domain(self._domid)
        listed: list[int] = []
        for port, channel in domain.ports:
            if channel.consumer and self._host.world.rules.holds(Rule.STATUS_HIDES_XEN_BOUND):
                listed += [port, 255, 0, 0, 0]
            elif channel.state in _STATUS:
                detail = channel.remote_port or channel.number
                listed += [port, _STATUS[channel.state], channel.vcpu, channel.remote_dom, detail]
        ports = ",".join(map(str, listed))
        told = qemu.told_ports(self._host.world.rules, domain)
        return f"ok result={told.stop} call=1 ret=2 cpu=0 more=0 ports={ports}"

    def _fill(self, words: dict[str, str]) -> str:
        errno, ports = 0, []
        for _ in range(int(words["max"])):
            result = self._host.make(ops.AllocUnbound(self._domid, DOMID_SELF, DOMID_SELF))
            if result.rc < 0:
                errno = -result.rc
                break
            ports.append(result.code)
        return f"ok result={len(ports)} ports={ports[0]},{ports[-1]},{errno}"

    def _dom0_release(self, _: dict[str, str]) -> str:
        return "ok result=0"

    def _dom0_bind_interdomain(self, words: dict[str, str]) -> str:
        bind = ops.BindInterdomain(DOMID_QEMU, self._domid, int(words["port"]))
        result = self._host.make(bind)
        return f"ok result={result.code}" if result.rc == 0 else f"err errno={-result.rc} what=bind"

    def _release(self, _: dict[str, str]) -> str:
        return "ok asked=0 open="

    def _forget(self, _: dict[str, str]) -> str:
        return "ok"

    def _mask(self, words: dict[str, str]) -> str:
        self._host.make(ops.Mask(self._domid, int(words["port"])))
        return "ok result=0"

    def _clear_2l(self, _: dict[str, str]) -> str:
        self._host.world = self._host.world.with_domain(cleared(self._host.domain(self._domid)))
        return "ok result=0"

    def _handle_upcall(self, words: dict[str, str]) -> str:
        vcpu, domain = int(words["vcpu"]), self._host.domain(self._domid)
        ports = expected_events(domain, vcpu)
        for port in ports:
            self._host.make(ops.Consume(self._domid, port))
        domain = self._host.domain(self._domid)
        self._host.world = self._host.world.with_domain(after_upcall(domain, vcpu))
        return f"ok result={len(ports)} ports={','.join(map(str, ports))}"

    def _look(self, words: dict[str, str]) -> str:
        domain, status = self._host.domain(self._domid), []
        for port in _ports(words, "status"):
            result = self._host.make(ops.Status(self._domid, DOMID_SELF, port))
            told = result.status or ops.StatusReply(0, 0)
            status += [-result.rc, told.status, told.vcpu, told.dom, told.detail]
        bits: list[int] = []
        for port in _ports(words, "ports"):
            channel = domain.port(port)
            word = channel.word if domain.fifo else channel.bits
            bits += [word.pending, word.masked, word.linked]
        told_of: dict[str, list[int]] = {
            "bits": bits,
            "upcall": [int(v.upcall) for v in domain.vcpus],
            "selectors": [sum(1 << w for w in v.selectors) for v in domain.vcpus],
            "ready": [sum(1 << p for p in v.ready) for v in domain.vcpus],
            "status": status,
        }
        texts = (f"{key}={','.join(str(int(n)) for n in all_)}" for key, all_ in told_of.items())
        return f"ok {' '.join(texts)} result=0"


def _ports(words: dict[str, str], key: str) -> list[int]:
    return [int(port) for port in words.get(key, "").split(",") if port]


def _operation(verb: str, words: dict[str, str], me: int) -> Operation:
    """The inverse of harness.conformance.hypercalls.call."""
    fault = {"in": ops.Fault.IN, "out": ops.Fault.OUT}.get(words.get("fault", ""), ops.Fault.NONE)
    n = {key: int(value) for key, value in words.items() if value.isdigit()}
    match verb:
        case "alloc_unbound":
            return ops.AllocUnbound(me, n["owner"], n["remote"], fault)
        case "bind_interdomain":
            return ops.BindInterdomain(me, n["remote"], n["port"], fault)
        case "bind_virq":
            return ops.BindVirq(me, n["virq"], n["vcpu"], fault)
        case "bind_ipi":
            return ops.BindIpi(me, n["vcpu"], fault)
        case "bind_pirq":
            return ops.BindPirq(me, n["pirq"], fault)
        case "close":
            return ops.Close(me, n["port"], fault)
        case "send":
            return ops.Send(me, n["port"], fault)
        case "status":
            return ops.Status(me, n.get("owner", DOMID_SELF), n["port"], fault)
        case "bind_vcpu":
            return ops.BindVcpu(me, n["port"], n["vcpu"], fault)
        case "unmask":
            return ops.Unmask(me, n["port"], fault)
        case "set_priority":
            return ops.SetPriority(me, n["port"], n["priority"], fault)
        case "reset" | "reset_cont":
            return ops.Reset(me, n["owner"], verb == "reset_cont", fault)
        case "init_control":
            return ops.InitControl(me, n["vcpu"], n["offset"], bool(n.get("frame")), fault)
        case "expand_array":
            return ops.ExpandArray(me, bool(n.get("frame")), fault)
        case "poll":
            ports = tuple(int(port) for port in words["ports"].split(",") if port)
            return ops.Poll(me, ports, n["on"], fault)
        case "unknown_command":
            return ops.UnknownOp(me, n["number"])
    raise AssertionError(verb)
