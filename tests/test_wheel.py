# SPDX-License-Identifier: GPL-2.0-or-later
"""A wheel, installed in an environment of its own, works in any folder: its files are all there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

import click
import pytest

from harness import __version__
from harness.data import CHECKOUT, FOLDERS
from harness.history.format.parquet import write
from harness.history.simulate.run import Recipe, generate
from tests.hypervisor.tree import make_tree

pytestmark = pytest.mark.slow

_PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]


def _run(*words: str | Path, cwd: Path, codes: tuple[int, ...] = (0,)) -> str:
    """Run ``words`` where no other harness is to be found; return what it says on stdout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True)
    assert ran.returncode in codes, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of this checkout."""
    assert CHECKOUT is not None
    folder = tmp_path_factory.mktemp("built")
    _run(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=CHECKOUT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel, and beside it what it depends on."""
    home = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    (packages,) = home.glob("lib/python3*/site-packages")
    # The packages of this environment, but not its own (editable) harness: a directory that a
    # .pth file names is searched, and the .pth files in it are not read.
    (packages / "dependencies.pth").write_text(f"{Path(click.__file__).parents[1]}\n")
    python = home / "bin" / "python"
    pip = ("--python", python, "install", "--no-deps", "--no-index")
    _run(*_PIP, *pip, "--ignore-installed", wheel, cwd=home)
    return python.parent


def _listed() -> set[str]:
    """The data files that are committed."""
    assert CHECKOUT is not None
    return set(_run("git", "ls-files", *FOLDERS, cwd=CHECKOUT).splitlines())


def test_every_file_is_in_the_wheel(wheel: Path) -> None:
    assert CHECKOUT is not None
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    where = "harness/data_files/"
    assert _listed() <= {name.removeprefix(where) for name in names if name.startswith(where)}
    modules = set(_run("git", "ls-files", "harness", cwd=CHECKOUT).splitlines())
    assert modules <= names  # templates are among them
    assert not [name for name in names if PurePosixPath(name).suffix in (".pyc", ".whl")]


def test_the_sdist_makes_the_same_wheel(built: Path, wheel: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    again: tuple[str | Path, ...] = (
        *_PIP,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        tmp_path,
        sdist,
    )
    _run(*again, cwd=tmp_path)
    (second,) = tmp_path.glob("*.whl")
    assert second.name == wheel.name
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(second) as other:
        assert {i.filename: i.CRC for i in one.infolist()} == {
            i.filename: i.CRC for i in other.infolist()
        }


def test_the_version_is_said_once(programs: Path, wheel: Path, tmp_path: Path) -> None:
    assert wheel.name.split("-")[1] == __version__
    said = _run(programs / "evtchn-harness", "--version", cwd=tmp_path)
    assert said.split()[-1] == __version__


def test_doctor_says_where_the_files_are(programs: Path, tmp_path: Path) -> None:
    lacking = (0, 3)  # 3: this machine lacks something that a run needs
    said = _run(programs / "evtchn-harness", "doctor", "--json", cwd=tmp_path, codes=lacking)
    checks = {check["name"]: check for check in json.loads(said)["checks"]}
    assert checks["data files"]["ok"]
    home = Path(checks["data files"]["detail"])
    assert home.is_relative_to(programs.parent)
    assert [name for name in sorted(_listed()) if not (home / name).is_file()] == []


def test_model_check_and_check(programs: Path, tmp_path: Path) -> None:
    program = programs / "evtchn-harness"
    proved = json.loads(_run(program, "model", "check", "--readers", "1", "--json", cwd=tmp_path))
    assert proved["verdict"] == "proved"
    write(generate(Recipe(seed=5)), tmp_path / "history.parquet")
    judged = json.loads(_run(program, "check", "history.parquet", "--json", cwd=tmp_path))
    assert judged["verdict"] == "PASS"


def test_the_flavours_are_found(programs: Path, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "xen")
    words = ("build", "--arch", "x86_64", "--flavour", "none", "--xen-src", tree, "--json")
    said = _run(programs / "evtchn-harness", *words, cwd=tmp_path, codes=(2,))
    assert "there are rwlock, counter" in json.loads(said)["error"]


def test_a_run_reports(programs: Path, tmp_path: Path) -> None:
    """The plugin of the wheel, in pytest; a test that asks for no ``xen`` boots none: a mistake."""
    (tmp_path / "test_nothing.py").write_text("def test_nothing(): pass\n")
    tree = ("--flavour", "rwlock", "--xen-src", make_tree(tmp_path / "xen"))
    words = ("run", *tree, "--out", "out", "--json", "test_nothing.py")
    document = json.loads(_run(programs / "evtchn-harness", *words, cwd=tmp_path, codes=(2,)))
    assert document["verdict"] == "MISS"  # no host was tried
    assert "<html" in (tmp_path / "out" / "report.html").read_text()


def test_the_test_cases_are_collected(programs: Path, tmp_path: Path) -> None:
    (home,) = programs.parent.glob("lib/python3*/site-packages/harness/data_files/testcases")
    words = ("-m", "pytest", "--collect-only", "-q", "-c", "/dev/null", f"--rootdir={home}", home)
    said = _run(programs / "python", *words, cwd=tmp_path)
    assert "test_hypercalls.py::" in said and "conformance/test_use.py::" in said
