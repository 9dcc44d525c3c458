# SPDX-License-Identifier: GPL-2.0-or-later
"""What is changed in the tools/ of trees that today's machines cannot build, and what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.toolstack import eras


def changed(tree: Path, name: str, text: str) -> str:
    file = tree / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    eras.apply(tree)
    return file.read_text()


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        (
            "tools/libs/store/Makefile",
            "x:\n$(LIB_OBJS): $(LINK_FILES)\n",
            "x:\n$(LIB_OBJS) $(PIC_OBJS): $(LINK_FILES)\n",
        ),
        (
            "tools/libs/light/Makefile",
            "include/libxl.h: _libxl_types.h _libxl_list.h\ninclude/libxl_json.h: "
            "_libxl_types_json.h\n",
            "include/libxl.h: include/libxl_json.h include/_libxl_types.h include/_libxl_list.h\n"
            "include/libxl_json.h: include/_libxl_types_json.h\n",
        ),
    ],
)
def test_make_is_told_what_moved_libraries_need(
    tmp_path: Path, name: str, before: str, after: str
) -> None:
    """Trees between 4.14 and 4.15, where the lock's rework was posted, have no domUs otherwise."""
    assert changed(tmp_path, name, before) == after
    assert changed(tmp_path, name, after) == after, "once is enough"


def test_what_a_later_tree_says_stays(tmp_path: Path) -> None:
    text = "$(XEN_INCLUDE)/libxl.h: $(XEN_INCLUDE)/_libxl_types.h $(XEN_INCLUDE)/_libxl_list.h\n"
    assert changed(tmp_path, "tools/libs/light/Makefile", text) == text


def test_libxl_starts_guests_that_need_no_qemu_without_one(tmp_path: Path) -> None:
    """From 19ab8356abe4 to 3c8fccd30d7e no domU came up in arm64's dom0, which has no QEMU."""
    name = "tools/libs/light/libxl_create.c"
    before = 'if (rc < 0) {\n    LOGE(ERROR, "qemu-xen access error");\n    return ERROR_FAIL;\n}\n'
    after = changed(tmp_path, name, before)
    assert after == 'if (rc < 0) {\n    LOGE(INFO, "no device model, and so no HVM guest");\n}\n'
    later = 'if (rc < 0) {\n    LOGE(INFO, "qemu-xen is unavailable");\n    x = UNKNOWN;\n}\n'
    assert changed(tmp_path, name, later) == later
