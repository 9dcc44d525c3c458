# SPDX-License-Identifier: GPL-2.0-or-later
"""Turn a mutant on in the Xen that runs, and read which ones it has come by."""

from __future__ import annotations

from harness.corpus.mutants.schema import MET_AT, ON_AT, SIGN, VARIABLE
from harness.hypervisor.symbols import symbols
from harness.run.session import Session


def turn_on(live: Session, number: int) -> None:
    """Turn mutant ``number`` on in the Xen of ``live``; LabError if that fails.

    0: none; WATCH: none either, but Xen notes which ones it comes by.
    """
    address = _address(live)
    with live.machine.halted(_sign(address)) as xen:
        xen.write(address + ON_AT, number.to_bytes(4, "little"))


def met(live: Session, count: int) -> frozenset[int]:
    """Return which of ``count`` mutants Xen has come by since it was asked for the last time."""
    address = _address(live) + MET_AT
    with live.machine.halted(_sign(_address(live))) as xen:
        seen = xen.read(address, count + 1)
        xen.write(address, bytes(count + 1))
    return frozenset(number for number, by in enumerate(seen) if by)


def _address(live: Session) -> int:
    return symbols(live.build.syms)[VARIABLE].address


def _sign(address: int) -> tuple[int, bytes]:
    return address, SIGN.to_bytes(4, "little")
