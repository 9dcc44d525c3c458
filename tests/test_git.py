# SPDX-License-Identifier: GPL-2.0-or-later
"""git is only ever told values: what a user, a plan or a file says is never an option of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import cache, git
from harness.bisect.repository import Repository
from harness.cli import main
from harness.config.nightly import load_plan
from harness.hypervisor import source
from harness.verdict import ConfigError, LabError
from tests.hypervisor.tree import make_tree


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Xen-like tree with two commits; the harness has a cache of its own."""
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    tree = make_tree(tmp_path / "xen-tree")
    _git(tree, "init", "-q", "-b", "main")
    _git(tree, "add", "-A")
    for message in ("first", "second"):
        _git(tree, "commit", "-q", "--allow-empty", "-m", message)
    return tree


def _git(tree: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", tree, *identity, *words], check=True)


# Trust, 1: each of these made git run `touch MARK` when the value was passed on as it is.
ATTACKS = [
    "--upload-pack=touch {mark};git-upload-pack",
    "-u touch {mark};git-upload-pack",
    "--output={mark}",
    "--exec=touch {mark}",
    "-c core.sshCommand=touch {mark}",
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("scheme", ["file", "path"])
def test_a_ref_is_no_option(repository: Path, tmp_path: Path, attack: str, scheme: str) -> None:
    mark = tmp_path / "mark"
    address = f"file://{repository}" if scheme == "file" else str(repository)
    with pytest.raises(ConfigError, match="begins with '-'"):
        source.from_git(address, attack.format(mark=mark))
    with pytest.raises(ConfigError, match="begins with '-'"):
        Repository.open(str(repository)).commit(attack.format(mark=mark), "--good")
    assert not mark.exists()


@pytest.mark.parametrize("attack", [*ATTACKS, "ext::sh -c touch% {mark}", "fd::17"])
def test_a_repository_is_no_option_and_no_command(
    repository: Path, tmp_path: Path, attack: str
) -> None:
    mark = tmp_path / "mark"
    name = attack.format(mark=mark)
    for opening in (lambda: source.from_git(name, "main"), lambda: Repository.open(name)):
        with pytest.raises(ConfigError) as raised:
            opening()
        assert raised.value.where == name
    assert not mark.exists()


def test_a_repository_is_not_what_the_environment_says(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "ext")
    assert Repository.open(str(repository)).home == repository / ".git"
    assert source.from_git(f"file://{repository}", "main").kind == "git"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            [
                "build",
                "--arch",
                "arm64",
                "--xen-git",
                "file://{tree}",
                "--xen-ref=--upload-pack=touch {mark};x",
            ],
            "ref",
        ),
        (
            [
                "build",
                "--arch",
                "arm64",
                "--xen-git=--upload-pack=touch {mark}",
                "--xen-ref",
                "main",
            ],
            "git",
        ),
        (["run", "--xen-git", "{tree}", "--xen-ref=-x"], "ref"),
        (["bisect", "--xen-git", "{tree}", "--good=--output={mark}", "--bad", "main"], "good"),
        (["bisect", "--xen-git", "{tree}", "--good", "main~1", "--bad=--output={mark}"], "bad"),
        (["bisect", "--xen-git=-x", "--good", "main~1", "--bad", "main"], "git"),
    ],
)
def test_the_commands_say_so_in_one_line(
    repository: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    says: str,
) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(SystemExit) as ended:
        main([word.format(tree=repository, mark=mark) for word in words])
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert len(said) == 1 and said[0].startswith("error: ")
    assert says in said[0] and "begins with '-'" in said[0]
    assert not mark.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [("ref", "--upload-pack=touch x"), ("git", "--upload-pack=touch x"), ("git", "ext::sh")],
)
def test_a_plan_of_nights_is_refused_at_its_field(tmp_path: Path, field: str, value: str) -> None:
    xen = {"git": "/srv/xen", "ref": "staging"} | {field: value}
    plan = tmp_path / "nightly.yaml"
    plan.write_text(
        "hosts: [qemu-arm64]\nxens:\n  mine:\n"
        + "".join(f"    {name}: '{said}'\n" for name, said in xen.items())
    )
    with pytest.raises(ConfigError) as raised:
        load_plan(plan)
    assert field in str(raised.value) and str(plan) in str(raised.value)


