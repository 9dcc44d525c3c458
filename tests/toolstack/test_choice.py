"""Which toolstack dom0 gets for which hypervisor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness import apt
from harness.apt.archives import Release
from harness.arch import Arch
from harness.hypervisor.source import RELEASES, Source
from harness.toolstack import build, headers
from harness.toolstack.choice import TOOLSTACKS, Interfaces, choose, packaged
from harness.toolstack.headers import Headers
from harness.verdict import BuildError
from tests.toolstack.trees import make_tree


@pytest.fixture(autouse=True)
def debian(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, "debian")


def on(monkeypatch: pytest.MonkeyPatch, distribution: str) -> None:
    monkeypatch.setattr(apt, "machine_release", lambda: Release(distribution, "any"))


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
    assert choose(source, Arch.ARM64).how == "package"


def test_the_distributions_toolstack_serves_a_tree_with_its_headers_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path / "tree")
    package = make_tree(tmp_path / "package") / headers.PUBLIC
    monkeypatch.setattr(headers, "of_package", lambda *_, **__: Headers(package, "4.17.7-1"))
    monkeypatch.setattr(build, "build", refuses)
    fit = choose(a_source(tree), Arch.ARM64)
    assert (fit.codename, fit.how) == ("bookworm", "equal-to")
    assert "4.17.7-1" in fit.reason

    (tree / headers.PUBLIC / "xen.h").write_text("struct another { int size; };\n")
    assert choose(a_source(tree), Arch.ARM64).how == "none"


def test_a_tree_of_its_own_gets_its_own_toolstack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build.Toolstack(Arch.ARM64, tmp_path / "files", "4.23", "digest", 1.0, False)
    monkeypatch.setattr(build, "build", lambda *_, **__: made)
    fit = choose(a_source(make_tree(tmp_path, domctl="0x99"), (4, 23)), Arch.ARM64)
    assert (fit.codename, fit.how, fit.files) == ("bookworm", "built", made.files)


def test_tools_that_do_not_compile_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "build", refuses)
    fit = choose(a_source(make_tree(tmp_path, domctl="0x99")), Arch.ARM64)
    assert (
        fit.why_not == "tools/ does not compile: tools/libs/call/core.c:7: no such thing; see LOG"
    )


def test_a_tree_older_than_any_that_builds(tmp_path: Path) -> None:
    fit = choose(a_source(make_tree(tmp_path, domctl="0x10"), (4, 11)), Arch.ARM64)
    assert fit.why_not == "4.11.0 is older than 4.12: its tools/ are not built"


def test_a_tree_without_tools(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, domctl="0x99")
    (tree / "tools/config.h.in").unlink()
    assert "has no tools/" in choose(a_source(tree), Arch.ARM64).why_not


def refuses(*_: object, **__: object) -> build.Toolstack:
    raise BuildError("no such thing", where="tools/libs/call/core.c:7", hint="see LOG")
