# SPDX-License-Identifier: GPL-2.0-or-later
"""BMCs on loopback that refuse as vendors' do, asked by a lab's own clients: ipmitool, sushy.

Dell's IPMI has 0xD5 for an order that is carried out already, an iDRAC's Redfish 409, an iLO's 400;
others are busy for a while after an order, or do not know their state then.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.command import which
from harness.config.physical import IpmiPower, RedfishPower, Secret, SolConsole
from harness.machine import power as power_module
from harness.machine.power import Chain, Power, driver
from harness.machine.wires.sol import sol
from harness.verdict import HarnessError, LabError
from tests.machine import toy_bmc, toy_ipmi
from tests.machine.toy_bmc import Answer, Bmc
from tests.machine.toy_ipmi import ToyIpmi

_SECONDS = 20.0


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BMC_PASSWORD", "calvin")
    monkeypatch.setattr(power_module, "_AGAIN_SECONDS", 0.2)
    monkeypatch.setattr(power_module, "_OFF_SECONDS", 0.2)


def _chain(switch: Power, seconds: float = _SECONDS) -> Chain:
    return Chain([switch], seconds=seconds, where="host rack-1: power")


# -- IPMI -------------------------------------------------------------------------------------


def _dell(order: str, is_on: bool) -> int:
    """0xD5, "not supported in present state", where there is nothing to do."""
    return 0xD5 if (order == "on") == is_on else 0


class _Busy:
    """0xC0, "node busy", until so many seconds after an order that was taken."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._since = seconds, 0.0

    def __call__(self, order: str, is_on: bool) -> int:
        if time.monotonic() - self._since < self._seconds:
            return 0xC0
        self._since = time.monotonic()
        return 0


def _ipmi(port: int, **fields: str) -> Power:
    words = {"address": "127.0.0.1", "user": "root", "password": Secret(env="BMC_PASSWORD")}
    words |= {"driver": "ipmi", "port": port, "cipher": toy_ipmi.CIPHER}
    return driver(IpmiPower.model_validate(words | fields))


@pytest.fixture
def ipmitool() -> None:
    try:
        which("ipmitool", "ipmitool")
    except HarnessError:
        pytest.skip("needs ipmitool")


@pytest.mark.usefixtures("ipmitool")
@pytest.mark.parametrize(
    ("is_on", "act", "orders"),
    [
        (False, Chain.off, [("off", 0xD5)]),
        (True, Chain.on, [("on", 0xD5)]),
        (True, Chain.off, [("off", 0)]),
        (False, Chain.cycle, [("off", 0xD5), ("on", 0)]),
        (True, Chain.cycle, [("off", 0), ("on", 0)]),
    ],
)
def test_dells_ipmi_refuses_what_is_done_already(
    is_on: bool, act: Callable[[Chain], None], orders: list[tuple[str, int]]
) -> None:
    bmc = ToyIpmi(refuses=_dell, is_on=is_on)
    with toy_ipmi.serve(bmc) as port:
        act(_chain(_ipmi(port)))
    assert bmc.orders == orders
    assert bmc.powered() == (act is not Chain.off)


@pytest.mark.usefixtures("ipmitool")
def test_a_bmc_that_is_busy_after_an_order_is_asked_again() -> None:
    bmc = ToyIpmi(refuses=_Busy(2.0), is_on=True, delay=0.5)
    with toy_ipmi.serve(bmc) as port:
        _chain(_ipmi(port)).cycle()
    taken = [order for order, code in bmc.orders if code == 0]
    assert taken == ["off", "on"] and ("on", 0xC0) in bmc.orders
    assert bmc.powered()


@pytest.mark.usefixtures("ipmitool")
def test_an_order_that_the_bmc_refuses_for_good_is_no_success() -> None:
    bmc = ToyIpmi(refuses=lambda order, is_on: 0xD5)
    with toy_ipmi.serve(bmc) as port, pytest.raises(LabError, match="refuses `power on` in the"):
        _chain(_ipmi(port), seconds=1.0).on()
    with (
        toy_ipmi.serve(ToyIpmi(refuses=lambda *_: 0xCC)) as port,
        pytest.raises(LabError, match="has no `power diag`"),
    ):
        _chain(_ipmi(port)).nmi()


@pytest.mark.usefixtures("ipmitool")
@pytest.mark.parametrize(
    ("bmc", "fields", "told"),
    [
        (ToyIpmi(open_status=0x01), {}, "answers but has no session left"),
        (ToyIpmi(rakp_status=0x09), {}, "the privilege level ADMINISTRATOR; set privilege in lab"),
        (ToyIpmi(rakp_status=0x09), {"privilege": "operator"}, "the privilege level OPERATOR"),
        (ToyIpmi(privilege_code=0x81), {}, "the user is no administrator; set privilege"),
        (ToyIpmi(), {"user": "nobody"}, "knows no user nobody with the privilege level"),
        (ToyIpmi(password="changed"), {}, "refuses the user or the password"),
        (ToyIpmi(open_status=0x11), {}, "does not know the cipher suite: set cipher"),
        (ToyIpmi(), {"address": "no-such-bmc.invalid"}, "no-such-bmc.invalid is not known to this"),
    ],
)
def test_why_a_bmc_gives_no_session_is_told(
    bmc: ToyIpmi, fields: dict[str, str], told: str
) -> None:
    with toy_ipmi.serve(bmc) as port, pytest.raises(LabError, match=told):
        _chain(_ipmi(port, **fields)).state()


