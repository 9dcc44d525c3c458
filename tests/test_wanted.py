# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests want decides what comes up: dom0 alone, or its toolstack and domUs as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config.options import DEFAULT_HOST
from harness.data import BOOT_TEST, TESTCASES
from harness.run import up
from harness.wanted import wants_more_than_dom0
from tests.hypervisor.tree import make_tree
from tests.run.fake_session import Lab

pytest_plugins = ["pytester"]

HEAD = """
import pytest
from harness.wanted import dom0_is_enough

@pytest.fixture
def pair(xen): return xen.domus

@pytest.fixture
@dom0_is_enough()
def raw(xen): return xen.agents

@pytest.fixture
def port(raw): return 3

@pytest.fixture(params=["dom0", "domu1"])
@dom0_is_enough("dom0")
def guest(request, xen): return request.param
"""


@pytest.mark.parametrize(
    ("test", "alone"),
    [
        ("def test_it(raw): pass", True),
        ("def test_it(port, tmp_path): pass", True),
        ("def test_it(xen): pass", False),
        ("def test_it(raw, xen): pass", False),
        ("def test_it(pair): pass", False),
        ("def test_it(port, pair): pass", False),
        ("def test_it(domus): pass", False),
        ("def test_it(guest): pass", False),
        ("def test_it(port): pass\ndef test_other(domus): pass", False),
        ("@pytest.mark.usefixtures('pair')\ndef test_it(raw): pass", False),
    ],
)
def test_the_fixtures_of_the_tests_decide(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, test: str, alone: bool
) -> None:
    lab = Lab()
    monkeypatch.setattr(up, "session", lab.session)
    tree = make_tree(pytester.path / "xen")
    pytester.makepyfile(test_it=HEAD + test)
    words = ["-p", "no:cacheprovider", "-p", "no:labgrid", f"--host={DEFAULT_HOST}", "--out=out"]
    pytester.inline_run(*words, "--flavour=rwlock", f"--xen-src={tree}", "test_it.py")
    (plan,) = lab.plans
    assert plan.dom0_alone is alone


def collected(pytester: pytest.Pytester, path: Path) -> dict[str, bool]:
    """Return, for each test in ``path``, whether it wants more than dom0."""
    words = [
        "--collect-only",
        "-q",
        "-p",
        "no:labgrid",
        f"--rootdir={TESTCASES}",
        "-c",
        "/dev/null",
    ]
    items, _ = pytester.inline_genitems(*words, f"--host={DEFAULT_HOST}", str(path))
    return {item.nodeid.rpartition("::")[2]: wants_more_than_dom0(item) for item in items}


def test_what_our_own_tests_want(pytester: pytest.Pytester) -> None:
    hypercalls = collected(pytester, TESTCASES / "test_hypercalls.py")
    life = {name: more for name, more in hypercalls.items() if "life_of_a_channel[" in name}
    assert sorted(life.values()) == [False, True]  # in dom0, and in domu1
    assert not any(more for name, more in life.items() if "dom0" in name)
    assert all(more for name, more in hypercalls.items() if "between_two_domains" in name)
    assert all(collected(pytester, TESTCASES / "test_load.py").values())
    virq = collected(pytester, TESTCASES / "test_notify_vcpu.py")
    assert [more for name, more in virq.items() if "global_virq" in name] == [False]
    alloc = collected(pytester, TESTCASES / "conformance" / "test_alloc.py")
    assert {more for name, more in alloc.items() if "dom0_out_of_ports" in name} == {False}
    assert {more for name, more in alloc.items() if "domu_may_not" in name} == {True}
    assert all(collected(pytester, BOOT_TEST).values())
