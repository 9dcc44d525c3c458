# SPDX-License-Identifier: GPL-2.0-or-later
"""The proof that a toolstack fits another Xen: sizes, offsets and constants of public headers."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.command import CommandFailed
from harness.toolstack.interface import Interface, interface
from harness.toolstack.recipe import Compiler
from tests.toolstack.conftest import ARCH

pytestmark = pytest.mark.usefixtures("no_packages")

_HEADER = """\
#ifndef XEN_DOMCTL_H
#define XEN_DOMCTL_H
#define XEN_DOMCTL_INTERFACE_VERSION 0x15
#define FIRST (1U << 3)
enum kind { SMALL, LARGE };
enum feature { XEN_X86_FEATURE_OLD = 3, XEN_X86_FEATURE_NEW = 4 };
struct create { uint32_t id; uint8_t flags; };
struct domctl {
    uint32_t cmd;
    union {
        struct create create;
        struct { uint64_t address; uint32_t size; } memory;
        uint8_t pad[128];
    } u;
};
typedef struct domctl domctl_t;
#ifdef __XEN__
struct xens_own { int field; };
#endif
#endif
"""


@pytest.fixture
def described(tmp_path: Path) -> Describe:
    return Describe(tmp_path)


class Describe:
    """Compiles headers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def __call__(self, text: str) -> Interface:
        self.count += 1
        public = self.folder / f"public{self.count}"
        public.mkdir()
        (public / "domctl.h").write_text(text)
        (public / "xen.h").write_text("#define __XEN_LATEST_INTERFACE_VERSION__ 0x1\n")
        return interface(public, Compiler(ARCH, Path("/"), Path("/")))

    def lacks(self, old: str, new: str) -> list[str]:
        """Return what keeps a toolstack with _HEADER from a Xen with it changed."""
        assert old in _HEADER
        return self(_HEADER.replace(old, new)).lacks(self(_HEADER))


def test_headers_that_say_the_same_in_other_words(described: Describe) -> None:
    assert described.lacks("(1U << 3)", "0x8 /* the first */") == []
    assert described.lacks("struct create create;", "/* of old */ struct create create;") == []


def test_the_version_is_presented_and_not_compared(described: Describe) -> None:
    assert described.lacks("0x15", "0x16") == []


def test_what_only_xen_sees_does_not_count(described: Describe) -> None:
    assert described.lacks("int field", "long other") == []


def test_a_new_operation_in_the_union_does_not_count(described: Describe) -> None:
    new = "struct create create; struct { uint64_t key; } added;"
    assert described.lacks("struct create create;", new) == []


def test_a_cpu_feature_may_be_unknown_but_not_another(described: Describe) -> None:
    assert described.lacks(", XEN_X86_FEATURE_NEW = 4", "") == []
    assert described.lacks("NEW = 4", "NEW = 5") == ["XEN_X86_FEATURE_NEW"]


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("pad[128]", "pad[256]", "struct domctl"),
        ("uint8_t flags", "uint16_t flags", "struct create"),
        ("uint32_t id; uint8_t flags", "uint32_t flags; uint8_t id", "struct create"),
        ("uint8_t flags;", "uint8_t flags; uint8_t more;", "struct create"),
        ("uint64_t address", "int64_t address", "struct domctl"),
        ("uint64_t address; uint32_t size", "uint64_t address; uint32_t bytes", "struct domctl"),
        ("SMALL, LARGE", "LARGE, SMALL", "LARGE"),
        ("1U << 3", "1U << 4", "FIRST"),
        ("#define FIRST (1U << 3)\n", "", "FIRST"),
        ("struct create create;", "", "struct domctl"),
        ("typedef struct domctl domctl_t;", "", "typedef domctl_t"),
    ],
)
def test_what_differs_is_named(described: Describe, old: str, new: str, name: str) -> None:
    assert name in described.lacks(old, new)


def test_headers_that_do_not_compile(described: Describe) -> None:
    with pytest.raises(CommandFailed):
        described("struct broken {")
