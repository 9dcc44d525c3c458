# SPDX-License-Identifier: GPL-2.0-or-later
"""Patches with little context: each hunk must land in the function that it was made for."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.hypervisor import patches

# The two functions that a change of "notify;" cannot tell apart, and what git says of the second.
SOURCE = """\
void declared(int, ...);

static void virq(int a)
{
    lock;
    notify;
    unlock;
}

static void pirq(int a)
{
    lock;
    notify;
    unlock;
}
"""
PATCH = """\
diff --git a/xen/event.c b/xen/event.c
--- a/xen/event.c
+++ b/xen/event.c
@@ -5,3 +5,4 @@{first}
     lock;
-    notify;
+    notify twice;
+    and again;
     unlock;
@@ -12,3 +13,3 @@{second}
     lock;
-    notify;
+    notify nobody;
     unlock;
"""
BOTH = PATCH.format(first=" static void virq(int a)", second=" static void pirq(int a)")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "xen").mkdir(parents=True)
    (folder / "xen/event.c").write_text(SOURCE)
    return folder


def series(tree: Path, *texts: str) -> list[Path]:
    found = []
    for number, text in enumerate(texts):
        found.append(tree.parent / f"{number}.patch")
        found[-1].write_text(text)
    return found


def test_hunks_that_move_with_their_function_fit(tree: Path) -> None:
    (tree / "xen/event.c").write_text("/*\n * More at the top.\n */\n" + SOURCE)
    assert patches.misfit(series(tree, BOTH), tree) is None
    assert "twice" not in (tree / "xen/event.c").read_text()
    assert patches.apply(series(tree, BOTH), tree) is None
    assert (tree / "xen/event.c").read_text().count("notify twice;\n    and again;") == 1


def test_a_hunk_that_lands_in_another_function_does_not(tree: Path) -> None:
    text = SOURCE.replace("static void virq(int a)\n{\n    lock;", "static void virq(int a)\n{\n")
    (tree / "xen/event.c").write_text(text)
    only = BOTH[: BOTH.index("@@ -12")]
    found = patches.misfit(series(tree, only), tree)
    assert found is not None
    assert found.reason == "Hunk #1 would change pirq instead of virq (xen/event.c)"
    assert found.patch.name == "0.patch" and found.applied == 0


def test_the_arguments_and_the_name_of_a_function_may_change(tree: Path) -> None:
    (tree / "xen/event.c").write_text(SOURCE.replace("pirq(int a)", "pirq(const int *a)"))
    assert patches.misfit(series(tree, BOTH), tree) is None
    (tree / "xen/event.c").write_text(SOURCE.replace("pirq(int a)", "physical(int a)"))
    assert patches.misfit(series(tree, BOTH), tree) is None


def test_a_declaration_says_nothing(tree: Path) -> None:
    text = SOURCE.replace("static void virq(int a)\n{", "{").replace("declared", "other")
    (tree / "xen/event.c").write_text(text)
    header = PATCH.format(first=" void declared(int, ...);", second=" static void pirq(int a)")
    assert patches.misfit(series(tree, header), tree) is None


def test_a_diff_that_names_no_functions_is_applied_as_patch_does(tree: Path) -> None:
    assert patches.misfit(series(tree, PATCH.format(first="", second="")), tree) is None
    plain = PATCH.format(first="", second="").partition("\n")[2]
    plain = plain.replace("--- a/xen/event.c", "--- xen.orig/xen/event.c\t2020-10-12")
    plain = plain.replace("+++ b/xen/event.c", "+++ xen.new/xen/event.c\t2020-10-12")
    assert patches.misfit(series(tree, plain), tree) is None


def test_files_come_and_go(tree: Path) -> None:
    patch = """\
diff --git a/xen/new.c b/xen/new.c
new file mode 100644
--- /dev/null
+++ b/xen/new.c
@@ -0,0 +1,2 @@
+one
+two
diff --git a/xen/event.c b/xen/event.c
deleted file mode 100644
--- a/xen/event.c
+++ /dev/null
@@ -1,15 +0,0 @@
"""
    patch += "".join(f"-{line}\n" for line in SOURCE.splitlines())
    assert patches.apply(series(tree, patch, BOTH.replace("event.c", "new.c")), tree) is not None
    assert (tree / "xen/new.c").read_text() == "one\ntwo\n"
    assert not (tree / "xen/event.c").exists()


def test_what_does_not_fit_says_how_far_the_series_came(tree: Path) -> None:
    found = patches.misfit(series(tree, BOTH, BOTH.replace("    lock;", "    take;")), tree)
    assert found is not None and found.patch.name == "1.patch"
    assert found.reason == "Hunk #1 FAILED at 5. (xen/event.c)"
    assert found.applied == 2
    missing = patches.misfit(series(tree, BOTH.replace("event.c", "gone.c")), tree)
    assert missing is not None and "can't find file" in missing.reason
