# SPDX-License-Identifier: GPL-2.0-or-later
"""Nothing reads our own prose: change every word of it, and every decision stays."""

from __future__ import annotations

import ast
import random
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.bisect.commits import Commits
from harness.bisect.observations import Observations
from harness.bisect.processes import of_document
from harness.bisect.report import other_failures
from harness.bisect.search import Question
from harness.bisect.target import target_of
from harness.compare import judge as compare
from harness.compare.measure import read_measurement
from harness.config.nightly import Cell
from harness.corpus import judge as corpus
from harness.corpus.entry import Entry, read_entries
from harness.evidence import Disallowed, Evidence, words
from harness.interleave.suggest import overlaps
from harness.nightly.detect import detect_findings
from harness.nightly.outcome import read_outcome
from harness.nightly.store import Store
from harness.results.directory import create
from harness.results.document import run_document
from harness.results.journal import Journal
from harness.results.records import HostEnd, HostStart, RunEnd, RunStart, Test
from harness.results.store import load
from harness.run.leak_check import outcome as leak_outcome
from harness.verdict import HarnessError, HypervisorError, LabError, Verdict
from tests.nightly import fake

from .samples import CLOSE, SAMPLES, SEND

HOST = "h1"
WORDING = ("message", "story", "spin", "backtrace", "operation", "identity", "after")
SEEDS = (1, 2, 3)


@pytest.fixture(params=SEEDS)
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


def gibberish(chance: random.Random) -> str:
    """Random words, with what looks like our own sentences among them."""
    alphabet = string.ascii_letters + string.digits + " :;=()'<>"
    told = "".join(chance.choices(alphabet, k=40))
    traps = ("Xen hangs: CPU1 spins in x", "(3 in all)", "panic: y", "the nightly was stopped", "")
    return f"{told} {chance.choice(traps)}"


def reword(monkeypatch: pytest.MonkeyPatch, chance: random.Random) -> None:
    """Change the wording of every message: evidence's, and that of every error of ours."""
    for name in WORDING:
        monkeypatch.setattr(words, name, lambda *_: gibberish(chance))
    monkeypatch.setattr(HarnessError, "__str__", lambda _: gibberish(chance))


def ended(error: HarnessError, name: str) -> Test:
    """Return the record of a test that ended with ``error``, as the pytest door writes it."""
    return Test(HOST, name, error.verdict, 1.0, str(error), error.story, evidence=error.evidence)


def recorded(path: Path, seen: Evidence) -> Path:
    """Leave a run whose test ``load`` failed with ``seen``, and one that the lab spoilt."""
    with Journal(create(path).journal) as journal:
        journal.append(RunStart(7, (), "", (HOST,)))
        journal.append(HostStart(HOST, "arm64", "tcg", "", "counter", "aa", "4.17", "apt"))
        failed = ended(HypervisorError(seen, hint=words.after("silence")), "load")
        journal.append(failed)
        journal.append(ended(LabError("no power"), "duel"))
        journal.append(leak_outcome(HOST, []))
        journal.append(HostEnd(HOST, Verdict.FAIL, 10, failed.message))
        journal.append(RunEnd(Verdict.FAIL, 1.0))
    return path


def decided(place: Path, store_home: Path) -> dict[str, object]:
    """Return every decision about the failures of runs with SAMPLES, a night each."""
    decisions: dict[str, object] = {}
    known = [*read_entries(["4.17"]).values(), *read_entries(["4.14"]).values()]
    known += [
        Entry.model_validate({"name": s.kind, "kind": "racy", "caught_by": "x", "shows": s.kind})
        for s in SAMPLES
    ]
    runs: dict[str, Path] = {seen.kind: recorded(place / seen.kind, seen) for seen in SAMPLES}
    for kind, run in runs.items():
        document = run_document(load(run))
        tries = of_document("c1", document, "").tries
        decisions[f"bisect {kind}"] = [(t.test, t.outcome, t.signature) for t in tries]
        decisions[f"wanted {kind}"] = target_of(run)
        tests = document["hosts"][0]["tests"]
        cells = [corpus.judge(entry, HOST, tests) for entry in known]
        decisions[f"corpus {kind}"] = [(c.entry, c.outcome, c.hits, c.tries) for c in cells]
        evidences = [test.evidence for host in load(run).hosts for test in host.tests]
        decisions[f"suggest {kind}"] = [m.scenarios for e in evidences for m in overlaps(e)]
        pair = read_measurement(run), read_measurement(runs["hang"])
        judged = compare.judge([pair], margin=0.1)
        decisions[f"compare {kind}"] = (judged.verdict, [d.subject for d in judged.differences])
    decisions["nightly"] = list(_nights(runs, store_home))
    return decisions


def _nights(runs: dict[str, Path], home: Path) -> Iterator[tuple[object, ...]]:
    """Yield what each night finds; before it was over it was stopped once."""
    key = (HOST, "counter", "load")
    with Store(home, write=True) as store:
        for number, run in enumerate((*runs.values(), *runs.values())):
            night = store.begin_night("p", [key], 1_800_000_000.0 + 86400 * number, 60)
            outcome = read_outcome(run)
            store.end_attempt(store.begin_attempt(store.cells(night.id)[0]), outcome, state="done")
            for found in detect_findings(store, night):
                yield (
                    night.id,
                    found.name,
                    found.judgement.kind,
                    found.judgement.since,
                    found.is_new,
                )


