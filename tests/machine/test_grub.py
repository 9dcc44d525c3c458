# SPDX-License-Identifier: GPL-2.0-or-later
"""What is placed beside a default system: by the commands that do it there."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.arch import Arch
from harness.config.physical import Booting
from harness.machine import grub
from harness.machine.shell import Shell
from harness.verdict import LabError


class Here(Shell):
    """A shell on this machine: the commands are the same, only no SSH carries them."""

    def __init__(self) -> None:
        self.where = "here"
        self.sent: list[str] = []

    def run(self, command: str, *, timeout: float = 60.0, stdin: bytes = b"") -> str:
        ran = subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, check=False)
        if ran.returncode:
            raise LabError(ran.stderr.decode(), where=self.where)
        return ran.stdout.decode()

    def put(self, source: Path | bytes, target: str, *, mode: int = 0o600) -> None:
        self.sent.append(Path(target).name)
        super().put(source, target, mode=mode)


SYSTEM = grub.System(
    arch="x86_64",
    boot_id="1",
    mac="52:54:00:12:34:56",
    address="10.0.2.15/24",
    gateway="10.0.2.2",
    driver="virtio_net",
    free_bytes=1 << 30,
    uuid="2426ac68",
    path="/boot/xen",
)


@pytest.fixture
def section(tmp_path: Path) -> Booting:
    (tmp_path / "grub").mkdir()
    (tmp_path / "ours").mkdir()
    return Booting(folder=str(tmp_path / "ours"), grub=str(tmp_path / "grub"))


def files(tmp_path: Path, **contents: str) -> dict[str, tuple[Path, str]]:
    found = {}
    for name, text in contents.items():
        (tmp_path / name).write_text(text)
        found[name] = (tmp_path / name, hashlib.sha256(text.encode()).hexdigest())
    return found


def test_only_what_differs_is_sent(section: Booting, tmp_path: Path) -> None:
    shell = Here()
    grub.place(shell, section, SYSTEM, files(tmp_path, xen="one", kernel="two"))
    grub.place(shell, section, SYSTEM, files(tmp_path, xen="three", kernel="two"))
    assert shell.sent == ["xen", "kernel", "xen"]
    assert Path(section.folder, "xen").read_text() == "three"
    assert Path(section.folder, "xen").stat().st_mode & 0o777 == 0o600  # it may hold a key


def test_a_full_disk_is_told_before_anything_is_sent(section: Booting, tmp_path: Path) -> None:
    shell = Here()
    full = replace(SYSTEM, free_bytes=60 << 20)
    with pytest.raises(LabError, match="the disk is full: 60 MiB free, 64 MiB needed"):
        grub.place(shell, section, full, files(tmp_path, xen="one"))
    assert shell.sent == []


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("mkdir: x: No space left on device", "the disk is full: there is no room for a folder"),
        ("mkdir: x: Read-only file system", "mkdir: x: Read-only file system"),
    ],
)
def test_a_folder_that_cannot_be_made_is_told(
    section: Booting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    """Seen: a disk that was full from the beginning was told as a missing uuid."""
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for name, line in (("mkdir", f"echo {said} >&2; exit 1"), ("uname", "echo x86_64")):
        (stubs / name).write_text(f"#!/bin/sh\n{line}\n")
        (stubs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{stubs}:{os.environ['PATH']}")
    gone = section.model_copy(update={"folder": str(tmp_path / "none")})
    with pytest.raises(LabError, match=f"none: {told}.*; free space there"):
        grub.inspect(Here(), gone, Arch.X86_64)


def test_everything_placed_is_listed_and_removed(section: Booting, tmp_path: Path) -> None:
    shell = Here()
    grub.place(shell, section, SYSTEM, files(tmp_path, xen="one"))
    grub.write_entry(shell, section, ["multiboot2 /xen"])
    wanted = [f"{section.folder}/xen", f"{section.grub}/custom.cfg"]
    assert grub.placed(shell, section) == wanted
    assert grub.clean(shell, section) == wanted
    assert grub.placed(shell, section) == []
    assert list(Path(section.grub).iterdir()) == [] and not Path(section.folder).exists()
    assert grub.clean(shell, section) == []


def test_an_entry_of_somebody_elses_stays(section: Booting) -> None:
    shell, custom = Here(), Path(section.grub, "custom.cfg")
    custom.write_text("menuentry 'theirs' { true }\n")
    for lines in (["multiboot2 /old"], ["multiboot2 /new"]):
        grub.write_entry(shell, section, lines)
    text = custom.read_text()
    assert text.startswith("menuentry 'theirs'")
    assert text.count("menuentry") == 2 and "/new" in text and "/old" not in text
    grub.clean(shell, section)
    assert custom.read_text() == "menuentry 'theirs' { true }\n"


THEIRS = b"menuentry 'theirs' { true; }"


@pytest.mark.parametrize(
    "before",
    [
        THEIRS,  # the last line without an end
        THEIRS + b"\n",
        b"\n\n" + THEIRS + b"\r\n\r\n",
        "menuentry 'größe' { true; }\n".encode("latin-1"),
        "menuentry 'größe' { true; }\n".encode(),
        b"\xff\xfe\x00",
    ],
)
def test_what_is_somebody_elses_is_kept_byte_for_byte(section: Booting, before: bytes) -> None:
    shell, custom = Here(), Path(section.grub, "custom.cfg")
    custom.write_bytes(before)
    for _ in range(3):
        grub.write_entry(shell, section, ["true"])
        assert custom.read_bytes().startswith(before)
        assert custom.read_text("latin-1").count(grub._BEGIN) == 1
    grub.clean(shell, section)
    assert custom.read_bytes() == before


def test_a_block_of_an_older_harness_is_replaced(section: Booting) -> None:
    shell, custom = Here(), Path(section.grub, "custom.cfg")
    old = f"{grub._BEGIN}\nmenuentry 'x' --id x {{\n}}\n{grub._END}\n"
    custom.write_text(f"# theirs\n{old}# after\n")
    grub.write_entry(shell, section, ["true"])
    assert custom.read_text().count("menuentry") == 1
    grub.clean(shell, section)
    assert custom.read_text() == "# theirs\n# after\n"


def test_mode_owner_and_link_of_custom_cfg_are_kept(section: Booting, tmp_path: Path) -> None:
    shell, custom, real = Here(), Path(section.grub, "custom.cfg"), tmp_path / "real.cfg"
    real.write_text("password_pbkdf2 root x\n")
    real.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(real, 1234, 2345)
    custom.symlink_to(real)
    before = real.stat()
    for change in (lambda: grub.write_entry(shell, section, ["true"]),
                   lambda: grub.clean(shell, section)):  # fmt: skip
        change()
        after = real.stat()
        assert custom.is_symlink()
        assert (after.st_mode, after.st_uid, after.st_gid) == (
            before.st_mode,
            before.st_uid,
            before.st_gid,
        )
    assert real.read_text() == "password_pbkdf2 root x\n"


def test_the_entry_needs_no_password_of_grub(section: Booting) -> None:
    grub.write_entry(Here(), section, ["true"])
    assert (
        f"menuentry '{grub.ENTRY}' --unrestricted" in Path(section.grub, "custom.cfg").read_text()
    )


@pytest.mark.parametrize("arch", list(Arch))
def test_words_are_passed_on_as_they_are(arch: Arch, section: Booting) -> None:
    words = "console=com1 crashkernel=1G-4G:128M<2G x;y $z {a} #b *"
    lines = grub.entry(arch, SYSTEM, xen_args=words, dom0_args="root=/dev/ram0")
    grub.write_entry(Here(), section, lines)
    (xen,) = [line for line in lines if words.split()[0] in line]
    said = subprocess.run(
        ["sh", "-c", f"printf '%s ' {xen}"], capture_output=True, text=True, check=True
    )
    assert said.stdout.rstrip().endswith(words)
    if program := shutil.which("grub-script-check"):
        subprocess.run([program, Path(section.grub, "custom.cfg")], check=True)


def test_what_grub_needs_to_see_the_folder_is_loaded_first() -> None:
    system = replace(SYSTEM, modules=("part_gpt", "lvm", "ext2"))
    lines = grub.entry(Arch.X86_64, system, xen_args="", dom0_args="")
    assert lines[1:5] == [
        "insmod part_gpt",
        "insmod lvm",
        "insmod ext2",
        "search --no-floppy --fs-uuid --set=root 2426ac68",
    ]


@given(st.text(), st.text(alphabet="{}\n#' abc"))
def test_taking_ours_out_leaves_the_rest_alone(before: str, inside: str) -> None:
    if grub._BEGIN in before or grub._END in inside:
        return
    before = before.replace("\r", "") + "\n"
    ours = f"{grub._BEGIN}\n{inside}\n{grub._END}\n"
    assert grub._without_ours(before + ours + "after\n") == before + "after\n"


def test_an_entry_has_xen_the_kernel_and_the_initramfs() -> None:
    for arch, words in ((Arch.X86_64, "multiboot2"), (Arch.ARM64, "xen_hypervisor")):
        lines = grub.entry(arch, SYSTEM, xen_args="noreboot", dom0_args="console=hvc0")
        assert "search --no-floppy --fs-uuid --set=root 2426ac68" in lines
        (xen,) = [line for line in lines if line.startswith(words + " ")]
        assert "/boot/xen/xen" in xen and xen.endswith("noreboot")
        assert lines[-1].endswith("--nounzip /boot/xen/initrd")
