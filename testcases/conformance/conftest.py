# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the conformance tests: domains whose every hypercall is judged by the model.

``@pytest.mark.cells(row, ...)`` names the rows of docs/spec/evtchn.md that a test must meet: it
fails if it has not met one of them.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.arch import Arch
from harness.conformance.bare import Bare
from harness.conformance.emulated import EmulatedDomains
from harness.conformance.emulated import scopes as emulated_scopes
from harness.conformance.guest import Domains, Guest
from harness.conformance.host import HostDomains, declared_but_unseen, impossible, scopes
from harness.domains.toolstack import NotStarted
from harness.host_run import RUN, HostRun
from harness.run.bare import TYPES
from harness.run.emulation import Emulation
from harness.run.plan import EmulationPlan
from harness.run.session import SHIM, Session
from harness.verdict import BuildError
from harness.wanted import dom0_is_enough

_HERE = Path(__file__).parent
_WELL = pytest.StashKey[bool]()
_AnyDomains = HostDomains | EmulatedDomains
# What QEMU's emulation, which has one guest and nothing else, cannot give a test.
_NOT_EMULATED = {"dom0", "domu", "other", "domus", "guest"}
_EMULATED_ONLY = {"divergence", "qemu"}


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers", "cells(*rows): rows of the specification a test is there for"
    )
    config.addinivalue_line("markers", "xen_only(why): QEMU's emulation cannot be tested so")
    config.addinivalue_line("markers", "in_shim(): runs inside xen-shim as well, with 2L")
    config.addinivalue_line("markers", "shim_only(): runs there only")
    config.addinivalue_line("markers", "ends_bare(): destroys the bare guest")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On QEMU's emulation, leave out the tests that want more than its one guest, at 2L; else those
    of the emulation.  What is left runs in an order in which few bare guests have to be started:
    behind the tests without one come those of each type, and at their end those that destroy it.
    (An HVM guest takes 20 to 30 s under TCG: firmware, and a device model in dom0.)"""
    emulated = _is_emulation(config.stash.get(RUN, None))
    items[:] = [i for i in items if _HERE not in i.path.parents or _fits(i, emulated)]
    places = [at for at, item in enumerate(items) if _HERE in item.path.parents]
    ours = _few_guests([items[at] for at in places])
    for at, item in zip(places, ours, strict=True):
        items[at] = item


def _few_guests(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return ``items``, sorted as said; each host's stay together."""
    hosts: dict[str, None] = {}
    types = ["", *(type_ for arch in TYPES for type_ in TYPES[arch]), SHIM]

    def place(item: pytest.Item) -> tuple[int, int, bool]:
        spec = getattr(item, "callspec", None)
        params = {} if spec is None else spec.params
        hosts.setdefault(str(params.get("booted")))
        host = list(hosts).index(str(params.get("booted")))
        type_ = types.index(str(params.get("bare_type", "")))
        return host, type_, item.get_closest_marker("ends_bare") is not None

    return sorted(items, key=place)


def _is_emulation(run: HostRun | None) -> bool:
    return run is not None and isinstance(run.plan, EmulationPlan)


def _fits(item: pytest.Item, emulated: bool) -> bool:
    wanted = set(getattr(item, "fixturenames", ()))
    spec = getattr(item, "callspec", None)
    params = {} if spec is None else spec.params
    fifo = params.get("abi") == "FIFO"
    if not emulated:
        in_fifo_in_shim = fifo and params.get("bare_type") == SHIM  # which has no FIFO
        return not wanted & _EMULATED_ONLY and not in_fifo_in_shim
    only_guest = "bare" in wanted and not wanted & _NOT_EMULATED
    return only_guest and not fifo and item.get_closest_marker("xen_only") is None


@pytest.fixture(scope="session")
def hosts() -> dict[str, _AnyDomains]:
    """The domains of each host, from test to test."""
    return {}


@pytest.fixture
def host_domains(xen: Session | Emulation, hosts: dict[str, _AnyDomains]) -> _AnyDomains:
    """The domains of this test's host, from test to test; of a fresh machine, fresh ones."""
    if xen.host.name not in hosts or not hosts[xen.host.name].is_of(xen):
        hosts[xen.host.name] = (
            EmulatedDomains(xen) if isinstance(xen, Emulation) else HostDomains(xen)
        )
    return hosts[xen.host.name]


