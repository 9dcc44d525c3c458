# SPDX-License-Identifier: GPL-2.0-or-later
"""Which functions the hunks of a patch change."""

from __future__ import annotations

from harness.hypervisor.flavour import SHELF
from harness.hypervisor.hunks import Hunk, hunks

PATCH = """\
Subject: [PATCH] what git's heads do not tell
--- a/xen/common/one.c
+++ b/xen/common/one.c
@@ -10,7 +10,6 @@ static long first(int a)
 {
     int rc;
-    unsigned long flags;

 out:
     return rc;
 }
@@ -30,9 +29,9 @@ static long first(int a)
     return 0;
 }

-static unsigned long second(struct evtchn *l,
-                            struct evtchn *r)
+static void second(struct evtchn *l, struct evtchn *r)
 {
     third();
+    fourth();
 }

 static int third(void)
--- a/xen/include/xen/two.h
+++ b/xen/include/xen/two.h
@@ -5,2 +5,8 @@ void declared(int a);

+#define W 8
+static inline bool added(struct evtchn *e)
+{
+    return true;
+}
+
 static inline int untouched(void)
@@ -85 +85 @@ struct evtchn
-    spinlock_t lock;
+    atomic_t lock;
\\ No newline at end of file
@@ -99 +99 @@
-#define A
+#define B
"""


def test_a_hunk_changes_what_its_lines_are_in_and_not_what_its_head_names() -> None:
    assert hunks(PATCH) == (
        Hunk("xen/common/one.c", 10, ("first",)),
        Hunk("xen/common/one.c", 30, ("second",)),
        Hunk("xen/include/xen/two.h", 5, ("added",)),
        Hunk("xen/include/xen/two.h", 85, ("struct evtchn",)),
        Hunk("xen/include/xen/two.h", 99, ()),
    )


def test_a_change_of_every_call_site() -> None:
    found = hunks((SHELF / "4.17" / "spinlock" / "spinlock.patch").read_text())
    functions = {name for hunk in found for name in hunk.functions}
    assert {"double_evtchn_lock", "double_evtchn_unlock", "struct evtchn"} <= functions
    assert all(hunk.functions for hunk in found)


def test_no_patch_has_no_hunks() -> None:
    assert hunks("Hello,\n@ is no hunk\n") == ()
