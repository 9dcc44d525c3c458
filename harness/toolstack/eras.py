# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tools/ of older trees need with today's compilers and today's Python: data.

An entry is applied where its text is found, whatever the tree's version number says: trees between
releases lie, and backports exist.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

# To every compilation, behind the tree's own flags.  Until 4.16 trees make errors of all warnings,
# and new compilers have more of them; until 4.13 xenstored and xl define variables in headers.
CFLAGS = "-Wno-error -fcommon"


@dataclass(frozen=True)
class Fix:
    """A text to replace in the files that ``path`` matches, and why."""

    path: str
    find: str  # a regular expression, ^ and $ at every line
    replace: str
    why: str


_MOVED = "between 4.14 and 4.15 libraries were moved, and make was not told all"
_PYTHON_2 = "until 4.13 the generators are written in Python 2"
_GENERATORS = ("tools/libxl/*.py", "tools/include/xen-foreign/*.py")

FIXES = (
    Fix(
        "tools/libs/*/Makefile",
        r"^\$\(LIB_OBJS\): \$\(LINK_FILES\)$",
        "$(LIB_OBJS) $(PIC_OBJS): $(LINK_FILES)",
        _MOVED,
    ),
    Fix(
        "tools/libs/light/Makefile",
        r"^include/libxl\.h: _libxl_types\.h _libxl_list\.h$",
        "include/libxl.h: include/libxl_json.h include/_libxl_types.h include/_libxl_list.h",
        _MOVED,
    ),
    Fix(
        "tools/libs/light/Makefile",
        r"^include/libxl_json\.h: _libxl_types_json\.h$",
        "include/libxl_json.h: include/_libxl_types_json.h",
        _MOVED,
    ),
    Fix(
        "tools/libs/light/libxl_create.c",
        r'LOGE\(ERROR, "qemu-xen access error"\);\n\s*return ERROR_FAIL;',
        'LOGE(INFO, "no device model, and so no HVM guest");',
        "from 19ab8356abe4 to 3c8fccd30d7e (4.21) no guest started without QEMU in dom0",
    ),
    *(
        Fix(path, find, replace, _PYTHON_2)
        for path in _GENERATORS
        for find, replace in (
            (r"^(\s*)print >>\s*sys\.stderr, (.+)$", r"\1print(\2, file=sys.stderr)"),
            (r"^(\s*)print (?!\()(.+)$", r"\1print(\2)"),
            (r"\braise (\w+), ([^\\\n]+)$", r"raise \1(\2)"),
            (r"\bexcept (\w+),\s*(\w+):", r"except \1 as \2:"),
            (r"\braise (\w+), \\\n(.*)\\\n(\s*%\(.*\))$", r"raise \1(\n\2\n\3)"),
            (r"\bexecfile\((\w+), ", r'exec(compile(open(\1).read(), \1, "exec"), '),
            (r"\b(\w+)\.has_key\((\w+)\)", r"\2 in \1"),
            (
                r"^(\w+) = (.+)\.keys\(\);\n\1\.sort\(lambda a, b: cmp\(len\(b\),\s*len\(a\)\)\);",
                r"\1 = sorted(\2, key=len, reverse=True)",
            ),
        )
    ),
)


def apply(tree: Path) -> None:
    """Change ``tree``, a copy of ours, as FIXES say."""
    for fix in FIXES:
        for path in sorted(tree.glob(fix.path)):
            text = path.read_text()
            changed = re.sub(fix.find, fix.replace, text, flags=re.MULTILINE)
            if changed != text:
                path.write_text(changed)
