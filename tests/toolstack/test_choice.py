# SPDX-License-Identifier: GPL-2.0-or-later
"""Which toolstack dom0 gets for which hypervisor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness import apt
from harness.apt.archives import Release
from harness.config.releases import RELEASES
from harness.hypervisor.source import Source
from harness.toolstack import build, choice, headers
from harness.toolstack.choice import TOOLSTACKS, choose, packaged
from harness.toolstack.headers import Headers
from harness.toolstack.sysroot import Sysroot
from harness.toolstack.version_word import Interfaces
from tests.toolstack.conftest import ARCH
from tests.toolstack.trees import make_tree

# Builds a toolstack, which is there from then on.
Existing = Callable[[Path], build.Toolstack]


@pytest.fixture(autouse=True)
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "debian")


def on(monkeypatch: pytest.MonkeyPatch, distribution: str) -> None:
    monkeypatch.setattr(apt, "machine_release", lambda: Release(distribution, "any"))


@pytest.fixture
def existing(no_packages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Existing:
    """A cache of its own, in which are no toolstacks but those built with this."""
    root = Sysroot(ARCH, Path("/"), "9.0.0", "digest")
    monkeypatch.setattr(choice, "sysroot", lambda *_, **__: root)
    package = make_tree(tmp_path / "package", domctl="0x1") / headers.PUBLIC
    (package / "xen.h").write_text("struct another { int size; };\n")
    monkeypatch.setattr(headers, "of_package", lambda *_, **__: Headers(package, "1"))
    return lambda tree: build.Job.of(a_source(tree), ARCH, "", lambda _: None).run()


def a_source(tree: Path, release: tuple[int, int] = (4, 17)) -> Source:
    return Source("dir", tree, f"{release[0]}.{release[1]}.0", release, "digest")


@pytest.mark.parametrize(
    ("interfaces", "codename"),
    [
        (Interfaces(0x12, 0x13), "bullseye"),
        (Interfaces(0x15, 0x15), "bookworm"),
        (Interfaces(0x17, 0x15), "trixie"),
    ],
)
def test_the_release_whose_toolstack_fits(interfaces: Interfaces, codename: str) -> None:
    fit = packaged(interfaces)
    assert (fit.codename, fit.how, fit.why_not) == (codename, "package", "")


def test_every_release_of_xen_that_we_fetch_has_a_dom0() -> None:
    assert set(TOOLSTACKS) == set(RELEASES.values())


def test_no_fit_says_what_was_wanted_and_what_there_is() -> None:
    fit = packaged(Interfaces(0x17, 0x16))
    assert fit.codename == ""
    assert "domctl 0x17, sysctl 0x16" in fit.why_not and "trixie" in fit.why_not


def test_unknown_interfaces_are_no_fit() -> None:
    assert "does not tell" in packaged(None).why_not


def test_elsewhere_there_is_only_the_machines_own_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, "ubuntu")
    source = replace(a_source(make_tree(tmp_path)), kind="apt")
    assert choose(source, ARCH).how == "package"


def test_the_distributions_toolstack_serves_a_tree_with_its_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = make_tree(tmp_path / "package") / headers.PUBLIC
    monkeypatch.setattr(headers, "of_package", lambda *_, **__: Headers(package, "4.17.7-1"))
    fit = choose(a_source(make_tree(tmp_path / "tree")), ARCH)
    assert (fit.codename, fit.how, fit.files) == ("bookworm", "equal-to", {})
    assert "4.17.7-1" in fit.reason


def test_a_tree_of_its_own_gets_its_own_toolstack(tmp_path: Path, existing: Existing) -> None:
    fit = choose(a_source(make_tree(tmp_path, domctl="0x99"), (4, 23)), ARCH)
    assert (fit.codename, fit.how) == ("bookworm", "built")
    assert "bin/xl" in fit.files


def test_a_toolstack_that_is_there_serves_whoever_it_is_proved_to_fit(
    tmp_path: Path, existing: Existing
) -> None:
    there = existing(make_tree(tmp_path / "old", domctl="0x98"))
    fit = choose(a_source(make_tree(tmp_path / "new", domctl="0x99"), (4, 23)), ARCH)
    assert (fit.how, fit.built) == ("equal-to", there)
    assert "domctl 0x98, sysctl 0x15" in fit.reason and "types" in fit.reason
    assert fit.words is not None and fit.files["version_word.so"] == fit.words


def test_the_same_numbers_with_another_layout_are_no_fit(
    tmp_path: Path, existing: Existing
) -> None:
    existing(make_tree(tmp_path / "old", domctl="0x99"))
    tree = make_tree(tmp_path / "new", domctl="0x99")
    (tree / headers.PUBLIC / "xen.h").write_text("struct common { long size; };\n")
    assert choose(a_source(tree, (4, 23)), ARCH).how == "built"


def test_tools_that_do_not_compile_are_told_in_one_line(tmp_path: Path, existing: Existing) -> None:
    tree = make_tree(tmp_path, domctl="0x99")
    (tree / "tools/libs/call/part.c").write_text("int part(void)\n{\n    return x;\n}\n")
    why = choose(a_source(tree), ARCH).why_not
    assert why.startswith("tools/ does not compile: tools/libs/call/part.c:3: 'x' undeclared")
    assert why.endswith(".log") and "\n" not in why


def test_a_tree_older_than_any_that_builds(tmp_path: Path, existing: Existing) -> None:
    fit = choose(a_source(make_tree(tmp_path, domctl="0x10"), (4, 11)), ARCH)
    assert fit.why_not == "4.11.0 is older than 4.12: its tools/ are not built"


def test_a_tree_without_tools(tmp_path: Path, existing: Existing) -> None:
    tree = make_tree(tmp_path, domctl="0x99")
    (tree / "tools/config.h.in").unlink()
    assert "has no tools/" in choose(a_source(tree), ARCH).why_not
