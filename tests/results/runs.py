# SPDX-License-Identifier: GPL-2.0-or-later
"""Run directories written the way a run writes them: through the journal, to its end or not."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from harness.config.host import BUILT_IN
from harness.evidence import Hang, LockFault, Spin
from harness.results.directory import RunDirectory, create
from harness.results.journal import Journal
from harness.results.manifest import Ingredient, write_manifest
from harness.results.records import (
    ConsoleEvent,
    Domain,
    HostEnd,
    HostStart,
    Latency,
    Leak,
    LockCode,
    Phase,
    RunEnd,
    RunStart,
    Sample,
    Test,
    Witness,
)
from harness.results.seal import KEYS, seal
from harness.verdict import Verdict

HOSTS = ("qemu-x86_64", "qemu-arm64")
ARGV = ("/somewhere/evtchn-harness", "run", "--flavour", "counter", "--out", "x", "--seed=7")
BUILD_ID = "7d3f0e54a1c09b6f2a8f52d0c1b7e9a443215566"
PANIC = "(XEN) Panic on CPU 1: FATAL TRAP: vector = 14 (page fault)"
STORY = """\
0.000000 s  dom0    cpu 0  alloc_unbound(remote dom0)        -> port 12
0.000431 s  dom0    cpu 0  close(port 12)                    -> 0
0.000655 s  dom0    cpu 0  SCHEDOP_poll(port 12)             -> -EINVAL, as it should
0.000871 s  dom0    cpu 1  alloc_unbound(remote dom0)        -> never returned
10.00000 s  Xen     cpu 1  still inside evtchn_alloc_unbound: <spins> & holds event_lock
A poll of a free port must release what it took: the next writer of port 12 waits for ever."""

EVIDENCE = Hang(
    cpus=(
        Spin(
            cpu=1,
            function="evtchn_write_lock",
            where="evtchn_write_lock+0x1a/0x30",
            port=12,
            word=8193,
            writers=1,
            readers=1,
            fault=LockFault.LEAKED_READER,
        ),
    )
)

_SECONDS = {
    "build": 31.4,
    "images": 4.2,
    "boot": 17.8,
    "domains": 8.3,
    "agents": 1.9,
    "load": 20.0,
    "check": 2.4,
    "teardown": 3.1,
}
_POWER_ON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


LOCK_CODE = LockCode(
    "qemu-arm64",
    "refuted",
    "counter",
    "arm",
    4,
    1.0,
    2.9,
    "evtchn_write_lock at 0x2078d0 <ldrb>",
    (Witness("evtchn_write_lock at 0x2078d0 <ldrb>", ("0x2078a8 ldxr", "0x2078d0 ldrb")),),
)


def good(path: Path) -> RunDirectory:
    """A run on two hosts that passed."""
    directory = create(path)
    _manifest(directory)
    with Journal(directory.journal) as journal:
        journal.append(RunStart(7, ARGV, "0.1.0", HOSTS))
        for host in HOSTS:
            _host(journal, host, list(_SECONDS))
            for name in ("dom0-domu", "domu-domu", "loopback", "rebind-under-load"):
                journal.append(Test(host, name, Verdict.PASS, 20.0))
            journal.append(Test(host, "bind-virq", Verdict.SKIP, 0.0, "no VIRQ to spare"))
            journal.append(Test(host, "latency", Verdict.DONE, 20.0))
            journal.append(HostEnd(host, Verdict.PASS, 48211))
            _consoles(directory, host)
        journal.append(RunEnd(Verdict.PASS, 93.2))
    return directory


def failing(path: Path) -> RunDirectory:
    """A run whose first host broke the rules, hung and leaked, and whose second passed."""
    directory = create(path)
    _manifest(directory)
    bad, other = HOSTS
    witness = directory.history(bad) / "witness-1.html"
    witness.parent.mkdir(parents=True)
    witness.write_text("<p>witness</p>")
    with Journal(directory.journal) as journal:
        journal.append(RunStart(7, ARGV, "0.1.0", HOSTS))
        _host(journal, bad, list(_SECONDS))
        link = str(witness.relative_to(directory.path))
        message = "poll-leak: alloc_unbound never returned after a poll of free port 12"
        artifacts = (link, "history/gone.parquet")
        test = Test(
            bad, "poll-of-free-port", Verdict.FAIL, 10.4, message, STORY, artifacts, EVIDENCE
        )
        journal.append(test)
        journal.append(Test(bad, "loopback", Verdict.PASS, 20.0))
        journal.append(Test(bad, "domu-domu", Verdict.MISS, 3.0, "domu2's agent was cut off"))
        at = _POWER_ON + timedelta(seconds=3.1)
        journal.append(ConsoleEvent(bad, "xen", at, "xen-panic", PANIC))
        journal.append(LOCK_CODE)
        journal.append(Leak(bad, "event channels of dom0", "31", "32: port 12"))
        journal.append(Leak(bad, "xenstore /local/domain/2", "absent", "<still> & there"))
        journal.append(HostEnd(bad, Verdict.FAIL, 20317, message))
        _consoles(directory, bad)
        _host(journal, other, list(_SECONDS))
        journal.append(Test(other, "loopback", Verdict.PASS, 20.0))
        journal.append(HostEnd(other, Verdict.PASS, 31000))
        _consoles(directory, other)
        journal.append(RunEnd(Verdict.FAIL, 101.7))
    return directory


def interrupted(path: Path) -> RunDirectory:
    """A run that was killed in the middle of a write while the first host was under load."""
    directory = create(path)
    with Journal(directory.journal) as journal:
        journal.append(RunStart(7, ARGV, "0.1.0", HOSTS))
        _host(journal, HOSTS[0], list(_SECONDS)[:5])
        journal.append(Test(HOSTS[0], "loopback", Verdict.PASS, 6.0))
        _consoles(directory, HOSTS[0])
    with directory.journal.open("ab") as torn:
        torn.write(b'{"time": "2026-11-22T12:00:20Z", "kind": "sam')
    return directory


def forge(journal: Path, change: Callable[[str], str]) -> None:
    """Change the text of a finished journal as an attacker does: with seals that are right."""
    lines = [json.loads(line) for line in change(journal.read_text()).splitlines()]
    bare = [{key: line[key] for key in line if key not in KEYS} for line in lines]
    journal.write_bytes(b"".join(seal(line, number) for number, line in enumerate(bare, 1)))


def _host(journal: Journal, host: str, phases: list[str]) -> None:
    arch = BUILT_IN[host].arch.value
    noise = random.Random(host)
    reason = "no svm or vmx in /proc/cpuinfo: KVM could not run Xen"
    source = "Debian xen 4.17.5+72-g01140da4e8-1"
    start = HostStart(host, arch, "tcg", reason, "counter", BUILD_ID, "4.17.6-pre", source)
    journal.append(start)
    for name in phases:
        journal.append(Phase(host, name, _SECONDS[name] * noise.uniform(0.7, 1.3)))
    types = ("dom0", "pv", "pv") if arch == "x86_64" else ("dom0", "arm", "arm")
    for name, type_, operations in zip(
        ("dom0", "domu1", "domu2"), types, (24117, 12010, 12084), strict=True
    ):
        journal.append(Domain(host, name, type_, operations))
        if "load" in phases:
            for op, scale in (("send", 27), ("alloc_unbound", 44), ("close", 39), ("recv", 300)):
                p50 = scale * noise.uniform(0.9, 1.6)
                p90, p99, worst = p50 * 1.7, p50 * 6, p50 * noise.uniform(20, 900)
                journal.append(Latency(host, op, name, operations // 4, p50, p90, p99, worst))
    for second in range(21 if "load" in phases else 0):
        rate = 2400 + 300 * math.sin(second / 3) + noise.uniform(-120, 120)
        journal.append(Sample(host, float(second), rate))


def _consoles(directory: RunDirectory, host: str) -> None:
    folder = directory.console(host)
    folder.mkdir(parents=True)
    noise = random.Random(host)
    for stream in ("xen", "dom0", "domu1", "domu2"):
        now = _POWER_ON
        lines = []
        for number in range(90):
            now += timedelta(seconds=noise.uniform(0.01, 0.09))
            prefix = "(XEN) " if stream == "xen" else f"[{number * 0.05:12.6f}] "
            lines.append(f"{now.isoformat()} {prefix}\x1b[0;1mline {number} <of> {stream}\x1b[m")
        if stream == "xen":
            at = _POWER_ON + timedelta(seconds=3.1)
            lines[60] = f"{at.isoformat()} {PANIC}"
        (folder / f"{stream}.log").write_text("\n".join(lines) + "\n")


def _manifest(directory: RunDirectory) -> None:
    write_manifest(
        directory,
        seed=7,
        argv=ARGV,
        hosts=[BUILT_IN[name] for name in HOSTS],
        ingredients=[
            Ingredient("source", "xen", "4.17.5+72-g01140da4e8-1", "sha256:" + "ab" * 32),
            Ingredient("build", "xen x86_64 counter", BUILD_ID, "sha256:" + "cd" * 32),
            Ingredient("package", "libvirt-daemon", "9.0.0-4"),
        ],
    )
