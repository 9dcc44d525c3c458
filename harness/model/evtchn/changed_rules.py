# SPDX-License-Identifier: GPL-2.0-or-later
"""Every rule of event channels that changed between Xen 4.12 and master: one table, data only.

A rule holds in a tree that has the commit with which it began, and not the one with which it ended.
``text`` recognises a tree of which the history is not known.  Read from upstream's history of
xen/common/event_channel.c, event_fifo.c, sched/core.c and xen/include/xen/event.h; a test holds
every line against an upstream repository (XEN_GIT).

To add a rule: a member of ``Rule``, a line of the table, the place in the model that asks for it
(``world.rules.holds``), and a line in docs/spec/evtchn.md, "Rules that changed".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from harness.model.evtchn.releases import Release


class Rule(StrEnum):
    """The names of the rules."""

    VALID_PORT_STAYS_VALID = "valid_port_stays_valid"
    POLL_CHECKS_VALID = "poll_checks_valid"
    UNUSABLE_PORT_UNTOUCHED = "unusable_port_untouched"
    RESET_TELLS_OPEN_PORTS = "reset_tells_open_ports"
    RESET_CAN_BE_RESUMED = "reset_can_be_resumed"
    STATUS_HIDES_XEN_BOUND = "status_hides_xen_bound"
    POLL_REJECTS_UNUSABLE = "poll_rejects_unusable"
    FIFO_DROP_SETS_PENDING = "fifo_drop_sets_pending"
    ARM_BIND_PIRQ = "arm_bind_pirq"
    VIRQ_WANTS_HANDLER = "virq_wants_handler"
    DOM_EXC_KEEPS_STATES = "dom_exc_keeps_states"
    ARGO_IS_PER_DOMAIN = "argo_is_per_domain"
    FIFO_IS_OPTIONAL = "fifo_is_optional"
    FAILED_BIND_KEEPS_STATES = "failed_bind_keeps_states"
    EXPAND_ARRAY_CHECKS_LOCKED = "expand_array_checks_locked"


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of upstream Xen that changed a rule."""

    sha: str  # the first 12 digits
    subject: str
    release: Release  # the first .0 release that has it
    # The first point release of each older branch that has a backport: (4, 14, 1) is 4.14.1.
    backports: tuple[tuple[int, int, int], ...] = ()

    def in_version(self, release: Release, point: int | None) -> bool:
        """Say whether ``release``, ``point`` has it; None: any point release, so the newest."""
        if release >= self.release:
            return True
        return any(
            Release(major, minor) == release and (point is None or point >= first)
            for major, minor, first in self.backports
        )


@dataclass(frozen=True, slots=True)
class Text:
    """How a tree's text tells that a rule holds: ``pattern`` matches in one of ``files``."""

    files: tuple[str, ...]  # relative to the tree; one file under the names that it has had
    pattern: str  # of Python's re, where "." is any character but a newline


@dataclass(frozen=True, slots=True)
class ChangedRule:
    """A rule that holds from one commit on, or up to one."""

    rule: Rule
    says: str  # one line: what is so where the rule holds
    begun: Commit | None  # None: it held in 4.12 and before
    ended: Commit | None
    text: Text
    # The rows of docs/spec/evtchn.md whose answer or effect depends on it.  (): only operations
    # that overlap can tell, or another domain, and so the model does not ask for it.
    rows: tuple[str, ...]
    words: tuple[str, str] = ("no", "yes")  # for people: it does not hold, it holds

    @property
    def commits(self) -> tuple[Commit, ...]:
        """The commits that changed it, the older one first."""
        return tuple(commit for commit in (self.begun, self.ended) if commit is not None)

    def in_version(self, release: Release, point: int | None = None) -> bool:
        """Say whether the rule holds in ``release``; ``point`` as in Commit.in_version."""
        begun = self.begun is None or self.begun.in_version(release, point)
        ended = self.ended is not None and self.ended.in_version(release, point)
        return begun and not ended


_CHANNELS = ("xen/common/event_channel.c",)
_FIFO = ("xen/common/event_fifo.c",)
_EVENT_H = ("xen/include/xen/event.h",)
_DO_POLL = ("xen/common/sched/core.c", "xen/common/schedule.c")  # 4.13 and before: schedule.c
_KCONFIG = ("xen/common/Kconfig",)
_IN_FUNCTION = r"(?:(?!\n\})[\s\S])*?"  # up to the brace that ends the function

