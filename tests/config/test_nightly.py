# SPDX-License-Identifier: GPL-2.0-or-later
"""PLAN.yaml: what is read, and one exact line per mistake."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.config.lab import load_lab
from harness.config.nightly import Cell, Kcidb, NightlyPlan, PlanHost, Suite, Xen, load_plan
from harness.nightly.plan import limit_to_hosts, read_plan
from harness.verdict import ConfigError

TESTCASES = Path(__file__).parents[2] / "testcases"
DOCS = (Path(__file__).parents[2] / "docs" / "nightly.md").read_text()
HEAD = "hosts: {qemu-arm64: }\nxens: {c: }\nsuites: {s: }\n"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _read(text: str) -> NightlyPlan:
    Path("plan.yaml").write_text(text)
    return read_plan(Path("plan.yaml"), load_lab(None), TESTCASES)


def _problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _read(text)
    return [line.removeprefix("plan.yaml:") for line in str(caught.value).splitlines()]


def test_a_short_plan_has_the_defaults() -> None:
    plan = _read(HEAD)
    assert plan.hosts == {"qemu-arm64": PlanHost(name="qemu-arm64")}
    assert plan.xens == {"c": Xen(name="c")}
    assert plan.suites == {"s": Suite(name="s")}
    assert (plan.budget_hours, plan.retries, plan.parallel) == (8.0, 1, None)
    assert plan.kcidb == Kcidb()
    assert [cell.key for cell in plan.cells()] == [("qemu-arm64", "c", "s")]


def test_the_example_of_the_documentation_is_a_plan() -> None:
    example = re.findall(r"```yaml\n(budget.*?)```", DOCS, re.DOTALL)[0]
    Path("xen").mkdir()
    Path("v5.mbox").touch()
    plan = _read(example)
    keys = {cell.key for cell in plan.cells()}
    assert ("qemu-arm64", "counter", "load") in keys
    assert ("qemu-x86_64", "mine", "load") not in keys  # limited to one host


def test_the_documentation_has_every_field_with_its_default() -> None:
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \|", DOCS.split("## The store")[0], re.MULTILINE)
    documented = {field: default.strip().strip("`") for field, default in rows}
    real = {"budget_hours": "8.0", "retries": "1"}
    for section, model in (
        ("hosts", PlanHost),
        ("xens", Xen),
        ("suites", Suite),
        ("kcidb", Kcidb),
    ):
        for name, field in model.model_fields.items():
            if name not in ("name", "priority"):
                is_plain = isinstance(field.default, str | int | float)
                real[f"{section}.{name}"] = str(field.default) if is_plain else ""
    assert set(documented) == {*real, "parallel", "priority"}
    for name, default in real.items():
        if default:
            assert documented[name].lower() == default.lower()


def test_sections_limit_themselves() -> None:
    plan = _read(
        "hosts: {qemu-arm64: , qemu-x86_64: }\n"
        "xens: {c: {hosts: [qemu-arm64]}, r: {flavour: rwlock}}\n"
        "suites: {s: , t: {xens: [r], hosts: [qemu-x86_64]}}\n"
    )
    assert {cell.key for cell in plan.cells()} == {
        ("qemu-arm64", "c", "s"),
        ("qemu-arm64", "r", "s"),
        ("qemu-x86_64", "r", "s"),
        ("qemu-x86_64", "r", "t"),
    }
    assert [cell.key[0] for cell in limit_to_hosts(plan, ["qemu-arm64"]).cells()] == [
        "qemu-arm64"
    ] * 2
    with pytest.raises(ConfigError, match="the plan has no host 'qemu-arm'; did you mean"):
        limit_to_hosts(plan, ["qemu-arm"])


def test_priorities_add_up() -> None:
    cell = Cell(
        PlanHost(name="h", priority=1), Xen(name="x", priority=20), Suite(name="s", priority=300)
    )
    assert cell.priority == 321


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            HEAD + "budget_hour: 3\n",
            "4: budget_hour: unknown section; did you mean budget_hours?"
            " known: budget_hours, retries, parallel,"
            " hosts, xens, suites, kcidb",
        ),
        (
            HEAD.replace("{s: }", "\n  s:\n    durations: 3"),
            "5: suites.s.durations: unknown field; did you mean duration? known: priority, suite,"
            " tests, duration, repeat, seed, snapshot, timeout_minutes, xens, hosts",
        ),
        (
            HEAD + "budget_hours: 0\n",
            "4: budget_hours: 0 is too small; use more than 0",
        ),
        (
            HEAD + "retries: -1\n",
            "4: retries: -1 is too small; use 0 or more",
        ),
        (
            HEAD + "budget_hours: '8'\n",
            "4: budget_hours: must be a number, not '8'; write digits only, without quotes",
        ),
        (
            HEAD.replace("{s: }", "{s: {snapshot: 1}}"),
            "3: suites.s.snapshot: must be true or false, not 1;"
            " write one of the two, without quotes",
        ),
        (
            HEAD.replace("{s: }", "{s: {tests: test_load.py}}"),
            "3: suites.s.tests: must be a list, not 'test_load.py'; write it as `[one, two]`",
        ),
        (
            HEAD.replace("{s: }", "\n  s:\n    tests:\n      - test_load.py\n      - 5"),
            "7: suites.s.tests.1: must be text, not 5; put it in quotes",
        ),
        (
            HEAD.replace("{c: }", "\n  c:\n    release: '4.14'\n    git: x\n    ref: y"),
            "3: xens.c: release and git exclude each other; keep one",
        ),
        (
            HEAD.replace("{c: }", "{c: {git: x}}"),
            "2: xens.c: git and ref belong together; give both",
        ),
        (
            HEAD.replace("{c: }", "{c: {series: [no.eml]}}"),
            "2: xens.c.series: no file no.eml; paths are from the plan",
        ),
        (
            HEAD.replace("{c: }", "{c: {model: conter}}"),
            "2: xens.c.model: cannot be 'conter'; use 'counter', 'rwlock' or 'spinlock'",
        ),
        (
            HEAD.replace("{c: }", "{c: {flavour: conter}}"),
            "2: xens.c.flavour: there is no flavour conter for Xen 4.17; did you mean counter?"
            " known: ",
        ),
        (
            HEAD.replace("{c: }", "{c: {release: '4.9'}}"),
            "2: xens.c.release: no distribution has Xen 4.9; use 4.14, 4.17, 4.20, or src or git",
        ),
        (
            HEAD.replace("{c: }", "{c: {src: nowhere}}"),
            "2: xens.c.src: no directory nowhere; paths are from the plan",
        ),
        (
            HEAD.replace("qemu-arm64", "qemu-arm65"),
            "1: hosts.qemu-arm65: the lab has no such host; did you mean qemu-arm64?"
            " known: qemu-arm64, qemu-x86_64",
        ),
        (
            HEAD.replace("{s: }", "{s: {tests: [test_lod.py::test_load]}}"),
            "3: suites.s.tests: no test file test_lod.py;"
            " files are looked for beside the plan, then in testcases/",
        ),
        (
            HEAD.replace("{s: }", "{s: {suite: conformance, tests: [test_load.py]}}"),
            "3: suites.s: tests and suite exclude each other; keep one",
        ),
        (
            HEAD.replace("{s: }", "{s: {suite: all}}"),
            "3: suites.s.suite: cannot be 'all'; use 'lock' or 'conformance'",
        ),
        (
            HEAD.replace("{s: }", "{s: {xens: [d]}}"),
            "3: suites.s.xens: the plan has no 'd'; known: c",
        ),
        (
            HEAD.replace("{s: }", "{../s: }"),
            "3: suites.../s: '../s' cannot be a name;"
            " use letters, digits, '.', '_' and '-' (quote a number)",
        ),
        (
            "xens: {c: }\nsuites: {s: }\n",
            "1: hosts: missing; write for example `hosts: {qemu-arm64: {}}`",
        ),
        (
            HEAD.replace("{s: }", "[s]"),
            "3: suites: must map names to fields;"
            " write for example `suites: {load: {tests: [test_load.py]}}`",
        ),
        (
            HEAD.replace("{s: }", "{s: 5}"),
            "3: suites.s: must be a mapping of fields, not 5;"
            " write for example `load: {tests: [test_load.py]}`",
        ),
        (
            HEAD + "kcidb: {origin: My Lab}\n",
            "4: kcidb.origin: 'My Lab' cannot be an origin; use a-z, 0-9 and '_'",
        ),
        (HEAD + "kcidb: lab\n", "4: kcidb: must be a mapping, not 'lab'; see origin"),
    ],
)
def test_one_line_says_file_line_field_what_and_what_to_do(text: str, line: str) -> None:
    (problem,) = _problems(text)
    assert problem == line or (line.endswith("known: ") and problem.startswith(line))


def test_all_mistakes_are_shown_in_the_order_of_the_file() -> None:
    text = "hosts: {nobody: }\nxens: {c: {flavour: none}}\nsuites:\n  s: {repeat: 0}\n  t: {x: 1}\n"
    assert [problem.split(":")[0] for problem in _problems(text)] == ["4", "5"]
    mended = text.replace("repeat: 0", "repeat: 1").replace("x: 1", "repeat: 1")
    assert [problem.split(":")[0] for problem in _problems(mended)] == ["1", "2"]


def test_a_plan_without_a_cell_is_none() -> None:
    text = HEAD.replace("{qemu-arm64: }", "{qemu-arm64: , qemu-x86_64: }")
    text = text.replace("{c: }", "{c: {hosts: [qemu-arm64]}}")
    with pytest.raises(ConfigError, match="the plan has no cell"):
        _read(text.replace("{s: }", "{s: {hosts: [qemu-x86_64]}}"))


def test_a_plan_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"^none.yaml: cannot read the plan: No such file"):
        load_plan(Path("none.yaml"))
