# SPDX-License-Identifier: GPL-2.0-or-later
"""The corpus as data: what each entry must say."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.arch import Arch
from harness.corpus.entry import entries_for, read_entries
from harness.corpus.judge import cannot_show_cell
from harness.hypervisor import flavour
from harness.hypervisor.source import from_dir
from harness.interleave.scenarios import SCENARIOS
from harness.verdict import ConfigError

TESTCASES = Path(__file__).resolve().parents[2] / "testcases"


def test_every_entry_of_ours_names_a_test_that_is_there() -> None:
    known = read_entries(["4.17"])
    assert [name for name, entry in known.items() if entry.good] == [
        "rwlock",
        "counter",
        "spinlock",
    ]
    assert len([e for e in known.values() if not e.good and not e.cannot_show]) >= 15
    for entry in known.values():
        if entry.caught_by:
            file, _, name = entry.caught_by.partition("::")
            tree = ast.parse((TESTCASES / file).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if entry.forced_by:
            assert set(entry.arches) <= set(SCENARIOS[entry.forced_by].arches)


def test_what_only_arm_does_is_shown_by_its_machine_code() -> None:
    entry = read_entries(["4.17"])["unlock-no-barrier"]
    assert entry.in_binary == "evtchn_read_unlock"
    assert entry.can_show_on(Arch.ARM64) and not entry.can_show_on(Arch.X86_64)
    assert "x86-64" in cannot_show_cell(entry, "h1").explanation


@pytest.mark.parametrize("release", ["4.14", "4.17"])
def test_every_claim_that_an_entry_expects_to_fail_is_in_its_test(release: str) -> None:
    for entry in read_entries([release]).values():
        if not entry.caught_by:
            continue
        tree = ast.parse((TESTCASES / entry.caught_by.partition("::")[0]).read_text())
        known = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.expr)}
        claims = [each.fields["expression"] for each in entry.shows if each.kind == "assertion"]
        assert {claim for values in claims for claim in values} <= known


def shelf(tmp_path: Path, text: str | None) -> Path:
    folder = tmp_path / "9.9" / "bad" / "leak"
    folder.mkdir(parents=True)
    (folder / "series").touch()
    if text is not None:
        (folder / "entry.yaml").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "must say what catches it"),
        ("kind: racy\n", "shows and either caught_by or forced_by; or cannot_show"),
        ("kind: racy\ncaught_by: a::b\nforced_by: c\nshows: hang\n", "caught_by or forced_by"),
        ("kind: racy\nforced_by: c\nshows: hang\narches: [arm64]\n", "cannot_show"),
        ("kind: model-only\nin_binary: f\narches: [arm64]\n", "cannot_show"),
        ("kind: model-only\nin_binary: f\nshows: hang\n", "in_binary"),
        ("kind: awful\ncannot_show: x\n", "kind"),
        ("kind: racy\ncaught_by: a::b\nshows: spins\n", "shows: spins: no kind of evidence"),
        ("kind: racy\ncaught_by: a::b\nshows: [hang]\n", "shows: is a kind of evidence"),
        (
            "kind: racy\ncaught_by: a::b\nshows: {hang: {colour: x}}\n",
            "shows: hang.colour: no such",
        ),
        ("kind: racy\ncaught_by: a::b\nshows: {crash: []}\n", "shows: crash.what: is a value"),
        ("kind: racy\ncaught_by: a::b\nshows: {assertion: 'a ='}\n", "assertion.expression"),
        ("kind: [\n", "entry.yaml"),
        ("kind: racy\ncannot_show: x\ncolour: red\n", "colour"),
    ],
)
def test_a_broken_entry_is_one_clear_error(tmp_path: Path, text: str | None, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_entries(["9.9"], shelf(tmp_path, text))
    assert says in str(caught.value) and "entry.yaml" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_no_corpus_for_a_release(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no corpus for Xen 3\.1"):
        read_entries(["3.1"], tmp_path)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tree of Xen's, and an images/xen/ whose second folder has the series for it."""
    home, xen = tmp_path / "shelf", tmp_path / "tree"
    monkeypatch.setattr(flavour, "SHELF", home)
    monkeypatch.setattr(flavour, "ORDER", home / "order.yaml")
    flavour.order.cache_clear()
    for file, text in {
        "tree/Config.mk": "",
        "tree/xen/Makefile": "XEN_VERSION = 4\nXEN_SUBVERSION = 19\n",
        "tree/xen/include/xen/sched.h": "struct evtchn\n{\n    rwlock_t lock;\n};\n",
        "tree/xen/a.c": "one\ntwo\nthree\n",
        "shelf/order.yaml": "[{name: '8.8'}, {name: '9.9'}]",
        **_series("8.8/counter", "2", "two"),
        **_series("9.9/counter", "two", "2"),
        **_series("9.9/spinlock", "too", "2"),
        **_series("9.9/bad/leak", "2", "leak", first="../../counter/counter.patch"),
        **_series("9.9/bad/lost", "too", "lost", first="../../counter/counter.patch"),
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    yield xen
    flavour.order.cache_clear()


def _series(folder: str, old: str, new: str, first: str = "") -> dict[str, str]:
    name = Path(folder).name
    patch = f"--- a/xen/a.c\n+++ b/xen/a.c\n@@ -1,3 +1,3 @@\n one\n-{old}\n+{new}\n three\n"
    return {
        f"shelf/{folder}/{name}.patch": patch,
        f"shelf/{folder}/series": f"{first}\n{name}.patch\n",
        f"shelf/{folder}/entry.yaml": "kind: racy\ncaught_by: a::b\nshows: hang\n",
    }


def test_the_entries_of_a_tree_are_those_of_the_folder_that_fits_it(tree: Path) -> None:
    for good in ("counter", "spinlock"):
        (flavour.SHELF / "9.9" / good / "entry.yaml").unlink()
    known = entries_for(from_dir(tree))
    assert list(known) == ["rwlock", "counter", "spinlock", "leak", "lost"]
    unfit = {name: entry.misfit for name, entry in known.items() if entry.misfit}
    assert set(unfit) == {"spinlock", "lost"}
    assert unfit["lost"].startswith(
        "9.9/bad/lost/lost.patch: the patch does not fit this tree: Hunk"
    )
    assert not known["spinlock"].can_show_on(Arch.ARM64) and known["leak"].can_show_on(Arch.ARM64)
    cell = cannot_show_cell(known["spinlock"], "h1")
    assert (cell.outcome, cell.good, cell.explanation) == ("cannot-show", True, unfit["spinlock"])


def test_a_tree_that_has_another_lock_has_no_corpus(tree: Path) -> None:
    header = tree / "xen/include/xen/sched.h"
    header.write_text(header.read_text().replace("rwlock_t", "atomic_t"))
    with pytest.raises(ConfigError, match=r"has the lock of counter already.*whose lock is rwlock"):
        entries_for(from_dir(tree))
    header.write_text(header.read_text().replace("atomic_t", "rwlock_t"))
    (tree / "xen/a.c").write_text("other\n")
    with pytest.raises(ConfigError, match=r"counter\.patch: the patch does not fit this tree"):
        entries_for(from_dir(tree))
