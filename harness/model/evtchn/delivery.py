# SPDX-License-Identifier: GPL-2.0-or-later
"""Setting and clearing the pending bit: the 2L and FIFO ABIs (event_2l.c, event_fifo.c)."""

from __future__ import annotations

from harness.model.evtchn.changed import replace
from harness.model.evtchn.changed_rules import Rule
from harness.model.evtchn.domain import Domain, Vcpu
from harness.model.evtchn.rules import Rules

_SELECTOR = 64  # ports one bit of evtchn_pending_sel stands for


def set_pending(domain: Domain, port: int, rules: Rules, vcpu: int | None = None) -> Domain:
    """evtchn_port_set_pending() for ``vcpu`` (None: the channel's notify vCPU)."""
    target = domain.port(port).vcpu if vcpu is None else vcpu
    if domain.fifo:
        return _set_pending_fifo(domain, port, target, rules)
    return _set_pending_2l(domain, port, target)


def clear_pending(domain: Domain, port: int) -> Domain:
    """evtchn_port_clear_pending(): under FIFO the port stays linked."""
    channel = domain.port(port)
    if not domain.fifo:
        return domain.with_port(port, replace(channel, bits=replace(channel.bits, pending=False)))
    if not domain.has_word(port):
        return domain
    return domain.with_port(port, replace(channel, word=replace(channel.word, pending=False)))


def unmask(domain: Domain, port: int, rules: Rules) -> Domain:
    """evtchn_port_unmask() of a usable port."""
    channel = domain.port(port)
    if domain.fifo:
        if not domain.has_word(port):
            return domain
        channel = replace(channel, word=replace(channel.word, masked=False))
        domain = domain.with_port(port, channel)
        return set_pending(domain, port, rules) if channel.word.pending else domain
    was_masked = channel.bits.masked
    channel = replace(channel, bits=replace(channel.bits, masked=False))
    domain = domain.with_port(port, channel)
    if was_masked and channel.bits.pending:
        return select(domain, port, channel.vcpu)
    return domain


def consume(domain: Domain, port: int) -> Domain:
    """Return the domain after the guest has taken the event, as its upcall handler does."""
    channel = domain.port(port)
    if domain.fifo:
        word = replace(channel.word, pending=False, linked=False)
        return domain.with_port(port, replace(channel, word=word, queue=None))
    return domain.with_port(port, replace(channel, bits=replace(channel.bits, pending=False)))


def mask(domain: Domain, port: int) -> Domain:
    """Return the domain after the guest has masked the port in shared memory."""
    channel = domain.port(port)
    if domain.fifo:
        return domain.with_port(port, replace(channel, word=replace(channel.word, masked=True)))
    return domain.with_port(port, replace(channel, bits=replace(channel.bits, masked=True)))


def _set_pending_2l(domain: Domain, port: int, vcpu: int) -> Domain:
    channel = domain.port(port)
    if channel.bits.pending:
        return domain
    domain = domain.with_port(port, replace(channel, bits=replace(channel.bits, pending=True)))
    if not channel.bits.masked:
        domain = select(domain, port, vcpu)
    return _wake_pollers(domain, port)


def select(domain: Domain, port: int, number: int) -> Domain:
    """2L: set the port's selector bit of vCPU ``number``, with an upcall if it was clear."""
    vcpu = domain.vcpus[number]
    if domain.partial or port // _SELECTOR in vcpu.selectors:
        return domain
    selectors = vcpu.selectors | {port // _SELECTOR}
    return domain.with_vcpu(number, replace(vcpu, selectors=selectors, upcall=True))


def _set_pending_fifo(domain: Domain, port: int, number: int, rules: Rules) -> Domain:
    channel = domain.port(port)
    if not domain.has_word(port):
        return domain.with_port(port, replace(channel, saved=True))
    vcpu = domain.vcpus[number]
    if not vcpu.control_block and not rules.holds(Rule.FIFO_DROP_SETS_PENDING):
        return domain
    was_pending = channel.word.pending
    channel = replace(channel, word=replace(channel.word, pending=True))
    if vcpu.control_block and not channel.word.masked and not channel.word.linked:
        domain = _link(domain, port, number, vcpu)
        channel = domain.port(port)
        channel = replace(channel, word=replace(channel.word, pending=True))
    domain = domain.with_port(port, channel)
    return domain if was_pending else _wake_pollers(domain, port)


def _link(domain: Domain, port: int, number: int, vcpu: Vcpu) -> Domain:
    channel = domain.port(port)
    queue = (number, channel.priority)
    head = not any(other.word.linked and other.queue == queue for _, other in domain.ports)
    linked = replace(channel, word=replace(channel.word, linked=True), queue=queue)
    domain = domain.with_port(port, linked)
    if not head or domain.partial or channel.priority in vcpu.ready:
        return domain
    ready = vcpu.ready | {channel.priority}
    return domain.with_vcpu(number, replace(vcpu, ready=ready, upcall=True))


def _wake_pollers(domain: Domain, port: int) -> Domain:
    """evtchn_check_pollers(): a vCPU that polls more than one port is woken by any port."""
    for number, vcpu in enumerate(domain.vcpus):
        if vcpu.polling is not None and (len(vcpu.polling) != 1 or vcpu.polling[0] == port):
            domain = domain.with_vcpu(number, replace(vcpu, polling=None))
    return domain
