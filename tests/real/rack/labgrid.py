# SPDX-License-Identifier: GPL-2.0-or-later
"""A place of labgrid: coordinator, exporter, and a PDU that the exporter's REST driver switches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import yaml

from harness import command
from harness.command import CommandFailed
from tests.real.rack.program import program
from tests.real.rack.server import press
from tests.served import serve


@contextmanager
def labgrid(folder: Path, *, name: str, ports: dict[str, int]) -> Iterator[str]:
    """Start it all; yield the coordinator's address, where the place is called ``name``."""
    coordinator = f"127.0.0.1:{ports['coordinator']}"
    relay = f"http://127.0.0.1:{ports['pdu']}/relay/{{index}}/{{value}}"
    resources = {
        name: {
            "NetworkPowerPort": {"model": "simplerest", "host": relay, "index": "0"},
            "NetworkSerialPort": {"host": "127.0.0.1", "port": ports["serial"]},
        }
    }
    (folder / "exporter.yaml").write_text(yaml.safe_dump(resources))
    with ExitStack() as stack:
        stack.enter_context(_pdu(folder, ports["pdu"]))
        client = stack.enter_context(place(folder, name=name, coordinator=coordinator))
        state = folder / "labgrid"
        command.run([*client, "add-match", f"*/{name}/*"], timeout=60)
        words = ["-c", coordinator, "--name", "rack", str(folder / "exporter.yaml")]
        stack.enter_context(_program(state, "labgrid-exporter", *words))
        _patiently([*client, "show"], wanted="NetworkPowerPort")
        yield coordinator


@contextmanager
def place(folder: Path, *, name: str, coordinator: str) -> Iterator[list[str]]:
    """Start a coordinator that has a place; yield the words of a client that talks of it."""
    state = folder / "labgrid"
    state.mkdir()
    with _program(state, "labgrid-coordinator", "-l", coordinator):
        client = [str(_path("labgrid-client")), "-x", coordinator, "-p", name]
        _patiently([*client, "create"])
        yield client


@contextmanager
def _pdu(folder: Path, port: int) -> Iterator[None]:
    class Relay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            word = {"0": "off", "1": "on"}.get(self.path.rpartition("/")[2], "")
            if self.path.count("/") == 3 and word:
                press(folder, word)
            state = "1" if press(folder, "state") == "on" else "0"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(state.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with serve(Relay, port):
        yield


def _program(folder: Path, name: str, *words: str) -> AbstractContextManager[object]:
    return program([_path(name), *words], folder / f"{name}.log", cwd=folder)


def _path(name: str) -> Path:
    return Path(sys.executable).with_name(name)


def _patiently(words: list[str], wanted: str = "") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if wanted in command.run(words, timeout=30):
                return
        except CommandFailed as error:
            said = error.output
        else:
            said = f"no {wanted}"
        assert time.monotonic() < deadline, said
        time.sleep(0.5)
