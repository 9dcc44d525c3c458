# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's files that the emulation is compiled from: which are used, and which are missed."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.agent import emulated
from harness.agent.build import compiler
from harness.agent.client import AgentClient
from harness.agent.emulated import compile_guest, emulated_guest
from harness.agent.wire import Arguments
from harness.arch import Arch
from harness.fuzz.guest import ProgrammeGuest
from harness.fuzz.programme import (
    MAX_STEPS,
    Bit,
    Flag,
    Seen,
    SeenBits,
    Step,
    What,
    decode_seen,
    decode_timed,
)
from harness.hypervisor.qemu import EVENT_CHANNELS, QemuSource
from harness.machine.line import Line
from harness.verdict import BuildError, LabError

_HYPERCALLS = """
static int other(void)
{
    return 0;
}

void *kvm_xen_get_vcpu_info_hva(uint32_t vcpu_id)
{
    if (vcpu_id) {
        return 0;
    }
    return 1;
}

int after;
"""


@pytest.fixture
def source(tmp_path: Path) -> QemuSource:
    """A tree with the names of QEMU's files, and next to nothing in them."""
    files = {
        EVENT_CHANNELS: '#include "qemu/osdep.h"\n#include "hw/xen/interface/memory.h"\n',
        EVENT_CHANNELS.with_suffix(".h"): '#include "hw/sysbus.h"\n#include "../../escape.h"\n',
        EVENT_CHANNELS.with_name("xen_overlay.h"): "",
        EVENT_CHANNELS.with_name("xen_xenstore.h"): "",
        Path("target/i386/kvm/xen-emu.c"): _HYPERCALLS,
        Path("include/hw/xen/interface/memory.h"): "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return QemuSource(tmp_path, "0", "a test")


def test_every_header_that_is_not_xens_is_a_stub(
    source: QemuSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emulated, "_FUNCTIONS", ("kvm_xen_get_vcpu_info_hva",))
    headers = tmp_path / "headers"
    emulated._lay_out(source, headers)
    stubs = [path for path in headers.rglob("*.h") if path.read_text() == '#include "qemu.h"\n']
    assert {str(path.relative_to(headers)) for path in stubs} == {"qemu/osdep.h", "hw/sysbus.h"}
    assert not (tmp_path / "escape.h").exists()
    told = (headers / "hypercalls.h").read_text()
    assert told.startswith("void *kvm_xen") and told.endswith("return 1;\n}\n")


def test_a_function_that_is_not_there_is_named(source: QemuSource) -> None:
    with pytest.raises(BuildError, match="no function kvm_xen_set_vcpu_virq in QEMU's source"):
        emulated_guest(source)


def test_an_error_of_the_compiler_names_qemus_own_file(
    source: QemuSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compiled from a copy, which is gone when the error is read."""
    monkeypatch.setattr(emulated, "_FUNCTIONS", ())
    monkeypatch.setattr(emulated, "_lay_out", _broken)
    with pytest.raises(BuildError, match=r"does not compile: xen_evtchn\.c:1:\d+: error: "):
        emulated_guest(source)


def _broken(_source: QemuSource, headers: Path) -> None:
    headers.mkdir()
    (headers / EVENT_CHANNELS.name).write_text("int broken(;\n")


def test_a_file_that_is_not_there_is_named(source: QemuSource) -> None:
    (source.tree / "target/i386/kvm/xen-emu.c").unlink()
    with pytest.raises(BuildError, match=r"xen-emu.c: not there"):
        emulated_guest(source)


def test_another_architecture_is_told(source: QemuSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(LabError, match="this computer is aarch64"):
        emulated_guest(source)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bare guest on an emulation that is not QEMU's."""
    folder = tmp_path_factory.mktemp("emulated")
    fake = Path(__file__).with_name("fake_emulation.c")
    return compile_guest(compiler(Arch.X86_64), folder, [fake])


@pytest.fixture
def agent(program: Path) -> Iterator[AgentClient]:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            end = theirs.fileno()
            child = subprocess.Popen([program], stdin=end, stdout=end)
        yield AgentClient(Line(ours, "guest"), "guest")
    assert child.wait(10) == 0, "it ends when nobody asks any more"


def test_the_guest_is_a_process(agent: AgentClient) -> None:
    assert (agent.domid, agent.info.vcpus, agent.info.xen) == (1, 2, (4, 17))


def test_either_vcpu_makes_hypercalls(agent: AgentClient) -> None:
    made = [agent.connection.ask("alloc_unbound", {"on": vcpu}) for vcpu in (0, 1, 0)]
    assert [answer.integer("result") for answer in made] == [10, 11, 10]


def test_arguments_that_cannot_be_read_or_written(agent: AgentClient) -> None:
    for fault in ("in", "out"):
        answer = agent.connection.attempt("alloc_unbound", {"fault": fault})
        assert answer.integer("errno") == 14


def test_the_guest_sees_what_is_written_to_its_memory(agent: AgentClient) -> None:
    agent.connection.ask("send", {"port": 12})
    assert agent.connection.ask("look", {"ports": [11, 12]}).integers("bits") == [0, 0, 0, 1, 0, 0]


def test_what_qemu_does_as_dom0(agent: AgentClient) -> None:
    assert agent.connection.ask("dom0_bind_interdomain", {"port": 1}).integer("result") == 21
    assert agent.connection.ask("dom0_take", {"port": 21}).integer("result") == 1
    assert agent.connection.attempt("dom0_send", {"port": 0}).integer("errno") == 22
    assert agent.connection.ask("dom0_release").ok


def test_many_commands_in_one_message_with_long_answers(agent: AgentClient) -> None:
    """More than fits into the rings: 16 KiB of commands, 256 KiB of answers."""
    looks: list[tuple[str, Arguments]] = [("look", {"ports": list(range(32))})] * 200
    answers = list(agent.connection.stream(looks * 8))
    assert len(answers) == 1600 and all(answer.ok for answer in answers)


def test_programmes_are_run_without_a_word(agent: AgentClient) -> None:
    """More steps than fit into the ring, then what each has come to; and both vCPUs' with times."""
    guest = ProgrammeGuest(agent.connection)
    alloc = Step(What.ALLOC_UNBOUND, slot=1, port=0x7FF0)
    send = Step(What.SEND, int(Flag.PORT_OF_SLOT), port=1)
    bad = Step(What.SEND, int(Flag.FAULT_IN), port=1)
    mask = Step(What.SET_BIT, int(Flag.PORT_OF_SLOT), number=Bit.MASKED, port=1)
    steps = [alloc, send, bad, mask, Step(What.STATUS, port=3)] * 600
    pending, masked = SeenBits.PENDING, SeenBits.MASKED
    seen = decode_seen(guest.run(steps, 0))
    assert seen[:5] == [
        Seen(10, 0),
        Seen(0, pending),
        Seen(-14, 0),
        Seen(0, pending | masked),
        Seen(0, 0, 1 | 1 << 16),
    ]
    assert len(seen) == len(steps) and seen[-4] == Seen(0, pending | masked)

    timed = guest.run_timed(([alloc, send], [alloc]))
    first, second = (decode_timed(each) for each in timed.seen)
    assert [(each.seen.result, each.port) for each in first] == [(10, 0x7FF0), (0, 10)]
    assert [each.seen.result for each in second] == [11]
    assert all(each.call <= each.ret for each in (*first, *second))


def test_a_programme_that_is_too_long_is_refused(agent: AgentClient) -> None:
    """And its bytes are not taken for commands."""
    connection = agent.connection
    connection.post([("programme", {"steps": MAX_STEPS + 1})], bytes(12 * (MAX_STEPS + 1)))
    (answer,) = connection.collect(1)
    assert answer.integer("errno") == 22 and answer.fields["what"] == "argument-steps"
    assert connection.ask("alloc_unbound").ok
