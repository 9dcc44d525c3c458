"""Random sequences against a Xen that is the model, and against one that is not."""

from __future__ import annotations

from dataclasses import replace

from harness.conformance.bare import Bare
from harness.conformance.sequences import run_random
from harness.model.operations import BindVcpu, Operation, Result
from harness.model.outcome import Outcome

from .model_agent import ModelHost
from .test_oracle import WORLD, watched

_SEED = 5


def test_the_model_never_disagrees_with_itself() -> None:
    domains = watched(ModelHost(WORLD))
    bare = domains.guests["bare"]
    assert isinstance(bare, Bare)

    def begin() -> None:
        domains.close_opened()
        bare.begin()

    tally = run_random([bare, domains.guests["dom0"]], begin, 4.0, _SEED)
    assert tally.sequences > 10 and tally.operations > 100
    assert not tally.disagreements, tally.disagreements[0].story


def test_a_rare_lie_is_found_and_cut_down() -> None:
    """bind_vcpu of an IPI is accepted: three operations show it, whatever came before."""

    def lie(made: Operation, outcome: Outcome) -> Outcome:
        if isinstance(made, BindVcpu) and outcome.row.endswith("EINVAL state or per-vCPU VIRQ"):
            return replace(outcome, result=Result())
        return outcome

    host = ModelHost(WORLD)
    domains = watched(host)
    bare = domains.guests["bare"]
    assert isinstance(bare, Bare)

    def begin() -> None:
        domains.close_opened()
        bare.begin()

    host.lie = lie
    tally = run_random([bare, domains.guests["dom0"]], begin, 20.0, _SEED)
    (found,) = tally.disagreements
    assert "BindVcpu" in str(found)
    lines = found.story.splitlines()
    last = max(i for i, line in enumerate(lines) if "Reset" in line)
    assert len(lines) - last <= 4, found.story
