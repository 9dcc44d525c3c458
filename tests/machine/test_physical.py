# SPDX-License-Identifier: GPL-2.0-or-later
"""A server's way to Xen and home again, whatever goes wrong; real SSH and a real serial line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.config.physical import PhysicalHost
from harness.domains.keys import RunKeys
from harness.machine import lease
from harness.machine.console import Console
from harness.machine.lease import Held
from harness.machine.physical import PhysicalMachine, ServerBoot
from harness.machine.tenure import LeaseLost
from harness.verdict import LabError
from tests.machine.toy_server import ToyServer

pytestmark = pytest.mark.slow

Make = Callable[..., PhysicalMachine]


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[ToyServer]:
    folder = tmp_path / "toy"
    folder.mkdir()
    server = ToyServer(folder)
    yield server
    server.close()


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    monkeypatch.setenv(lease.ENVIRONMENT, str(tmp_path / "leases"))
    with lease.lease("toy", print, wait=0) as held:
        yield held


@pytest.fixture
def lose(tmp_path: Path, held: Held) -> Callable[[], None]:
    """Have somebody else take the server."""

    def lose() -> None:
        (tmp_path / "leases/toy@77.json").write_text("of another run")

    return lose


@pytest.fixture
def make(toy: ToyServer, held: Held, tmp_path: Path) -> Iterator[Make]:
    made: list[PhysicalMachine] = []
    for name in ("xen", "kernel", "root"):
        (tmp_path / name).write_bytes(name.encode() * 100)

    def initramfs(network: str) -> Path:
        (tmp_path / "run.cpio").write_text(network)
        return tmp_path / "run.cpio"

    def machine(host: PhysicalHost | None = None) -> PhysicalMachine:
        boot = ServerBoot(
            xen=tmp_path / "xen",
            kernel=tmp_path / "kernel",
            root=tmp_path / "root",
            initramfs=initramfs,
            xen_args="noreboot",
            dom0_args="console=hvc0",
        )
        console = Console(tmp_path / f"console{len(made)}")
        made.append(
            PhysicalMachine(host or toy.host(), boot, held=held, console=console, notice=print)
        )
        return made[-1]

    yield machine
    for each in made:
        each.power_off()


def wait(machine: PhysicalMachine, pattern: str = "sshd up") -> None:
    machine.console.expect(pattern, machine.boot_seconds, check=machine.check)


def test_xen_is_booted_once_and_the_default_system_comes_back(toy: ToyServer, make: Make) -> None:
    machine = make()
    machine.power_on()
    wait(machine)
    machine.up()
    assert toy.boots == ["default", "xen"]
    initrd = (toy.folder / "ours/initrd").read_bytes()
    assert initrd.startswith(b"rootroot") and b"address=10.0.2.15/24" in initrd
    machine.power_off()
    assert toy.boots == ["default", "xen", "default"]
    assert machine.stranded == ""
    machine.power_off()  # as often as one likes
    assert toy.boots[3:] == []


def test_a_server_that_a_dead_run_left_in_xen_is_recovered(toy: ToyServer, make: Make) -> None:
    machine = make()
    machine.power_on()
    wait(machine)
    machine.left = False  # it dies here
    machine.power_off()
    again = make()
    again.power_on()
    wait(again)
    assert toy.boots == ["default", "xen", "default", "xen"]


def test_another_host_key_is_told_after_one_power_cycle(toy: ToyServer, make: Make) -> None:
    host = toy.host()
    ssh = host.ssh.model_copy(update={"host_key": RunKeys.new().host_public.strip()})
    machine = make(host.model_copy(update={"ssh": ssh}))
    (toy.folder / "power").write_text("on")
    with pytest.raises(LabError, match=r"another SSH host key than the one in lab.yaml"):
        machine.power_on()
    assert set(toy.boots) == {"default"}


def test_an_entry_that_grub_does_not_take_is_told(toy: ToyServer, make: Make) -> None:
    toy.takes_entry = False
    machine = make()
    machine.power_on()
    with pytest.raises(LabError, match="GRUB did not boot the entry"):
        wait(machine)


def test_a_dead_console_is_told(toy: ToyServer, make: Make) -> None:
    toy.says = b""
    host = toy.host()
    machine = make(host.model_copy(update={"limits": host.limits.model_copy(update={"xen": 3})}))
    machine.power_on()
    with pytest.raises(LabError, match="the console is dead: not a byte"):
        wait(machine)
    machine.power_off()
    assert machine.stranded == "" and toy.system == "default"


def test_a_dom0_that_is_up_but_not_to_be_reached_is_told(toy: ToyServer, make: Make) -> None:
    host = toy.host()
    machine = make(host.model_copy(update={"limits": host.limits.model_copy(update={"xen": 3})}))
    machine.power_on()
    with pytest.raises(LabError, match=r"says it is up, but nobody answers at .*check its network"):
        wait(machine, "what only a log-in would show")


def test_a_garbled_console_is_told(toy: ToyServer, make: Make) -> None:
    toy.says = bytes(range(128, 256)) * 10
    host = toy.host()
    machine = make(host.model_copy(update={"limits": host.limits.model_copy(update={"xen": 3})}))
    machine.power_on()
    with pytest.raises(LabError, match=r"the console is garbled \(100 % is not text\)"):
        wait(machine)


def test_a_dom0_without_network_is_told_at_once(toy: ToyServer, make: Make) -> None:
    toy.says = b"(XEN) up\r\nharness: dom0 network failed at 3.0: no eth0\r\n"
    machine = make()
    machine.power_on()
    with pytest.raises(LabError, match="dom0 came up broken: harness: dom0 network failed"):
        wait(machine)


def test_firmware_that_dom0_lacks_is_named(toy: ToyServer, make: Make) -> None:
    toy.says = (
        b"(XEN) up\r\n"
        b"[    2.1] bnx2 0000:01:00.0: Direct firmware load for bnx2/x.fw failed with error -2\r\n"
        b"[    2.2] bnx2 0000:01:00.0: firmware: failed to load bnx2/x.fw (-2)\r\n"
        b"harness: dom0 network failed at 3.0: no eth0\r\n"
    )
    machine = make()
    machine.power_on()
    with pytest.raises(
        LabError, match=r"did not find the firmware bnx2/x\.fw: dom0's image has no"
    ):
        wait(machine)


def test_a_disk_that_fills_up_leaves_nothing(toy: ToyServer, make: Make) -> None:
    (toy.folder / "bin/sha256sum").write_text(
        "#!/bin/sh\necho no space left on device >&2; exit 1\n"
    )
    (toy.folder / "bin/sha256sum").chmod(0o755)
    machine = make()
    with pytest.raises(LabError, match="no space left on device"):
        machine.power_on()
    assert not (toy.folder / "ours").exists() and toy.system == "default"


def test_a_switch_whose_state_lies_is_found_out_at_the_end(toy: ToyServer, make: Make) -> None:
    machine = make()
    machine.power_on()
    wait(machine)
    toy.lies = True  # it never goes off, and says that it did
    machine.power_off()
    assert "another SSH host key" in machine.stranded
    toy.lies = False


def test_a_hang_cannot_be_looked_into_when_the_console_is_silent(
    toy: ToyServer, make: Make
) -> None:
    machine = make()
    machine.power_on()
    wait(machine)
    with pytest.raises(LabError, match="Xen does not react to its debug keys; no NMI: command sh"):
        machine.cpus()
    for look in (machine.dump, machine.save, lambda: machine.memory(0, 0, 8)):
        with pytest.raises(LabError):
            look()


# -- Trust, 2: a run that lost its lease switched off, or looked into, the next run's server -------


def test_a_run_without_its_lease_leaves_the_power_alone(
    toy: ToyServer, make: Make, lose: Callable[[], None]
) -> None:
    machine = make()
    machine.power_on()
    wait(machine)
    lose()
    machine.power_off()
    assert toy.boots == ["default", "xen"] and toy.system == "xen"
    assert "the lease is lost: somebody" in machine.stranded
    assert "left as it is, not even switched off" in machine.stranded


def test_a_run_without_its_lease_ends_wherever_it_waits(
    toy: ToyServer, make: Make, lose: Callable[[], None], held: Held
) -> None:
    machine = make()
    machine.power_on()
    wait(machine)
    machine.up()
    lose()
    with pytest.raises(LeaseLost):
        machine.cpus()  # no debug key is pressed
    with pytest.raises(LeaseLost):
        machine.check()
    assert toy.typed() == b""


@pytest.mark.parametrize("step", ["sha256sum", "grub-editenv", "ip"])
def test_a_run_that_loses_its_lease_while_it_installs_does_not_reboot(
    toy: ToyServer, make: Make, step: str, tmp_path: Path
) -> None:
    """Another run takes the server at one of the steps on it; none after the next one is done."""
    program, real = toy.folder / "bin" / step, f"/usr/bin/{step}"
    old = program.read_text().partition("\n")[2] if program.exists() else f'exec {real} "$@"'
    taken = f"echo another >{tmp_path}/leases/toy@77.json"
    program.write_text(f"#!/bin/sh\n{taken}\n{old}\n")
    program.chmod(0o755)
    machine = make()
    with pytest.raises(LeaseLost):
        machine.power_on()
    machine.power_off()
    assert toy.boots == ["default"] and toy.system == "default"
    assert not (toy.folder / "reboot").exists()


def test_the_console_is_not_taken_back_without_the_lease(
    toy: ToyServer, make: Make, lose: Callable[[], None], held: Held
) -> None:
    machine = make()
    machine.power_on()
    wait(machine)
    lose()
    with pytest.raises(LeaseLost):
        held.confirm()
    before = toy.lines
    toy.drop_line()
    time.sleep(2.5)
    assert toy.lines == before
    machine.power_off()