def test_every_decision_stays_whatever_the_wording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: random.Random
) -> None:
    as_it_is = decided(tmp_path / "plain", tmp_path / "plain-store")
    with monkeypatch.context() as patched:
        reword(patched, chance)
        reworded = decided(tmp_path / "reworded", tmp_path / "reworded-store")
    assert reworded == as_it_is
    signatures = {str(value) for name, value in as_it_is.items() if name.startswith("wanted")}
    assert len(signatures) == len(SAMPLES)
    caught = {kind for kind in (s.kind for s in SAMPLES) if _catches(as_it_is, kind)}
    assert caught == {sample.kind for sample in SAMPLES}
    nights: Any = as_it_is["nightly"]
    assert sum(new for *_, new in nights) == len(SAMPLES)  # each kind once, in two rounds


def _catches(decisions: dict[str, Any], kind: str) -> bool:
    return (kind, "caught", 1, 1) in decisions[f"corpus {kind}"]


def test_a_meeting_is_one_whatever_the_wording(
    monkeypatch: pytest.MonkeyPatch, chance: random.Random
) -> None:
    witness = Disallowed(property="order", operations=(CLOSE, SEND))
    (plain,) = overlaps(witness)
    reword(monkeypatch, chance)
    (reworded,) = overlaps(witness)
    assert reworded.scenarios == plain.scenarios
    assert reworded.one != plain.one


def test_other_failures_of_a_bisection_are_counted_whatever_the_wording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: random.Random
) -> None:
    others = [sample for sample in SAMPLES if sample.kind != "hang"]
    documents = [
        run_document(load(recorded(tmp_path / f"{seen.kind}-{time}", seen)))
        for seen in others
        for time in range(2)
    ]
    commits = Commits("good", ("bad",), {"bad": ("good",)})
    observations = Observations(target_of(recorded(tmp_path / "hang", SAMPLES[0])))
    for document in documents:
        observations = observations.with_event(of_document("bad", document, ""))
    reword(monkeypatch, chance)
    counted = other_failures(Question(commits), observations)
    assert [each["times"] for each in counted] == [2] * len(others)


def test_a_stopped_night_goes_on_whatever_the_wording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chance: random.Random
) -> None:
    """What was stopped is no fault of the lab: it does not use up the retries."""
    reword(monkeypatch, chance)
    asked: list[str] = []

    def script(cell: Cell) -> fake.FakeResult | HarnessError:
        asked.append(cell.host.name)
        return LabError(gibberish(chance)) if len(asked) == 1 else fake.FakeResult()

    with Store(tmp_path, write=True) as store:
        plan = fake.plan(hosts=("h1",), retries=1)
        night = fake.night(plan, store, fake.FakeRunner(script))
        assert night.verdict == Verdict.PASS
        assert asked == ["h1", "h1"]


# -- nobody parses -----------------------------------------------------------------------------

HARNESS = Path(__file__).parents[2] / "harness"
_PROSE = {"message", "story"}
_TAKES_APART = {
    "startswith", "endswith", "removeprefix", "removesuffix", "partition", "rpartition", "split",
    "rsplit", "find", "index", "count", "search", "match", "fullmatch", "findall",
    "finditer", "sub",
}  # fmt: skip
# Modules of the rooms that decide on failures, and what their regular expressions read.
_READS_OTHERS = {
    "nightly/kcidb.py",  # names of ours, made fit for KCIDB
    "compare/companions.py",  # sources of Xen and Linux
    # Sources of Xen, diffs of them, and what the compiler says.
    *(
        f"corpus/mutants/{name}.py"
        for name in ("c_source", "choose", "compiled", "operators", "schema")
    ),
}


def _is_prose(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(attr=name):
            return name in _PROSE
        case ast.Subscript(slice=ast.Constant(value=name)):
            return name in _PROSE
        case ast.Call(func=ast.Name(id="str"), args=[inner]):
            return _is_prose(inner) or (isinstance(inner, ast.Name) and inner.id == "error")
        case _:
            return False


def _reads_prose(node: ast.AST) -> bool:
    """Say whether ``node`` decides on a message or takes it apart."""
    match node:
        case ast.Compare(left=left, comparators=others):
            sides = [left, *others]
            plain = any(isinstance(side, ast.Constant) and side.value == "" for side in sides)
            return any(map(_is_prose, sides)) and not plain
        case ast.Call(func=ast.Attribute(attr="splitlines", value=value)):
            return _is_prose(value) and not isinstance(value, ast.Call)  # for an error's first line
        case ast.Call(func=ast.Attribute(attr=name, value=value), args=args):
            return name in _TAKES_APART and any(map(_is_prose, [value, *args]))
        case _:
            return False


def _offences(source: str) -> list[int]:
    return [node.lineno for node in ast.walk(ast.parse(source)) if _reads_prose(node)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "source",
    [
        'x = test["message"].startswith("Xen hangs")',
        "re.search(pattern, test.story)",
        '"stopped" in attempt.message',
        "a.message == STOPPED",
        'str(error).partition("; seen when")',
    ],
)
def test_a_reader_of_prose_is_found(source: str) -> None:
    assert _offences(source)


def test_no_module_reads_our_prose() -> None:
    found = {
        str(file.relative_to(HARNESS)): lines
        for file in HARNESS.rglob("*.py")
        if (lines := _offences(file.read_text()))
    }
    assert found == {}


def test_the_rooms_that_decide_have_regular_expressions_for_others_words_only() -> None:
    rooms = ("bisect", "nightly", "compare", "corpus", "interleave")
    having = {
        str(file.relative_to(HARNESS))
        for room in rooms
        for file in (HARNESS / room).rglob("*.py")
        if "import re\n" in file.read_text()
    }
    assert having == _READS_OTHERS
