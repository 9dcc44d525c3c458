# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest door with a host that is not booted: verdicts, blame, exit codes, results."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from harness.config.host import BUILT_IN
from harness.config.options import DEFAULT_HOST, RunOptions, table
from harness.evidence import Assertion, BringUp, Crash
from harness.host_run import HostRun
from harness.hypervisor.source import Source, from_dir
from harness.progress import Progress
from harness.results import store
from harness.run import up
from harness.verdict import HypervisorError, LabError, Verdict
from tests.bisect.xen_history import git
from tests.hypervisor import mails
from tests.hypervisor.tree import make_tree
from tests.run.fake_session import Lab
from tests.run.toy_plan import plan

pytest_plugins = ["pytester"]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    """The lab whose hosts are booted."""
    fake = Lab()
    monkeypatch.setattr(up, "session", fake.session)
    return fake


# labgrid's plugin, where `make rack` has installed it, does not bear a second run in one process.
_PLAIN = ("-p", "no:cacheprovider", "-p", "no:labgrid")


def run(pytester: pytest.Pytester, body: str, *options: str) -> tuple[int, store.Run]:
    """Run ``body`` as a person does who calls pytest."""
    tree = make_tree(pytester.path / "xen")
    pytester.makepyfile(test_it=body)
    words = [
        *_PLAIN,
        f"--host={DEFAULT_HOST}",
        "--out=out",
        "--flavour=rwlock",
        f"--xen-src={tree}",
    ]
    # Not runpytest_inprocess: that would pass an interrupt on to the outer pytest.
    code = pytester.inline_run(*words, *options, "test_it.py", no_reraise_ctrlc=True).ret
    assert code is not None
    return int(code), store.load(pytester.path / "out")


def verdicts(result: store.Run) -> dict[str, str]:
    return {test.name: test.verdict for found in result.hosts for test in found.tests}


HEAD = "from harness.verdict import HypervisorError, LabError, HarnessError\n"


def test_all_good(pytester: pytest.Pytester, lab: Lab) -> None:
    code, result = run(pytester, "def test_one_thing(xen): pass")
    assert code == 0
    assert verdicts(result) == {"boot": "PASS", "one-thing": "PASS"}
    assert result.verdict == "PASS"
    assert lab.seen == [f"{DEFAULT_HOST} on", f"{DEFAULT_HOST} off"]
    assert (pytester.path / "out/report.html").stat().st_size > 1000
    assert (pytester.path / "out/junit.xml").exists()


def test_series_and_model_reach_the_plan(pytester: pytest.Pytester, lab: Lab) -> None:
    repository = mails.make_repository(pytester.path / "repository")
    git(repository, "checkout", "-q", "base")
    mails.commit(repository, "one file more", "xen/more.c", "int more;\n")
    patch = git(repository, "format-patch", "-1", "-o", str(pytester.path))
    run(pytester, "def test_one_thing(xen): pass", f"--series={patch}", "--model=spinlock")
    found = lab.plans[0].hypervisor
    assert [one.subject for one in found.source.series] == ["[PATCH] one file more"]
    assert (found.flavour.name, found.flavour.design) == ("rwlock", "spinlock")


@pytest.mark.parametrize(
    ("line", "verdict", "code"),
    [
        ("assert 1 == 2", "FAIL", 1),
        ("import pytest; pytest.fail('DID NOT RAISE')", "FAIL", 1),
        ("raise HypervisorError('it span')", "FAIL", 1),
        ("raise LabError('no power')", "MISS", 3),
        ("raise HarnessError('our bug')", "ERROR", 3),
        ("1 / 0", "ERROR", 3),
        ("import pytest; pytest.skip('not here')", "SKIP", 0),
    ],
)
def test_who_is_to_blame(
    pytester: pytest.Pytester, lab: Lab, line: str, verdict: str, code: int
) -> None:
    found, result = run(pytester, f"{HEAD}def test_it(xen):\n    {line}\n")
    assert verdicts(result)["it"] == verdict
    assert found == code


def test_a_test_without_a_host_hides_no_failure(pytester: pytest.Pytester, lab: Lab) -> None:
    body = "def test_a(guesst): pass\ndef test_b(xen): assert False\n"
    code, result = run(pytester, body)
    assert (code, result.verdict) == (1, Verdict.FAIL)
    assert "fixture 'guesst' not found" in result.message


