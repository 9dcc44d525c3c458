# SPDX-License-Identifier: GPL-2.0-or-later
"""Servers in lab.yaml: typed values, one exact line per mistake, and no secret anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.config.lab import load_lab
from harness.config.physical import PhysicalHost, Secret
from harness.verdict import ConfigError

_SERVER = """\
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
    host = _load(tmp_path, _SERVER)
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
    assert old in _SERVER
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, _SERVER.replace(old, new))
    lines = str(caught.value).splitlines()
    assert any(each.startswith(f"{tmp_path / 'lab.yaml'}:{line}") for each in lines), lines


def test_a_password_given_as_a_value_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, _SERVER.replace("{env: BMC_PASSWORD}", "hunter2"))
    assert "hunter2" not in str(caught.value)


def test_a_host_in_a_manifest_or_a_log_has_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BMC_PASSWORD", "hunter2")
    host = _load(tmp_path, _SERVER)
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
    lab = yaml.safe_load(_SERVER)
    del lab["hosts"]["rack-1"][section]
    with pytest.raises(ConfigError, match=rf"{section}: missing; add it, for example") as caught:
        _load(tmp_path, yaml.safe_dump(lab))
    assert example in str(caught.value)
