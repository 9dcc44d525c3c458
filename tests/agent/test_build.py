# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import struct
from pathlib import Path

import pytest

from harness.agent.build import SOURCES, agent_binary
from harness.arch import Arch
from harness.verdict import BuildError

ELF_MACHINE = {Arch.X86_64: 62, Arch.ARM64: 183}


@pytest.mark.parametrize("arch", Arch)
def test_the_agent_is_a_static_program_for_its_architecture(arch: Arch) -> None:
    binary = agent_binary(arch)
    head = binary.read_bytes()
    assert head[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", head, 18)[0] == ELF_MACHINE[arch]
    program_headers, count = (
        struct.unpack_from("<Q", head, 32)[0],
        struct.unpack_from("<H", head, 56)[0],
    )
    kinds = [struct.unpack_from("<I", head, program_headers + 56 * i)[0] for i in range(count)]
    assert 3 not in kinds  # PT_INTERP: a dynamic loader, which a guest's initramfs has not
    assert agent_binary(arch) == binary


@pytest.mark.slow
def test_a_source_that_does_not_compile_is_named_with_its_first_error(tmp_path: Path) -> None:
    for source in SOURCES.glob("*.[ch]"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "broken.c").write_text("int broken(void) { return nonsense; }\n")
    with pytest.raises(BuildError, match=r"broken\.c:1.*nonsense"):
        agent_binary(Arch.X86_64, tmp_path)


def test_a_missing_source_is_said(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="not there"):
        agent_binary(Arch.X86_64, tmp_path)