_XSA_2020 = ((4, 12, 4), (4, 13, 2), (4, 14, 1))  # September 2020: XSA-338, 342, 343, 344
_ON_VALIDITY = (
    *(
        f"{op}: EINVAL not valid"
        for op in ("close", "send", "status", "bind_vcpu", "unmask", "set_priority", "poll")
    ),
    "bind_interdomain: EINVAL remote port not valid",
    "bind_interdomain: EINVAL remote port not unbound for the caller",
    "bind_interdomain: both INTERDOMAIN, local pending",
    "close: EINVAL FREE or RESERVED",
    "close: EINVAL Xen-bound",
    "send: EINVAL state has no peer",
    "send: EINVAL Xen-bound",
    "status: EACCES Xen-bound",
    "status: EPERM",
    "status: closed",
    "status: reply",
    "bind_vcpu: EINVAL state or per-vCPU VIRQ",
    "bind_vcpu: EINVAL Xen-bound",
    "unmask: no-op, not usable",
    "unmask: unmasked, nothing pending",
    "unmask: unmasked, redelivered",
    "set_priority: ENOSYS 2L",
    "poll: EINVAL not usable",
    "poll: blocks",
    "poll: 0 at once, pending",
)
_SENDS_EVENTS = (
    "bind_interdomain: both INTERDOMAIN, local pending",
    "send: peer pending",
    "send: own port pending (IPI)",
    "unmask: unmasked, redelivered",
    "raise_virq: pending on the notify vCPU",
    "raise_pirq: pending on the notify vCPU",
    "expand_array: 1024 more words, saved events raised",
    "xen: peer pending",
)
_BINDS_VIRQ = (
    "bind_virq: EBUSY not the handler",
    "bind_virq: EEXIST",
    "bind_virq: ENOMEM domain states",
    "bind_virq: VIRQ",
)

