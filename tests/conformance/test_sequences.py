# SPDX-License-Identifier: GPL-2.0-or-later
"""Random sequences against a Xen that is the model, and against one that is not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.conformance.bare import Bare
from harness.conformance.polls import Undecided
from harness.conformance.sequences import SequenceCounts, run_random
from harness.model.evtchn.operations import BindVcpu, Operation, Result
from harness.model.evtchn.outcome import AllowedOutcome
from harness.verdict import LabError

from .model_agent import ModelHost
from .test_reference_model import WORLD, domains_of

pytestmark = pytest.mark.slow

_SEED = 5


def test_the_model_never_disagrees_with_itself() -> None:
    domains = domains_of(ModelHost(WORLD))
    bare = domains.guests["bare"]
    assert isinstance(bare, Bare)

    counts = run_random([bare, domains.guests["dom0"]], domains.close_opened, 4.0, _SEED)
    assert counts.sequences > 10 and counts.operations > 100
    assert not counts.disagreements, counts.disagreements[0].story


def test_a_rare_lie_is_found_and_cut_down() -> None:
    """bind_vcpu of an IPI is accepted: three operations show it, whatever came before."""

    def lie(made: Operation, outcome: AllowedOutcome) -> AllowedOutcome:
        if isinstance(made, BindVcpu) and outcome.row.endswith("EINVAL state or per-vCPU VIRQ"):
            return replace(outcome, result=Result())
        return outcome

    host = ModelHost(WORLD)
    domains = domains_of(host)
    bare = domains.guests["bare"]
    assert isinstance(bare, Bare)
    host.lie = lie
    counts = run_random([bare, domains.guests["dom0"]], domains.close_opened, 20.0, _SEED)
    (found,) = counts.disagreements
    assert "BindVcpu" in str(found)
    lines = found.story.splitlines()
    last = max(i for i, line in enumerate(lines) if "Reset" in line)
    assert len(lines) - last <= 4, found.story


class _Once:
    """Raises ``error`` at the n-th beginning, and never again."""

    def __init__(self, error: Exception, n: int) -> None:
        self._error, self._left = error, n

    def __call__(self) -> None:
        self._left -= 1
        if not self._left:
            raise self._error


def _run(error: Exception, heard: list[SequenceCounts]) -> SequenceCounts:
    domains = domains_of(ModelHost(WORLD))
    bare = domains.guests["bare"]
    assert isinstance(bare, Bare)
    once = _Once(error, 3)

    def begin() -> None:
        domains.close_opened()
        once()

    return run_random([bare, domains.guests["dom0"]], begin, 2.0, _SEED, heard.append)


def test_a_machine_that_is_lost_is_told_as_what_it_was() -> None:
    """What fails once and not again is no flaky sequence: the lab has failed."""
    heard: list[SequenceCounts] = []
    with pytest.raises(LabError, match="no answer"):
        _run(LabError("no answer", where="bare"), heard)
    assert heard[-1].sequences == 2 and heard[-1].seconds > 0, "what was done before it stays known"


def test_a_sequence_that_nobody_can_judge_is_counted_and_given_up() -> None:
    counts = _run(Undecided("cannot tell", where="bare"), [])
    assert counts.undecided == 1 and counts.sequences > 5 and not counts.disagreements
