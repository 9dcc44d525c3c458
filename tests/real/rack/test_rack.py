# SPDX-License-Identifier: GPL-2.0-or-later
"""The long form of tests/real/test_rack.py: every sort of server, every fault (`make rack`)."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.arch import Arch
from harness.command import CommandFailed
from harness.config.physical import SolConsole
from harness.data import TESTCASES
from harness.domains.keys import RunKeys
from harness.machine import lease, wires
from harness.machine.cpu_slots import slot
from harness.results import records
from harness.results.journal import read
from tests.real.conftest import Ran, harness, start
from tests.real.rack.rack import Rack, server
from tests.real.rack.server import press

pytestmark = [pytest.mark.real, pytest.mark.rack, pytest.mark.timeout(3600)]
SERVERS = {
    "x86-bios-ipmi": (Arch.X86_64, "bios", "ipmi"),
    "x86-bios-redfish": (Arch.X86_64, "bios", "redfish"),
    "x86-bios-virtualbmc": (Arch.X86_64, "bios", "virtualbmc"),
    "x86-uefi-ipmi": (Arch.X86_64, "uefi", "ipmi"),
    "arm64-uefi-ipmi": (Arch.ARM64, "uefi", "ipmi"),
    "x86-bios-labgrid": (Arch.X86_64, "bios", "labgrid"),
}
_LEAK = f"{TESTCASES}/test_hypercalls.py::test_poll_of_a_closed_port_leaves_it_usable"
_LOAD = str(TESTCASES / "test_load.py")
_HOME = "back-in-the-default-system"
_FIRST = f"{TESTCASES}/test_hypercalls.py::test_life_of_a_channel"


@pytest.fixture(scope="module", params=SERVERS)
def any_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rack]:
    arch, firmware, bmc = SERVERS[request.param]
    folder = tmp_path_factory.mktemp("rack")
    with server(folder, arch=arch, firmware=firmware, bmc=bmc) as found, slot(2, print):
        yield found


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rack]:
    with server(tmp_path_factory.mktemp("rack")) as found, slot(2, print):
        yield found


@pytest.fixture
def running(rack: Rack) -> Rack:
    """The server, on and in its default system."""
    if press(rack.folder, "state") != "on":
        press(rack.folder, "on")
    deadline = time.monotonic() + 180
    while True:
        try:
            assert at_home(rack)
            return rack
        except CommandFailed:
            assert time.monotonic() < deadline
            time.sleep(2)


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "rack" in request.fixturenames:
        request.getfixturevalue("rack").fault()


def run(rack: Rack, *words: str, test: str = _FIRST, **changes: object) -> Ran:
    lab = str(rack.lab(**changes))
    return harness("run", "--host", rack.name, "--lab", lab, "--json", *words, test)


def begin(
    rack: Rack, out: Path, test: str, *words: str, **changes: object
) -> subprocess.Popen[str]:
    """Start a run of ``test`` on the server into ``out``."""
    lab = str(rack.lab(**changes))
    host = ("--host", rack.name, "--lab", lab, "--out", str(out))
    return start("run", *host, "--json", *words, test)


def until(child: subprocess.Popen[str], out: Path, rack: Rack, stream: str, text: str) -> None:
    """Wait until ``stream`` of that run's console has ``text``."""
    log = out / "console" / rack.name / f"{stream}.log"
    deadline = time.monotonic() + 300
    while not (log.exists() and text in log.read_text()):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.5)


def console(rack: Rack) -> SolConsole:
    """Return the server's console, for somebody else."""
    return SolConsole.model_validate(rack.entry["console"])


def missed(ran: Ran) -> str:
    """Return why a run learnt nothing: the message of its first MISS."""
    assert ran.code == 3, ran.stderr
    tests = ran.document["hosts"][0]["tests"]
    return str(next(test["message"] for test in tests if test["verdict"] == "MISS"))


