# SPDX-License-Identifier: GPL-2.0-or-later
"""Three security fixes of 2020 put the order of a flag and its data right: the machine code of each
commit and of its parent."""

from __future__ import annotations

import pytest

from harness.arch import Arch
from harness.binary.copies import Text
from harness.binary.judge import MEMORY
from harness.binary.publish.verdict import Publishing, published
from harness.binary.tables import table_of
from harness.hypervisor import source
from harness.hypervisor.build import build
from harness.hypervisor.flavour import find
from tests.real.conftest import repository

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]

# What each commit mends: the flag, and who is refuted before it on which architecture.
FIXES = {
    "112992b05b2d": ("valid_evtchns", ("evtchn_allocate_port", "evtchn_send"), ()),
    "dc8b01affd7f": ("evtchn_port_ops", ("evtchn_fifo_set_pending", "evtchn_fifo_is_pending"), ()),
    # Here the compiler has the flag first, as the source had it: x86's order does not help.
    "c5e63651fdc7": ("control_block", ("map_control_block",), ("map_control_block",)),
}


def judged(ref: str, arch: Arch, flag: str) -> list[Publishing]:
    tree = source.from_git(repository(), ref)
    built = build(tree, find(None, tree), arch)
    ones = published(Text(built.syms, arch), table_of(arch), MEMORY[arch])
    return [one for one in ones if one.flag == flag]


@pytest.mark.parametrize("arch", list(Arch))
@pytest.mark.parametrize("commit", FIXES)
def test_the_parent_is_refuted_and_the_fix_is_not(commit: str, arch: Arch) -> None:
    flag, on_arm, on_x86 = FIXES[commit]
    before = judged(f"{commit}^", arch, flag)
    callers = {one.caller for one in before if one.departures}
    wanted = on_arm if arch is Arch.ARM64 else on_x86
    assert callers >= set(wanted) and bool(callers) == bool(wanted)
    for departure in (d for one in before for d in one.departures):
        assert departure.instruction and ":" in departure.line
        assert any("it is not there yet" in line for line in departure.trace)
    after = judged(commit, arch, flag)
    assert {one.verdict for one in before if not one.departures} <= {"as modelled"}
    assert {one.verdict for one in after} == {"as modelled"}


@pytest.mark.parametrize("arch", list(Arch))
@pytest.mark.parametrize("ref", ["RELEASE-4.17.0", "RELEASE-4.20.0", "master"])
def test_later_ones_keep_every_order(ref: str, arch: Arch) -> None:
    for flag in ("valid_evtchns", "control_block", "num_evtchns", "evtchn_port_ops"):
        ones = judged(ref, arch, flag)
        assert {one.verdict for one in ones} == {"as modelled"}
