# SPDX-License-Identifier: GPL-2.0-or-later
"""Flavours: the series on disk, and which of them a tree takes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.hypervisor import flavour, source
from harness.model.lock.flavours import FLAVOURS
from harness.verdict import ConfigError

from .tree import SCHED_H, make_tree

SERIES = sorted(flavour.SHELF.rglob("series"))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "xen-tree")


@pytest.mark.parametrize("series", SERIES, ids=lambda p: str(p.parent.relative_to(flavour.SHELF)))
def test_every_patch_says_what_it_changes(series: Path) -> None:
    found = _read(series.relative_to(flavour.SHELF).parts[0], series.parent.name)
    assert found.patches
    assert found.bad is ("bad" in series.parts)
    for patch in found.patches:
        head, _, body = patch.read_text().partition("\n---\n")
        assert head.startswith("Subject: ")
        assert "\nChanges: " in head
        assert "SPDX-License-Identifier: GPL-2.0-only" in head
        assert body.startswith("diff --git ")
        if found.bad and patch.parent == series.parent:
            assert f"mutant {found.name}:" in head
            assert "\nWrong: " in head and "\nShows: " in head


@pytest.mark.parametrize(
    "series",
    [series for series in SERIES if series.parent.parent.name == "bad"],
    ids=lambda p: str(p.parent.relative_to(flavour.SHELF)),
)
def test_a_mutant_changes_the_functions_that_it_says(series: Path) -> None:
    found = _read(series.relative_to(flavour.SHELF).parts[0], series.parent.name)
    head, _, body = found.patches[-1].read_text().partition("\n---\n")
    said = set(re.findall(r"\w+", head.partition("\nChanges: ")[2].partition("\n\n")[0]))
    hunks = re.findall(r"^@@ .* @@ .*?(\w+)\(", body, re.MULTILINE)
    assert set(hunks) == said, "git diff -p says where a hunk is"


def test_the_order_has_every_folder_and_names_only_what_is_there() -> None:
    named = {shelf.name: shelf for shelf in flavour.order()}
    assert set(named) == {path.name for path in flavour.SHELF.iterdir() if path.is_dir()}
    for shelf in named.values():
        assert shelf.shares in ("", *named) and bool(shelf.first) <= bool(shelf.shares)
        assert not shelf.first or (flavour.SHELF / shelf.name / shelf.first).is_file()
        assert set(FLAVOURS) <= set(flavour.names(shelf.folders)), "the model's can all be built"


@pytest.mark.parametrize("release", ["4.14", "4.17"])
def test_counter_v2_is_counter_and_its_five_defects(release: str) -> None:
    assert [patch.stem for patch in _read(release, "counter-v2").patches] == [
        "counter",
        "poll-leak",
        "virq-vcpu0",
        "unmask-dropped",
        "masked-underflow",
        "early-load",
    ]


def test_a_mutant_is_judged_by_the_flavour_it_was_made_from() -> None:
    assert _read("4.17", "poll-leak").design == "counter"
    assert _read("4.18", "poll-leak").design == "counter"  # after a patch that is no flavour's
    assert _read("4.17", "counter-v2").design == "counter-v2"
    own = flavour.Flavour("x", (flavour.SHELF / "4.17/bad/x/x.patch",), bad=True)
    assert own.design == "rwlock"


def test_rwlock_is_the_tree_as_it_stands(tree: Path) -> None:
    assert flavour.find("rwlock", source.from_dir(tree)).patches == ()


@pytest.mark.parametrize(
    ("lock", "names"),
    [("atomic_t", ("counter", "counter-v2")), ("spinlock_t", ("spinlock",))],
)
def test_a_tree_that_has_the_lock_already_is_not_patched(
    tree: Path, lock: str, names: tuple[str, ...]
) -> None:
    (tree / "xen/include/xen/sched.h").write_text(SCHED_H.replace("rwlock_t", lock))
    found = source.from_dir(tree)
    for name in names:
        made = flavour.find(name, found)
        assert (made.name, made.design, made.patches) == (name, name, ())


@pytest.mark.parametrize(
    ("lock", "name"),
    [("rwlock_t", "rwlock"), ("atomic_t", "counter"), ("spinlock_t", "spinlock")],
)
def test_a_tree_as_it_stands_is_judged_by_its_own_lock(tree: Path, lock: str, name: str) -> None:
    """Also with --flavour rwlock, which means no patches: a wrong word makes no wrong verdict."""
    (tree / "xen/include/xen/sched.h").write_text(SCHED_H.replace("rwlock_t", lock))
    found = source.from_dir(tree)
    for asked in (None, "rwlock", name):
        made = flavour.find(asked, found)
        assert (made.name, made.patches) == (name, ())
        seen = f"{lock} lock in struct evtchn (xen/include/xen/sched.h:3)"
        assert made.model == flavour.Model(name, "recognised", seen)


def test_the_model_may_be_given(tree: Path) -> None:
    found = source.from_dir(tree)
    for asked in (None, "rwlock"):
        made = flavour.find(asked, found, "spinlock")
        assert (made.name, made.model) == ("rwlock", flavour.Model("spinlock", "given", "--model"))
    mutant = _read("4.17", "poll-leak")
    assert mutant.model == flavour.Model("counter", "given", "flavour poll-leak")


def test_a_lock_that_nobody_knows_needs_a_model(tree: Path) -> None:
    (tree / "xen/include/xen/sched.h").write_text(SCHED_H.replace("rwlock_t", "seqlock_t"))
    found = source.from_dir(tree)
    with pytest.raises(ConfigError, match="cannot recognise the lock") as caught:
        flavour.find(None, found)
    assert "--model counter, rwlock, spinlock" in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    made = flavour.find(None, found, "spinlock")
    assert (made.name, made.design, made.patches) == ("spinlock", "spinlock", ())
    assert flavour.find("rwlock", found).model.how == "given"  # the user's word


def test_without_a_flavour_only_the_distributions_xen_gets_patches(tree: Path) -> None:
    theirs = replace(source.from_dir(tree), kind="apt")
    with pytest.raises(ConfigError, match=r"counter\.patch: the patch does not fit this tree"):
        flavour.find(None, theirs)
    own = replace(theirs, series=(source.Patch("a.eml", "[PATCH] x", "1234"),))
    assert flavour.find(None, own).patches == ()


def test_an_unknown_flavour_lists_those_there_are(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"no flavour countre for Xen 4\.17.*counter-v2") as error:
        flavour.find("countre", source.from_dir(tree))
    assert error.value.exit_code == 2
    assert "\n" not in str(error.value)


def test_a_path_is_no_flavour(tree: Path) -> None:
    for name in ("bad/poll-leak", "../4.17/counter", ".", ""):
        with pytest.raises(ConfigError):
            flavour.find(name, source.from_dir(tree))


def test_a_tree_that_no_series_fits(tree: Path) -> None:
    with pytest.raises(ConfigError, match=r"counter\.patch: the patch does not fit this tree: "):
        flavour.find("counter", source.from_dir(tree))


Fits = Callable[..., None]


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fits]:
    """Return a function that writes an own images/xen/: per folder the lines that a patch turns
    into "mine", and what order.yaml says of it."""
    home = tmp_path / "shelf"
    monkeypatch.setattr(flavour, "SHELF", home)
    monkeypatch.setattr(flavour, "ORDER", home / "order.yaml")
    flavour.order.cache_clear()

    def write(order: str, **lines: str) -> None:
        for name, line in lines.items():
            folder = home / name / "mine"
            folder.mkdir(parents=True)
            _replace(folder / "mine.patch", line, "mine;")
            (folder / "series").write_text("mine.patch\n")
        (home / "order.yaml").write_text(order)

    yield write
    flavour.order.cache_clear()


def _replace(patch: Path, old: str, new: str) -> None:
    patch.parent.mkdir(parents=True, exist_ok=True)
    patch.write_text(
        f"--- a/xen/main.c\n+++ b/xen/main.c\n@@ -1,3 +1,3 @@\n first;\n-{old}\n+{new}\n last;\n"
    )


def test_the_first_series_that_fits_is_taken_whatever_the_release(tree: Path, shelf: Fits) -> None:
    shelf("[{name: a}, {name: b}, {name: c}]", a="young;", b="old;", c="old;")
    for text, taken in (("old;", "b/mine"), ("young;", "a/mine")):
        (tree / "xen/main.c").write_text(f"first;\n{text}\nlast;\n")
        assert flavour.find("mine", source.from_dir(tree)).origin == taken
        assert (tree / "xen/main.c").read_text() == f"first;\n{text}\nlast;\n", "it was only tried"
    (tree / "xen/main.c").write_text("first;\nother;\nlast;\n")
    with pytest.raises(ConfigError, match=r"a/mine/mine\.patch: .*Hunk #1 FAILED.*main\.c"):
        flavour.find("mine", source.from_dir(tree))


def test_a_folder_may_share_the_series_of_another(tree: Path, shelf: Fits) -> None:
    shelf("[{name: a}, {name: b, shares: a, first: new.patch}]", a="young;")
    _replace(flavour.SHELF / "b/new.patch", "old;", "young;")
    (tree / "xen/main.c").write_text("first;\nold;\nlast;\n")
    found = flavour.find("mine", source.from_dir(tree))
    assert [patch.name for patch in found.patches] == ["new.patch", "mine.patch"]
    assert found.origin == "b with a/mine"
    flavour.apply(found, tree)
    assert (tree / "xen/main.c").read_text() == "first;\nmine;\nlast;\n"


def test_delay_points_need_a_source(tmp_path: Path) -> None:
    found = _read("4.17", "counter")
    made = flavour.delayed(found, source.Source("dir", tmp_path, "x", (4, 17), ""))
    assert made.patches == (*found.patches, flavour.DELAYS)
    assert (made.name, made.design) == ("counter", "counter")
    ready = source.Source("deb", tmp_path, "4.20.4", (4, 20), "")
    with pytest.raises(ConfigError, match=r"--delays: Xen 4\.20\.4 is here as the distribution"):
        flavour.delayed(flavour.find("rwlock", ready), ready)


def _read(folder: str, name: str) -> flavour.Flavour:
    shelf = next(each for each in flavour.order() if each.name == folder)
    found = shelf.read(name)
    assert found is not None
    return found
