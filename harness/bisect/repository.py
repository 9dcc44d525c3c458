# SPDX-License-Identifier: GPL-2.0-or-later
"""The user's git repository: its commits, and the tree with a commit reverted.  Only read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from harness import cache, command, git
from harness.bisect.commits import Commits
from harness.hypervisor import source
from harness.hypervisor.source import PARTS, Source
from harness.verdict import BuildError, ConfigError


@dataclass(frozen=True)
class Repository:
    """A git repository with the history of a Xen tree."""

    name: str  # as the user gave it
    home: Path  # its .git

    @classmethod
    def open(cls, name: str) -> Repository:
        """Open a local repository; one that has a URL is fetched into the cache.

        ConfigError if there is no such repository.
        """
        git.repository(name, name)
        local = Path(name).expanduser()
        try:
            if local.is_dir():
                return cls(name, source.git_dir(local))
            home = cache.shelf("xen-git-remotes") / cache.key("whole", name)
            with FileLock(f"{home}.lock"):
                if not home.is_dir():
                    git.run("init", "-q", "--bare", home)
                cache.trusted(home)
                git.run("fetch", "-q", git.END, name, "+refs/*:refs/*", home=home)
            return cls(name, home)
        except command.CommandFailed as error:
            raise ConfigError(
                f"no git repository: {git.said(error)}", where=name, hint="see --xen-git"
            ) from error

    def commit(self, ref: str, option: str) -> str:
        """Return the full id of ``ref``; ConfigError names the ``option`` that gave it."""
        git.revision(ref, option)
        try:
            said = self._git("rev-parse", "--verify", "--quiet", git.END, f"{ref}^{{commit}}")
        except command.CommandFailed as error:
            raise ConfigError(f"no commit {ref} in {self.name}", where=option) from error
        return said.splitlines()[-1]

    def between(self, older: str, newer: str, *, mends: bool = False) -> Commits:
        """Return the commits that ``newer`` contains and ``older`` does not (both full ids).

        ``mends``: the first commit is searched with which a test passes.  ConfigError unless
        ``older`` is an ancestor of ``newer``: what a commit on another branch does says nothing
        about the history of ``newer``.
        """
        base = self._git("merge-base", older, newer).strip() if older != newer else ""
        if base != older:
            option = "--old" if mends else "--good"
            hint = f"try {option} {base[:12]}" if base and base != newer else "exchange the two?"
            raise ConfigError(
                f"{older[:12]} is not an ancestor of {newer[:12]}", where=option, hint=hint
            )
        listing = self._git(
            "rev-list", "--topo-order", "--reverse", "--parents", newer, f"^{older}"
        )
        rows = [line.split() for line in listing.splitlines()]
        parents = {name: tuple(above) for name, *above in rows}
        ids = tuple(row[0] for row in rows)
        return Commits(older, ids, parents, self._inert(ids, parents), mends)

    def subject(self, commit: str) -> str:
        """Return the first line of the message of ``commit``."""
        return self._git("log", "-1", "--format=%s", commit).strip()

    def source(self, commit: str) -> Source:
        """Return the tree of ``commit``."""
        return source.from_git(str(self.home), commit)

    def reverted(self, culprit: str, top: str, folder: Path) -> Source:
        """Return the tree of ``top`` with ``culprit`` reverted, in a new clone below ``folder``.

        BuildError if git cannot revert it.
        """
        clone = folder / "clone"
        try:
            git.run("clone", "-q", "--shared", "--no-checkout", self.home, clone)
            git.run("checkout", "-q", "--detach", top, tree=clone)
            merge = len(self._git("log", "-1", "--format=%P", culprit).split()) > 1
            side = ["-m", "1"] if merge else []
            git.run("revert", "--no-edit", *side, culprit, tree=clone, env=git.undisturbed(folder))
        except command.CommandFailed as error:
            first = next((line for line in error.output.splitlines() if line.strip()), error.what)
            raise BuildError(f"does not revert on top: {first}") from error
        # The clone does not outlive ``folder``.
        return replace(source.from_git(str(clone), "HEAD"), home=None, commit="")

    def _inert(self, ids: Sequence[str], parents: dict[str, tuple[str, ...]]) -> frozenset[str]:
        """Return the commits that change no file that a build of the hypervisor reads."""
        trees = self._trees({*ids, *(name for above in parents.values() for name in above)})
        return frozenset(
            name for name in ids if any(trees[name] == trees[above] for above in parents[name])
        )

    def _trees(self, commits: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """Return, for each commit, git's digests of the parts of the tree that a build reads."""
        names = sorted(commits)
        words = "".join(f"{name}:{part}\n" for name in names for part in PARTS)
        said = self._git("cat-file", "--batch-check=%(objectname)", stdin=words.encode())
        lines = [line if " missing" not in line else "" for line in said.splitlines()]
        step = len(PARTS)
        return {name: tuple(lines[n * step : (n + 1) * step]) for n, name in enumerate(names)}

    def _git(self, *words: str, stdin: bytes | None = None) -> str:
        return git.run(*words, home=self.home, stdin=stdin)
