"""Which dom0 fits which hypervisor."""

from __future__ import annotations

import pytest

from harness.config.releases import RELEASES
from harness.images.toolstack import TOOLSTACKS, Interfaces, choose


@pytest.mark.parametrize(
    ("interfaces", "codename"),
    [
        (Interfaces(0x12, 0x13), "bullseye"),
        (Interfaces(0x15, 0x15), "bookworm"),
        (Interfaces(0x17, 0x15), "trixie"),
    ],
)
def test_the_release_whose_toolstack_fits(interfaces: Interfaces, codename: str) -> None:
    fit = choose(interfaces, "debian")
    assert (fit.codename, fit.why_not) == (codename, "")


def test_every_release_of_xen_that_we_fetch_has_a_dom0() -> None:
    assert set(TOOLSTACKS) == set(RELEASES.values())


def test_no_fit_says_what_was_wanted_and_what_there_is() -> None:
    fit = choose(Interfaces(0x17, 0x16), "debian")
    assert fit.codename == ""
    assert "domctl 0x17, sysctl 0x16" in fit.why_not and "trixie" in fit.why_not


def test_unknown_interfaces_are_no_fit() -> None:
    assert "does not tell" in choose(None, "debian").why_not


def test_elsewhere_there_is_only_the_machines_own_release() -> None:
    assert choose(Interfaces(1, 2), "ubuntu").why_not == ""
