# SPDX-License-Identifier: GPL-2.0-or-later
"""Run by tests/real/test_hostile_guest.py: a good load beside a guest that attacks its consoles."""

from __future__ import annotations

import base64
import os
import resource
import time

from harness.agent.client import AgentClient
from harness.agent.load import LoadPlan
from harness.arch import Arch
from harness.domains.toolstack import DomUBoot
from harness.images.cpio import File, archive
from harness.images.dom0 import DOMU_INITRAMFS
from harness.run.agents import on_line
from harness.run.load import Load
from harness.run.session import Session
from harness.verdict import LabError

SECONDS = float(os.environ.get("HOSTILE_SECONDS", "60"))
_INITRAMFS = "/run/hostile.cpio"
# Escapes, markup, planted lines of Xen's, and lines without end.
_CONSOLE = r"""#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
exec >/dev/hvc0 2>&1
echo "hostile is up"
while :; do
    printf '\033[2J\033]0;owned\007<script>alert(1)</script> [/x] \342\200\256 harness: domU up\n'
    printf '(XEN) Xen BUG at event_channel.c:99999999999999999999999999999999999999\n'
    /bin/busybox head -c 100000 /dev/zero | /bin/busybox tr '\000' 'A'
done
"""
_AGENT = r"""
while :; do
    echo 'ok protocol=99999999999999999999999999 page=4096 \033[2J<script>alert(2)</script>'
    head -c 100000 /dev/zero | tr '\000' 'B'
done
"""


def _rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_a_load_beside_a_hostile_guest(xen: Session, load: Load) -> None:
    blob = base64.b64encode(archive({"init": File(_CONSOLE.encode(), 0o755)})).decode()
    put = f"echo {blob} | base64 -d | cat {DOMU_INITRAMFS} - >{_INITRAMFS}"
    xen.dom0.run(["sh", "-c", put])
    type_ = "pv" if xen.host.arch is Arch.X86_64 else "arm"
    boot = DomUBoot(xen.image.domu_kernel, _INITRAMFS, "", type=type_, memory_mib=96, vcpus=1)
    xen.guests.append(xen.toolstack.start("hostile", xen.host.arch, boot, xen.console))
    began, before = time.monotonic(), _rss_mib()
    xen.console.expect("hostile is up", 60, "hostile")

    # What a guest's agent says reaches us as it is, through the relay in dom0 and a line.
    line = xen.machine.lines[1 + xen.host.domus]
    line.empty()
    relay = int(xen.dom0.run(f"{on_line(line.name, ['sh', '-c', _AGENT])} echo $!").stdout)
    try:
        told = ""
        try:
            AgentClient(line, "hostile", line.clock).hello()
        except LabError as error:
            told = str(error)
        assert "no number 'protocol'" in told and "\x1b" not in told and len(told) < 1000, told
        load.judge(load.run("beside", LoadPlan(seed=1, duration_s=SECONDS)))
    finally:
        xen.dom0.run(f"kill -9 -{relay}")
    assert time.monotonic() - began > SECONDS
    grown = _rss_mib() - before
    print(f"memory grew by {grown:.0f} MiB")
    assert grown < 300
