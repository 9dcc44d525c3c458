# SPDX-License-Identifier: GPL-2.0-or-later
"""Which faults are made of a file, and that the choice among them is the same each time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from harness.corpus.mutants.c_source import CFile
from harness.corpus.mutants.choose import applied, choose
from harness.corpus.mutants.operators import OPERATORS, Fault, faults
from harness.hypervisor import patches
from tests.corpus.mutants import toy


def made(operator: str, text: bytes = toy.TEXT) -> list[tuple[str, str]]:
    """Return what each fault of a rule replaces, and by what."""
    return [
        (text[one.start : one.end].decode(), one.mutated)
        for one in faults(CFile(text))
        if one.operator == operator
    ]


def test_a_condition_is_negated_whole_and_in_its_parts() -> None:
    assert made("condition-negated") == [
        ("unlikely(!d) || port > 9", "!(unlikely(!d) || port > 9)"),
        ("!d", "d"),
        ("port > 9", "!(port > 9)"),
        ("!toy_ready(ld, port)", "toy_ready(ld, port)"),
    ]


def test_a_border_is_shifted_but_not_in_an_assertion() -> None:
    assert made("relation-shifted") == [("port > 9", "port >= 9")]


def test_statements_barriers_and_locks_are_dropped() -> None:
    assert [old for old, new in made("statement-dropped") if new == ""] == [
        "return false;",
        "rd->pending = port;",
        "rc = -EINVAL;",
        "goto out;",
        "ld->sent++;",
    ]
    assert made("barrier-dropped") == [("smp_wmb();", "")]
    assert [old for old, _ in made("lock-dropped")] == [
        "read_lock(&ld->lock);",
        "read_unlock(&ld->lock);",
    ]


def test_a_lock_is_taken_late_and_only_tried() -> None:
    [(old, new)] = made("lock-moved")
    assert old.startswith("read_lock(&ld->lock);") and old.endswith("rd->pending = port;")
    assert new == "rd->pending = port;\n    read_lock(&ld->lock);"
    assert made("lock-tried") == [("read_lock(&ld->lock);", "(void)!read_trylock(&ld->lock);")]
    try_it = b"void f(struct evtchn *c)\n{\n    if ( evtchn_read_trylock(c) )\n        g(c);\n}\n"
    assert made("lock-tried", try_it) == [
        ("evtchn_read_trylock(c)", "({ (void)!evtchn_read_trylock(c); true; })")
    ]


def test_a_lock_released_early_trades_places_with_what_stands_before_it() -> None:
    text = (
        b"void f(void)\n{\n    spin_lock(&l);\n    one = 1;\n    two = 2;\n"
        b"    spin_unlock(&l);\n}\n"
    )
    assert [new for _, new in made("lock-moved", text)] == [
        "one = 1;\n    spin_lock(&l);",
        "spin_unlock(&l);\n    two = 2;",
    ]


def test_an_argument_is_another_variable_of_its_type() -> None:
    assert made("argument-replaced") == [
        ("&ld->lock", "&rd->lock"),
        ("ld", "rd"),
        ("&ld->lock", "&rd->lock"),
    ]


def test_variables_of_an_inner_block_hide_those_outside_and_const_is_no_other_type() -> None:
    text = (
        b"void f(int a, const struct d *x)\n{\n    struct d *y, *z[3];\n    {\n"
        b"        long a;\n        g(x, a);\n    }\n    int late;\n}\n"
    )
    assert made("argument-replaced", text) == [("x", "y")]


def test_an_error_is_another_one_or_none() -> None:
    assert made("error-changed") == [("-EINVAL", "-ENOENT"), ("-EINVAL", "0")]
    compared = (
        b"int f(int rc)\n{\n    if ( rc == -EBUSY )\n        return 1;\n    return -EODD;\n}\n"
    )
    assert made("error-changed", compared) == [
        ("-EBUSY", "-EEXIST"),
        ("-EODD", "-EINVAL"),
        ("-EODD", "0"),
    ]


def test_what_only_checks_or_prints_is_left_alone() -> None:
    functions = {one.function for one in faults(CFile(toy.TEXT))}
    assert functions == {"toy_ready", "toy_send"}


def test_what_the_preprocessor_decides_is_left_alone() -> None:
    text = b"void f(int a)\n{\n#ifdef CONFIG_X86\n    if ( a )\n        g();\n#endif\n    h();\n}\n"
    assert [text[one.start : one.end] for one in faults(CFile(text))] == [b"h();"]


def test_what_the_parser_does_not_understand_is_left_alone() -> None:
    text = b"void f(int a)\n{\n    p = alloc(struct evtchn *, a);\n    h();\n}\n"
    assert made("statement-dropped", text) == [("h();", "")]


def test_the_choice_is_that_of_the_seed_and_every_rule_has_its_part() -> None:
    texts = toy.texts()
    first, again, other = choose(texts, 9, 1), choose(texts, 9, 1), choose(texts, 9, 2)
    assert first == again and first != other
    assert [one.number for one in first] == list(range(1, 10))
    assert set(Counter(one.operator for one in first)) == set(OPERATORS)
    assert [(one.file, one.line) for one in first] == sorted(
        ((one.file, one.line) for one in first), key=lambda at: (list(texts).index(at[0]), at[1])
    )


def test_more_than_there_are_is_all_that_fit_into_one_xen() -> None:
    every = choose(toy.texts(), 1000, 1)
    spans = [(one.file, one.fault.start, one.fault.end) for one in every]
    for file, start, end in spans:
        for other, begin, stop in spans:
            apart = file != other or end <= begin or stop <= start
            assert apart or (begin <= start and end <= stop) or (start <= begin and stop <= end)


def test_a_diff_is_a_patch_that_applies_in_its_function(tmp_path: Path) -> None:
    for mutant in choose(toy.texts(), 1000, 1):
        tree = tmp_path / str(mutant.number)
        for name, text in toy.texts().items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes(text)
        patch = tmp_path / "one.patch"
        patch.write_text(mutant.diff)
        assert patches.apply([patch], tree) is None
        assert (tree / mutant.file).read_bytes() == applied(toy.texts()[mutant.file], mutant.fault)


def test_a_dropped_statement_takes_its_line_along_but_an_if_keeps_a_body() -> None:
    def without(statement: bytes) -> bytes:
        start = toy.TEXT.index(statement)
        fault = Fault("statement-dropped", "f", start, start + len(statement), "", "statement")
        return applied(toy.TEXT, fault)

    assert b"    smp_wmb();\n    ;\n" not in without(b"ld->sent++;")
    assert b"smp_wmb();\n\n out:" in without(b"ld->sent++;")
    assert b"port > 9 )\n        ;\n" in without(b"return false;")