@pytest.fixture
def domains(
    request: pytest.FixtureRequest, xen: Session | Emulation, host_domains: _AnyDomains
) -> Iterator[Domains]:
    """The domains of the host that run Linux.  Ports that the test leaves open are closed."""
    found = host_domains.begin()
    yield found
    if not xen.lost:
        host_domains.end(found, well=request.node.stash.get(_WELL, False))


@pytest.fixture(params=["dom0", "domu1", "domu2"])
@dom0_is_enough("dom0")
def guest(request: pytest.FixtureRequest, xen: Session, domains: Domains) -> Guest:
    """dom0, then domu1, then domu2 if its ABI is another one than domu1's."""
    if request.param not in domains.guests:
        pytest.skip(xen.why_no_tools or f"this host has no {request.param}")
    if request.param == "domu2" and xen.host.abi != "both":
        pytest.skip("domu2 has the ABI of domu1")
    return domains.guests[request.param]


@pytest.fixture
@dom0_is_enough()
def dom0(domains: Domains) -> Guest:
    """dom0."""
    return domains.guests["dom0"]


@pytest.fixture
def domu(xen: Session, domains: Domains) -> Guest:
    """domu1."""
    if "domu1" not in domains.guests:
        pytest.skip(xen.why_no_tools or "this host has no domU")
    return domains.guests["domu1"]


@pytest.fixture
def other(xen: Session, domains: Domains) -> Guest:
    """domu2."""
    if "domu2" not in domains.guests:
        pytest.skip(xen.why_no_tools or "this host has no second domU")
    return domains.guests["domu2"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with the bare guest once for each type of guest that the hosts' Xen has."""
    if "bare" in metafunc.fixturenames:
        run = metafunc.config.stash.get(RUN, None)
        archs = [host.arch for host in run.plan.hosts] if run is not None else []
        types = dict.fromkeys(type_ for arch in archs for type_ in TYPES[arch])
        if _is_emulation(run):
            types = dict.fromkeys(EmulatedDomains.bare_types)
        elif Arch.X86_64 in archs:
            types = _with_shim(metafunc.definition, types)
        metafunc.parametrize("bare_type", list(types) or ["pvh"], indirect=True)


def _with_shim(item: pytest.Item, types: dict[str, None]) -> dict[str, None]:
    if item.get_closest_marker("shim_only"):
        return {SHIM: None}
    return {**types, SHIM: None} if item.get_closest_marker("in_shim") else types


@pytest.fixture
def bare_type(request: pytest.FixtureRequest) -> str:
    """The type that the bare guest boots as: all tests with one, then the next."""
    return str(request.param)


@pytest.fixture
def bare(
    request: pytest.FixtureRequest,
    xen: Session | Emulation,
    domains: Domains,
    host_domains: _AnyDomains,
    bare_type: str,
) -> Bare:
    """The bare guest, in 2L and without a port."""
    if isinstance(host_domains, EmulatedDomains):
        return host_domains.bare(domains, bare_type)
    if isinstance(xen, Session) and xen.tools is None:
        pytest.skip(xen.why_no_tools)
    if why := host_domains.obstacles.get(bare_type):
        request.node.user_properties.append(("cells", impossible(domains, bare_type, why)))
        pytest.skip(why)
    try:
        return host_domains.bare(domains, bare_type)
    except (BuildError, NotStarted) as error:
        if bare_type != SHIM or (isinstance(xen, Session) and xen.cause(error) is not error):
            raise
        # A shim that is not to be had says nothing about the Xen under test.
        host_domains.obstacles[bare_type] = f"no xen-shim: {error}"
        pytest.skip(f"no xen-shim: {error}")


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """When a test has passed: check that it has met its rows, and note which ones it has met."""
    try:
        result = yield
    except pytest.skip.Exception:
        pyfuncitem.stash[_WELL] = True
        raise
    pyfuncitem.stash[_WELL] = True
    domains = pyfuncitem.funcargs.get("domains")
    if isinstance(domains, Domains):
        emulated = _is_emulation(pyfuncitem.config.stash.get(RUN, None))
        wanted = [row for mark in pyfuncitem.iter_markers("cells") for row in mark.args]
        unseen = [] if emulated else declared_but_unseen(domains, wanted)
        assert not unseen, f"the test is there for {unseen[0]!r}, and did not meet it"
        assert domains.model.unlisted() == [], (
            "harness/model/evtchn/changed_rules.py does not say so"
        )
        met = emulated_scopes(domains) if emulated else scopes(domains)
        pyfuncitem.user_properties.append(("cells", met))
    return result
