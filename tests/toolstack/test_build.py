# SPDX-License-Identifier: GPL-2.0-or-later
"""Building a toolstack, with a toy of a tree and the machine's own headers and libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.hypervisor.source import Source
from harness.toolstack import build as builds
from harness.toolstack import libvirt
from harness.toolstack.version_word import Interfaces
from harness.verdict import BuildError
from tests.toolstack.conftest import ARCH
from tests.toolstack.trees import make_tree

pytestmark = pytest.mark.usefixtures("no_packages")


def a_source(tree: Path) -> Source:
    return Source("dir", tree, "4.17.0", (4, 17), "")


def toolstack(source: Source) -> builds.Toolstack:
    return builds.Job.of(source, ARCH, "", lambda _: None).run()


def test_files_are_named_as_they_are_looked_for(tmp_path: Path) -> None:
    source = a_source(make_tree(tmp_path / "xen"))
    made = toolstack(source)
    names = {str(path.relative_to(made.files)) for path in made.files.rglob("*.so*")}
    assert {"lib/libxenlight.so.1", "lib/libxenctrl.so.1"} <= names
    assert (made.files / "libvirt" / libvirt.DRIVER).is_file()
    programs = {path.name for path in (made.files / "bin").iterdir()}
    assert programs == {"libxl-save-helper", "xen-init-dom0", "xenconsoled", "xenstored", "xl"}
    assert not (made.files.parent / "tree").exists()
    assert (made.files.parent / "build.log").stat().st_size > 0

    (tmp_path / "xen/xen/common/memory.c").write_text("int of_the_hypervisor;\n")
    job = builds.Job.of(source, ARCH, "", lambda _: None)
    assert job.is_made and job.run() == made


def test_the_first_error_of_the_tools_and_the_log(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "xen")
    (tree / "tools/libs/evtchn/part.c").write_text("int part(void)\n{\n    return missing;\n}\n")
    with pytest.raises(BuildError) as caught:
        toolstack(a_source(tree))
    assert caught.value.where == "tools/libs/evtchn/part.c:3"
    assert "missing" in caught.value.what
    log = Path(caught.value.hint.removeprefix("see "))
    assert "missing" in log.read_text()


def test_a_driver_that_does_not_fit_is_told_as_that(tmp_path: Path) -> None:
    (tmp_path / "libvirt/src/libxl/libxl_conf.c").write_text("int driver(void) { return x; }\n")
    with pytest.raises(BuildError, match=r"libvirt's Xen driver does not fit this libxl: .*x"):
        toolstack(a_source(make_tree(tmp_path / "xen")))


def test_a_tree_with_another_layout(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "xen")
    (tree / "tools/helpers/Makefile").unlink()
    with pytest.raises(BuildError, match="no tools/helpers to build xen-init-dom0 in"):
        toolstack(a_source(tree))


def test_what_is_there_is_found_by_its_root_with_its_interface(tmp_path: Path) -> None:
    made = toolstack(a_source(make_tree(tmp_path / "xen", domctl="0x12")))
    assert builds.existing(ARCH, "digest") == [made]
    assert builds.existing(ARCH, "another") == []
    assert made.interfaces == Interfaces(0x12, 0x15)
    assert "struct common" in made.interface.types


def test_what_does_not_compile_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def make(job: builds.Job, work: Path, progress: object) -> None:
        tried.append(job.digest)
        raise BuildError("tools/libs/x.c:1: nonsense")

    monkeypatch.setattr(builds.Job, "_make", make)
    nothing: Any = None
    for digest in ("first", "second", "first"):
        job = builds.Job(nothing, nothing, nothing, nothing, "", digest)
        with pytest.raises(BuildError, match="nonsense"):
            job.run()
    assert tried == ["first", "second"]
