# SPDX-License-Identifier: GPL-2.0-or-later
"""Many mutants in one program: with the variable as 0 it is the original, else one of them."""

from __future__ import annotations

from pathlib import Path

from harness.corpus.mutants.choose import Mutant, applied, choose
from harness.corpus.mutants.operators import Fault
from harness.corpus.mutants.schema import HEADER, VARIABLE, WATCH, patch, rendered, schema
from harness.hypervisor import patches
from tests.corpus.mutants import toy

ON, MET = f"{VARIABLE}.on", f"{VARIABLE}.met"


def mutants() -> list[Mutant]:
    return choose(toy.texts(), 14, 3)


def test_every_mutant_behaves_as_it_does_alone(tmp_path: Path) -> None:
    chosen = mutants()
    together = toy.answers(
        schema(toy.texts(), chosen), tmp_path, ON, MET, [0, *(one.number for one in chosen)]
    )
    alone = []
    only = {"xen/common/event_channel.c": b"\nunsigned int on; unsigned char met[1];\n"}
    for number, one in enumerate([None, *chosen]):
        texts = toy.texts()
        if one is not None:
            texts[one.file] = applied(texts[one.file], one.fault)
        texts[toy.FILE] += only[toy.FILE]
        alone += toy.answers(texts, tmp_path / str(number), "on", "met", [0])
    said = [answer.partition(";")[0] for answer in together]
    assert said == [answer.partition(";")[0] for answer in alone]
    assert len(set(said)) > 6  # and they do differ from one another


def test_it_notes_which_places_it_comes_by(tmp_path: Path) -> None:
    chosen = mutants()
    original, watched = toy.answers(schema(toy.texts(), chosen), tmp_path, ON, MET, [0, WATCH])
    assert original.partition(";")[0] == watched.partition(";")[0]
    assert "1" not in original.partition(";")[2]
    met = [number for number, seen in enumerate(watched.partition(";")[2].split()) if seen == "1"]
    assert met == [one.number for one in chosen]


def test_a_mutant_inside_another_stays_in_the_original(tmp_path: Path) -> None:
    text = b"void f(int a)\n{\n    if ( a > 1 || b )\n        g();\n}\n"

    def mutant(number: int, old: bytes, new: str) -> Mutant:
        at = text.index(old)
        fault = Fault("x", "f", at, at + len(old), new, "expression")
        return Mutant(number, "f.c", 3, fault, "")

    made = rendered(
        text,
        [
            mutant(1, b"a > 1 || b", "!(a > 1 || b)"),
            mutant(2, b"a > 1", "a >= 1"),
            mutant(3, b"a > 1", "!(a > 1)"),
        ],
    )
    assert made == text.replace(
        b"a > 1 || b",
        b"(evtchn_mutated(1) ? (!(a > 1 || b)) : ((evtchn_mutated(3) ? (!(a > 1)) : "
        b"((evtchn_mutated(2) ? (a >= 1) : (a > 1)))) || b))",
    )


def test_no_line_moves_but_by_the_include_in_event_h() -> None:
    made = schema(toy.texts(), mutants())
    after = made[toy.FILE].splitlines()
    for number, line in enumerate(toy.TEXT.splitlines()):
        assert line != b"}" or after[number] == b"}"
    assert made[toy.EVENT_H].count(b"\n") == toy.HEADER.count(b"\n") + 1


def test_its_patch_makes_it(tmp_path: Path) -> None:
    for name, text in toy.texts().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text)
    file = tmp_path / "schema.patch"
    file.write_text(patch(toy.texts(), mutants()))
    assert patches.apply([file], tmp_path) is None
    for name, text in schema(toy.texts(), mutants()).items():
        assert (tmp_path / name).read_bytes() == text
    assert (tmp_path / HEADER).is_file()
