"""Fixtures of the conformance tests: domains whose every hypercall is judged by the model.

``@pytest.mark.cells(row, ...)`` says which rows of the specification (harness.model.rows) a
test is there for; one that passes without having seen them all is no pass.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from harness.conformance.bare import Bare
from harness.conformance.guest import Domains, Guest
from harness.conformance.host import BareHost, declared_but_unseen, domains_of, scopes
from harness.run.session import Session

_WELL = pytest.StashKey[bool]()


@pytest.fixture
def domains(xen: Session) -> Iterator[Domains]:
    """All domains of the host; what a test leaves open is closed."""
    found = domains_of(xen)
    yield found
    if not xen.hung:
        assert found.close_all() == [], "ports that Xen does not report as closed"


@pytest.fixture(params=["dom0", "domu1"])
def guest(request: pytest.FixtureRequest, domains: Domains) -> Guest:
    """dom0, then a domU."""
    if request.param not in domains.guests:
        pytest.skip(f"this host has no {request.param}")
    return domains.guests[request.param]


@pytest.fixture
def dom0(domains: Domains) -> Guest:
    """dom0."""
    return domains.guests["dom0"]


@pytest.fixture
def domu(domains: Domains) -> Guest:
    """A domU."""
    if "domu1" not in domains.guests:
        pytest.skip("this host has no domU")
    return domains.guests["domu1"]


@pytest.fixture
def other(domains: Domains) -> Guest:
    """Another domU."""
    if "domu2" not in domains.guests:
        pytest.skip("this host has no second domU")
    return domains.guests["domu2"]


@pytest.fixture(scope="session")
def bare_hosts() -> dict[str, BareHost]:
    """The bare guest of each host, once it was asked for."""
    return {}


@pytest.fixture
def bare(
    request: pytest.FixtureRequest,
    xen: Session,
    domains: Domains,
    bare_hosts: dict[str, BareHost],
) -> Iterator[Bare]:
    """The bare guest, in 2L and without any port."""
    host = bare_hosts.setdefault(xen.host.name, BareHost(xen))
    guest = host.join(domains)
    yield guest
    if not xen.hung:
        well = request.node.stash.get(_WELL, False) and guest.name in domains.guests
        host.leave(guest, well=well)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Hold a test that went well against what it says it is there for."""
    result = yield
    pyfuncitem.stash[_WELL] = True
    domains = pyfuncitem.funcargs.get("domains")
    if isinstance(domains, Domains):
        wanted = [row for mark in pyfuncitem.iter_markers("cells") for row in mark.args]
        unseen = declared_but_unseen(domains, wanted)
        assert not unseen, f"the test is there for {unseen[0]!r}, and did not meet it"
        pyfuncitem.user_properties.append(("cells", scopes(domains)))
    return result
