"""Building a toolstack, with a toy of a tree and the machine's own headers and libraries."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from harness import apt, cache
from harness.apt import Source as AptSource
from harness.arch import NAMES, Arch
from harness.hypervisor.source import Source
from harness.toolstack import build as builds
from harness.toolstack import libvirt
from harness.toolstack.sysroot import Sysroot
from harness.verdict import BuildError
from tests.toolstack.trees import make_tree

ARCH = next(arch for arch in Arch if NAMES[arch].qemu == platform.machine())


@pytest.fixture(autouse=True)
def nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    driver = tmp_path / "libvirt/src/libxl/libxl_conf.c"
    driver.parent.mkdir(parents=True)
    driver.write_text("int driver(void) { return 1; }\n")
    root = Sysroot(ARCH, Path("/"), "9.0.0", "digest")
    monkeypatch.setattr(builds, "sysroot", lambda *_, **__: root)
    monkeypatch.setattr(builds, "programs", lambda **_: tmp_path / "bin")
    monkeypatch.setattr(
        apt, "source_package", lambda *_, **__: AptSource("9.0.0-1", tmp_path / "libvirt")
    )
    monkeypatch.setattr(libvirt, "_write_headers", lambda _, made, __: made.mkdir(parents=True))
    monkeypatch.setattr(libvirt, "_flags", lambda _: [])
    monkeypatch.setattr(libvirt, "_libraries", lambda _: [])


def a_source(tree: Path) -> Source:
    return Source("dir", tree, "4.17.0", (4, 17), "")


def test_files_are_named_as_they_are_looked_for(tmp_path: Path) -> None:
    source = a_source(make_tree(tmp_path / "xen"))
    made = builds.build(source, ARCH)
    assert not made.cached
    names = {str(path.relative_to(made.files)) for path in made.files.rglob("*.so*")}
    assert {"lib/libxenlight.so.1", "lib/libxenctrl.so.1"} <= names
    assert (made.files / "libvirt" / libvirt.DRIVER).is_file()
    programs = {path.name for path in (made.files / "bin").iterdir()}
    assert programs == {"libxl-save-helper", "xen-init-dom0", "xenconsoled", "xenstored", "xl"}
    assert not (made.files.parent / "tree").exists()
    assert (made.files.parent / "build.log").stat().st_size > 0

    (tmp_path / "xen/xen/common/memory.c").write_text("int of_the_hypervisor;\n")
    again = builds.build(source, ARCH)
    assert again.cached and again.digest == made.digest


def test_the_first_error_of_the_tools_and_the_log(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "xen")
    (tree / "tools/libs/evtchn/part.c").write_text("int part(void)\n{\n    return missing;\n}\n")
    with pytest.raises(BuildError) as caught:
        builds.build(a_source(tree), ARCH)
    assert caught.value.where == "tools/libs/evtchn/part.c:3"
    assert "missing" in caught.value.what
    log = Path(caught.value.hint.removeprefix("see "))
    assert "missing" in log.read_text()


def test_a_driver_that_does_not_fit_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "libvirt/src/libxl/libxl_conf.c").write_text("int driver(void) { return x; }\n")
    with pytest.raises(BuildError, match=r"libvirt's Xen driver does not fit this libxl: .*x"):
        builds.build(a_source(make_tree(tmp_path / "xen")), ARCH)


def test_a_tree_with_another_layout(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "xen")
    (tree / "tools/helpers/Makefile").unlink()
    with pytest.raises(BuildError, match="no tools/helpers to build xen-init-dom0 in"):
        builds.build(a_source(tree), ARCH)
