# SPDX-License-Identifier: GPL-2.0-or-later
"""EVTCHNOP_init_control and expand_array (event_fifo.c)."""

from __future__ import annotations

from harness.model.evtchn import delivery
from harness.model.evtchn.abi import Errno
from harness.model.evtchn.changed import replace
from harness.model.evtchn.domain import (
    DEFAULT_PRIORITY,
    MAX_ARRAY_PAGES,
    WORDS_PER_PAGE,
    Domain,
    World,
)
from harness.model.evtchn.operations import ExpandArray, InitControl
from harness.model.evtchn.outcome import AllowedOutcome, error, existing_domain, ok

_CONTROL_BLOCK_LAST = 4096 - 72  # bytes: the last offset at which a control block fits its page


def init_control(world: World, op: InitControl) -> list[AllowedOutcome]:
    """EVTCHNOP_init_control."""
    domain = existing_domain(world, op.caller)
    if not domain.fifo_built:
        row = "init_control: EOPNOTSUPP no FIFO built"
        return [error(world, row, Errno.EOPNOTSUPP)]
    if not 0 <= op.vcpu < len(domain.vcpus):
        return [error(world, "init_control: ENOENT vcpu", Errno.ENOENT)]
    if op.offset > _CONTROL_BLOCK_LAST or op.offset % 8:
        return [error(world, "init_control: EINVAL offset", Errno.EINVAL)]
    vcpu = domain.vcpus[op.vcpu]
    outcomes = []
    if world.scarce and not vcpu.control_block:
        outcomes.append(error(world, "init_control: ENOMEM", Errno.ENOMEM))
    if vcpu.control_block:
        return [*outcomes, error(world, "init_control: EINVAL already mapped", Errno.EINVAL)]
    if not op.page_ok:
        return [*outcomes, error(world, "init_control: EINVAL bad page", Errno.EINVAL)]
    row = "init_control: control block mapped"
    if not domain.fifo:
        row = "init_control: switched to FIFO"
        domain = _switched_to_fifo(domain)
    domain = domain.with_vcpu(op.vcpu, replace(domain.vcpus[op.vcpu], control_block=True))
    return [*outcomes, ok(world.with_domain(domain), row)]


def _switched_to_fifo(domain: Domain) -> Domain:
    """setup_ports(): the pending bits of 2L are saved and stay in shared_info; priorities are 7.

    Xen looks at the ports that there are (valid_evtchns).  A guest can have set other bits itself.
    """
    for port, channel in domain.ports:
        if 0 < port < domain.valid:
            saved = channel.saved or channel.bits.pending
            after = replace(channel, saved=saved, priority=DEFAULT_PRIORITY)
            domain = domain.with_port(port, after)
    return replace(domain, fifo=True, array_pages=0)


def expand_array(world: World, op: ExpandArray) -> list[AllowedOutcome]:
    """EVTCHNOP_expand_array."""
    domain = existing_domain(world, op.caller)
    if not domain.fifo_built or not domain.fifo:
        return [error(world, "expand_array: EOPNOTSUPP not FIFO", Errno.EOPNOTSUPP)]
    if domain.array_pages >= MAX_ARRAY_PAGES:
        return [error(world, "expand_array: ENOSPC", Errno.ENOSPC)]
    if not op.page_ok:
        return [error(world, "expand_array: EINVAL bad page", Errno.EINVAL)]
    first = domain.array_pages * WORDS_PER_PAGE
    domain = replace(domain, array_pages=domain.array_pages + 1)
    for port, channel in domain.ports:
        if channel.saved and first <= port < first + WORDS_PER_PAGE:
            domain = delivery.set_pending(domain, port, world.rules)
    row = "expand_array: 1024 more words, saved events raised"
    return [ok(world.with_domain(domain), row)]
