# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers in lab.yaml: typed values, one exact line per mistake, and no secret anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.config.lab import load_lab
from harness.config.physical import PhysicalHost, Secret
from harness.verdict import ConfigError

SERVER = """\
hosts:
  rack-1:
    kind: physical
    arch: x86_64
    power:
      - driver: ipmi
        address: bmc-1
        user: admin
        password: {env: BMC_PASSWORD}
      - driver: command
        turn_on: [pdu, "on", "4"]
        turn_off: [pdu, "off", "4"]
    console: {driver: tcp, address: console-server, port: 4001, protocol: telnet}
    ssh: {address: rack-1, key_file: id, host_key: ssh-ed25519 AAAA}
"""


def _load(tmp_path: Path, text: str) -> PhysicalHost:
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    host = load_lab(path)["rack-1"]
    assert isinstance(host, PhysicalHost)
    return host


def test_a_server_is_read_with_its_defaults(tmp_path: Path) -> None:
    host = _load(tmp_path, SERVER)
    assert [driver.driver for driver in host.power] == ["ipmi", "command"]
    assert (host.console.driver, host.ssh.port, host.boot.leave) == ("tcp", 22, "default")
    assert host.domus == 2


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("address: bmc-1", "adress: bmc-1", "7: hosts.rack-1.power.0.adress: unknown field; did"),
        ("driver: ipmi", "driver: ipmy", "6: hosts.rack-1.power.0: unknown driver 'ipmy'; use"),
        ("{env: BMC_PASSWORD}", "hunter2", "9: hosts.rack-1.power.0.password: must be a mapping"),
        (
            "{env: BMC_PASSWORD}",
            "{env: A, file: b}",
            "9: hosts.rack-1.power.0.password: needs exactly one of file and env; give one of them",
        ),
        ("port: 4001", "port: 70000", "13: hosts.rack-1.console.port: 70000 is too big; use 65535"),
        ("telnet", "ssh", "13: hosts.rack-1.console.protocol: cannot be 'ssh'; use 'raw' or"),
        ("key_file: id, ", "", "14: hosts.rack-1.ssh.key_file: missing; add it, for example"),
    ],
)
def test_a_mistake_is_told_with_line_and_field(
    tmp_path: Path, old: str, new: str, line: str
) -> None:
    assert old in SERVER
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, SERVER.replace(old, new))
    lines = str(caught.value).splitlines()
    assert any(each.startswith(f"{tmp_path / 'lab.yaml'}:{line}") for each in lines), lines


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("address: bmc-1", "adress: bmc-1", "7: hosts.rack-1.power.0.adress: unknown field; did"),
        ("address: bmc-1", "address: https://bmc-1", "7: hosts.rack-1.power.0.address: must be a"),
        ("address: bmc-1", "address: bmc-1:623", "7: hosts.rack-1.power.0.address: must be with"),
        ("address: rack-1,", 'address: "-oProxy",', "11: hosts.rack-1.ssh.address: must be a host"),
        ("user: admin", "user: 5", "8: hosts.rack-1.power.0.user: must be text, not 5; put it"),
        ("driver: ipmi", "driver: ipmy", "6: hosts.rack-1.power.0: unknown driver 'ipmy'; use"),
        (
            "{driver: tcp, address: console-server, port: 4001, protocol: telnet}",
            "tcp",
            "10: hosts.rack-1.console: must be a mapping of fields, not 'tcp'; write it as",
        ),
    ],
)
def test_one_mistake_in_the_only_driver_is_one_error(
    tmp_path: Path, old: str, new: str, line: str
) -> None:
    """Seen: a second error said that the list of drivers is empty."""
    first, second = SERVER.index("      - driver: command"), SERVER.index("    console:")
    only = SERVER[:first] + SERVER[second:]
    assert old in only
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, only.replace(old, new))
    (told,) = str(caught.value).splitlines()
    assert told.startswith(f"{tmp_path / 'lab.yaml'}:{line}"), told


@pytest.mark.parametrize(
    ("driver", "told"),
    [
        ("{driver: redfish, url: bmc-1, user: u, password: {env: A}}", "url: must begin with http"),
        ("{driver: redfish, url: 'ftp://b', user: u, password: {env: A}}", "url: must begin with"),
        ("{driver: redfish, url: 'https://', user: u, password: {env: A}}", "url: must begin wit"),
        ("{driver: labgrid, coordinator: 'ws://lab:20408/ws', place: p}", "coordinator: is HOST"),
        ("{driver: labgrid, coordinator: 'lab:port', place: p}", "coordinator: is HOST[:PORT]"),
        ("{driver: redfish, url: 'https://b/', user: u, password: {env: A}}", ""),
        ("{driver: labgrid, coordinator: lab, place: p}", ""),
        ("{driver: labgrid, coordinator: '[2001:db8::1]:20408', place: p}", ""),
    ],
)
def test_addresses_of_drivers_are_checked_when_they_are_read(
    tmp_path: Path, driver: str, told: str
) -> None:
    text = SERVER.replace(
        "      - driver: command\n", f"      - {driver}\n      - driver: command\n"
    )
    if not told:
        assert len(_load(tmp_path, text).power) == 3
        return
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    (line,) = str(caught.value).splitlines()
    assert told in line


@pytest.mark.parametrize("bad", ["a'b", 'a\\"b', "a\\\\b", "a\\nb", "ä"])
def test_what_grub_cannot_pass_on_is_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(ConfigError, match=r"boot\.xen_args: GRUB cannot pass on the character"):
        _load(tmp_path, f'{SERVER}    boot: {{xen_args: "x {bad}"}}\n')
    assert _load(tmp_path, f'{SERVER}    boot: {{xen_args: "a=1G:2M<3 $b;c"}}\n').boot.xen_args


def test_a_password_given_as_a_value_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, SERVER.replace("{env: BMC_PASSWORD}", "hunter2"))
    assert "hunter2" not in str(caught.value)


def test_a_host_in_a_manifest_or_a_log_has_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BMC_PASSWORD", "hunter2")
    host = _load(tmp_path, SERVER)
    assert host.power[0].driver == "ipmi"
    assert host.power[0].password.read() == "hunter2"
    assert "hunter2" not in host.model_dump_json() + repr(host)


def test_a_secret_that_is_not_there_says_where_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(ConfigError, match=r"\$NOT_SET: the secret is empty or missing"):
        Secret(env="NOT_SET").read()
    with pytest.raises(ConfigError, match="nowhere: cannot read the secret"):
        Secret(file=str(tmp_path / "nowhere")).read()
    (tmp_path / "secret").write_text("hunter2\n")
    assert Secret(file=str(tmp_path / "secret")).read() == "hunter2"


@pytest.mark.parametrize(
    ("section", "example"),
    [("ssh", "{address: server"), ("console", "{driver: tcp"), ("power", "[{driver: ipmi")],
)
def test_a_section_that_is_missing_is_told_with_an_example(
    tmp_path: Path, section: str, example: str
) -> None:
    lab = yaml.safe_load(SERVER)
    del lab["hosts"]["rack-1"][section]
    with pytest.raises(ConfigError, match=rf"{section}: missing; add it, for example") as caught:
        _load(tmp_path, yaml.safe_dump(lab))
    assert example in str(caught.value)