TABLE: tuple[ChangedRule, ...] = (
    ChangedRule(
        Rule.VALID_PORT_STAYS_VALID,
        "A port that was valid once stays valid, also after a reset from FIFO to 2L (XSA-338).",
        Commit("e59ce972d128", "evtchn: relax port_is_valid()", Release(4, 15), _XSA_2020),
        None,
        Text(_EVENT_H, r"port_is_valid\([^)]*\)\n\{\n(?!    if \( p >= d->max_evtchns \))"),
        _ON_VALIDITY,
    ),
    ChangedRule(
        Rule.POLL_CHECKS_VALID,
        "SCHEDOP_poll answers EINVAL for every port that is not valid, and not only for those "
        "beyond what the ABI can express (XSA-342).",
        Commit(
            "62bcdc4edbf6",
            "evtchn/x86: enforce correct upper limit for 32-bit guests",
            Release(4, 15),
            _XSA_2020,
        ),
        None,
        Text(_DO_POLL, r"!port_is_valid\(d, port\)|= evtchn_port_poll\(d, port\)"),
        ("poll: EINVAL not valid", "poll: blocks", "poll: 0 at once, pending"),
    ),
    ChangedRule(
        Rule.RESET_TELLS_OPEN_PORTS,
        "EVTCHNOP_reset answers EAGAIN when another vCPU has opened a port meanwhile (XSA-343).",
        Commit(
            "8d385b247bca",
            "evtchn: evtchn_reset() shouldn't succeed with still-open ports",
            Release(4, 15),
            _XSA_2020,
        ),
        None,
        Text(_CHANNELS, r"d->active_evtchns > d->xen_evtchns"),
        (),
    ),
    ChangedRule(
        Rule.UNUSABLE_PORT_UNTOUCHED,
        "Unmask, set_priority and poll leave a port alone that is not usable: nothing, EACCES, "
        "not pending (XSA-343).",
        Commit(
            "e045199c7c9c", "evtchn: address races with evtchn_reset()", Release(4, 15), _XSA_2020
        ),
        None,
        Text(_EVENT_H, r"static (inline )?bool evtchn_usable\("),
        (
            "unmask: no-op, not usable",
            "unmask: unmasked, nothing pending",
            "unmask: unmasked, redelivered",
            "set_priority: EACCES not usable",
            "set_priority: EINVAL priority",
            "set_priority: priority for future events",
            "poll: 0 at once, pending",
            "poll: blocks",
        ),
    ),
    ChangedRule(
        Rule.RESET_CAN_BE_RESUMED,
        "A reset can be preempted: EVTCHNOP_reset_cont resumes it, and a second one meanwhile is "
        "EBUSY (XSA-344).",
        Commit(
            "2785b2a9e04a",
            "evtchn: arrange for preemption in evtchn_reset()",
            Release(4, 15),
            _XSA_2020,
        ),
        None,
        Text(_CHANNELS, r"case EVTCHNOP_reset_cont:"),
        (
            "any: ENOSYS unknown command",
            "reset: ESRCH",
            "reset: EPERM",
            "reset: EINVAL other domain not paused",
            "reset: EBUSY",
            "reset: all closed but Xen-bound, back to 2L",
        ),
    ),
    ChangedRule(
        Rule.STATUS_HIDES_XEN_BOUND,
        "EVTCHNOP_status answers EACCES for a port whose consumer is Xen (4.15 to 4.18).",
        Commit(
            "f60ab5337f96",
            "evtchn: refuse EVTCHNOP_status for Xen-bound event channels",
            Release(4, 15),
        ),
        Commit(
            "2d8d7481ca26",
            'Revert "evtchn: refuse EVTCHNOP_status for Xen-bound event channels"',
            Release(4, 19),
        ),
        Text(
            _CHANNELS,
            r"evtchn_status\(evtchn_status_t \*status\)"
            rf"{_IN_FUNCTION}consumer_is_xen\(chn\)",
        ),
        ("status: EACCES Xen-bound", "status: EPERM", "status: reply"),
    ),
    ChangedRule(
        Rule.POLL_REJECTS_UNUSABLE,
        "SCHEDOP_poll answers EINVAL for a port that is valid but not usable.",
        Commit(
            "d4bfa0c78f48",
            "evtchn/sched: reject poll requests for unusable ports",
            Release(4, 15),
        ),
        None,
        Text(_DO_POLL, r"= evtchn_port_poll\(d, port\)"),
        ("poll: EINVAL not usable", "poll: blocks", "poll: 0 at once, pending"),
    ),
    ChangedRule(
        Rule.FIFO_DROP_SETS_PENDING,
        "An event for a vCPU without a FIFO control block is dropped, but PENDING is set before.",
        None,
        Commit(
            "8aa0e9d2d1a4",
            "evtchn/fifo: Don't set PENDING bit if guest misbehaves",
            Release(4, 17),
        ),
        Text(_FIFO, r"was_pending = (guest_)?test_and_set_bit\("),
        _SENDS_EVENTS,
    ),
    ChangedRule(
        Rule.ARM_BIND_PIRQ,
        "EVTCHNOP_bind_pirq on Arm, which has no PIRQs, is EOPNOTSUPP before any check, and not "
        "ENOMEM after all of them and after the allocation.",
        Commit("13a7b0f9f747", "restrict concept of pIRQ to x86", Release(4, 19)),
        None,
        Text(_CHANNELS, r"evtchn_bind_pirq\([^)]*\)\n\{\n#ifdef CONFIG_HAS_PIRQ\n"),
        ("bind_pirq: no PIRQs on Arm", "bind_pirq: EINVAL pirq out of range"),
        ("ENOMEM", "EOPNOTSUPP"),
    ),
    ChangedRule(
        Rule.VIRQ_WANTS_HANDLER,
        "A global VIRQ can be bound only by its handler domain: EBUSY for others.",
        Commit(
            "eba922abdb85",
            "xen/events: don't allow binding a global virq from any domain",
            Release(4, 21),
        ),
        None,
        Text(_CHANNELS, r"get_global_virq_handler\(virq\) != d\b"),
        _BINDS_VIRQ,
    ),
    ChangedRule(
        Rule.DOM_EXC_KEEPS_STATES,
        "Who binds VIRQ_DOM_EXC gets a bitmap of the domains whose state changed, for "
        "XEN_DOMCTL_get_domain_state: ENOMEM when there is no memory for it.",
        Commit(
            "f94360a7fe9b", "xen: add bitmap to indicate per-domain state changes", Release(4, 21)
        ),
        None,
        Text(_CHANNELS, r"rc = domain_init_states\(\)"),
        ("bind_virq: ENOMEM domain states",),
    ),
    ChangedRule(
        Rule.ARGO_IS_PER_DOMAIN,
        "VIRQ_ARGO is a per-domain VIRQ: any domain may bind it.",
        Commit("bb1accab6903", "xen/events: fix global virq handling", Release(4, 21)),
        None,
        Text(_CHANNELS, r"case VIRQ_ARGO:\s+return VIRQ_DOMAIN;"),
        _BINDS_VIRQ,
    ),
    ChangedRule(
        Rule.FIFO_IS_OPTIONAL,
        "Xen can be built without FIFO (CONFIG_EVTCHN_FIFO); it is built in by default.",
        Commit("cfe15a473d92", "xen: add kconfig for event_fifo", Release(4, 21)),
        None,
        Text(_KCONFIG, r"(?m)^config EVTCHN_FIFO$"),
        (
            "init_control: EOPNOTSUPP no FIFO built",
            "expand_array: EOPNOTSUPP not FIFO",
            "set_priority: ENOSYS 2L",
        ),
    ),
    ChangedRule(
        Rule.FAILED_BIND_KEEPS_STATES,
        "A bind_virq that finds no free port no longer throws away another domain's bitmap of "
        "VIRQ_DOM_EXC (XSA-496).",
        Commit(
            "40c59b6c29b1",
            "evtchn: evtchn_bind_virq() error path unconditionally calls domain_deinit_states()",
            Release(4, 22),
            ((4, 21, 2),),
        ),
        None,
        Text(_CHANNELS, r"if \( virq == VIRQ_DOM_EXC \)\s+domain_deinit_states\(d\);"),
        (),
    ),
    ChangedRule(
        Rule.EXPAND_ARRAY_CHECKS_LOCKED,
        "EVTCHNOP_expand_array looks under event_lock whether the domain uses FIFO, so that a "
        "reset on another vCPU cannot come between (XSA-505).",
        Commit(
            "0e9d647aca8a",
            "xen/evtchn: fix race between FIFO expand and reset operations",
            Release(4, 22),
            ((4, 17, 7), (4, 18, 6), (4, 19, 6), (4, 20, 4), (4, 21, 2)),
        ),
        None,
        Text(_FIFO, r"if \( d->evtchn_fifo \)\s+rc = add_page_to_event_array\("),
        (),
    ),
)

BY_RULE: dict[Rule, ChangedRule] = {each.rule: each for each in TABLE}
