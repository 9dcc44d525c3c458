# SPDX-License-Identifier: GPL-2.0-or-later
"""One server of the rack, as hardware: a power button, a serial port, a disk.

``python -m tests.real.rack.server FILE.json`` runs until its parent closes its stdin.  The
button is a UNIX socket that takes one word and answers with one line: on, off, reset, soft, nmi,
state, and unplug-network, which lasts as long as the power.  The serial port is a TCP port of
127.0.0.1, there whether the power is on or not.  What it can get wrong, a fault's name in the
file ``faults`` beside the button makes it do.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_TICK = 0.1


@dataclass(frozen=True)
class Hardware:
    """What a server is made of: QEMU's words, and where its button and serial port are."""

    qemu: tuple[str, ...]  # (): something else switches it, and connects its serial line
    folder: str
    serial_port: int

    def write(self) -> Path:
        path = Path(self.folder, "hardware.json")
        path.write_text(json.dumps(asdict(self)))
        return path


def press(folder: Path, word: str, timeout: float = 20.0) -> str:
    """Press the button of the server in ``folder``; return what it answers."""
    with socket.socket(socket.AF_UNIX) as button:
        button.settimeout(timeout)
        button.connect(str(folder / "button"))
        button.sendall(word.encode() + b"\n")
        return button.makefile().readline().strip()


class Server:
    """The server: QEMU while it is on, and what joins it to the world."""

    def __init__(self, hardware: Hardware) -> None:
        self._hardware = hardware
        self._folder = Path(hardware.folder)
        self._qemu: subprocess.Popen[bytes] | None = None
        self._serial: socket.socket | None = None
        self._clients: list[socket.socket] = []
        self._selector = selectors.DefaultSelector()
        self._button = socket.socket(socket.AF_UNIX)
        self._button.bind(str(self._folder / "button"))
        self._button.listen(8)
        self._port = socket.create_server(("127.0.0.1", hardware.serial_port))
        self._socket = socket.socket(socket.AF_UNIX)  # that of the mainboard: QEMU connects
        self._socket.bind(str(self._folder / "serial"))
        self._socket.listen(1)
        for listener in (self._button, self._port, self._socket, sys.stdin):
            self._selector.register(listener, selectors.EVENT_READ)

    def serve(self) -> None:
        """Run until stdin ends."""
        try:
            while True:
                for key, _ in self._selector.select(_TICK):
                    if key.fileobj is sys.stdin:
                        if not os.read(0, 100):
                            return
                    elif key.fileobj is self._button:
                        self._pressed()
                    elif key.fileobj is self._port:
                        self._plugged()
                    elif key.fileobj is self._socket:
                        self._powered()
                    elif key.fileobj is self._serial:
                        self._said()
                    elif isinstance(key.fileobj, socket.socket):
                        self._typed(key.fileobj)
        finally:
            self._off()

    def _pressed(self) -> None:
        connection, _ = self._button.accept()
        with connection, contextlib.suppress(OSError):
            word = connection.recv(100).decode().strip()
            connection.sendall(self._obey(word).encode() + b"\n")

    def _obey(self, word: str) -> str:
        lies = self._fault("power-lies")
        match word:
            case "state":
                return "on" if self._runs() else "off"
            case _ if lies:
                return "ok"
            case "on":
                self._on()
            case "off":
                self._off()
            case "reset":
                self._monitor("system_reset")
            case "soft":
                self._monitor("system_powerdown")
            case "nmi":
                self._monitor("inject-nmi")
            case "unplug-network":
                self._monitor("set_link", name="n", up=False)
            case _:
                return f"no such button: {word}"
        return "ok"

    def _fault(self, name: str) -> bool:
        path = self._folder / "faults"
        return path.exists() and name in path.read_text().split()

    def _runs(self) -> bool:
        return self._qemu is not None and self._qemu.poll() is None

    def _on(self) -> None:
        if self._runs():
            return
        (self._folder / "monitor").unlink(missing_ok=True)
        words = [
            *self._hardware.qemu,
            *("-chardev", f"socket,id=s,path={self._folder}/serial"),
            *("-serial", "chardev:s"),
            *("-qmp", f"unix:{self._folder}/monitor,server=on,wait=off"),
        ]
        with Path(self._folder, "qemu.log").open("ab") as log:
            self._qemu = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _powered(self) -> None:
        self._unplug_serial()
        self._serial, _ = self._socket.accept()
        self._selector.register(self._serial, selectors.EVENT_READ)

    def _off(self) -> None:
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
            self._qemu = None
        self._unplug_serial()

    def _monitor(self, command: str, **arguments: object) -> None:
        if not self._runs():
            return
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(5)
            monitor.connect(str(self._folder / "monitor"))
            file = monitor.makefile("rw")
            file.readline()
            for each, words in (("qmp_capabilities", {}), (command, arguments)):
                file.write(json.dumps({"execute": each, "arguments": words}) + "\n")
                file.flush()
                answer: dict[str, Any] = {}
                while "return" not in answer and "error" not in answer:
                    answer = json.loads(file.readline())

    def _plugged(self) -> None:
        client, _ = self._port.accept()
        self._clients.append(client)
        self._selector.register(client, selectors.EVENT_READ)

    def _said(self) -> None:
        assert self._serial is not None
        try:
            data = self._serial.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._unplug_serial()
        if self._fault("console-dead"):
            return
        if self._fault("console-garbled"):
            data = bytes((byte * 5 + 131) & 0xFF for byte in data)
        for client in list(self._clients):
            try:
                client.sendall(data)
            except OSError:
                self._unplug(client)

    def _typed(self, client: socket.socket) -> None:
        try:
            data = client.recv(4096)
        except OSError:
            data = b""
        if not data:
            self._unplug(client)
        elif self._serial is not None:
            with contextlib.suppress(OSError):
                self._serial.sendall(data)

    def _unplug(self, client: socket.socket) -> None:
        self._selector.unregister(client)
        self._clients.remove(client)
        client.close()

    def _unplug_serial(self) -> None:
        if self._serial is not None:
            self._selector.unregister(self._serial)
            self._serial.close()
            self._serial = None


def main() -> None:
    if sys.argv[1] == "--press":
        print(press(Path(sys.argv[2]), sys.argv[3]))
        return
    fields = json.loads(Path(sys.argv[1]).read_text())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent closes stdin
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Server(Hardware(**fields)).serve()


if __name__ == "__main__":
    main()