def at_home(rack: Rack) -> bool:
    """Say whether the default system answers."""
    return "server" in rack.ssh("hostname")


def test_the_suite_passes_on_every_sort_of_server(any_server: Rack, tmp_path: Path) -> None:
    ran = run(any_server, "--out", str(tmp_path / "out"), test=str(TESTCASES))
    assert ran.code == 0, ran.stderr
    assert at_home(any_server)


def test_poll_leak_is_caught_on_every_sort_of_server(any_server: Rack, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    ran = run(any_server, "--flavour", "poll-leak", "--out", out, test=_LEAK)
    assert ran.code == 1, ran.stderr
    assert "was never released" in ran.stderr
    assert at_home(any_server)


def test_a_silent_bmc(rack: Rack, tmp_path: Path) -> None:
    power = [rack.entry["power"][0] | {"port": 1}]
    began = time.monotonic()
    assert "the BMC does not answer" in missed(run(rack, power=power))
    assert time.monotonic() - began < 60


def test_a_power_switch_that_lies(rack: Rack) -> None:
    press(rack.folder, "off")
    rack.fault("power-lies")
    assert "it took the order, but 20 s later the server is still off" in missed(run(rack))


def test_a_host_key_that_changed(rack: Rack) -> None:
    ssh = rack.entry["ssh"] | {"host_key": RunKeys.new().host_public.strip()}
    assert "another SSH host key than the one in lab.yaml" in missed(run(rack, ssh=ssh))
    assert at_home(rack)


def test_a_full_disk(running: Rack) -> None:
    running.ssh("dd if=/dev/zero of=/boot/full bs=1M 2>/dev/null; sync")
    try:
        assert "the disk is full" in missed(run(running))
    finally:
        running.ssh("rm /boot/full; sync")


def test_a_grub_entry_that_is_missing(running: Rack) -> None:
    running.ssh("sed -i 's/custom.cfg/nothing.cfg/' /boot/grub/grub.cfg; sync")
    try:
        assert "does not read custom.cfg" in missed(run(running))
    finally:
        running.ssh("sed -i 's/nothing.cfg/custom.cfg/' /boot/grub/grub.cfg; sync")


def test_an_entry_that_grub_does_not_take(running: Rack) -> None:
    running.ssh("sed -i 's/-f .*custom.cfg ]/-f no.cfg ]/' /boot/grub/grub.cfg; sync")
    try:
        assert "GRUB did not boot the entry" in missed(run(running))
    finally:
        running.ssh("sed -i 's/-f no.cfg ]/-f $prefix\\/custom.cfg ]/' /boot/grub/grub.cfg; sync")
    assert at_home(running)


@pytest.mark.parametrize(
    ("fault", "cause"), [("console-dead", "console is dead"), ("console-garbled", "is garbled")]
)
def test_a_broken_console(rack: Rack, fault: str, cause: str) -> None:
    rack.fault(fault)
    assert cause in missed(run(rack, limits=rack.entry["limits"] | {"xen": 90}))
    assert at_home(rack)


def test_a_console_that_somebody_takes_once_is_taken_back(rack: Rack, tmp_path: Path) -> None:
    child = begin(rack, tmp_path / "out", _LOAD, "--duration", "40")
    until(child, tmp_path / "out", rack, "dom0", "sshd up")
    thief = wires.opener(console(rack))()
    _, said = child.communicate(timeout=900)
    thief.close()
    assert child.returncode == 0, said
    lost = re.compile(rf"{rack.name}: the console was lost for .* \(somebody else took the Serial")
    assert len(lost.findall(said)) == 1, said
    assert at_home(rack)


def test_a_console_that_somebody_takes_again_and_again(rack: Rack, tmp_path: Path) -> None:
    child = begin(rack, tmp_path / "out", _LOAD, "--duration", "300")
    until(child, tmp_path / "out", rack, "dom0", "sshd up")
    thief = wires.Lasting(wires.opener(console(rack)))  # takes it back as we do
    taking = threading.Thread(target=thief.drain)
    taking.start()
    stdout, said = child.communicate(timeout=400)
    thief.shutdown(socket.SHUT_RDWR)
    taking.join()
    thief.close()
    cause = "the console was taken from this run 3 times: somebody else works on this server"
    assert cause in missed(Ran(child.returncode, stdout, said))
    assert at_home(rack)


def test_a_dom0_without_network(rack: Rack, tmp_path: Path) -> None:
    limits = rack.entry["limits"] | {"xen": 120}
    child = begin(rack, tmp_path / "out", _FIRST, limits=limits)
    until(child, tmp_path / "out", rack, "xen", "Xen version")
    press(rack.folder, "unplug-network")
    stdout, said = child.communicate(timeout=600)
    cause = "its console says it is up, but nobody answers at 127.0.0.1"
    assert cause in missed(Ran(child.returncode, stdout, said))
    assert at_home(rack)


def test_a_server_too_small_for_dom0(rack: Rack) -> None:
    ran = run(rack, dom0_memory_mib=16384)
    assert re.search("Not enough RAM .*give dom0 less", missed(ran))
    assert at_home(rack)


def test_a_xen_that_panics_whenever_it_boots(rack: Rack) -> None:
    """Xen under test is to blame: FAIL, not MISS.  One boot is enough to know."""
    boot = {"xen_args": rack.entry["boot"]["xen_args"] + " iommu=force"}
    began = time.monotonic()
    ran = run(rack, boot=boot, test=str(TESTCASES))
    assert ran.code == 1, ran.stderr
    tests = {test["name"]: test for test in ran.document["hosts"][0]["tests"]}
    assert tests["boot"]["verdict"] == "FAIL"
    assert "panic: Panic on CPU 0: Couldn't enable IOMMU" in tests["boot"]["message"]
    assert tests[_HOME]["verdict"] == "PASS"
    assert time.monotonic() - began < 300
    assert at_home(rack)


def test_two_servers_in_parallel(rack: Rack, tmp_path: Path) -> None:
    harness("lab", "clean", rack.name, "--lab", str(rack.lab()))  # both begin from nothing
    with server(tmp_path / "second", name="rack-2") as second:
        outs = [(each, tmp_path / each.name) for each in (rack, second)]
        both = [begin(each, out, _LOAD, "--duration", "60") for each, out in outs]
        said = [child.communicate(timeout=1200) for child in both]
        assert [child.returncode for child in both] == [0, 0], said
        assert at_home(rack) and at_home(second)
    booted, left = [], []
    for _, out in outs:
        entries = read(out / "results.jsonl").entries
        tests = {e.record.name: e.time for e in entries if isinstance(e.record, records.Test)}
        booted.append(tests["boot"])
        left.append(tests[_HOME])
    assert max(booted) < min(left)  # for a while both were in Xen


def test_two_runs_race_for_one_server(rack: Rack, tmp_path: Path) -> None:
    lab = str(rack.lab())
    words = ("run", "--host", rack.name, "--lab", lab, "--json", _FIRST)
    both = [start(*words, "--out", str(tmp_path / name)) for name in ("one", "two")]
    said = [child.communicate(timeout=900) for child in both]
    assert [child.returncode for child in both] == [0, 0], said
    assert sum(f"waiting for {rack.name}" in stderr for _, stderr in said) == 1


def test_a_killed_run_and_the_next_one(rack: Rack, tmp_path: Path) -> None:
    child = begin(rack, tmp_path / "out", _LOAD, "--duration", "60")
    until(child, tmp_path / "out", rack, "dom0", "sshd up")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert lease.holder(rack.name) == ""
    ran = run(rack)
    assert ran.code == 0, ran.stderr
    assert "cycling its power to get its default system" in ran.stderr
    assert at_home(rack)
