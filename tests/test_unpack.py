# SPDX-License-Identifier: GPL-2.0-or-later
"""Crafted packages: whatever they ship, nothing outside the tree is written or read."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.apt.deb import unpack
from harness.apt.packages import UNPACK
from harness.apt.tree import Tree
from harness.arch import Arch
from harness.command import which
from harness.hypervisor import binary
from harness.images import dom0, kernel, rootfs
from harness.images.packagelist import PackageList
from harness.verdict import LabError
from tests import crafted

ALL = PackageList((), (), ())
Members = Sequence[tuple[tarfile.TarInfo, bytes]]


class Host:
    """A computer with one secret and one file that is to stay as it is, and a tree to unpack in."""

    def __init__(self, folder: Path) -> None:
        self.outside = folder / "outside"
        self.outside.mkdir()
        self.secret = self.outside / "secret"
        self.secret.write_text("secret")
        self.tree = folder / "tree"
        self.tree.mkdir()
        rootfs.unpack([], ALL, self.tree)  # with the links of a merged /usr
        self.packages = folder / "packages"
        self.packages.mkdir()

    def unpack(self, *packages: Members) -> None:
        for number, members in enumerate(packages):
            unpack(crafted.deb(self.packages / f"p{number}.deb", members), Tree(self.tree))

    def is_untouched(self) -> bool:
        names = [path.name for path in self.outside.iterdir()]
        return names == ["secret"] and self.secret.read_text() == "secret"

    def read(self) -> list[bytes]:
        """Return the content of all files in the tree."""
        paths = [Path(folder, name) for folder, _, names in os.walk(self.tree) for name in names]
        return [path.read_bytes() for path in paths if path.is_file() and not path.is_symlink()]


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_file_is_not_written_through_an_absolute_link_that_was_shipped(host: Host) -> None:
    host.unpack([crafted.link("./etc", str(host.outside)), crafted.file("./etc/passwd")])
    assert host.is_untouched()
    assert host.read() == [b"evil"], "it is below the tree, where the link leads in dom0"
    assert (host.tree / str(host.outside).lstrip("/") / "passwd").is_file()


def test_a_file_is_not_written_through_a_relative_link_that_was_shipped(host: Host) -> None:
    host.unpack([crafted.link("./etc", "../outside"), crafted.file("./etc/passwd")])
    assert host.is_untouched()
    assert (host.tree / "outside/passwd").read_bytes() == b"evil"


def test_nor_through_a_link_of_another_package(host: Host) -> None:
    host.unpack(
        [crafted.link("./opt", str(host.outside))],
        [
            crafted.file("./opt/x"),
            crafted.link("./opt/y", "/etc"),
            crafted.hard_link("./z", "opt/x"),
        ],
    )
    assert host.is_untouched()


def test_nor_through_a_chain_of_links(host: Host) -> None:
    chain = [
        crafted.link("./a", "b/c"),
        crafted.link("./b/c", "../d"),
        crafted.link("./d", "../.."),
    ]
    host.unpack([*chain, crafted.file("./a/outside/x")])
    assert host.is_untouched()
    assert (host.tree / "outside/x").read_bytes() == b"evil"


def test_a_file_that_is_itself_a_link_by_now_stays_a_link(host: Host) -> None:
    host.unpack([crafted.link("./a", str(host.secret)), crafted.file("./a")])
    assert host.is_untouched()


def test_a_name_with_dots_stays_below_the_tree(host: Host) -> None:
    host.unpack([crafted.file("../outside/x"), crafted.file("./usr/../../../outside/y")])
    assert host.is_untouched()
    assert (host.tree / "outside/x").is_file() and (host.tree / "outside/y").is_file()


def test_an_absolute_name_stays_below_the_tree(host: Host) -> None:
    host.unpack([crafted.file(f"{host.outside}/x"), crafted.file("//y")])
    assert host.is_untouched()
    assert (host.tree / str(host.outside).lstrip("/") / "x").is_file()
    assert (host.tree / "y").is_file()


@pytest.mark.parametrize("way", ["absolute", "dots", "link", "link-to-file"])
def test_a_hard_link_does_not_copy_a_file_of_the_host(host: Host, way: str) -> None:
    targets = {
        "absolute": str(host.secret),
        "dots": "../outside/secret",
        "link": "./way/secret",
        "link-to-file": "./file",
    }
    links = [crafted.link("./way", str(host.outside)), crafted.link("./file", str(host.secret))]
    host.unpack([*links, crafted.hard_link("./copy", targets[way])])
    assert b"secret" not in host.read()


def test_links_without_an_end_are_the_packages_fault(host: Host) -> None:
    members = [crafted.link("./a", "b"), crafted.link("./b", "a"), crafted.file("./a/x")]
    with pytest.raises(LabError, match=r"p0\.deb: '/a/x' in this package cannot be unpacked"):
        host.unpack(members)
    with pytest.raises(LabError, match="Not a directory"):
        host.unpack([crafted.file("./f"), crafted.file("./f/x")])


@pytest.mark.parametrize("target", ["./usr", "..", ".", "/", "./nothing"])
def test_a_hard_link_to_what_is_no_file_is_left_out(host: Host, target: str) -> None:
    host.unpack([crafted.hard_link("./copy", target), crafted.file("./x"), crafted.file("..")])
    assert host.read() == [b"evil"] and host.is_untouched()


def test_names_that_no_file_can_have_are_the_packages_fault(host: Host) -> None:
    for name in ("a\0b", "x" * 300):
        member, content = crafted.file("./y")
        member.pax_headers = {"path": name}
        with pytest.raises(LabError, match="cannot be unpacked"):
            host.unpack([(member, content)])


def test_a_pipe_or_a_device_is_left_out(host: Host) -> None:
    host.unpack([crafted.fifo("./pipe"), crafted.hard_link("./again", "pipe"), crafted.file("./x")])
    assert host.read() == [b"evil"] and not (host.tree / "pipe").exists()


def test_what_finishes_dom0_writes_through_no_link(host: Host) -> None:

    outside = str(host.outside)
    host.unpack(
        [
            crafted.link("./etc/hosts", str(host.secret)),
            crafted.link("./boot", outside),
            crafted.link("./usr/share/libvirt/cpu_map", outside),
            crafted.link("./usr/bin/busybox", str(host.secret)),
            crafted.link("./var/lib", outside),
        ]
    )
    (host.outside / "x86_y.xml").write_text("<feature name='sep'/>\n")
    before = {path.name: path.read_text() for path in host.outside.iterdir()}
    dom0._finish(Tree(host.tree), b"linux")
    assert {path.name: path.read_text() for path in host.outside.iterdir()} == before
    assert (host.tree / "etc/hosts").read_text() == dom0._ETC["hosts"]
    with pytest.raises(FileNotFoundError):
        Tree(host.tree).read("/usr/bin/busybox")


def test_the_distributions_xen_is_not_taken_through_a_link(host: Host) -> None:

    host.unpack([crafted.link("./boot/xen-4.20-amd64", str(host.secret))])
    with pytest.raises(FileNotFoundError):
        binary._take(Tree(host.tree), "4.20", Arch.X86_64, host.packages / "entry")
    assert not (host.packages / "entry/boot/x86_64/xen").exists()


def test_a_link_in_the_kernels_package_that_leads_out_of_it(host: Host) -> None:

    members = [crafted.link("./boot/vmlinuz-6.1.0", str(host.secret))]
    package = crafted.deb(host.packages / "linux.deb", members)
    with pytest.raises(LabError, match="leads to nothing"):
        kernel.from_package(package, {}, scratch=host.packages)


@pytest.mark.parametrize("flaw", ["changed", "cut", "another"])
def test_a_package_of_the_pool_is_hashed_before_it_is_unpacked(host: Host, flaw: str) -> None:

    good = crafted.deb(host.packages / "good.deb", [crafted.file("./x", b"good")])
    content = good.read_bytes()
    pool = good.with_name(f"{hashlib.sha256(content).hexdigest()}.deb")
    pool.write_bytes(content)
    unpack(pool, Tree(host.tree))
    assert host.read() == [b"good"]
    bad = {"changed": content.replace(b"good", b"evil"), "cut": content[:-1], "another": b""}
    pool.write_bytes(bad[flaw])
    with pytest.raises(LabError, match=r"not what the archive's signed index names.*run again"):
        unpack(pool, Tree(host.tree))
    assert host.read() == [b"good"] and not pool.exists()


_NAMES = st.lists(st.sampled_from(["a", "b", "c", "..", ".", "outside", "usr", "bin"]), min_size=1)
_ROOTS = st.sampled_from(["", "/", "./"])
_PATHS = st.builds(lambda root, parts: root + "/".join(parts), _ROOTS, _NAMES)
_TARGETS = st.one_of(_PATHS, st.sampled_from(["OUT", "OUT/secret", "../OUT", "/proc/self/root"]))
_MEMBERS = st.lists(
    st.tuples(st.sampled_from(["file", "link", "hard"]), _PATHS, _TARGETS), min_size=1, max_size=12
)


@given(st.lists(_MEMBERS, min_size=2, max_size=2))
@settings(max_examples=40, deadline=None)
def test_no_package_at_all_reaches_outside(packages: list[list[tuple[str, str, str]]]) -> None:
    """Two of any kind, unpacked at the same time, as dom0's packages are."""
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        debs = []
        for number, members in enumerate(packages):
            made = []
            for kind, name, target in members:
                where = target.replace("OUT", str(host.outside))
                make = {"link": crafted.link, "hard": crafted.hard_link}.get(kind)
                made.append(make(name, where) if make else crafted.file(name))
            debs.append(crafted.deb(host.packages / f"p{number}.deb", made))
        with ThreadPoolExecutor(2) as pool:
            done = [pool.submit(unpack, path, Tree(host.tree)) for path in debs]
        assert all(isinstance(each.exception(), LabError | None) for each in done)
        assert host.is_untouched() and b"secret" not in host.read()