@pytest.mark.usefixtures("ipmitool")
@pytest.mark.parametrize(
    ("code", "told"),
    [(0x81, "no Serial over LAN: SOL payload disabled; enable it"), (0x82, "no Serial over LAN: ")],
)
def test_serial_over_lan_that_is_not_given_is_told_at_once(code: int, told: str) -> None:
    began = time.monotonic()
    with toy_ipmi.serve(ToyIpmi(sol_code=code)) as port:
        section = SolConsole(
            driver="ipmi-sol",
            address="127.0.0.1",
            port=port,
            user="root",
            cipher=toy_ipmi.CIPHER,
            password=Secret(env="BMC_PASSWORD"),
        )
        with pytest.raises(LabError, match=told):
            sol(section).shutdown(socket.SHUT_RDWR)
    assert time.monotonic() - began < 15


# -- Redfish ----------------------------------------------------------------------------------


def _extended(message: str, text: str) -> dict[str, Any]:
    """Return an error document as DSP0266 has it, with one message of a registry."""
    info = [{"MessageId": message, "Message": text}]
    return {"error": {"code": "x", "message": text, "@Message.ExtendedInfo": info}}


_IDRAC = 409, _extended("IDRAC.2.8.PSU501", "Unable to perform requested operation: server is off.")
_ILO = 400, _extended("iLO.2.14.InvalidOperationForSystemState", "power state")
_VENDORS = {"idrac": _IDRAC, "ilo": _ILO}


class _Vendor(Bmc):
    """Refuses what is done already.  After an order it tells ``between`` first, once each."""

    def __init__(
        self, refusal: tuple[int, dict[str, Any]], state: str, between: tuple[object, ...] = ()
    ) -> None:
        super().__init__([])
        self._refusal, self._now, self._between = refusal, state, between
        self._next: list[object] = []
        self.taken: list[str] = []

    def system(self) -> dict[str, Any]:
        self._state = self._next.pop(0) if self._next else self._now
        return super().system()

    def reset(self, kind: str) -> Answer:
        self.resets.append(kind)
        wanted = {"On": "On", "ForceOff": "Off"}[kind]
        if self._now == wanted:
            return Answer("POST", kind, *self._refusal)
        self._now, self._next = wanted, list(self._between)
        self.taken.append(kind)
        return Answer("POST", kind, 204)


def _redfish(url: str) -> Power:
    pytest.importorskip("sushy", reason="needs the extra redfish")
    secret = Secret(env="BMC_PASSWORD")
    return driver(RedfishPower(driver="redfish", url=url, user="root", password=secret))


@pytest.mark.parametrize("vendor", _VENDORS)
@pytest.mark.parametrize(
    ("state", "act", "taken"),
    [
        ("Off", Chain.off, []),
        ("On", Chain.on, []),
        ("On", Chain.off, ["ForceOff"]),
        ("Off", Chain.cycle, ["On"]),
        ("On", Chain.cycle, ["ForceOff", "On"]),
    ],
)
def test_redfish_refuses_what_is_done_already(
    vendor: str, state: str, act: Callable[[Chain], None], taken: list[str]
) -> None:
    bmc = _Vendor(_VENDORS[vendor], state)
    with toy_bmc.serve(bmc) as url:
        act(_chain(_redfish(url)))
    assert bmc.taken == taken
    assert bmc.told[-1] == ("Off" if act is Chain.off else "On")


@pytest.mark.parametrize(
    "between", [(None, None), ("Unknown", None), ("PoweringOff", "PoweringOff"), ("Reset",)]
)
def test_a_state_that_redfish_does_not_know_yet_is_asked_for_again(
    between: tuple[object, ...],
) -> None:
    bmc = _Vendor(_IDRAC, "On", between)
    with toy_bmc.serve(bmc) as url:
        _chain(_redfish(url)).off()
    assert bmc.told[-len(between) - 1 :] == [*between, "Off"]


def test_a_state_that_redfish_never_tells_is_no_success() -> None:
    bmc = _Vendor(_ILO, "On", (None,) * 1000)
    with (
        toy_bmc.serve(bmc) as url,
        pytest.raises(LabError, match="it took the order, but 2 s later it does not say whether"),
    ):
        _chain(_redfish(url), seconds=2.0).off()
