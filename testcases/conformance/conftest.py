"""Fixtures of the conformance tests: domains whose every hypercall is judged by the model.

``@pytest.mark.cells(row, ...)`` says which rows of docs/spec/evtchn.md a
test is there for; one that passes without having seen them all is no pass.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from harness.conformance.bare import Bare
from harness.conformance.guest import Domains, Guest
from harness.conformance.host import Watched, declared_but_unseen, impossible, scopes
from harness.run.bare import TYPES, WHY_NO_PAGING
from harness.run.session import Session

_WELL = pytest.StashKey[bool]()


@pytest.fixture(scope="session")
def hosts() -> dict[str, Watched]:
    """What is known of each host, from test to test."""
    return {}


@pytest.fixture
def watched(xen: Session, hosts: dict[str, Watched]) -> Watched:
    """What is known of the host's domains."""
    return hosts.setdefault(xen.host.name, Watched(xen))


@pytest.fixture
def domains(request: pytest.FixtureRequest, xen: Session, watched: Watched) -> Iterator[Domains]:
    """All Linux domains of the host; what a test leaves open is closed."""
    found = watched.begin()
    yield found
    if not xen.lost:
        watched.end(found, well=request.node.stash.get(_WELL, False))


@pytest.fixture(params=["dom0", "domu1"])
def guest(request: pytest.FixtureRequest, xen: Session, domains: Domains) -> Guest:
    """dom0, then a domU."""
    if request.param not in domains.guests:
        pytest.skip(xen.why_no_tools or f"this host has no {request.param}")
    return domains.guests[request.param]


@pytest.fixture
def dom0(domains: Domains) -> Guest:
    """dom0."""
    return domains.guests["dom0"]


@pytest.fixture
def domu(xen: Session, domains: Domains) -> Guest:
    """A domU."""
    if "domu1" not in domains.guests:
        pytest.skip(xen.why_no_tools or "this host has no domU")
    return domains.guests["domu1"]


@pytest.fixture
def other(xen: Session, domains: Domains) -> Guest:
    """Another domU."""
    if "domu2" not in domains.guests:
        pytest.skip(xen.why_no_tools or "this host has no second domU")
    return domains.guests["domu2"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of the bare guest run once for each type that it can be on the hosts of this run."""
    if "bare" in metafunc.fixturenames:
        run = metafunc.config.pluginmanager.get_plugin("xen-evtchn-harness-run")
        archs = [host.arch for host in run.plan.hosts] if run is not None else []
        types = dict.fromkeys(type_ for arch in archs for type_ in TYPES[arch])
        metafunc.parametrize("bare_type", list(types) or ["pvh"], indirect=True, scope="module")


@pytest.fixture(scope="module")
def bare_type(request: pytest.FixtureRequest) -> str:
    """As which type of guest the bare one boots: all tests of a module as one, then the next."""
    return str(request.param)


@pytest.fixture
def bare(
    request: pytest.FixtureRequest, xen: Session, domains: Domains, watched: Watched, bare_type: str
) -> Bare:
    """The bare guest, in 2L and without any port."""
    if xen.tools is None:
        pytest.skip(xen.why_no_tools)
    if bare_type not in watched.bare_types:
        request.node.user_properties.append(("cells", impossible(domains, bare_type)))
        pytest.skip(WHY_NO_PAGING)
    return watched.bare(domains, bare_type)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Hold a test that went well against what it says it is there for."""
    try:
        result = yield
    except pytest.skip.Exception:
        pyfuncitem.stash[_WELL] = True
        raise
    pyfuncitem.stash[_WELL] = True
    domains = pyfuncitem.funcargs.get("domains")
    if isinstance(domains, Domains):
        wanted = [row for mark in pyfuncitem.iter_markers("cells") for row in mark.args]
        unseen = declared_but_unseen(domains, wanted)
        assert not unseen, f"the test is there for {unseen[0]!r}, and did not meet it"
        assert domains.oracle.unlisted() == [], "harness/model/differences.py does not say so"
        pyfuncitem.user_properties.append(("cells", scopes(domains)))
    return result
