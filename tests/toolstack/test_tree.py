# SPDX-License-Identifier: GPL-2.0-or-later
"""What of a tree goes into its toolstack, and the answers it is configured with."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.hypervisor.source import Source
from harness.toolstack import eras, recipe, tree
from tests.toolstack.trees import make_tree


def a_source(folder: Path) -> Source:
    return Source("dir", folder, "4.17.0", (4, 17), "")


def test_the_hypervisors_own_code_makes_no_other_toolstack(tmp_path: Path) -> None:
    source = a_source(make_tree(tmp_path))
    before = tree.digest(source)
    (tmp_path / "xen/common/memory.c").write_text("int something_else;\n")
    assert tree.digest(source) == before


@pytest.mark.parametrize(
    "name",
    [
        "tools/libs/light/part.c",
        "tools/xenstored/part.c",
        "xen/include/public/domctl.h",
        "config/Tools.mk.in",
    ],
)
def test_the_tools_and_the_public_headers_make_another(tmp_path: Path, name: str) -> None:
    source = a_source(make_tree(tmp_path))
    before = tree.digest(source)
    (tmp_path / name).write_text("/* another */\n")
    assert tree.digest(source) != before


def test_products_of_a_build_in_the_tree_do_not_count(tmp_path: Path) -> None:
    source = a_source(make_tree(tmp_path))
    before = tree.digest(source)
    for name in ("part.o", "part.opic", ".part.o.d"):
        (tmp_path / "tools/libs/light" / name).write_text("product")
    assert tree.digest(source) == before


def test_configure_answers_what_is_asked_and_leaves_nothing_open(tmp_path: Path) -> None:
    tree.configure(make_tree(tmp_path), {"PYTHON": "/a/python"})
    makefile = (tmp_path / "config/Tools.mk").read_text()
    assert makefile == "PYTHON := /a/python\nOCAML := n\nODD := \n"
    header = (tmp_path / "tools/config.h").read_text()
    assert '#define XEN_LIB_DIR "/var/lib/xen"\n' in header
    assert "/* #undef HAVE_SYSTEMD */\n#define HAVE_LIBZ 1\n" in header


def test_a_product_is_where_its_makefile_is(tmp_path: Path) -> None:
    daemon = next(p for p in recipe.PROGRAMS if p.name == "xenconsoled")
    (tmp_path / "tools/console/daemon").mkdir(parents=True)  # 4.14: sources, but no Makefile
    (tmp_path / "tools/console/Makefile").touch()
    assert recipe.find(tmp_path, daemon) == tmp_path / "tools/console"


def test_generators_in_python_2_become_python_3(tmp_path: Path) -> None:
    path = tmp_path / "tools/libxl/idl.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import sys\n"
        "def parse(f, known):\n"
        '    print >>sys.stderr, "Parsing %s" % f\n'
        '    print "to %s" % f\n'
        "    try:\n"
        "        execfile(f, known, known)\n"
        "    except SyntaxError,e:\n"
        "        raise SyntaxError, \\\n"
        '              "line %d of %s"\\\n'
        "              %(e.lineno,f)\n"
        "    if not known.has_key(f):\n"
        '        raise TypeError, "unknown"\n'
        "longest = known.keys();\n"
        "longest.sort(lambda a, b: cmp(len(b),len(a)));\n"
    )
    eras.apply(tmp_path)
    text = path.read_text()
    compile(text, "idl.py", "exec")
    assert 'print("Parsing %s" % f, file=sys.stderr)' in text
    assert "if not f in known:" in text
    eras.apply(tmp_path)
    assert path.read_text() == text


def test_generators_that_are_python_3_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "tools/libxl/idl.py"
    path.parent.mkdir(parents=True)
    text = 'print("to %s" % f)\nprint ("x")\ntry:\n    f()\nexcept A as e:\n    raise B(e)\n'
    path.write_text(text)
    eras.apply(tmp_path)
    assert path.read_text() == text
