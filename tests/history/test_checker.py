# SPDX-License-Identifier: GPL-2.0-or-later
"""The checker: no false alarm, no visible bug missed, the same verdicts as brute force.

The samples here are small; the same functions run over 10,000 seeds by hand.
"""

from __future__ import annotations

import random
from pathlib import Path
from statistics import median

import pytest

from harness.history import checker
from harness.history.checker import check
from harness.history.format.parquet import write
from harness.history.simulate.bugs import ANSWERS, BUGS, inject
from harness.history.simulate.run import Recipe, generate
from harness.model.lock.flavours import FLAVOURS
from harness.verdict import Verdict
from tests.history.brute import explained
from tests.history.tiny import tiny


def recipe(seed: int, *, crash: bool = True) -> Recipe:
    rng = random.Random(seed)
    return Recipe(
        seed,
        flavour=rng.choice(list(FLAVOURS)),
        operations=rng.choice([30, 100, 300]),
        domains=rng.choice([1, 2, 3]),
        threads=rng.choice([1, 2, 4]),
        skew_ns=rng.choice([0, 0, 500, 5_000]),
        crash=crash and rng.random() < 0.3,
        kernel=rng.choice([0, 0.05, 0.3]),
    )


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_no_false_alarm(first: int) -> None:
    for seed in range(first, first + 20):
        result = check(generate(recipe(seed)))
        assert result.verdict is Verdict.PASS, (seed, result.violations[0].story)


@pytest.mark.parametrize("seed", [41436, 6000333])
def test_no_false_alarm_where_there_once_was(seed: int) -> None:
    assert check(generate(recipe(seed))).verdict is Verdict.PASS


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS)
def test_visible_bugs_are_found_and_told_in_few_lines(bug: str) -> None:
    sizes: list[int] = []
    seed = 0
    while len(sizes) < 2 and seed < 400:
        injected = inject(recipe(seed, crash=bug in ANSWERS), bug)
        seed += 1
        if injected is not None:
            result = check(injected[0])
            assert result.verdict is Verdict.FAIL, (bug, seed - 1)
            sizes.append(len(result.violations[0].operations))
    assert sizes, f"no seed shows {bug}"
    assert median(sizes) <= 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bug", "seed"),
    [
        ("status wrong port", 20853),
        ("status wrong port", 21205),
        ("status wrong port", 21269),
        ("status unbound", 5044),
        ("bind refused", 377),
        ("status unbound", 21092),
        ("status unbound", 23540),
        ("status unbound", 27332),
        ("status unbound", 29332),
        ("send lost", 23388),
        ("bind refused", 24969),
        ("event invented", 18974),
        ("event invented", 25486),
        ("send refused", 29968),
        ("bind refused", 108569),  # STATUS told that it cannot have been that port
        ("bind refused", 109657),  # the other end's number was given anew
        ("event invented", 112206),  # an UNMASK of the life before
        ("event invented", 3000126),  # which life it was is not known, but nobody ever sent
        ("unmask lost", 3010605),  # a slow bind was not to the life that was for another domain
    ],
)
def test_bugs_beside_what_overlaps_a_birth_or_a_close(bug: str, seed: int) -> None:
    injected = inject(recipe(seed, crash=bug in ANSWERS), bug)
    assert injected is not None
    assert check(injected[0]).verdict is Verdict.FAIL


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 300, 50))
def test_same_verdicts_as_brute_force(first: int) -> None:
    for seed in range(first, first + 50):
        history = tiny(seed)
        assert (check(history).verdict is Verdict.PASS) == explained(history), seed


def test_no_port_is_connected_to_itself() -> None:
    """Here brute force once believed everything of a port whose other end is a kernel's."""
    assert not explained(tiny(30997)) and check(tiny(30997)).verdict is Verdict.FAIL


@pytest.mark.parametrize("seed", [4084, 4889, 4001250])
def test_brute_force_once_knew_better(seed: int) -> None:
    assert check(tiny(seed)).verdict is Verdict.FAIL


def test_tiny_histories_are_of_both_sorts() -> None:
    verdicts = [explained(tiny(seed)) for seed in range(60)]
    assert 5 < verdicts.count(False) < 55


@pytest.mark.slow
def test_pieces_give_the_verdict_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    # An operation under way at a border began long before what explains its answer (292); an
    # allocation is under way, and the close before it is needed (3739); a bind to a vCPU is under
    # way that began while the answer was made (11400, 30739).
    seeds = (*range(30), 292, 3739, 11400, 30739)
    whole = {seed: check(generate(recipe(seed))).verdict for seed in seeds}
    bad = [inject(recipe(seed, crash=False), "send refused") for seed in range(30)]
    monkeypatch.setattr(checker, "PIECE", 64)
    monkeypatch.setattr("harness.history.check.stream._OVERLAP", 16)
    for seed, verdict in whole.items():
        assert check(generate(recipe(seed))).verdict is verdict, seed
    seen = [check(injected[0]).verdict is Verdict.FAIL for injected in bad if injected]
    assert len(seen) > 15
    assert sum(seen) > 0.9 * len(seen)  # 64 operations are few: less can be known at borders


def test_file_gives_the_verdict_of_the_memory(tmp_path: Path) -> None:
    injected = next(h for s in range(50) if (h := inject(recipe(s, crash=False), "status closed")))
    write(injected[0], tmp_path / "h.parquet")
    one, two = check(injected[0]), check(tmp_path / "h.parquet")
    assert one.violations == two.violations
    assert one.operations == two.operations == injected[0].operations


def test_violations_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is carried over a border is judged again, and was counted again beyond the limit."""
    bad = next(h for s in range(50) if (h := inject(recipe(s, crash=False), "send refused")))
    whole = check(bad[0]).found
    monkeypatch.setattr(checker, "MOST_VIOLATIONS", 0)
    monkeypatch.setattr(checker, "MOST_SHRUNK", 0)
    monkeypatch.setattr(checker, "PIECE", 64)
    assert check(bad[0]).found == whole
