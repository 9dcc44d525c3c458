# SPDX-License-Identifier: GPL-2.0-or-later
"""Reserve a host, make its machine, and switch it off at the end.

Only this file distinguishes the kinds of hosts: machines under QEMU, and servers.
"""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from harness.arch import Arch
from harness.config.host import QemuHost
from harness.config.physical import Host, PhysicalHost
from harness.domains.keys import RunKeys
from harness.hypervisor.build import Build
from harness.hypervisor.rules import find_rules
from harness.images import cpio
from harness.images.dom0 import (
    LINUX_ARGUMENTS,
    ONE_CPU_ARGUMENTS,
    XEN_ARGUMENTS,
    Dom0Image,
    domu_initramfs,
    write_initramfs,
)
from harness.images.server import server_root
from harness.machine import Machine, accel, kept, qemu_user
from harness.machine.console import Console
from harness.machine.cpu_slots import slot
from harness.machine.lease import Held, lease
from harness.machine.physical import PhysicalMachine, ServerBoot
from harness.machine.power.labgrid import places
from harness.machine.qemu import QemuMachine
from harness.machine.qemu_xml import Boot
from harness.results import records
from harness.run.lines import Lines
from harness.run.plan import Plan
from harness.run.recorder import Recorder
from harness.scratch import scratch
from harness.toolstack.choice import Choice
from harness.verdict import HarnessError, HypervisorError, LabError, Verdict

_TRIAL_SECONDS = 45.0

# After a panic the machine must stay so that we can examine it.  On x86-64 Xen stops with
# ``noreboot``.  On Arm Xen would switch it off with ``noreboot``; without it Xen waits for five
# seconds before it reboots, and Session freezes the machine in this time.
# On x86 under TCG, loadvm sets back every clock except the TSC.  So Xen's time continues evenly
# only if Xen uses no other clock.  (On Arm the counter is set back.)
_QEMU_ARGS = {
    Arch.X86_64: "console=com1 com1=115200,8n1 spec-ctrl=no noreboot "
    "clocksource=tsc tsc=stable:socket",
    Arch.ARM64: "console=dtuart dtuart=/pl011@9000000",
}
_SERVER_CONSOLE = {Arch.X86_64: "console=com1 com1=115200,8n1", Arch.ARM64: "console=dtuart"}
_SERVER_ARGS = {Arch.X86_64: "noreboot", Arch.ARM64: ""}
_VLANS = "8021q"  # a server's network may be one; that is known when its image is made already
# guest_loglvl: else a debug build logs every EVTCHNOP that fails, on a slow serial line.
# One run queue per CPU: else two emulated CPUs contend for the lock of a shared one all the time.
_XEN_COMMON = (
    f"{XEN_ARGUMENTS} credit2_runqueue=cpu loglvl=all guest_loglvl=error "
    "dom0_mem={mib}M,max:{mib}M"
)
DOM0_VCPUS = 2  # where vCPUs are not pinned
_DOM0_VCPUS = f"dom0_max_vcpus={DOM0_VCPUS}"
# For a debugger, every vCPU is pinned to a CPU of its own; dom0's vCPUs have the first CPUs.
_PINNED = "dom0_max_vcpus={cpus} dom0_vcpus_pin"
# After a restore, time has jumped for Linux: it must not take that for a stall.
_RESTORED = "rcupdate.rcu_cpu_stall_suppress=1"
_LINUX_ARGS = f"console=hvc0 loglevel=5 panic=0 {LINUX_ARGUMENTS}"


@dataclass(frozen=True)
class Parts:
    """Everything that is needed to make the machine of one run."""

    plan: Plan
    folder: Path  # scratch
    built: Build
    toolstack: Choice
    image: Dom0Image
    agent: Path
    bare: Path
    keys: RunKeys


@contextmanager
def reserve(host: Host, notice: Callable[[str], None]) -> Iterator[Held | None]:
    """Wait until ``host`` is free and hold it in the block: a CPU slot (QEMU), a lease (server).

    Yields the lease.  If it gets lost, whatever the block raises becomes LeaseLost: what was seen
    may be the doing of the run that has the server now.
    """
    if isinstance(host, QemuHost):
        with slot(host.cpus, notice):
            yield None
        return
    with (
        lease(host.name, notice, wait=host.limits.wait) as held,
        places(host.power, held.check),
    ):
        try:
            yield held
        except HarnessError:
            held.check()
            raise


