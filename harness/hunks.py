# SPDX-License-Identifier: GPL-2.0-or-later
"""Who runs the hunks of a patch: for each function of Xen that uses a channel's lock, the tests,
the forced interleavings and the known-bad flavours that are about it, and how it is judged.

Scenarios and known-bad flavours are asked which functions they are about.  Which test runs which
function is written here, and tests/test_hunks.py holds it against what there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.corpus.entry import read_entries
from harness.hypervisor import flavour, series
from harness.hypervisor.hunks import hunks
from harness.interleave.scenarios import SCENARIOS, Scenario
from harness.interleave.threads import PIRQ
from harness.model.lock.call_sites import XEN_FUNCTION
from harness.model.lock.flavours import Site


@dataclass(frozen=True)
class Runs:
    """What runs one function of Xen."""

    tests: tuple[str, ...]  # pytest node ids below testcases/
    judged: str  # what is looked at
    why_not: str = ""  # why nothing runs it; else ""


@dataclass(frozen=True)
class Row:
    """The hunks of one function, and what runs it."""

    file: str
    lines: tuple[int, ...]  # of the hunks, in the old file
    function: str  # "": they change no function
    runs: Runs
    scenarios: tuple[str, ...]  # of ``interleave``
    mutants: tuple[str, ...]  # known-bad flavours with a fault in this function

    @property
    def is_run(self) -> bool:
        """Whether a test or a forced interleaving runs the function."""
        return bool(self.runs.tests or self.scenarios)


UNKNOWN = Runs((), "", "the harness knows no test of it")

_HYPERCALLS, _RACE, _VIRQ = "test_hypercalls.py::", "test_race.py::", "conformance/test_virq.py::"
_DUMP, _BOUND = "test_irq_dump.py::", "conformance/test_xen_bound.py::"
_SHIM = "conformance/test_bare_in_shim.py::"
_STATE = "EVTCHNOP_status of both ends, and the next writer gets in"
_EVENT = "the event comes up, on the notify vCPU"
_BOTH_SIDES = (
    f"{_RACE}test_close_under_a_sender",
    f"{_RACE}test_unmask_under_a_close",
    "test_load.py::test_load",
)
_INTERNAL = "Xen's channel in a guest that dom0 watches, held against the model"
_LOCK = "the lock word, after each step of forced orders; the machine code, against the model"

RUNS: Mapping[str, Runs] = {
    "dump_irqs": Runs(
        (
            f"{_DUMP}test_the_dump_shows_each_channel_as_it_is",
            f"{_DUMP}test_the_dump_under_a_writer",
        ),
        "what Xen prints of each channel, against EVTCHNOP_status; the next writer gets in",
    ),
    "pv_shim_inject_evtchn": Runs(
        (
            f"{_SHIM}test_an_event_of_dom0_is_injected",
            f"{_SHIM}test_a_port_is_usable_after_an_injection",
        ),
        f"{_EVENT}, of the guest inside the shim; the next writer gets in",
    ),
    "alloc_evtchn_bucket": Runs(
        ("conformance/test_alloc.py::test_ports_come_into_being_in_buckets_of_64",),
        "the first writer of each new channel gets in: its lock is free",
    ),
    "evtchn_alloc_unbound": Runs((f"{_HYPERCALLS}test_life_of_a_channel",), _STATE),
    "double_evtchn_lock": Runs(
        (f"{_HYPERCALLS}test_channel_between_two_domains", "test_load.py::test_load"), _STATE
    ),
    "double_evtchn_unlock": Runs(
        (f"{_HYPERCALLS}test_channel_between_two_domains", "test_load.py::test_load"), _STATE
    ),
    "evtchn_bind_interdomain": Runs(
        (f"{_HYPERCALLS}test_binding_makes_the_local_end_pending",), f"{_STATE}; the first event"
    ),
    "evtchn_bind_virq": Runs(
        ("conformance/test_bind.py::test_virqs_are_bound_once", "test_load.py::test_load"), _STATE
    ),
    "evtchn_bind_ipi": Runs((f"{_HYPERCALLS}test_ipi_is_delivered_to_its_vcpu",), _STATE),
    "evtchn_bind_pirq": Runs(
        (
            f"{_DUMP}test_the_dump_shows_each_channel_as_it_is",
            f"{_DUMP}test_the_dump_under_a_writer",
        ),
        "EVTCHNOP_status and debug key i; the next writer gets in",
    ),
    "evtchn_close": Runs(
        (f"{_HYPERCALLS}test_close_clears_pending", f"{_RACE}test_close_under_a_sender"),
        f"{_STATE}; no event on the next channel with that port",
    ),
    "evtchn_free": Runs((f"{_HYPERCALLS}test_close_clears_pending",), _STATE),
    "evtchn_send": Runs(
        (
            f"{_HYPERCALLS}test_send_reaches_the_other_end",
            f"{_HYPERCALLS}test_send_on_a_closed_port_leaves_it_usable",
            "test_load.py::test_load",
        ),
        f"{_EVENT}; dropped only while a writer overlaps",
    ),
    "send_guest_vcpu_virq": Runs((f"{_VIRQ}test_a_virq_of_each_vcpu",), _EVENT),
    "send_guest_global_virq": Runs(
        (
            "test_notify_vcpu.py::test_global_virq_comes_up_on_the_notify_vcpu",
            f"{_VIRQ}test_a_global_virq_in_dom0",
        ),
        _EVENT,
    ),
    "send_guest_pirq": Runs((), "an interrupt, at each step of the writer that binds it"),
    "evtchn_unmask": Runs(
        (
            f"{_RACE}test_unmask_under_a_close",
            f"{_HYPERCALLS}test_unmask_of_a_closed_port_leaves_it_usable",
        ),
        "an event that was pending comes; the mask is clear",
    ),
    "evtchn_set_priority": Runs(("conformance/test_use.py::test_priority",), "the model's answers"),
    "alloc_unbound_xen_event_channel": Runs((f"{_BOUND}test_it_comes_and_goes",), _INTERNAL),
    "notify_via_xen_event_channel": Runs((f"{_BOUND}test_xen_talks_to_dom0",), _INTERNAL),
    "evtchn_port_is_masked": Runs((), "the lock word, while a writer closes the channel"),
    "evtchn_port_poll": Runs(
        (
            f"{_HYPERCALLS}test_poll_of_a_closed_port_leaves_it_usable",
            "conformance/test_poll.py::test_poll_sleeps_until_there_is_an_event",
            "conformance/test_programmes.py::test_random_programmes",
        ),
        "SCHEDOP_poll sleeps or returns as the model says; the next writer gets in",
    ),
    "evtchn_write_lock": Runs(_BOTH_SIDES, _LOCK),
    "evtchn_write_unlock": Runs(_BOTH_SIDES, _LOCK),
    "evtchn_tryread_lock": Runs(_BOTH_SIDES, _LOCK),
    "evtchn_read_unlock": Runs(_BOTH_SIDES, _LOCK),
    "struct evtchn": Runs(
        _BOTH_SIDES, "the type of its member lock says by which model a tree is judged"
    ),
}

_WITH_PEER = ("close", "bind_interdomain")  # calls that take the locks of both ends
_PRIMITIVES = ("evtchn_write_lock", "evtchn_write_unlock")
_READERS = ("evtchn_tryread_lock", "evtchn_read_unlock")


def rows(files: Sequence[Path], shelf: str) -> tuple[Row, ...]:
    """Return what runs each hunk of the patches in ``files``, mails as ``--series`` takes them.

    ``shelf``: the folder of images/xen whose known-bad flavours count.  ConfigError for a file
    that is no mail with a patch.
    """
    bad = mutants(shelf)
    lines: dict[tuple[str, str], list[int]] = {}
    for mail in series.read(files):
        for hunk in hunks(mail.patch.decode(errors="replace")):
            for name in hunk.functions or ("",):
                lines.setdefault((hunk.file, name), []).append(hunk.line)
    return tuple(
        Row(file, tuple(at), name, RUNS.get(name, UNKNOWN), scenarios(name), bad.get(name, ()))
        for (file, name), at in lines.items()
    )


def scenarios(function: str) -> tuple[str, ...]:
    """Return the scenarios that force the steps of ``function`` of Xen."""
    return tuple(
        name for name, scenario in SCENARIOS.items() if function in set(_functions(scenario))
    )


def _functions(scenario: Scenario) -> Iterator[str]:
    for thread in scenario.threads:
        if thread.site is not Site.WRITER:
            yield from (XEN_FUNCTION[thread.site], *_READERS)
            continue
        yield from (f"evtchn_{thread.call.verb}", *_PRIMITIVES)
        if thread.call.verb in _WITH_PEER and scenario.state != PIRQ:
            yield from ("double_evtchn_lock", "double_evtchn_unlock")
    if scenario.interrupt is not None:
        yield from (XEN_FUNCTION[Site.PIRQ], *_READERS)


def mutants(shelf: str) -> dict[str, tuple[str, ...]]:
    """Return, by function of Xen, the known-bad flavours in ``shelf`` that change it."""
    found: dict[str, tuple[str, ...]] = {}
    for name, entry in read_entries([shelf]).items():
        patch = flavour.SHELF / shelf / "bad" / name / f"{name}.patch"
        if entry.good or not patch.is_file():
            continue
        for hunk in hunks(patch.read_text()):
            for function in hunk.functions:
                known = found.get(function, ())
                found[function] = known if name in known else (*known, name)
    return found


def document(found: Sequence[Row]) -> dict[str, Any]:
    """Return ``found`` as JSON values; docs/hunks.md explains the keys."""
    every = {(row.file, line) for row in found for line in row.lines}
    not_run = {(row.file, line) for row in found for line in row.lines if not row.is_run}
    return {
        "hunks": len(every),
        "run": len(every - not_run),
        "rows": [
            {
                "file": row.file,
                "lines": list(row.lines),
                "function": row.function,
                "run": row.is_run,
                "tests": list(row.runs.tests),
                "scenarios": list(row.scenarios),
                "mutants": list(row.mutants),
                "judged": row.runs.judged,
                "why_not": "" if row.is_run else row.runs.why_not,
            }
            for row in found
        ],
    }
