# SPDX-License-Identifier: GPL-2.0-or-later
"""Real hypervisors: every series fits the distribution's Xen, and what is built is the flavour."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

import pytest
from capstone import CS_OP_IMM, CsInsn

from harness import cache
from harness.arch import Arch
from harness.hypervisor import flavour, locks, source
from harness.hypervisor.build import Build, build
from harness.hypervisor.code import code
from harness.hypervisor.cpu import Cpu
from harness.hypervisor.dwarf.frames import NUMBERS
from harness.hypervisor.dwarf.inlined import copies
from harness.hypervisor.objects import Objects
from harness.hypervisor.own_lock import own_lock
from harness.hypervisor.stack import stack
from harness.hypervisor.symbols import symbols
from harness.verdict import LabError
from tests.real.conftest import from_apt, repository

pytestmark = pytest.mark.real

COUNTER = {"evtchn_write_lock", "evtchn_write_unlock", "evtchn_tryread_lock", "evtchn_read_unlock"}
SPINLOCK = {"evtchn_lock", "evtchn_trylock", "evtchn_unlock"}
_COUNTERS = ("counter", "counter-v2")
LOCKS = {"counter": COUNTER, "counter-v2": COUNTER, "spinlock": SPINLOCK}


@pytest.fixture(scope="module")
def xen() -> source.Source:
    return source.from_apt()


@pytest.mark.parametrize(
    ("release", "name"),
    [(release, name) for release in ("4.17", "4.14") for name in flavour.names([release])[1:]],
)
def test_the_series_fits(release: str, name: str, tmp_path: Path) -> None:
    """Every hunk applies without an offset: the least context cannot have gone astray."""
    xen = from_apt(release)
    found = flavour.find(name, xen)
    for folder in ("common", "include/xen", "arch/x86"):
        shutil.copytree(xen.tree / "xen" / folder, tmp_path / "xen" / folder, symlinks=True)
    for path in (tmp_path, *tmp_path.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o200)
    flavour.apply(found, tmp_path)
    assert not list(tmp_path.rglob("*.rej"))
    assert not list(tmp_path.rglob("*.orig"))  # patch leaves one where a hunk was offset
    own = own_lock(tmp_path)
    assert own is not None
    assert own.designs == (("spinlock",) if name == "spinlock" else _COUNTERS)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("arch", Arch)
@pytest.mark.parametrize("name", ["rwlock", "spinlock", "counter", "counter-v2"])
def test_the_symbol_table_shows_the_flavour(xen: source.Source, name: str, arch: Arch) -> None:
    built = build(xen, name, arch)
    table = symbols(built.syms)
    for lock, functions in (("counter", COUNTER), ("spinlock", SPINLOCK)):
        there = {function for function in functions if function in table}
        assert there == (functions if LOCKS.get(name) == LOCKS[lock] else set())
    assert _in_image(built)


# `make upstream`: where the text of the lock changed, and the newest.
@pytest.mark.upstream
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("arch", Arch)
@pytest.mark.parametrize("name", ["spinlock", "counter", "counter-v2"])
@pytest.mark.parametrize("ref", ["RELEASE-4.18.0", "RELEASE-4.20.0", "master"])
def test_upstream_builds_as_every_flavour(ref: str, name: str, arch: Arch) -> None:
    built = build(source.from_git(repository(), ref), name, arch)
    assert {function for function in LOCKS[name] if function in symbols(built.syms)} == LOCKS[name]
    assert _in_image(built)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ["counter", "counter-v2"])
def test_the_barrier_after_the_spin_is_in_the_code(xen: source.Source, name: str) -> None:
    built = build(xen, name, Arch.ARM64)
    (function,) = symbols(built.syms).named("evtchn_write_lock")
    end = function.address + function.size
    words = [
        (one.mnemonic, one.op_str)
        for one in code(built.syms, Arch.ARM64).instructions(function.address, end)
    ]
    assert (("dmb", "ishld") in words) == (name == "counter")


def _in_image(built: Build) -> bool:
    """Say whether the bootable file carries the build id of the file with the symbols."""
    return bytes.fromhex(built.build_id) in built.image.read_bytes()


@pytest.mark.timeout(600)
def test_the_build_id_does_not_depend_on_the_cache(
    xen: source.Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(xen, "counter", Arch.ARM64)
    ccache = cache.root() / "ccache"
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path))
    with contextlib.suppress(OSError):  # another file system: it takes longer, without
        shutil.copytree(ccache, tmp_path / "ccache", copy_function=os.link)
    again = build(xen, "counter", Arch.ARM64)
    assert not again.cached
    assert (again.build_id, again.digest) == (first.build_id, first.digest)
    assert again.image.read_bytes() == first.image.read_bytes()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("arch", Arch)
@pytest.mark.parametrize("name", ["rwlock", "counter"])
def test_every_loop_of_a_lock_is_known_as_that(xen: source.Source, name: str, arch: Arch) -> None:
    """Wherever a CPU may be found spinning, the lock's address is known from its registers."""
    built = build(xen, name, arch)
    numbered = {register: 1 << 40 | n << 12 for n, register in enumerate(NUMBERS[arch].names)}
    loops = 0
    for copy in copies(built.syms, SPINNING, ("event_channel.c", "rwlock.c", "spinlock.c")):
        for low, high in copy.ranges:
            for one in code(built.syms, arch).instructions(low, high):
                back = one.operands[-1].imm & (1 << 64) - 1 if branches(one) else 0
                if low - 64 <= back <= one.address:
                    loops += 1
                    cpu = Cpu(0, back, numbered)
                    seen = stack(built.syms, arch, cpu, nothing)
                    objects = Objects(built.syms, seen.read)
                    wanted = locks.operation(seen, arch, built.source, objects, [cpu])
                    assert wanted is not None, f"{one.address:#x} in {copy.caller}"
                    assert wanted.address is not None, f"{one.address:#x} in {copy.caller}"
    assert loops > 4


SPINNING = frozenset(
    {"evtchn_write_lock", "queue_write_lock_slowpath", "queue_read_lock_slowpath", "_spin_lock"}
)


def branches(instruction: CsInsn) -> bool:
    jumps = instruction.mnemonic.startswith(("j", "b.", "cb", "tb")) or instruction.mnemonic == "b"
    return bool(jumps and instruction.operands[-1].type == CS_OP_IMM)


def nothing(*_: object) -> bytes:
    raise LabError("memory cannot be read")
