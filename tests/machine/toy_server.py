# SPDX-License-Identifier: GPL-2.0-or-later
"""A server small enough for fast tests: real SSH, real serial line, real files; only no firmware.

What GRUB, the kernel and Xen would do is played by a thread: it follows the power file and the
``reboot`` that the default system is told, boots what grubenv says, and speaks on the console.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import socket
import subprocess
import threading
import time
from pathlib import Path

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_SUCCESSFUL, OPEN_SUCCEEDED

from harness.arch import Arch
from harness.config.physical import (
    Booting,
    CommandPower,
    Limits,
    PhysicalHost,
    Ssh,
    TcpConsole,
)
from harness.domains.keys import RunKeys

_STUBS = {
    "grub-probe": 'case "$1" in *uuid) echo 2426ac68;; *fs) echo ext2;; *map) echo gpt;; esac',
    "grub-mkrelpath": 'echo "$1"',
    "grub-reboot": 'echo next_entry=$2 >"$TOY/grub/grubenv"',
    "grub-editenv": '[ "$2" != unset ] || : >"$1"; cat "$1"',
    "reboot": ': >"$TOY/reboot"',
    "sync": ":",
    "ip": 'case "$*" in *route*) echo default via 10.0.2.2 dev lo;; '
    "*) echo '1: lo inet 10.0.2.15/24 scope x';; esac",
    "readlink": "echo /x/virtio_net",
}


class _Login(paramiko.ServerInterface):
    def __init__(self, toy: ToyServer) -> None:
        self._toy = toy

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return AUTH_SUCCESSFUL if key == self._toy.user else AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=self._toy.execute, args=(channel, command), daemon=True).start()
        return True


class ToyServer:
    """The server; ``takes_entry`` False: GRUB boots the default system whatever grubenv says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys, self.run_keys = RunKeys.new(), RunKeys.new()
        self.user = self.keys.user_key()
        self.system = ""  # "", default or xen
        self.boots: list[str] = []
        self.takes_entry = True
        self.says = b"(XEN) up\r\nharness: dom0 sshd up at 1.0\r\n"
        self.lies = False
        self.lines = 0  # how often the serial line was opened
        self._boot_id = ""
        self._transports: list[paramiko.Transport] = []
        self._ended = threading.Event()
        for name in ("grub", "bin"):
            (folder / name).mkdir()
        (folder / "grub/grub.cfg").write_text("next_entry custom.cfg")
        (folder / "power").write_text("off")
        (folder / "key").write_text(self.keys.user_private)
        for name, text in _STUBS.items():
            (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / "bin" / name).chmod(0o755)
        self._ssh = socket.create_server(("127.0.0.1", 0))
        self._serial = socket.create_server(("127.0.0.1", 0))
        self._line: socket.socket | None = None
        for target in (self._accept_ssh, self._accept_serial, self._live):
            threading.Thread(target=target, daemon=True).start()

    def host(self) -> PhysicalHost:
        """Return its entry of lab.yaml."""
        power, port = self.folder / "power", self._ssh.getsockname()[1]
        switch = CommandPower(
            driver="command",
            turn_on=("sh", "-c", f"echo on >{power}"),
            turn_off=("sh", "-c", f"echo off >{power}"),
            state=("cat", str(power)),
        )
        console = TcpConsole(driver="tcp", address="127.0.0.1", port=self._serial.getsockname()[1])
        return PhysicalHost(
            name="toy",
            kind="physical",
            arch=Arch.ARM64 if os.uname().machine == "aarch64" else Arch.X86_64,
            power=(switch,),
            console=console,
            ssh=Ssh(
                address="127.0.0.1",
                port=port,
                key_file=str(self.folder / "key"),
                host_key=self.keys.host_public.strip(),
            ),
            boot=Booting(folder=str(self.folder / "ours"), grub=str(self.folder / "grub")),
            limits=Limits(power=2, boot=15, xen=15),
        )

    def close(self) -> None:
        """End it."""
        self._ended.set()
        self._hang_up()
        for listener in (self._ssh, self._serial):
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def typed(self) -> bytes:
        """Return what was sent to the serial line."""
        assert self._line is not None
        self._line.setblocking(False)
        try:
            return self._line.recv(4096)
        except BlockingIOError:
            return b""

    def drop_line(self) -> None:
        """End the serial line; it can be opened again."""
        assert self._line is not None
        self._line.shutdown(socket.SHUT_RDWR)

    def execute(self, channel: paramiko.Channel, command: bytes) -> None:
        """Run a command of the default system on this machine, in the toy's own world."""
        (self.folder / "boot_id").write_text(self._boot_id)
        line = command.decode().replace(
            "/proc/sys/kernel/random/boot_id", str(self.folder / "boot_id")
        )
        env = {
            **os.environ,
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "TOY": str(self.folder),
        }
        fed = channel.makefile("rb").read()
        ran = subprocess.run(
            ["sh", "-c", line], input=fed, env=env, capture_output=True, check=False
        )
        with contextlib.suppress(OSError, EOFError):
            channel.sendall(ran.stdout + ran.stderr)
            channel.send_exit_status(ran.returncode)
            channel.close()

    def _live(self) -> None:
        while not self._ended.wait(0.02):
            on = self.lies or (self.folder / "power").read_text().strip() == "on"
            if on and not self.system:
                self._boot()
            elif not on and self.system:
                self._hang_up()
                self.system = ""
            elif (self.folder / "reboot").exists():
                (self.folder / "reboot").unlink()
                self._boot()

    def _boot(self) -> None:
        environment = self.folder / "grub/grubenv"
        once = environment.exists() and "next_entry=xen" in environment.read_text()
        environment.write_text("")
        self.system = ""
        self._hang_up()
        self._boot_id = secrets.token_hex(4)
        time.sleep(0.2)
        self.system = "xen" if once and self.takes_entry else "default"
        self.boots.append(self.system)
        if self.system == "xen" and self._line is not None and self.says:
            self._line.sendall(self.says)

    def _hang_up(self) -> None:
        for transport in self._transports:
            transport.close()
        self._transports.clear()

    def _accept_ssh(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._ssh.accept()
            except OSError:
                return
            if not self.system:
                client.close()
                continue
            keys = self.run_keys if self.system == "xen" else self.keys
            transport = paramiko.Transport(client)
            logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it is made to fail
            transport.add_server_key(keys.host_key())
            with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
                transport.start_server(server=_Login(self))
                self._transports.append(transport)

    def _accept_serial(self) -> None:
        while not self._ended.is_set():
            try:
                self._line, _ = self._serial.accept()
                self.lines += 1
            except OSError:
                return
