# SPDX-License-Identifier: GPL-2.0-or-later
"""Keep a machine that has come up in the cache; the next run of the same build goes on from it.

What is kept is a machine under QEMU with dom0, its domUs and agents waiting, before the first test.
In dom0 guests/dom0/new-run waits as well, at the machine's spare line: the run that goes on from
there gives it keys of its own and the time.  The port of dom0's sshd, and every path, are of that
run anyway.
"""

from __future__ import annotations

import base64
import functools
import os
import platform
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import cache
from harness.config.host import QemuHost
from harness.data import GUESTS, IMAGES
from harness.domains.dom0 import Dom0
from harness.domains.keys import RunKeys
from harness.domains.toolstack import DomU, Toolstack
from harness.hypervisor.build import Build
from harness.machine import Machine, kept
from harness.machine.accel import Choice as Accel
from harness.machine.console import Console
from harness.machine.kept import Kept
from harness.machine.line import Line
from harness.machine.qemu_xml import Boot
from harness.run import agents, leak_check
from harness.run.came_up import CameUp
from harness.verdict import LabError

if TYPE_CHECKING:
    from harness.run.session import Session

_NEW_RUN = f"{agents.PAYLOAD}/new-run"
_READY = b"ready\n"
_READY_SECONDS = 30.0
_SPARE_MIB = 1024  # of disk space, that must be left when the machine has been kept
_HARNESS = Path(__file__).parents[1]
# Rooms whose code decides what a machine is and what runs in it.
_ROOMS = ("agent", "domains", "images", "machine", "run")
_CPU = ("vendor_id", "model name", "microcode", "flags", "CPU implementer", "CPU part", "Features")


class NotRestored(Exception):
    """The machine did not go on from the snapshot: it has to boot."""


@dataclass(frozen=True)
class Facts:
    """What is known of a machine when it is kept."""

    when: str  # ISO 8601, UTC
    operations: dict[str, int]  # by domain: see harness.run.agents.operations
    domus: dict[str, tuple[int, str]]  # by name: number of the domain, type
    before: leak_check.State  # of dom0, before the domUs were started

    def to_json(self) -> dict[str, Any]:
        """Return JSON values from which ``of`` makes the same facts."""
        return {
            "when": self.when,
            "operations": self.operations,
            "domus": {name: list(about) for name, about in self.domus.items()},
            "before": {what: dict(there) for what, there in self.before.items()},
        }

    @classmethod
    def of(cls, machine: Kept) -> Facts:
        """Return the facts of a kept machine; LabError if they cannot be read."""
        said = machine.facts
        try:
            return cls(
                when=str(said["when"]),
                operations={str(name): int(made) for name, made in said["operations"].items()},
                domus={
                    str(name): (int(domid), str(type_))
                    for name, (domid, type_) in said["domus"].items()
                },
                before={str(what): Counter(there) for what, there in said["before"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise LabError(
                "the snapshot's description is damaged", where=str(machine.folder)
            ) from error


def key(built: Build, known: CameUp, bare: Path, host: QemuHost, boot: Boot, accel: Accel) -> str:
    """Return the name in the cache of a machine: the digest of everything that decides what it is,
    and of the computer on which it runs."""
    return cache.key(
        known.key,
        [built.digest, built.build_id, host.name, accel.accel, boot.xen_args, boot.dom0_args],
        [str(path) for path in (boot.xen, boot.kernel, boot.root)],
        bare.read_bytes(),
        _harness(),
        _computer(),
    )


def keep(live: Session, before: leak_check.State) -> None:
    """Keep the machine of ``live`` in the cache; it then goes on.  If that fails, say so.

    ``before``: what there was in dom0 before the domUs were started.
    """
    try:
        _keep(live, before)
    except LabError as error:
        live.recorder.progress.note(f"{live.host.name:12} no snapshot is kept: {error}")


def _keep(live: Session, before: leak_check.State) -> None:
    machine = live.machine
    needs = live.host.memory_mib + _SPARE_MIB if isinstance(live.host, QemuHost) else 0
    for place in (cache.root(), Path(tempfile.gettempdir())):
        if (left := shutil.disk_usage(place).free >> 20) < needs:
            raise LabError(f"{left} MiB are left, and it may need {needs} MiB", where=str(place))
    facts = Facts(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        operations=agents.operations(live.agents),
        domus={domu.name: (domu.domid, domu.type) for domu in live.domus},
        before=before,
    )
    line = machine.lines[-1]
    live.dom0.run(agents.on_line(line.name, [_NEW_RUN]))
    try:
        kept.keep(machine.entry, facts.to_json(), machine.keep)
    finally:
        line.write(b"saved\n")
        live.dom0.run("true")  # it has heard nothing of us while the machine stood still


def log_in(machine: Machine, keys: RunKeys) -> Dom0:
    """Give a restored machine the ``keys`` of this run and the time, and log in.

    LabError if it does not answer.
    """
    line = machine.lines[-1]
    told = {
        "host_key": base64.b64encode(keys.host_private.encode()).decode(),
        "authorized_keys": base64.b64encode(keys.user_public.encode()).decode(),
        "now": str(int(time.time())),
        "restored": "",
    }
    line.write("".join(f"{word} {rest}\n" for word, rest in told.items()).encode())
    _await_ready(line)
    return Dom0.connect(
        machine.ssh, keys, timeout=_READY_SECONDS, check=machine.check, clock=machine.clock
    )


def domus(found: Facts, tools: Toolstack, console: Console) -> list[DomU]:
    """Return the domUs of a restored machine; LabError unless they are those that were kept."""
    there = tools.domains()
    if there != sorted(found.domus):
        raise LabError(f"the domUs are {there}, and were {sorted(found.domus)}")
    domains = [tools.running(name, type_, console) for name, (_, type_) in found.domus.items()]
    for domu in domains:
        if domu.domid != found.domus[domu.name][0] or domu.state() not in ("running", "blocked"):
            raise LabError(f"it is domain {domu.domid}, and {domu.state()}", where=domu.name)
    return domains


def same(found: Facts, operations: dict[str, int]) -> None:
    """LabError unless the agents have made as many operations as when the machine was kept.

    So it is that machine, and it is alive.
    """
    if operations != found.operations:
        raise LabError(f"the agents have made {operations}, and had made {found.operations}")


def _await_ready(line: Line) -> None:
    said = b""
    while not said.endswith(_READY):
        try:
            more = line.read(64, _READY_SECONDS)
        except TimeoutError as error:
            raise LabError(f"dom0 takes no new keys: {error}", where=line.name) from error
        if not more:
            raise LabError("dom0 takes no new keys: the line has ended", where=line.name)
        said += more


@functools.cache
def _harness() -> str:
    """Return the digest of our own code and files that decide what a machine is."""
    code = [path for room in _ROOMS for path in (_HARNESS / room).rglob("*.py")]
    other = [path for path in (IMAGES / "libvirt").iterdir() if path.is_file()]
    scripts = [path for path in GUESTS.rglob("*") if path.is_file()]
    return cache.key(
        cache.digest_files(code, base=_HARNESS),
        cache.digest_files(other, base=IMAGES),
        cache.digest_files(scripts, base=GUESTS),
    )


def _computer() -> list[str]:
    """Return what a machine's CPU may depend on: this computer's CPU, microcode and kernel.

    CameUp's key has the computer's name and its QEMU.
    """
    seen = dict[str, str]()
    for row in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = (part.strip() for part in row.partition(":"))
        if name in _CPU:
            seen.setdefault(name, value)
    return [platform.release(), str(os.cpu_count()), *sorted(seen.values())]
