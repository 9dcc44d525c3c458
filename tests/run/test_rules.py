# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules that were found for a tree, on their way into the journal and the manifest."""

from __future__ import annotations

from pathlib import Path

from harness.arch import Arch
from harness.config.host import QemuHost
from harness.domains.keys import RunKeys
from harness.hypervisor.build import Build
from harness.hypervisor.flavour import Model
from harness.hypervisor.source import Source
from harness.images.dom0 import Dom0Image
from harness.machine import accel
from harness.model.evtchn.changed_rules import TABLE, Rule
from harness.results import records
from harness.run import bring_up, machines
from harness.toolstack.choice import Choice

from . import toy_plan

HIDES = records.FoundRule(
    "status_hides_xen_bound",
    False,
    "version",
    'Xen 4.20.4 has 2d8d7481ca26 (Revert "evtchn: refuse EVTCHNOP_status for Xen-bound event '
    'channels")',
)


def built(folder: Path) -> Build:
    source = Source("deb", folder, "4.20.4-1", (4, 20), "digest")
    return Build(
        arch=Arch.ARM64,
        flavour="rwlock",
        model=Model("rwlock", "recognised", "its text"),
        source=source,
        directory=folder,
        image=folder,
        syms=folder,
        config=None,
        build_id="aa",
        digest="bb",
        compiler="cc",
        seconds=0.0,
        cached=True,
    )


def image(folder: Path) -> Dom0Image:
    return Dom0Image(Arch.ARM64, folder, folder, folder, "", folder, (), "6.1", "dd")


def test_the_journal_and_the_manifest_have_every_rule(tmp_path: Path) -> None:
    host = QemuHost(name="h", arch=Arch.ARM64)
    fit = Choice("", "package", "why")
    parts = machines.Parts(
        toy_plan.plan(host), tmp_path, built(tmp_path), fit, image(tmp_path), tmp_path, tmp_path,
        RunKeys.new(),
    )  # fmt: skip
    start = machines._host_start(host, parts, accel.Choice("tcg", "why"))
    assert [rule.name for rule in start.rules] == [each.rule for each in TABLE]
    assert HIDES in start.rules
    assert records.from_json(records.to_json(start)) == start

    agent = tmp_path / "agent"
    agent.write_bytes(b"")
    used = bring_up.ingredients(built(tmp_path), fit, image(tmp_path), agent)
    (rules,) = [one for one in used if one.what == "rules"]
    assert rules.detail[Rule.STATUS_HIDES_XEN_BOUND] == f"does not hold: {HIDES.why}"
    polls = rules.detail[Rule.POLL_REJECTS_UNUSABLE]
    assert polls.startswith("holds: Xen 4.20.4 has d4bfa0c78f48 (")
