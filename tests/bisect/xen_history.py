# SPDX-License-Identifier: GPL-2.0-or-later
"""A git history made from the distribution's Xen source, with a known bug at a known place.

    python -m tests.bisect.xen_history DIRECTORY poll-leak [SEED [COMMITS]]

makes one to bisect by hand (`domid-self`: dom0 does not come up).  Its commits are what such
histories have: most change code a little, some only documentation or a comment, and for a few in
a row nothing builds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from harness.hypervisor import flavour, source

COMMITS = 40
BROKEN = 3  # commits in a row that do not build


@dataclass(frozen=True)
class XenHistory:
    """Where the history is, and the truth about it."""

    repository: Path
    good: str
    bad: str
    culprit: str
    broken: tuple[str, ...]
    commits: int


def git(repository: Path, *words: str) -> str:
    """Run git in ``repository`` and return what it says."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "gc.auto=0"]
    # The same history has the same commit ids: what is cached of it serves again.
    when = {f"GIT_{who}_DATE": "2020-11-10T12:00:00Z" for who in ("AUTHOR", "COMMITTER")}
    done = subprocess.run(
        ["git", "-C", repository, *identity, *words],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | when,
    )
    return done.stdout.strip()


def make(
    folder: Path, bug: str, seed: int, commits: int = COMMITS, broken_run: int = BROKEN
) -> XenHistory:
    """Make a history of ``commits`` commits in ``folder`` with flavour ``bug`` among them.

    ``bug`` may also be one of FAULTS, in a Xen that is as it ships.
    The place is drawn from ``seed``, and so are those of the commits that do not build, which
    lie just before the bug or just after it: where the search has to go.
    """
    random = Random(seed)
    xen = source.from_apt()
    patches = () if bug in FAULTS else flavour.find(bug, xen).patches
    for path in source.files(xen.tree):
        target = folder / path.relative_to(xen.tree)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
        if not target.is_symlink():
            target.chmod(target.stat().st_mode | 0o200)
    _apply(folder, flavour.Flavour(bug, patches[:-1]))
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "Xen as it was good")
    good = git(folder, "rev-parse", "HEAD")
    place = random.randrange(commits // 8, commits - commits // 8)
    first_broken = place + 2 if random.random() < 0.5 else place - broken_run - 1
    culprit, broken = "", []
    changes = _changes(folder, random)
    for number in range(commits):
        if number == place:
            if bug in FAULTS:
                FAULTS[bug](folder)
            _apply(folder, flavour.Flavour(bug, patches[-1:]))
            subject = f"event channels: {bug}"
        elif number == first_broken and broken_run:
            _append(folder / "xen/common/version.c", "int broken_here(void) { return oops; }")
            subject = "version: something new"
        elif number == first_broken + broken_run and broken_run:
            file = folder / "xen/common/version.c"
            file.write_text(file.read_text().replace("return oops;", "return 1;"))
            subject = "version: mend the build"
        else:
            subject = next(changes)
        git(folder, "add", "-A", "-f")
        git(folder, "commit", "-q", "-m", subject)
        head = git(folder, "rev-parse", "HEAD")
        culprit = head if number == place else culprit
        if first_broken <= number < first_broken + broken_run:
            broken.append(head)
    return XenHistory(folder, good, head, culprit, tuple(broken), commits)


def keep_domid_self(tree: Path) -> None:
    """Have EVTCHNOP_alloc_unbound keep DOMID_SELF, instead of the caller's domid."""
    file = tree / "xen/common/event_channel.c"
    right = (
        "    if ( (chn->u.unbound.remote_domid = alloc->remote_dom) == DOMID_SELF )\n"
        "        chn->u.unbound.remote_domid = current->domain->domain_id;\n"
    )
    text = file.read_text()
    assert text.count(right) == 1
    file.write_text(text.replace(right, "    chn->u.unbound.remote_domid = alloc->remote_dom;\n"))


FAULTS: Mapping[str, Callable[[Path], None]] = {"domid-self": keep_domid_self}


def _apply(folder: Path, series: flavour.Flavour) -> None:
    flavour.apply(series, folder)


def _append(file: Path, line: str) -> None:
    with file.open("a") as sink:
        sink.write(f"\n{line}\n")


_FILES = ("xen/common/kernel.c", "xen/common/event_channel.c", "xen/common/event_2l.c")


def _changes(folder: Path, random: Random) -> Iterator[str]:
    """Change the tree a little, again and again; yield a subject for each change."""
    number = 0
    while True:
        number += 1
        kind = random.choice(["code", "code", "code", "comment", "documentation"])
        if kind == "documentation":
            (folder / "docs").mkdir(exist_ok=True)
            _append(folder / "docs" / "notes.txt", f"note {number}")
            yield f"docs: note {number}"
        elif kind == "comment":
            file = random.choice(_FILES)
            _append(folder / file, f"/* remark {number} */")
            yield f"{Path(file).stem}: a remark"
        else:
            file = random.choice(_FILES)
            _append(folder / file, f"unsigned int history_counter_{number} = {number};")
            yield f"{Path(file).stem}: counter {number}"


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[3:]]
    print(make(Path(sys.argv[1]), sys.argv[2], *(numbers or [1])))
