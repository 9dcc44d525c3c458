# SPDX-License-Identifier: GPL-2.0-or-later
"""What the compiler says of mutants, with a tree that is made in a moment."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.arch import Arch
from harness.corpus.mutants import compiled
from harness.corpus.mutants.choose import Mutant, choose
from harness.corpus.mutants.compiled import Target, fitted, same_code, unmoved
from harness.corpus.mutants.operators import Fault
from harness.hypervisor import patches, source
from harness.hypervisor.flavour import Flavour
from harness.hypervisor.recipe import How
from tests.corpus.mutants import toy

MAKEFILE = """\
export XEN_VERSION       = 4
export XEN_SUBVERSION    = 17
OBJECTS := common/event_channel.o common/event_2l.o common/event_fifo.o
all: $(OBJECTS)
clean distclean olddefconfig:
\t@true
%.o: %.c include/xen/event.h $(wildcard include/xen/evtchn_mutants.h)
\t$(CC) -Wall -Werror -Wno-unused-function -O1 $(EXTRA_CFLAGS_XEN_CORE) -Iinclude -c -o $@ $<
"""

pytestmark = pytest.mark.skipif(shutil.which("ccache") is None, reason="needs ccache")


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setenv("EVTCHN_HARNESS_CACHE", str(tmp_path / "cache"))
    tree = tmp_path / "tree"
    files = {
        "Config.mk": "# nothing\n",
        "xen/Makefile": MAKEFILE,
        "xen/include/xen/sched.h": toy.SCHED_H,
        "xen/include/xen/types.h": "#include <stdbool.h>\n",
        "xen/include/xen/event.h": toy.HEADER.decode(),
        "xen/common/event_channel.c": toy.TEXT.decode() + toy.MORE,
        "xen/common/event_2l.c": "#include <xen/event.h>\n",
        "xen/common/event_fifo.c": "#include <xen/event.h>\n",
    }
    for name, text in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    native = source.from_dir(tree)
    return Target(native, Flavour("rwlock", ()), Arch.X86_64, How())


def texts(target: Target) -> dict[str, bytes]:
    names = ("xen/common/event_channel.c", "xen/include/xen/event.h")
    return {name: (target.source.tree / name).read_bytes() for name in names}


def mutant(text: bytes, number: int, old: bytes, new: str, form: str = "expression") -> Mutant:
    at = text.index(old)
    fault = Fault("x", "toy_send", at, at + len(old), new, form)  # type: ignore[arg-type]
    return Mutant(number, toy.FILE, text.count(b"\n", 0, at) + 1, fault, "")


def test_those_that_do_not_compile_are_dropped_and_the_others_stay(target: Target) -> None:
    found = texts(target)
    text = found[toy.FILE]
    mutants = [
        mutant(text, 1, b"port > 9", "port >= 9"),
        mutant(text, 2, b"!d", "no_such_name"),
        mutant(text, 3, b"rc = -EINVAL;", "", "statement"),
        mutant(text, 4, b"ld->sent++;", "ld->nothing++;", "statement"),
    ]
    said: list[str] = []
    fit = fitted(target, found, mutants, said.append)
    assert [one.number for one in fit.mutants] == [1, 3]
    assert sorted(fit.dropped) == [2, 4] and "no_such_name" in fit.dropped[2]
    assert fit.flavour.design == "rwlock" and len(fit.flavour.patches) == 1
    assert patches.misfit(fit.flavour.patches, target.source.tree) is None
    assert said

    said.clear()  # now they come from the cache
    assert fitted(target, found, mutants, said.append) == fit
    assert said == []


def test_the_ones_with_the_code_of_the_original_are_told(target: Target) -> None:
    found = texts(target)
    text = found[toy.FILE]
    mutants = [
        mutant(text, 1, b"port > 9", "port >= 10"),  # the same, of a whole number
        mutant(text, 2, b"port > 9", "port >= 9"),
        mutant(text, 3, b"ld->sent++;", "", "statement"),
    ]
    assert same_code(target, found, mutants, lambda text: None) == {1}


def test_a_mutant_on_its_lines_moves_no_other(target: Target) -> None:
    for one in choose({toy.FILE: toy.TEXT}, 1000, 1):
        made = unmoved(toy.TEXT, one)
        assert made.count(b"\n") == toy.TEXT.count(b"\n")


def test_a_function_that_the_compiler_names_is_suspected(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = texts(target)[toy.FILE]
    mutants = [mutant(text, 1, b"port > 9", "port >= 9"), mutant(text, 2, b"!d", "d")]
    objects = compiled._Objects(target.source.tree, target.recipe, texts(target))
    said = "common/event_channel.c: In function 'toy_send':\nnowhere.h:1:1: error: no\n"
    assert objects.named(said, mutants) == mutants
    assert objects.named("common/event_channel.c:6:3: error: no\n", mutants) == mutants
    assert objects.named("common/event_channel.c:7:3: error: no\n", mutants) == mutants
    line = f"common/event_channel.c:{mutants[0].line}:3: error: no\n"
    assert mutants[0] in objects.named(line, mutants)
