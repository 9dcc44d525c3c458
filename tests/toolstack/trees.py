# SPDX-License-Identifier: GPL-2.0-or-later
"""A tree whose tools/ look like Xen's to a build, but are made in a second."""

from __future__ import annotations

from pathlib import Path

from harness.toolstack import recipe

_MAKEFILE = """\
XEN_ROOT = $(CURDIR)/{up}
include $(XEN_ROOT)/config/Tools.mk
{names}: part.o
\t$(CC) -shared -Wl,-soname,$@.1 -o $@ $<
%.o: %.c
\t$(CC) -c -o $@ $< $(APPEND_CFLAGS)
"""


def make_tree(folder: Path, *, domctl: str = "0x15", sysctl: str = "0x15") -> Path:
    """Write the tree into ``folder`` and return it."""
    texts = {
        "Config.mk": "# nothing\n",
        "config/Tools.mk.in": "PYTHON := @PYTHON@\nOCAML := @ocamltools@\nODD := @unheard_of@\n",
        "tools/config.h.in": "#undef XEN_LIB_DIR\n#undef HAVE_SYSTEMD\n#undef HAVE_LIBZ\n",
        "xen/Makefile": "export XEN_VERSION = 4\nexport XEN_SUBVERSION = 17\n",
        "xen/common/memory.c": "int read_by_the_hypervisor_only;\n",
        "xen/include/public/domctl.h": f"#define XEN_DOMCTL_INTERFACE_VERSION {domctl}\n",
        "xen/include/public/sysctl.h": f"#define XEN_SYSCTL_INTERFACE_VERSION {sysctl}\n",
        "xen/include/public/xen.h": "struct common { int size; };\n",
    }
    names: dict[str, list[str]] = {}
    for product in (recipe.HEADERS, *recipe.LIBRARIES, *recipe.PROGRAMS):
        names.setdefault(product.folders[0], []).append(product.name)
    for place, made in names.items():
        up = "/".join(".." for _ in Path(place).parts)
        texts[f"{place}/Makefile"] = _MAKEFILE.format(up=up, names=" ".join(made))
        texts[f"{place}/part.c"] = "int part(void)\n{\n    return 1;\n}\n"
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
