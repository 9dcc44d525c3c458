"""Random sequences of operations, the model as the judge: ``--duration`` seconds per host."""

from __future__ import annotations

import json

import pytest

from harness.conformance.bare import Bare
from harness.conformance.guest import Domains, Guest
from harness.conformance.host import Watched
from harness.conformance.sequences import Tally, run_random
from harness.results.directory import write_whole
from harness.run.session import Session


def test_random_sequences(
    xen: Session,
    domains: Domains,
    watched: Watched,
    dom0: Guest,
    bare: Bare,
    request: pytest.FixtureRequest,
) -> None:
    def begin() -> None:
        domains.close_opened()
        bare.begin()

    file = xen.recorder.directory.path / f"random-{xen.host.name}-{bare.type}.json"
    request.node.user_properties.append(("artifacts", (file.name,)))

    def told(tally: Tally) -> None:
        known = {
            "guest": bare.type,
            "seed": xen.plan.seed,
            "seconds": round(tally.seconds, 1),
            "sequences": tally.sequences,
            "operations": tally.operations,
            "undecided": tally.undecided,
            "disagreements": [f"{each}\n{each.story}" for each in tally.disagreements],
        }
        write_whole(file, json.dumps(known, indent=1) + "\n")
        xen.recorder.progress.note(
            f"{xen.host.name:12} {bare.type}: {tally.sequences} random sequences, "
            f"{tally.operations} operations, {len(tally.disagreements)} disagreements, "
            f"{tally.undecided} undecided, {tally.seconds:.0f} s"
        )

    seconds = xen.plan.duration / len(watched.bare_types)  # each type of guest has its share
    tally = run_random([bare, dom0], begin, seconds, xen.plan.seed, told)
    if tally.disagreements:
        raise tally.disagreements[0]
