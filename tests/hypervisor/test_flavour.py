# SPDX-License-Identifier: GPL-2.0-or-later
"""Flavours: the series on disk, and which of them a tree takes."""

from __future__ import annotations

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
    release = (4, int(series.relative_to(flavour.SHELF).parts[0].split(".")[1]))
    found = flavour.find(series.parent.name, _like(release))
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


@pytest.mark.parametrize("release", [(4, 14), (4, 17)])
def test_the_models_flavours_can_all_be_built(release: tuple[int, int]) -> None:
    assert set(FLAVOURS) <= set(flavour.names(release))


@pytest.mark.parametrize("release", [(4, 14), (4, 17)])
def test_counter_v2_is_counter_and_its_four_defects(release: tuple[int, int]) -> None:
    names = [patch.stem for patch in flavour.find("counter-v2", _like(release)).patches]
    assert names == ["counter", "poll-leak", "virq-vcpu0", "unmask-dropped", "masked-underflow"]


def test_a_mutant_is_judged_by_the_flavour_it_was_made_from() -> None:
    assert flavour.find("poll-leak", _like((4, 17))).design == "counter"
    assert flavour.find("counter-v2", _like((4, 17))).design == "counter-v2"
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
    for asked, name in ((None, "rwlock"), ("rwlock", "rwlock"), ("poll-leak", "poll-leak")):
        made = flavour.find(asked, found, "spinlock")
        assert (made.name, made.model) == (name, flavour.Model("spinlock", "given", "--model"))
    assert flavour.find("poll-leak", found).model == flavour.Model(
        "counter", "given", "flavour poll-leak"
    )


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
    assert flavour.find(None, theirs).name == "counter"
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


def test_a_release_without_series(tree: Path) -> None:
    makefile = tree / "xen/Makefile"
    makefile.write_text(makefile.read_text().replace("17", "99"))
    with pytest.raises(ConfigError, match=r"no flavour counter for Xen 4\.99"):
        flavour.find("counter", source.from_dir(tree))


def _like(release: tuple[int, int]) -> source.Source:
    return source.Source("dir", Path("/nonexistent"), "x", release, "")


def test_delay_points_need_a_source(tmp_path: Path) -> None:
    found = flavour.find("counter", _like((4, 17)))
    made = flavour.delayed(found, _like((4, 17)))
    assert made.patches == (*found.patches, flavour.DELAYS)
    assert (made.name, made.design) == ("counter", "counter")
    ready = source.Source("deb", tmp_path, "4.20.4", (4, 20), "")
    with pytest.raises(ConfigError, match=r"--delays: Xen 4\.20\.4 is here as the distribution"):
        flavour.delayed(flavour.find("rwlock", ready), ready)