@contextmanager
def machine(
    host: Host,
    parts: Parts,
    recorder: Recorder,
    console: Console,
    held: Held | None,
    name: Callable[[QemuHost, Boot, accel.Choice], str],
) -> Iterator[Machine]:
    """Yield the machine of ``host``, not yet started; power it off after the block.

    ``held`` is what ``reserve`` yielded.  ``name`` gives a machine's name in the cache, where the
    plan wants that machines are kept there.
    """
    if isinstance(host, QemuHost):
        boot = _qemu_boot(host, parts)
        counted = None
        if parts.plan.lines:
            recorder.progress.update("looking up which lines its instructions belong to")
            counted = Lines(parts.built, parts.plan.hypervisor, host, parts.folder)
        wanted = "tcg" if counted else host.accel
        choice = accel.choose(wanted, host.arch, lambda: _trial(host, boot))
        entry = name(host, boot, choice) if parts.plan.keep else ""
        found = kept.find(entry) if entry else None
        since = str(found.facts.get("when", "")) if found else ""
        recorder.add(replace(_host_start(host, parts, choice), restored=since))
        recorder.progress.note(f"{host.name}: {choice.accel.upper()} ({choice.reason})")
        if os.geteuid() == 0:
            recorder.progress.note(f"{host.name}: QEMU runs {qemu_user.user()}")
        emulated = QemuMachine(
            host,
            boot,
            choice,
            folder=parts.folder,
            console=console,
            stub=parts.plan.stub,
            entry=entry,
            kept=found,
            plugin=counted.arguments if counted else (),
        )
        try:
            yield emulated
        finally:
            emulated.power_off()
            if counted is not None:
                _save(counted, recorder)
        return
    recorder.add(_host_start(host, parts, accel.Choice("none", "a physical server")))
    assert held is not None
    server_boot = _server_boot(host, parts, recorder.progress.update)
    server = PhysicalMachine(
        host, server_boot, held=held, console=console, notice=recorder.progress.note
    )
    try:
        yield server
    finally:
        with recorder.phase(host.name, "restore-default-os"):
            server.power_off()
        if server.left:
            verdict = Verdict.MISS if server.stranded else Verdict.PASS
            recorder.add(
                records.Test(host.name, "back-in-the-default-system", verdict, 0.0, server.stranded)
            )


def _save(counted: Lines, recorder: Recorder) -> None:
    """Write down which lines ran.  If that cannot be done, say so: no verdict depends on it."""
    try:
        counted.save(recorder.directory)
    except (HarnessError, OSError) as error:
        recorder.progress.note(f"which lines ran is not known: {error}")


def linux_args(host: Host, *, snapshot: bool, domu: int = 0) -> str:
    """Return the kernel arguments of domU number ``domu``, from 1; 0 is dom0."""
    in_2l = host.abi == "2l" or (host.abi == "both" and domu > 0 and domu % 2 == 0)
    abi = "xen.fifo_events=0" if in_2l else ""
    restored = _RESTORED if snapshot else ""
    return " ".join(filter(None, (_LINUX_ARGS, ONE_CPU_ARGUMENTS[host.arch], abi, restored)))


def first_cpu(host: Host, number: int) -> int:
    """Return the CPU to which vCPU 0 of domU ``number`` (from 1) is pinned, if vCPUs are pinned.

    The vCPUs of the domUs have the last CPUs, those of dom0 the CPUs before them.
    """
    if not isinstance(host, QemuHost):
        return 0
    return host.cpus - (host.domus - number + 1) * host.domu_vcpus