# tar is given source trees; what it must not do is tried with the options that we give it.


@pytest.mark.parametrize("way", ["link", "relative-link", "dots", "absolute", "hard-link"])
def test_a_crafted_source_tree_stays_below_its_directory(host: Host, way: str) -> None:
    out = str(host.outside)
    members: dict[str, Members] = {
        "link": [crafted.link("xen/etc", out), crafted.file("xen/etc/x")],
        "relative-link": [crafted.link("xen/etc", "../outside"), crafted.file("xen/etc/x")],
        "dots": [crafted.file("xen/../../outside/x")],
        "absolute": [crafted.file(f"{out}/x")],
        "hard-link": [crafted.hard_link("xen/copy", str(host.secret))],
    }
    tarball = host.packages / "xen.tar"
    tarball.write_bytes(crafted.tar(members[way]))

    argv = [which("tar", "tar"), *UNPACK, "-C", str(host.tree), "-xf", str(tarball)]
    subprocess.run(argv, check=False, capture_output=True)
    assert host.is_untouched() and b"secret" not in host.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could give files away")
def test_a_source_tree_does_not_give_files_to_the_user_that_it_names(host: Host) -> None:

    member, content = crafted.file("xen/Makefile", mode=0o666)
    member.uid = member.gid = 1000
    tarball = host.packages / "xen.tar"
    tarball.write_bytes(crafted.tar([(member, content)]))
    subprocess.run([which("tar", "tar"), *UNPACK, "-C", host.tree, "-xf", tarball], check=True)
    about = (host.tree / "Makefile").stat()
    assert about.st_uid == 0 and about.st_mode & 0o002 == 0
