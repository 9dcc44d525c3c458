# SPDX-License-Identifier: GPL-2.0-or-later
"""The bare guest (guests/bare) on a booted host: started when a test first asks for it."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from harness.agent.client import AgentClient
from harness.arch import Arch
from harness.domains.toolstack import DomU, DomUBoot
from harness.machine.line import Line
from harness.machine.qemu import QemuMachine
from harness.run.agents import PAYLOAD, on_line
from harness.run.session import SHIM, Session
from harness.run.shim import SHIM_ARGS, no_shim, shim_in_dom0
from harness.verdict import HarnessError, LabError

NAME = "bare"
VCPUS = 2  # guests/bare/xen.h
_IMAGE = f"{PAYLOAD}/bare"
_MEMORY_MIB = 64
_IN_SHIM_MIB = 192  # with less, the shim has no room left for the guest's page tables
_RELAY_SECONDS = 70.0
_LONGEST_PID = 20  # bytes
# The types of guest that it can boot as; on x86-64 also inside xen-shim (harness.run.shim).
TYPES: dict[Arch, tuple[str, ...]] = {Arch.X86_64: ("pvh", "hvm", "pv"), Arch.ARM64: ("arm",)}
_NO_PAGING = "PVH and HVM guests need HAP or shadow paging, and this Xen on this CPU has neither"
_NO_RESERVED_BITS = (
    "HVM guests need shadow paging here, and that of this Xen, older than its commit 60c0444fae21, "
    "marks their devices' pages by reserved bits: faults that QEMU's TCG reports without the bit P"
)
_TELLS_PAGING = (4, 13)  # `xl info` of older ones has neither word; their default is shadow paging
_SHADOW = Path("xen/arch/x86/mm/shadow/types.h")
_LOOKS_FIRST = "sh_have_pte_rsvd_bits"  # since that commit; a hypervisor underneath is enough


def obstacles(live: Session) -> dict[str, str]:
    """Return, by type, why a guest of that type cannot run on this host.

    HVM and PVH need shadow paging, which a Xen may be built without, or HAP, which a CPU may lack.
    """
    if live.host.arch is Arch.ARM64:
        return {}
    why = no_shim(live)
    return {**_no_paging(live), **({SHIM: why} if why else {})}


def _no_paging(live: Session) -> dict[str, str]:
    """Return why guests whose memory Xen translates cannot run here."""
    found = re.search(r"^virt_caps.*", live.dom0.run("xl info").stdout, re.M)
    caps = found[0].split() if found else []
    if "hap" in caps:
        return {}
    if "shadow" not in caps and live.build.source.release >= _TELLS_PAGING:
        return dict.fromkeys(("pvh", "hvm", SHIM), _NO_PAGING)
    emulated = isinstance(live.machine, QemuMachine) and live.machine.accel.accel == "tcg"
    shadow = live.build.source.tree / _SHADOW
    if emulated and shadow.is_file() and _LOOKS_FIRST not in shadow.read_text(errors="replace"):
        return {"hvm": _NO_RESERVED_BITS}
    return {}


@dataclass(frozen=True)
class BareGuest:
    """The running guest, its agent, and the pid of the relay in dom0 between us and the agent."""

    domu: DomU
    agent: AgentClient
    relay: int


def start_bare(live: Session, type_: str) -> BareGuest:
    """Start the bare guest as a guest of ``type_`` and wait for its first answer.  From then on it
    is looked whether Xen hangs, whenever the guest is silent.

    LabError if the machine has no free line for it, or the guest does not come up.
    """
    if live.saved:
        raise LabError("a machine with snapshots cannot have a bare guest", where=live.host.name)
    domu = _in_shim(live) if type_ == SHIM else _started(live, type_, _IMAGE, _MEMORY_MIB)
    live.guests.append(domu)
    words = [f"{PAYLOAD}/agent", "relay", "--domid", str(domu.domid)]
    line, relay = _relay(live, words)
    guest = BareGuest(domu, AgentClient(line, NAME, line.clock), relay)
    try:
        guest.agent.hello()
    except HarnessError:
        end_bare(live, guest)
        raise
    live.listen(line)
    return guest


def _in_shim(live: Session) -> DomU:
    """Start a PVH guest whose kernel is the shim, and whose ramdisk the bare guest."""
    with shim_in_dom0(live) as shim:
        return _started(live, SHIM, shim, _IN_SHIM_MIB, _IMAGE, SHIM_ARGS)


def _started(
    live: Session, type_: str, kernel: str, memory_mib: int, ramdisk: str = "", cmdline: str = ""
) -> DomU:
    boot = DomUBoot(kernel, ramdisk, cmdline, type_, memory_mib, VCPUS, template="bare")
    return live.toolstack.start(NAME, live.host.arch, boot, live.console)


def _relay(live: Session, words: list[str]) -> tuple[Line, int]:
    """Start the relay in dom0; return the line to it, and its pid."""
    if live.machine.lines:
        line = live.machine.lines[1 + live.host.domus]
        line.empty()
        return line, int(live.dom0.run(f"{on_line(line.name, words)} echo $!").stdout)
    end = live.dom0.channel(["sh", "-c", f"echo $$; exec {shlex.join(words)}"])
    line = Line(end, NAME, live.machine.clock)
    live.lines.append(line)
    return line, process_of(line)


def process_of(line: Line) -> int:
    """Return the number that the program prints first, its pid; LabError if it prints none."""
    said = b""
    while not said.endswith(b"\n") and len(said) < _LONGEST_PID:
        try:
            more = line.read(1, _RELAY_SECONDS)
        except TimeoutError as error:
            raise LabError(str(error), where=line.name) from None
        if not more:
            raise LabError("the relay ended before it printed its pid", where=line.name)
        said += more
    try:
        return int(said)
    except ValueError:
        raise LabError(f"the relay printed {said[:40]!r}, not its pid", where=line.name) from None


def destroy_bare(live: Session, guest: BareGuest) -> None:
    """Destroy the domain.  It stays in the state dying while the relay maps its pages."""
    live.toolstack.expect_end(guest.domu.name)
    live.guests.remove(guest.domu)
    guest.domu.destroy()


def end_bare(live: Session, guest: BareGuest) -> None:
    """Destroy the domain, if that has not been done, and release what belongs to it."""
    if guest.domu in live.guests:
        destroy_bare(live, guest)
    live.dom0.run(["kill", str(guest.relay)])