def _payload(parts: Parts) -> dict[str, cpio.File]:
    own = parts.toolstack.files
    return {
        **{f"toolstack/{name}": cpio.File(path, 0o755) for name, path in own.items()},
        "host_key": cpio.File(parts.keys.host_private.encode(), 0o600),
        "authorized_keys": cpio.File(parts.keys.user_public.encode(), 0o600),
        "agent": cpio.File(parts.agent, 0o755),
        "bare": cpio.File(parts.bare),
        "domu.cpio": cpio.File(domu_initramfs(parts.image, parts.agent)),
        **({"dom0-alone": cpio.File(b"")} if parts.toolstack.why_not else {}),
    }


def _qemu_boot(host: QemuHost, parts: Parts) -> Boot:
    initramfs = parts.folder / "initramfs.cpio"
    write_initramfs(parts.image, initramfs, _payload(parts))
    common = _XEN_COMMON.format(mib=host.dom0_memory_mib)
    own = host.cpus - host.domus * host.domu_vcpus
    vcpus = _PINNED.format(cpus=own) if parts.plan.pinned else _DOM0_VCPUS
    return Boot(
        xen=parts.built.image,
        kernel=parts.image.kernel,
        initramfs=initramfs,
        root=parts.image.root,
        xen_args=f"{_QEMU_ARGS[host.arch]} {common} {vcpus}",
        dom0_args=linux_args(host, snapshot=parts.plan.snapshot),
    )


def _server_boot(host: PhysicalHost, parts: Parts, notice: Callable[[str], None]) -> ServerBoot:
    def initramfs(network: str) -> Path:
        path = parts.folder / "run.cpio"
        own = {"network": cpio.File(network.encode())}
        write_initramfs(parts.image, path, _payload(parts) | own)
        return path

    console = host.boot.xen_args or _SERVER_CONSOLE[host.arch]
    common = _XEN_COMMON.format(mib=host.dom0_memory_mib)
    return ServerBoot(
        xen=_whole(parts.built.image, parts.folder),
        kernel=parts.image.kernel,
        root=server_root(parts.image, (*host.boot.modules, _VLANS), notice=notice),
        initramfs=initramfs,
        xen_args=f"{console} {_SERVER_ARGS[host.arch]} {common} {_DOM0_VCPUS}",
        dom0_args=linux_args(host, snapshot=False),
    )


def _whole(image: Path, folder: Path) -> Path:
    """Return an uncompressed copy of Xen: GRUB would need further modules to uncompress it."""
    body = image.read_bytes()
    if not body.startswith(b"\x1f\x8b"):
        return image
    path = folder / "xen"
    path.write_bytes(gzip.decompress(body))
    return path


def _trial(host: QemuHost, boot: Boot) -> str:
    """Boot Xen under KVM until dom0's kernel prints a line; return "" or what went wrong.

    NotTried if libvirt failed, or if Xen crashed: the Xen under test may do that anywhere.
    """
    with scratch() as folder, contextlib.ExitStack() as stack:
        console = Console(folder / "console")
        choice = accel.Choice("kvm", "trial")
        machine = QemuMachine(host, boot, choice, folder=folder, console=console)
        stack.callback(machine.power_off)
        try:
            machine.power_on()
        except LabError as error:
            raise accel.NotTried(error.what) from error
        try:
            console.expect("Linux version", _TRIAL_SECONDS, check=machine.check)
        except (LabError, HypervisorError) as error:
            told = f"a trial boot under KVM failed: {error.what}"
            if isinstance(error, HypervisorError) or not machine.connected():
                raise accel.NotTried(told) from error
            return told
    return ""


def _host_start(host: Host, parts: Parts, choice: accel.Choice) -> records.HostStart:
    built = parts.built
    return records.HostStart(
        host=host.name,
        arch=host.arch,
        accel=choice.accel,
        accel_reason=choice.reason,
        flavour=built.flavour,
        build_id=built.build_id,
        xen_version=built.source.version,
        source=f"{built.source.kind} {built.source.version}",
        toolstack=parts.toolstack.how,
        toolstack_reason=parts.toolstack.reason,
        series=tuple(
            records.Patch(patch.file, patch.subject, patch.tree) for patch in built.source.series
        ),
        model=records.Model(built.model.name, built.model.how, built.model.source),
        rules=tuple(
            records.FoundRule(found.rule, found.holds, found.origin, found.told)
            for found in find_rules(built.source).findings
        ),
    )
