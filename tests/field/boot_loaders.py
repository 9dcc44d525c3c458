# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB and the network of a default system, as the commands that are run there tell of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.arch import Arch
from harness.config.physical import Booting
from harness.data import GUESTS
from harness.machine import grub
from harness.verdict import LabError
from tests.field.case import Case
from tests.machine.test_grub import Here
from tests.machine.toy_default_system import ToyDefaultSystem

_ASKED = re.compile(r"^((?:ip|grub-\w+|/sys|boot\.grub|PATH|SSH|od)[^:]*?)(?:: | has )(.*)$")


def judge_server(case: Case, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Judge what grub.inspect makes of a server that answers so."""
    server = ToyDefaultSystem(folder)
    _fill(server, case.text)
    wanted = case.wanted
    section = Booting(
        folder=f"{folder}/ours", grub=f"{folder}/boot/{server.grub}", modules=tuple(server.drivers)
    )
    shell = server.start(patch)
    if "raises LabError" in wanted:
        said = re.search(r"raises LabError that says \"(.*)\"", wanted)
        with _refuses(said[1] if said else "grubenv"):
            grub.inspect(shell, section, Arch.X86_64, section.modules)
        return
    system = grub.inspect(shell, section, Arch.X86_64, section.modules)
    if driver := re.search(r"System\.driver=(\w+)", wanted):
        assert system.driver == driver[1]
        assert system.mac in server.macs(driver[1])
    elif gateway := re.search(r"gateway=(\S+) nic=(\w+)", wanted):
        assert (system.gateway, system.mac) == (gateway[1], server.mac(gateway[2]))
    elif mac := re.search(r"mac=([0-9a-f:]{17})", wanted):
        assert system.mac == mac[1]
    elif address := re.search(r"address=(\S+)", wanted):
        assert system.address == address[1]
    elif nic := re.search(r"is taken: (\w+)", wanted):
        assert system.mac == server.mac(nic[1])
    elif "onlink" in wanted:
        assert re.search(r"ip route add default via .* onlink", (GUESTS / "dom0/init").read_text())
        assert f"via {system.gateway} dev" in case.text
    elif insmod := re.findall(r"insmod \w+", wanted):
        lines = grub.entry(Arch.X86_64, system, xen_args="", dom0_args="")
        search = next(at for at, line in enumerate(lines) if line.startswith("search "))
        assert set(insmod) <= set(lines[:search]), lines
    else:
        assert "boot_once work" in wanted, f"no judge for {wanted}"
        grub.write_entry(shell, section, ["true"])
        grub.boot_once(shell, section)


def judge_file(case: Case, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Judge a grub.cfg, or a custom.cfg that somebody else made."""
    server = ToyDefaultSystem(folder)
    section = Booting(folder=f"{folder}/ours", grub=f"{folder}/boot/grub")
    shell = server.start(patch)
    if leads := re.search("refused: it only leads to another", case.wanted):
        Path(section.grub, "grub.cfg").write_bytes(case.path.read_bytes())
        with _refuses(leads[0].removeprefix("refused: "), never="hand-written"):
            grub.inspect(shell, section, Arch.X86_64)
    elif "hand-written" in case.wanted:
        Path(section.grub, "grub.cfg").write_bytes(case.path.read_bytes())
        with _refuses("hand-written", never="update-grub"):
            grub.inspect(shell, section, Arch.X86_64)
    elif "--unrestricted" in case.wanted:
        Path(section.grub, "grub.cfg").write_bytes(case.path.read_bytes())
        grub.write_entry(shell, section, ["true"])
        entry = Path(section.grub, "custom.cfg").read_text()
        assert re.search(r"^menuentry .*--unrestricted.* \{$", entry, re.MULTILINE), entry
    else:
        _judge_custom(case, section, shell)


def _judge_custom(case: Case, section: Booting, shell: Here) -> None:
    custom = Path(section.grub, "custom.cfg")
    before = case.path.read_bytes()
    custom.write_bytes(before)
    mode = 0o600 if "0600" in case.wanted else 0o644
    custom.chmod(mode)
    for _ in range(2):
        grub.write_entry(shell, section, ["true"])
        assert custom.stat().st_mode & 0o777 == mode
        assert custom.read_bytes().startswith(before)
    grub.clean(shell, section)
    assert (custom.read_bytes(), custom.stat().st_mode & 0o777) == (before, mode)


@contextmanager
def _refuses(says: str, never: str = "uuid") -> Iterator[None]:
    with pytest.raises(LabError) as caught:
        yield
    assert says in str(caught.value) and never not in str(caught.value), str(caught.value)


def _fill(server: ToyDefaultSystem, text: str) -> None:
    """Make ``server`` answer as the lines "COMMAND: ANSWER" of ``text`` say."""
    asked = ""
    for line in text.splitlines():
        if line.startswith((" ", "\t")) and asked.startswith("ip route"):
            server.routes += f"\n{line}"
        elif found := _ASKED.match(line):
            asked, answer = found.groups()
            _answer(server, asked, answer)


def _answer(server: ToyDefaultSystem, asked: str, answer: str) -> None:
    if asked == "ip route show default":
        server.routes = "" if answer == "(nothing)" else answer
    elif addresses := re.fullmatch(r"ip -4 -o addr show dev (\w+)", asked):
        server.addresses[addresses[1]] = answer
    elif probe := re.fullmatch(r"grub-probe --target=(\w+) (\S+)", asked):
        server.probes[probe[2] == "FOLDER", probe[1]] = answer
    elif asked == "ip route show table all default":
        server.tables = answer
    elif link := re.fullmatch(r"ip -o link show dev (\w+)", asked):
        server.links[link[1]] = answer
    elif asked == "SSH_CONNECTION":
        server.ssh = answer.split()[2]
    elif asked == "od -An -t u1 SecureBoot-*":
        server.secure_boot = bytes(map(int, answer.split()))
    elif asked == "boot.grub":
        server.grub = Path(answer).name
    elif asked == "PATH":
        server.prefix = "grub2" if "grub2-probe" in answer else "grub"
    elif asked == "/sys/class/net":
        server.interfaces.clear()
        for names, said in re.findall(r"([\w,.-]+)(?:\(([^)]*)\))?", answer):
            for name in names.split(","):
                server.add(name, said)
