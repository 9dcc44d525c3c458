# SPDX-License-Identifier: GPL-2.0-or-later
"""Xens whose toolstack no distribution has: dom0's is built from their tree, or proved to fit."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.real.conftest import Ran, from_apt, harness, repository

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]


def run(host: str, tmp_path: Path, *words: str, flavour: str = "rwlock") -> Ran:
    """Run the suite on ``host``."""
    out = str(tmp_path / "out")
    options = ("--flavour", flavour, "--duration", "2", "--out", out, "--json")
    return harness("run", "--host", host, *words, *options, timeout=3000)


def changed(release: str, folder: Path, header: str, pattern: str, text: str) -> Path:
    """Return a copy of the distribution's ``release`` with one of its public headers changed."""
    tree = folder / "xen"
    shutil.copytree(from_apt(release).tree, tree, symlinks=True)
    path = tree / "xen/include/public" / header
    path.chmod(0o644)
    after, count = re.subn(pattern, text, path.read_text(), flags=re.MULTILINE)
    assert count == 1
    path.write_text(after)
    return tree


@pytest.mark.parametrize("release", ["4.17", "4.14"])
def test_a_xen_with_a_layout_of_its_own_gets_its_own_toolstack(
    release: str, tmp_path: Path
) -> None:
    # Every field of what libxl asks first is elsewhere: a toolstack of other headers reads rubbish.
    line = r"^struct xen_sysctl_physinfo {$"
    tree = changed(release, tmp_path, "sysctl.h", line, r"\g<0>\n    uint64_aligned_t moved;")
    ran = run("qemu-arm64", tmp_path, "--xen-src", str(tree))
    assert ran.code == 0, ran.stderr
    (host,) = ran.document["hosts"]
    assert host["toolstack"] == "built"
    assert [domain["type"] for domain in host["domains"]] == ["dom0", "arm", "arm"]


def test_a_xen_with_another_number_only_is_served_by_what_is_there(tmp_path: Path) -> None:
    line = r"^(#define XEN_DOMCTL_INTERFACE_VERSION) .*$"
    tree = changed("4.17", tmp_path, "domctl.h", line, r"\1 0x0000007f")
    ran = run("qemu-x86_64", tmp_path, "--xen-src", str(tree))
    assert ran.code == 0, ran.stderr
    (host,) = ran.document["hosts"]
    assert host["toolstack"] == "equal-to"
    assert "constants are the same here" in host["toolstack_reason"]
    assert [domain["type"] for domain in host["domains"]] == ["dom0", "pv", "pv"]


def test_upstreams_newest(tmp_path: Path) -> None:
    upstream = repository()
    ran = run("qemu-arm64", tmp_path, "--xen-git", upstream, "--xen-ref", "master")
    assert ran.code == 0, ran.stderr
    (host,) = ran.document["hosts"]
    assert host["toolstack"] in ("built", "equal-to")
    assert len(host["domains"]) == 3


# As the trees have it: 4.15 is the first release with the rework.
SPINLOCK = ("RELEASE-4.12.0", "RELEASE-4.13.0", "RELEASE-4.14.0")


# `make upstream`: every release of upstream that has a toolstack, and its newest commit.
@pytest.mark.upstream
@pytest.mark.parametrize("host", ["qemu-arm64", "qemu-x86_64"])
@pytest.mark.parametrize("ref", [*(f"RELEASE-4.{n}.0" for n in range(12, 23)), "master"])
def test_upstream(ref: str, host: str, tmp_path: Path) -> None:
    flavour = "spinlock" if ref in SPINLOCK else "rwlock"
    ran = run(host, tmp_path, "--xen-git", repository(), "--xen-ref", ref, flavour=flavour)
    assert ran.code == 0, ran.stderr
    (told,) = ran.document["hosts"]
    assert told["toolstack"] in ("built", "equal-to")
    assert len(told["domains"]) == 3