@given(st.text(max_size=20))
def test_every_revision_is_taken_or_refused_with_the_reason(text: str) -> None:
    try:
        taken = git.revision(text, "--xen-ref")
    except ConfigError as error:
        assert error.where == "--xen-ref" and error.hint
    else:
        assert taken == text and not text.startswith("-") and text.isprintable() and text


def test_git_never_waits_for_a_person(tmp_path: Path) -> None:
    """A repository that wants a password is an error at once: nobody is there to type it."""
    said = git.run("var", "-l", env={"PROBE": "1"})
    assert said
    with pytest.raises(LabError):
        git.run("ls-remote", "--", "http://127.0.0.1:1/none.git", timeout=20)


def _planted(repository: Path, mark: Path, *settings: tuple[str, str]) -> None:
    """Put settings into the repository's own configuration that make git run ``touch MARK``."""
    (repository / ".git/info").mkdir(exist_ok=True)
    (repository / ".git/info/attributes").write_text("* filter=planted\n")
    for name, value in settings:
        _git(repository, "config", name, value.format(mark=mark))


# Trust, 1, a second time: each of these ran `touch MARK` when the harness only looked at a tree.
@pytest.mark.parametrize(
    "settings",
    [
        [("core.fsmonitor", "touch {mark};false")],
        [("filter.planted.smudge", "touch {mark};cat"), ("filter.planted.required", "true")],
        [("filter.planted.process", "touch {mark};cat")],
        [("core.hooksPath", "{mark}.hooks")],
        [("log.showSignature", "true"), ("gpg.program", "{mark}.gpg")],
    ],
    ids=lambda settings: settings[0][0],
)
def test_the_configuration_of_a_repository_runs_nothing(
    repository: Path, tmp_path: Path, settings: list[tuple[str, str]]
) -> None:
    mark = tmp_path / "mark"
    for script in (tmp_path / "mark.gpg", tmp_path / "mark.hooks/reference-transaction"):
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\ntouch {mark}\n")
        script.chmod(0o755)
    signed = subprocess.run(
        ["git", "-C", repository, "cat-file", "commit", "HEAD"], capture_output=True, check=True
    ).stdout.replace(b"\n\n", b"\ngpgsig -----BEGIN PGP SIGNATURE-----\n x\n\n", 1)
    made = subprocess.run(
        ["git", "-C", repository, "hash-object", "-t", "commit", "-w", "--stdin"],
        input=signed,
        capture_output=True,
        check=True,
    )
    commit = made.stdout.decode().strip()
    _planted(repository, mark, *settings)
    mark.unlink(missing_ok=True)  # git may have run it when it wrote the configuration
    source.from_dir(repository)
    found = source.from_git(str(repository), commit)
    assert (found.tree / "xen/Makefile").read_text()
    history = Repository.open(str(repository))
    assert history.subject(commit) == "second"
    history.between(history.commit("main~1", "--good"), history.commit("main", "--bad"))
    assert not mark.exists()


@pytest.mark.parametrize(
    "ref", ["main:refs/heads/planted", "+refs/heads/*:refs/heads/*", "^main", "+main", "refs/*"]
)
def test_a_ref_of_a_remote_is_no_refspec(repository: Path, ref: str) -> None:
    with pytest.raises(ConfigError, match="names no commit of another repository"):
        source.from_git(f"file://{repository}", ref)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root")
@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_repository_of_another_user_is_refused_with_the_reason(
    repository: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.delenv("SUDO_UID", raising=False)
    for path in (repository, *repository.rglob("*")):
        os.chown(path, 65534, 65534, follow_symlinks=False)
    with pytest.raises(ConfigError, match="dubious ownership"):
        source.from_git(f"{scheme}{repository}", "main")
