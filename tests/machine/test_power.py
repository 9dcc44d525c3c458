# SPDX-License-Identifier: GPL-2.0-or-later
"""Power switches: programs that really run, and a chain that believes none of them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.command import CommandFailed
from harness.config.physical import CommandPower, IpmiPower, RedfishPower, Secret
from harness.machine import power as power_module
from harness.machine.power import Chain, Power, Unsupported, chain, driver
from harness.machine.power.extras import module
from harness.machine.power.ipmi import arguments, explained
from harness.verdict import LabError
from tests.machine.toy_bmc import Answer, Bmc, serve


def switch(folder: Path, name: str = "relay", *, honest: bool = True, works: bool = True) -> Power:
    """Return a switch whose relay is a file; one that is not honest only says that it switched."""
    relay = folder / name
    if not relay.exists():
        relay.write_text("off")
    do = "true" if not honest else "printf {} >" + str(relay)
    words = {each: ("sh", "-c", do.format(each) if works else "exit 7") for each in ("on", "off")}
    state = ("cat", str(relay))
    return driver(
        CommandPower(driver="command", turn_on=words["on"], turn_off=words["off"], state=state)
    )


def make_chain(*switches: Power) -> Chain:
    return Chain(switches, seconds=0.2, where="host rack-1: power")


def test_a_switch_is_operated_and_seen_to_be_on_and_off(tmp_path: Path) -> None:
    one = make_chain(switch(tmp_path))
    assert one.state() == "off"
    one.on()
    assert one.state() == "on"
    one.cycle()
    assert one.state() == "on"
    one.off()
    assert one.state() == "off"


def test_a_switch_that_lies_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"it took the order, but .* still off"):
        make_chain(switch(tmp_path, honest=False)).on()


def test_what_is_off_already_need_not_be_switched_off(tmp_path: Path) -> None:
    """A BMC refuses the order then: Dell's IPMI with 0xD5, iDRAC with 409, iLO with 400."""
    one = make_chain(switch(tmp_path, works=False))
    one.off()
    with pytest.raises(LabError, match=r"cannot switch it on: command sh: .*exited 7"):
        one.on()


def test_an_off_server_is_cycled(tmp_path: Path) -> None:
    relay = tmp_path / "relay"
    relay.write_text("off")
    make_chain(
        driver(
            CommandPower(
                driver="command",
                turn_on=("sh", "-c", f"printf on >{relay}"),
                turn_off=("sh", "-c", f"grep on {relay} && printf off >{relay}"),  # else it fails
                state=("cat", str(relay)),
            )
        )
    ).cycle()
    assert relay.read_text() == "on"


def test_an_order_that_is_refused_at_first_is_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power_module, "_AGAIN_SECONDS", 0.01)
    relay, asked = tmp_path / "relay", tmp_path / "asked"
    relay.write_text("off")
    script = f"echo x >>{asked}; [ $(wc -l <{asked}) -gt 2 ] && printf on >{relay}"
    words = CommandPower(
        driver="command",
        turn_on=("sh", "-c", script),
        turn_off=("false",),
        state=("cat", str(relay)),
    )
    Chain([driver(words)], seconds=5, where="x").on()
    assert asked.read_text().count("x") == 3


def test_a_state_that_is_not_told_yet_is_asked_for_again(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"echo x >>{told}; [ $(wc -l <{told}) -gt 2 ] && echo on || echo '?'"
    words = CommandPower(
        driver="command",
        turn_on=("true",),
        turn_off=("true",),
        state=("sh", "-c", script),
    )
    Chain([driver(words)], seconds=5, where="x").on()
    assert told.read_text().count("x") == 3


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Error in open session response message : insufficient resources for session", "no sess"),
        ("Set Session Privilege Level to OPERATOR failed", "the user is no operator; set privil"),
        ("RAKP 2 message indicates an error : unauthorized role requested", "level OPERATOR; set"),
        ("RAKP 2 message indicates an error : unauthorized name", "knows no user root"),
        ("RAKP 2 HMAC is invalid", "refuses the user or the password"),
        ("Get Session Challenge command failed", "does not answer"),
    ],
)
def test_why_there_is_no_session_is_told(said: str, told: str) -> None:
    section = IpmiPower(
        driver="ipmi", address="b", user="root", password=Secret(env="P"), privilege="operator"
    )
    end = "Error: Unable to establish IPMI v2 / RMCP+ session"
    error = CommandFailed("ipmitool exited 1", output=f"{said}\n{end}\n")
    assert told in explained(error, section)
    assert arguments(section)[-2:] == ["-L", "OPERATOR"]


def test_a_bmc_that_says_409_for_off_when_off(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sushy")
    monkeypatch.setenv("BMC_PASSWORD", "hunter2")
    bmc = Bmc([Answer("GET", body={"PowerState": "Off"}), Answer("POST", "ForceOff", 409)])
    with serve(bmc) as url:
        section = RedfishPower(
            driver="redfish", url=url, user="a", password=Secret(env="BMC_PASSWORD")
        )
        make_chain(driver(section)).off()
    assert bmc.resets == ["ForceOff"]


def test_the_next_switch_is_used_when_one_fails_or_lies(tmp_path: Path) -> None:
    broken, liar, good = (
        switch(tmp_path, works=False),
        switch(tmp_path, honest=False),
        switch(tmp_path),
    )
    make_chain(broken, liar, good).on()
    assert (tmp_path / "relay").read_text() == "on"


def test_when_none_works_every_reason_is_told(tmp_path: Path) -> None:
    both = make_chain(switch(tmp_path, works=False), switch(tmp_path, honest=False))
    with pytest.raises(LabError, match=r"host rack-1: power: .*exited 7.*command sh: it took"):
        both.on()


def test_a_soft_off_that_never_comes_ends_hard(tmp_path: Path) -> None:
    one = make_chain(switch(tmp_path))
    one.on()
    one.soft_off(0.2)  # there is no such command: straight to the hard one
    assert one.state() == "off"


def test_what_a_switch_cannot_do_is_told() -> None:
    plain = driver(CommandPower(driver="command", turn_on=("true",), turn_off=("true",)))
    assert plain.state() == "unknown"
    with pytest.raises(Unsupported):
        plain.nmi()
    with pytest.raises(LabError, match=r"no NMI: command true: lab.yaml gives no command `nmi`"):
        make_chain(plain).nmi()


@pytest.mark.slow
def test_a_silent_bmc_is_told_of_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BMC_PASSWORD", "hunter2")
    section = IpmiPower(
        driver="ipmi", address="127.0.0.1", port=1, user="a", password=Secret(env="BMC_PASSWORD")
    )
    began = time.monotonic()
    with pytest.raises(LabError, match=r"no switch answers: ipmi 127.0.0.1: the BMC does not"):
        chain([section], seconds=1, where="rack-1").state()
    assert time.monotonic() - began < 30


def test_a_missing_package_names_the_extra() -> None:
    with pytest.raises(LabError, match=r"pip install 'xen-evtchn-harness\[redfish\]'"):
        module("no_such_package_of_ours", "redfish")


def test_redfish_without_anybody_there_is_a_lab_error(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sushy")
    monkeypatch.setenv("BMC_PASSWORD", "hunter2")
    section = RedfishPower(
        driver="redfish",
        url="http://127.0.0.1:1",
        user="a",
        password=Secret(env="BMC_PASSWORD"),
    )
    with pytest.raises(LabError, match="the BMC does not answer"):
        driver(section).state()
