# SPDX-License-Identifier: GPL-2.0-or-later
"""The pytest door: ``pytest testcases --host NAME --flavour counter``.

Every test that asks for the fixture ``xen`` runs once per ``--host``; all of a host's
tests share one boot.  What is made of the tests' results is in harness.host_run.

The heavy imports wait until ``--host`` is given: this plugin is loaded by every pytest
of the environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from harness import unforeseen
from harness.config.options import Option, RunOptions, table
from harness.host_run import RUN, Booted, HostRun
from harness.verdict import ConfigError, HarnessError, Verdict, exit_code
from harness.wanted import dom0_is_enough

if TYPE_CHECKING:
    from harness.agent.client import AgentClient
    from harness.run.emulation import Emulation
    from harness.run.load import Load
    from harness.run.session import Session

# pytest has its own ways to say which tests there are and when to stop.
_NOT_HERE = ("suite", "keep_going", "strict")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("xen-evtchn-harness", "real Xen under test")
    for option in _options():
        how: dict[str, Any] = {"help": option.explained, "default": option.default}
        if option.type is bool:
            how["action"] = "store_true"
        else:
            how |= {"type": option.type, "metavar": option.metavar}
            how |= {"choices": option.choices} if option.choices else {}
        if option.several:
            how |= {"action": "append", "default": []}
        group.addoption(option.name, dest=f"xen_evtchn_{option.field}", **how)


def pytest_configure(config: pytest.Config) -> None:
    """Make the run that the options ask for.  (Our command line hands over one of its own.)"""
    if not config.getoption("--host") or config.option.collectonly:
        return
    from harness.progress import Progress
    from harness.run.plan import plan_of

    try:
        plan = plan_of(_asked(config))
        config.pluginmanager.register(HostRun(plan, Progress(_uncaptured(config))))
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from error
    except HarnessError as error:
        pytest.exit(str(error), error.exit_code)
    except Exception as error:
        pytest.exit(unforeseen.explained(error), exit_code(Verdict.ERROR))


def _options() -> list[Option]:
    declared = table(RunOptions)
    declared["host"] = replace(declared["host"], unset="none: tests that need one are skipped")
    return [each for each in declared.values() if each.field not in _NOT_HERE]


def _asked(config: pytest.Config) -> RunOptions:
    """Return the values of the options; whether to go on after a failure is pytest's to say."""
    values = {each.field: config.getoption(each.name) for each in _options()}
    values |= {each.field: tuple(values[each.field]) for each in _options() if each.several}
    return RunOptions(**values, keep_going=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "booted" in metafunc.fixturenames:
        run = metafunc.config.stash.get(RUN, None)
        asked = metafunc.config.getoption("--host")  # only to be collected, if there is no run
        hosts = [host.name for host in run.plan.hosts] if run else list(dict.fromkeys(asked))
        metafunc.parametrize("booted", hosts or [None], indirect=True, scope="session")
        if run is not None and run.plan.repeat > 1:
            metafunc.fixturenames.append("repetition")
            metafunc.parametrize("repetition", range(1, run.plan.repeat + 1))


@pytest.fixture(scope="session")
def booted(request: pytest.FixtureRequest) -> Iterator[Booted]:
    """The host's one boot; tests ask for ``xen``."""
    run = request.config.stash.get(RUN, None)
    if run is None:
        pytest.skip("boots a real Xen: give --host NAME")
    with run.boot(request.param) as boot:
        yield boot


@pytest.fixture
def xen(booted: Booted, request: pytest.FixtureRequest) -> Session | Emulation:
    """A booted host, checked to be alive; with --snapshot, restored to before the first test."""
    if booted.is_emulation and "bare" not in request.fixturenames:
        pytest.skip("QEMU's emulation has nothing but the bare guest")
    return booted.ready()


@pytest.fixture
@dom0_is_enough()
def dom0(xen: Session) -> AgentClient:
    """The agent in dom0."""
    return xen.agents["dom0"]


@pytest.fixture
def domus(xen: Session) -> list[AgentClient]:
    """The agents in the domUs."""
    return [xen.agents[domu.name] for domu in xen.domus]


@pytest.fixture
def load(xen: Session) -> Load:
    """Runs load and judges what was recorded."""
    from harness.run.load import Load

    return Load(xen)


def _uncaptured(config: pytest.Config) -> TextIO:
    """Return stderr as it is outside pytest's capture: progress must be seen while tests run."""
    manager = config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled() if manager else nullcontext():
        return os.fdopen(os.dup(2), "w", buffering=1)
