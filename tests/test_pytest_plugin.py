"""The pytest door with a host that is not booted: verdicts, blame, exit codes, results."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.results import store
from harness.run import session as sessions
from harness.verdict import HarnessError, HypervisorError, LabError

pytest_plugins = ["pytester"]


class FakeSession:
    """A host whose health a test case can set."""

    def __init__(self, recorder: object) -> None:
        self.recorder = recorder
        self.trouble: HarnessError | None = None
        self.agents: dict[str, object] = {}
        self.domus: list[object] = []

    def check(self) -> None:
        if self.trouble is not None:
            raise self.trouble

    def cause(self, error: BaseException) -> BaseException:
        return self.trouble or error


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What the fake host does when booted: ``boot`` is raised, ``ended`` counts tear-downs."""
    control = SimpleNamespace(boot=None, ended=0)

    @contextmanager
    def session(_plan: object, _host: object, recorder: object) -> Iterator[FakeSession]:
        if control.boot is not None:
            raise control.boot
        try:
            yield FakeSession(recorder)
        finally:
            control.ended += 1

    monkeypatch.setattr(sessions, "session", session)
    return control


# labgrid's plugin, where `make rack` has installed it, does not bear a second run in one process.
_PLAIN = ("-p", "no:cacheprovider", "-p", "no:labgrid")


def run(pytester: pytest.Pytester, body: str, *options: str) -> tuple[int, store.Run]:
    pytester.makepyfile(body)
    words = [*_PLAIN, "--host=qemu-x86_64", "--out=out", *options]
    # Not runpytest_inprocess: that would pass an interrupt on to the outer pytest.
    code = pytester.inline_run(*words, no_reraise_ctrlc=True).ret
    assert code is not None
    return int(code), store.load(pytester.path / "out")


def verdicts(result: store.Run) -> dict[str, str]:
    return {test.name: test.verdict for found in result.hosts for test in found.tests}


HEAD = "from harness.verdict import HypervisorError, LabError, HarnessError\n"


def test_all_good(pytester: pytest.Pytester, host: SimpleNamespace) -> None:
    code, result = run(pytester, "def test_one_thing(xen): pass")
    assert code == 0
    assert verdicts(result) == {"boot": "PASS", "one-thing": "PASS"}
    assert result.verdict == "PASS"
    assert host.ended == 1
    assert (pytester.path / "out/report.html").stat().st_size > 1000
    assert (pytester.path / "out/junit.xml").exists()


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
    pytester: pytest.Pytester, host: SimpleNamespace, line: str, verdict: str, code: int
) -> None:
    found, result = run(pytester, f"{HEAD}def test_it(xen):\n    {line}\n")
    assert verdicts(result)["it"] == verdict
    assert found == code


def test_a_machine_that_died_overrules_the_assertion(
    pytester: pytest.Pytester, host: SimpleNamespace
) -> None:
    body = (
        f"{HEAD}def test_it(xen):\n    xen.trouble = LabError('QEMU is gone')\n    assert False\n"
    )
    code, result = run(pytester, body)
    (test,) = [t for h in result.hosts for t in h.tests if t.name == "it"]
    assert (test.verdict, test.message) == ("MISS", "QEMU is gone")
    assert code == 3


def test_after_a_death_the_other_tests_miss(
    pytester: pytest.Pytester, host: SimpleNamespace
) -> None:
    body = (
        f"{HEAD}def test_a(xen):\n    xen.trouble = HypervisorError('panic')\n    assert False\n"
        "def test_b(xen): pass\n"
    )
    code, result = run(pytester, body)
    assert verdicts(result)["a"] == "FAIL"
    assert verdicts(result)["b"] != "PASS"
    assert code == 1


def test_an_explanation_that_goes_wrong_ends_nothing_but_its_test(
    pytester: pytest.Pytester, host: SimpleNamespace
) -> None:
    body = (
        "def test_a(xen):\n    xen.cause = lambda error: int('Cannot')\n    assert False\n"
        "def test_b(xen): pass\n"
    )
    code, result = run(pytester, body)
    assert verdicts(result) == {"boot": "PASS", "a": "ERROR", "b": "PASS"}
    assert code == 3


def test_a_host_that_does_not_boot(pytester: pytest.Pytester, host: SimpleNamespace) -> None:
    host.boot = LabError("no serial line")
    code, result = run(pytester, "def test_a(xen): pass\ndef test_b(xen): pass\n")
    assert verdicts(result) == {"boot": "MISS", "a": "MISS", "b": "MISS"}
    assert code == 3


def test_a_xen_that_panics_at_boot_fails(pytester: pytest.Pytester, host: SimpleNamespace) -> None:
    host.boot = HypervisorError("panic on CPU 0")
    code, result = run(pytester, "def test_a(xen): pass\n")
    assert verdicts(result) == {"boot": "FAIL", "a": "MISS"}
    assert code == 1


def test_two_hosts_boot_once_each(pytester: pytest.Pytester, host: SimpleNamespace) -> None:
    body = "def test_a(xen): pass\ndef test_b(xen): pass\n"
    code, result = run(pytester, body, "--host=qemu-arm64")
    assert code == 0
    assert host.ended == 2
    assert [found.name for found in result.hosts] == ["qemu-x86_64", "qemu-arm64"]
    assert all(found.verdict == "PASS" for found in result.hosts)


def test_interrupted_is_cleaned_up_and_kept(
    pytester: pytest.Pytester, host: SimpleNamespace
) -> None:
    body = "def test_a(xen): pass\ndef test_b(xen): raise KeyboardInterrupt\n"
    code, result = run(pytester, body)
    assert code == pytest.ExitCode.INTERRUPTED
    assert host.ended == 1
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


def test_the_journal_has_the_seed(pytester: pytest.Pytester, host: SimpleNamespace) -> None:
    run(pytester, "def test_a(xen): pass", "--seed=77")
    first = json.loads((Path(pytester.path) / "out/results.jsonl").read_text().splitlines()[0])
    assert (first["kind"], first["seed"]) == ("run-start", 77)
