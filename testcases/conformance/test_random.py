# SPDX-License-Identifier: GPL-2.0-or-later
"""Random sequences of operations, which the model judges: ``--duration`` seconds per host."""

from __future__ import annotations

import json

import pytest

from harness.conformance.bare import Bare
from harness.conformance.emulated import EmulatedDomains
from harness.conformance.guest import Domains
from harness.conformance.host import HostDomains
from harness.conformance.sequences import SequenceCounts, run_random
from harness.results.directory import write_whole
from harness.run.emulation import Emulation
from harness.run.session import Session


def test_random_sequences(
    xen: Session | Emulation,
    domains: Domains,
    host_domains: HostDomains | EmulatedDomains,
    bare: Bare,
    request: pytest.FixtureRequest,
) -> None:
    file = xen.recorder.directory.path / f"random-{xen.host.name}-{bare.type}.json"
    request.node.user_properties.append(("artifacts", (file.name,)))

    def report(counts: SequenceCounts) -> None:
        known = {
            "guest": bare.type,
            "seed": xen.plan.seed,
            "seconds": round(counts.seconds, 1),
            "sequences": counts.sequences,
            "operations": counts.operations,
            "undecided": counts.undecided,
            "disagreements": [f"{each}\n{each.story}" for each in counts.disagreements],
        }
        write_whole(file, json.dumps(known, indent=1) + "\n")
        xen.recorder.progress.note(
            f"{xen.host.name:12} {bare.type}: {counts.sequences} random sequences, "
            f"{counts.operations} operations, {len(counts.disagreements)} disagreements, "
            f"{counts.undecided} undecided, {counts.seconds:.0f} s"
        )

    seconds = xen.plan.duration / len(host_domains.bare_types)  # for each type of guest
    guests = [bare, *(guest for guest in [domains.guests.get("dom0")] if guest is not None)]
    counts = run_random(guests, domains.close_opened, seconds, xen.plan.seed, report)
    if counts.disagreements:
        raise counts.disagreements[0]
