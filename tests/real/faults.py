# SPDX-License-Identifier: GPL-2.0-or-later
"""Test cases that break the machine under load; test_faults.py runs them and reads the verdicts.

Not collected with our own tests: they need a host (``evtchn-harness run tests/real/faults.py``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from elftools.elf.elffile import ELFFile

from harness.agent.load import LoadPlan
from harness.arch import Arch
from harness.hypervisor.symbols import symbols
from harness.run.load import Load
from harness.run.session import Session
from harness.verdict import HarnessError

AFTER = 3.0  # seconds of load before the fault
# Machine code that resets the machine and tells nobody: PSCI's SYSTEM_RESET, the keyboard
# controller's reset line.
_RESET = {
    Arch.ARM64: struct.pack("<3I", 0x52800120, 0x72B08000, 0xD4000003),  # 0x84000009 in w0; smc #0
    Arch.X86_64: bytes.fromhex("b0fee664ebfe"),  # mov $0xfe,%al; out %al,$0x64; jmp .
}
STRUCK = "EVTCHN_TEST_STRUCK"  # names the file that gets the instant of the fault


def load_with_fault(load: Load, fault: Callable[[], object]) -> None:
    def strike() -> None:
        Path(os.environ[STRUCK]).write_text(datetime.now(UTC).isoformat())
        with contextlib.suppress(HarnessError, OSError):  # the connection may be what breaks
            fault()

    timer = threading.Timer(AFTER, strike)
    timer.start()
    try:
        load.judge(load.run(plan=LoadPlan(seed=5, duration_s=40)))
    finally:
        timer.cancel()


def test_qemu_is_killed(load: Load, xen: Session) -> None:
    load_with_fault(load, lambda: os.kill(xen.machine.pid(), signal.SIGKILL))


def test_dom0_panics(load: Load, xen: Session) -> None:
    load_with_fault(load, lambda: xen.dom0.run("echo c >/proc/sysrq-trigger", timeout=2))


def test_domu_is_destroyed(load: Load, xen: Session) -> None:
    load_with_fault(load, lambda: xen.dom0.run("xl destroy domu1"))


def test_network_of_dom0_is_cut(load: Load, xen: Session) -> None:
    load_with_fault(load, lambda: xen.dom0.run("ip link set eth0 down", timeout=2))


def test_xen_resets_the_machine(load: Load, xen: Session) -> None:
    def strike() -> None:
        at = symbols(xen.build.syms)["do_event_channel_op"].address
        with xen.machine.halted(_sign(xen)) as halted:
            halted.write(at, _RESET[xen.host.arch])

    load_with_fault(load, strike)


def test_dom0_reboots_the_machine(load: Load, xen: Session) -> None:
    load_with_fault(load, lambda: xen.dom0.run("xl debug-keys R", timeout=2))


def _sign(xen: Session) -> tuple[int, bytes]:
    """Return an address of constant data in Xen, and what is there."""
    with xen.build.syms.open("rb") as file:
        elf = ELFFile(file)
        note = elf.get_section_by_name(".note.gnu.build-id")
        return note["sh_addr"], note.data()