def test_a_machine_that_died_overrules_the_assertion(pytester: pytest.Pytester, lab: Lab) -> None:
    body = (
        f"{HEAD}def test_it(xen):\n    xen.trouble = LabError('QEMU is gone')\n    assert False\n"
    )
    code, result = run(pytester, body)
    (test,) = [t for h in result.hosts for t in h.tests if t.name == "it"]
    assert (test.verdict, test.message) == ("MISS", "QEMU is gone")
    assert code == 3


def test_a_death_costs_its_test_and_the_next_has_a_fresh_machine(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    body = (
        f"{HEAD}def test_a(xen):\n    xen.trouble = HypervisorError('panic')\n    assert False\n"
        "def test_b(xen): assert xen.trouble is None\n"
        "def test_c(xen): pass\n"
    )
    code, result = run(pytester, body)
    assert verdicts(result) == {"boot": "PASS", "a": "FAIL", "b": "PASS", "c": "PASS"}
    assert lab.seen == [f"{DEFAULT_HOST} {what}" for what in ("on", "off", "on", "off")]
    assert code == 1


def test_where_no_fresh_machine_comes_the_other_tests_miss(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    lab.boots = 1
    body = (
        f"{HEAD}def test_a(xen):\n    xen.trouble = HypervisorError('panic')\n    assert False\n"
        "def test_b(xen): pass\n"
        "def test_c(xen): pass\n"
    )
    code, result = run(pytester, body)
    found = [(t.name, t.verdict) for h in result.hosts for t in h.tests]
    assert found == [
        ("boot", "PASS"),
        ("a", "FAIL"),
        ("boot", "MISS"),
        ("b", "MISS"),
        ("c", "MISS"),
    ]
    assert code == 1


def test_an_explanation_that_goes_wrong_ends_nothing_but_its_test(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    body = (
        "def test_a(xen):\n    xen.cause = lambda error: int('Cannot')\n    assert False\n"
        "def test_b(xen): pass\n"
    )
    code, result = run(pytester, body)
    assert verdicts(result) == {"boot": "PASS", "a": "ERROR", "b": "PASS"}
    assert code == 3


def test_a_host_that_does_not_boot(pytester: pytest.Pytester, lab: Lab) -> None:
    lab.boot[DEFAULT_HOST] = LabError("no serial line")
    code, result = run(pytester, "def test_a(xen): pass\ndef test_b(xen): pass\n")
    assert verdicts(result) == {"boot": "MISS", "a": "MISS", "b": "MISS"}
    assert code == 3


def test_a_xen_that_panics_at_boot_fails(pytester: pytest.Pytester, lab: Lab) -> None:
    lab.boot[DEFAULT_HOST] = HypervisorError("panic on CPU 0")
    code, result = run(pytester, "def test_a(xen): pass\n")
    assert verdicts(result) == {"boot": "FAIL", "a": "MISS"}
    assert code == 1


X86, ARM = BUILT_IN["qemu-x86_64"], BUILT_IN["qemu-arm64"]
TWO = "def test_a(xen): pass\ndef test_b(xen): pass\n"


def run_both(
    pytester: pytest.Pytester, *bodies: str, keep_going: bool = False
) -> tuple[HostRun, dict[str, dict[str, str]], str]:
    """Run test files on both hosts as our command line does, which hands over a run.

    Returns it, the verdicts by host and test, and what was said on the terminal.
    """
    pytester.makepyfile(**{f"test_{number}": body for number, body in enumerate(bodies)})
    said = io.StringIO()
    asked = replace(plan(X86, ARM), out=pytester.path / "out", keep_going=keep_going)
    run = HostRun(asked, Progress(said))
    pytester.inline_run(*_PLAIN, plugins=[run], no_reraise_ctrlc=True)
    hosts = store.load(run.directory.path).hosts
    return run, {h.name: {t.name: t.verdict for t in h.tests} for h in hosts}, said.getvalue()


def test_two_hosts_boot_once_each(pytester: pytest.Pytester, lab: Lab) -> None:
    code, result = run(pytester, TWO, "--host=qemu-arm64")
    assert code == 0
    assert lab.seen == ["qemu-x86_64 on", "qemu-x86_64 off", "qemu-arm64 on", "qemu-arm64 off"]
    assert [found.name for found in result.hosts] == ["qemu-x86_64", "qemu-arm64"]
    assert all(found.verdict == "PASS" for found in result.hosts)


def test_a_host_that_does_not_boot_leaves_the_next_one_alone(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    lab.boot["qemu-x86_64"] = LabError("no KVM")
    ran, seen, said = run_both(pytester, TWO)
    assert seen == {
        "qemu-x86_64": {"boot": "MISS", "a": "MISS"},
        "qemu-arm64": {"boot": "PASS", "a": "PASS", "b": "PASS"},
    }
    assert (ran.verdict, ran.exit_code) == ("MISS", 3)
    assert "qemu-x86_64  MISS" in said and "qemu-arm64   PASS" in said


def test_the_first_failure_ends_the_tests_of_its_host_only(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    failing = "def test_c(xen): assert 'arm' in xen.host.name\ndef test_d(xen): pass\n"
    ran, seen, said = run_both(pytester, "def test_a(xen): pass\n", failing, TWO.replace("_", "_e"))
    assert seen["qemu-x86_64"] == {"boot": "PASS", "a": "PASS", "c": "FAIL"}
    assert set(seen["qemu-arm64"].values()) == {"PASS"} and len(seen["qemu-arm64"]) == 6
    assert lab.seen == ["qemu-x86_64 on", "qemu-x86_64 off", "qemu-arm64 on", "qemu-arm64 off"]
    assert ran.exit_code == 1
    assert "qemu-x86_64  left out  3 of its tests" in said and "--keep-going" in said


def test_with_keep_going_all_tests_run_on_all_hosts(pytester: pytest.Pytester, lab: Lab) -> None:
    failing = "def test_a(xen): assert 'arm' in xen.host.name\ndef test_b(xen): pass\n"
    _, seen, said = run_both(pytester, failing, keep_going=True)
    assert seen["qemu-x86_64"] == {"boot": "PASS", "a": "FAIL", "b": "PASS"}
    assert seen["qemu-arm64"] == {"boot": "PASS", "a": "PASS", "b": "PASS"}
    assert "left out" not in said


def test_a_skipped_test_ends_nothing(pytester: pytest.Pytester, lab: Lab) -> None:
    skipping = "import pytest\ndef test_a(xen): pytest.skip('x')\ndef test_b(xen): pass\n"
    ran, seen, _ = run_both(pytester, skipping)
    assert seen["qemu-x86_64"] == {"boot": "PASS", "a": "SKIP", "b": "PASS"}
    assert ran.exit_code == 0


def test_what_goes_wrong_when_a_host_is_switched_off_is_its_own(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    lab.off["qemu-x86_64"] = LabError("the power switch lies")
    ran, seen, _ = run_both(pytester, TWO)
    assert seen["qemu-x86_64"] == {"boot": "PASS", "a": "PASS", "b": "PASS", "teardown": "MISS"}
    assert seen["qemu-arm64"] == {"boot": "PASS", "a": "PASS", "b": "PASS"}
    assert lab.seen == ["qemu-x86_64 on", "qemu-x86_64 off", "qemu-arm64 on", "qemu-arm64 off"]
    assert ran.exit_code == 3


def test_a_fixture_that_fails_afterwards_ends_its_host_only(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    body = (
        "import pytest\n@pytest.fixture\ndef ports(xen):\n    yield\n"
        "    assert 'arm' in xen.host.name, 'a port stays open'\n"
        "def test_a(ports): pass\ndef test_b(xen): pass\n"
    )
    ran, seen, _ = run_both(pytester, body)
    assert seen["qemu-x86_64"] == {"boot": "PASS", "a": "PASS", "teardown": "FAIL"}
    assert seen["qemu-arm64"] == {"boot": "PASS", "a": "PASS", "b": "PASS"}
    assert ran.exit_code == 1


def test_interrupted_is_cleaned_up_and_kept(pytester: pytest.Pytester, lab: Lab) -> None:
    body = "def test_a(xen): pass\ndef test_b(xen): raise KeyboardInterrupt\n"
    code, result = run(pytester, body)
    assert code == pytest.ExitCode.INTERRUPTED
    assert lab.seen == [f"{DEFAULT_HOST} on", f"{DEFAULT_HOST} off"]
    assert verdicts(result)["a"] == "PASS"
    assert result.verdict == "MISS"


def test_without_a_host_the_tests_skip(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(xen): pass")
    pytester.runpytest_inprocess(*_PLAIN).assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host=nowhere"], "nowhere"),
        (["--host=qemu-x86_64", "--duration=0"], "--duration"),
        (["--host=qemu-x86_64", "--xen-git=x"], "--xen-ref"),
    ],
)
def test_wrong_options_are_usage_errors(
    pytester: pytest.Pytester, options: list[str], words: str
) -> None:
    pytester.makepyfile("def test_a(xen): pass")
    result = pytester.runpytest_inprocess(*_PLAIN, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{words}*"])


def test_a_source_that_cannot_be_had_is_no_mistake_of_the_user(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_apt(_release: str) -> None:
        raise LabError("the archive does not answer")

    monkeypatch.setattr("harness.hypervisor.source.from_apt", from_apt)
    pytester.makepyfile("def test_a(xen): pass")
    result = pytester.runpytest_inprocess(*_PLAIN, "--host=qemu-arm64")
    assert result.ret == 3
    result.stderr.fnmatch_lines(["*the archive does not answer*"])


def test_a_test_file_that_cannot_be_read_is_a_mistake_of_the_user(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    code, result = run(pytester, "import no_such_module\n")
    assert code == 2
    assert "test_it.py: ModuleNotFoundError: No module named 'no_such_module'" in result.message
    assert lab.seen == []


def test_the_source_tree_is_opened_once(
    pytester: pytest.Pytester, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def open_tree(tree: Path) -> Source:
        opened.append(tree)
        return from_dir(tree)

    monkeypatch.setattr("harness.hypervisor.source.from_dir", open_tree)
    run(pytester, TWO, "--host=qemu-arm64")
    assert len(opened) == 1
    assert len({id(each.hypervisor.source) for each in lab.plans}) == 1


def test_every_option_is_there_with_the_default_of_our_command_line(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    run(pytester, TWO)
    (booted,) = lab.plans
    assert booted.duration == RunOptions.duration
    assert booted.repeat == RunOptions.repeat and booted.snapshot is RunOptions.snapshot
    config = pytester.parseconfig()
    for option in table(RunOptions).values():
        if option.field not in ("suite", "keep_going", "strict"):  # pytest has a --strict itself
            assert config.getoption(option.name) == ([] if option.several else option.default)


@pytest.mark.parametrize(("fixtures", "saved"), [("xen", True), ("xen, bare", False)])
def test_a_bare_guest_is_had_without_snapshots(
    fixtures: str, saved: bool, pytester: pytest.Pytester, lab: Lab
) -> None:
    """``bisect`` asks for snapshots whatever the tests want."""
    body = f"""
        import pytest
        @pytest.fixture
        def bare(): pass
        def test_it({fixtures}): pass
    """
    code, _ = run(pytester, body, "--snapshot")
    (booted,) = lab.plans
    assert (code, booted.snapshot) == (0, saved)


def test_without_a_host_the_plugin_is_silent(pytester: pytest.Pytester) -> None:
    """Every pytest of the environment loads it."""
    pytester.makepyfile("def test_a(): pass")
    plain = pytester.runpytest_subprocess(*_PLAIN, "-p", "no:xen-evtchn-harness")
    ours = pytester.runpytest_subprocess(*_PLAIN)

    def lines(ran: pytest.RunResult) -> list[str]:
        return [
            re.sub(r"^plugins: .*|[\d.]+s( \([\d:]+\))? =+$", "", line) for line in ran.outlines
        ]

    assert lines(ours) == lines(plain)
    assert ours.errlines == plain.errlines == []
    assert "cells" not in str(pytester.runpytest_subprocess(*_PLAIN, "--markers").stdout)
    heavy = "libvirt", "numpy", "pydantic", "yaml", "click", "harness.run", "harness.results"
    code = f"import sys, harness.pytest_plugin; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_the_journal_has_the_seed(pytester: pytest.Pytester, lab: Lab) -> None:
    run(pytester, "def test_a(xen): pass", "--seed=77")
    first = json.loads((Path(pytester.path) / "out/results.jsonl").read_text().splitlines()[0])
    assert (first["kind"], first["seed"]) == ("run-start", 77)


@pytest.mark.parametrize(
    ("lines", "expression", "function"),
    [
        (["assert 1 == one(2), 'why'"], "1 == one(2)", "test_it"),
        (["assert one(", "    3", ") == 1"], "one(3) == 1", "test_it"),
        (["with pytest.raises(ValueError):", "    one(2)"], "pytest.raises(ValueError)", "test_it"),
        (["assert wrong()"], "False", "wrong"),
        (["raise HypervisorError('odd')"], "raise HypervisorError('odd')", "test_it"),
    ],
)
def test_the_evidence_of_a_failed_claim_is_its_source(
    pytester: pytest.Pytester,
    lab: Lab,
    lines: list[str],
    expression: str,
    function: str,
) -> None:
    body = (
        f"{HEAD}import pytest\ndef one(it): return it\ndef wrong():\n    assert False\n"
        + "def test_it(xen):\n"
        + "".join(f"    {line}\n" for line in lines)
    )
    _, result = run(pytester, body)
    (test,) = [t for h in result.hosts for t in h.tests if t.name == "it"]
    assert isinstance(test.evidence, Assertion)
    assert (test.evidence.expression, test.evidence.function) == (expression, function)


def test_the_evidence_of_an_error_is_its_own(pytester: pytest.Pytester, lab: Lab) -> None:
    seen = Crash(what="bug", stream="xen", text="Xen BUG at a.c:1", file="a.c", line=1)
    body = (
        f"{HEAD}from harness.evidence import Crash\n"
        f"def test_it(xen):\n    xen.trouble = HypervisorError({seen!r})\n    assert False\n"
    )
    _, result = run(pytester, body)
    (test,) = [t for h in result.hosts for t in h.tests if t.name == "it"]
    assert test.evidence == seen
    failed = LabError(BringUp(stage="boot", last_words=("FATAL: no",)))
    lab.boot = dict.fromkeys(("qemu-x86_64", "qemu-arm64"), failed)
    pytester.path.joinpath("out").rename(pytester.path / "before")
    _, result = run(pytester, "def test_a(xen): pass\n")
    assert result.hosts[0].tests[0].evidence == failed.evidence


def test_a_host_whose_lease_is_lost_is_not_booted_again(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    """Trust, 2: the run ends as MISS at once; it neither waits for the server nor goes on in it."""
    body = """
        from harness.machine.tenure import LeaseLost

        def test_a(xen):
            xen.trouble = LeaseLost("process 7 of lab-2 has taken it", "h")
            assert 1 == 2

        def test_b(xen): pass

        def test_c(xen): pass
    """
    run, seen, said = run_both(pytester, body, keep_going=True)
    assert seen["qemu-arm64"] == {"boot": "PASS", "a": "MISS", "b": "MISS", "c": "MISS"}
    assert lab.seen == ["qemu-x86_64 on", "qemu-x86_64 off", "qemu-arm64 on", "qemu-arm64 off"]
    assert run.verdict == "MISS" and run.exit_code == 3
    assert "booting anew" not in said


def test_what_nobody_foresaw_in_a_test_has_its_traceback_in_the_run(
    pytester: pytest.Pytester, lab: Lab
) -> None:
    code, found = run(pytester, "def test_x(xen): {}['gone']")
    (test,) = [each for each in found.hosts[0].tests if each.name == "x"]
    assert (code, test.verdict) == (3, Verdict.ERROR)
    assert re.fullmatch(
        r"KeyError: 'gone' \(test_it\.py:1\); the traceback is in traceback-1\.txt", test.message
    )
    assert "KeyError: 'gone'" in (pytester.path / "out/traceback-1.txt").read_text()


def test_an_error_of_pytest_itself_is_one_line_and_a_file(
    pytester: pytest.Pytester, lab: Lab, capfd: pytest.CaptureFixture[str]
) -> None:
    pytester.makeconftest("def pytest_runtest_logstart(): raise RuntimeError('broken')")
    # Without pytest's own reporter, as in `evtchn-harness run`.
    code, found = run(pytester, "def test_x(xen): pass", "-p", "no:terminal")
    assert code == 3 and found.verdict is Verdict.MISS
    assert "broken; the traceback is in" in found.message
    assert "RuntimeError: broken" in (pytester.path / "out/traceback-1.txt").read_text()
    said = capfd.readouterr()
    assert "INTERNALERROR" not in said.out + said.err
