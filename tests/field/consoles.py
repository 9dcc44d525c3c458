# SPDX-License-Identifier: GPL-2.0-or-later
"""Console logs, fed to a Console over a socket as a serial line would."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from harness.hypervisor import debug_keys
from harness.hypervisor.console import Blame, Event
from harness.machine.console import Console
from harness.machine.wires.tcp import Telnet
from tests.field.case import Case

_DIES = re.compile(r"dies (\S+): ([\w ]+), ([\w ]+?) is the FIRST event")
_AILS = re.compile(r"ails: ([\w ]+)")
_MAY_BE = re.compile(r"kind may be '([\w ]+)'")
_AILS_OF = re.compile(r"ails (\S+): a symptom \(([\w ]+)\), ([\w ]+)")
_RESET = re.compile(r"kind '(\w+)', (\w+)")


def judge_log(case: Case, folder: Path, _patch: pytest.MonkeyPatch) -> None:
    """Judge what the console says of a log: who died first, what ails."""
    data = case.path.read_bytes()
    if "debug_keys.INPUT" in case.wanted:
        readers = re.findall(r"'(\w+)'", case.wanted)
        assert [found["to"] for found in debug_keys.INPUT.finditer(data.decode())] == readers
        return
    _judge(case.wanted, data, folder)


def judge_telnet(case: Case, folder: Path, _patch: pytest.MonkeyPatch) -> None:
    """Judge what came over a telnet connection, in pieces of every size."""
    data = case.path.read_bytes()
    for size in (1, 7, len(data)):
        ours, theirs = socket.socketpair()
        telnet = Telnet(ours)
        got = b""
        for at in range(0, len(data), size):
            theirs.sendall(data[at : at + size])
        theirs.shutdown(socket.SHUT_WR)
        while chunk := telnet.recv(64):
            got += chunk
        telnet.close()
        theirs.close()
        assert b"\0" not in got and got.replace(b"\0", b"") == data.replace(b"\r\0", b"\r")
    _judge(case.wanted, b"(XEN) up\r\n" + got, folder)


def _judge(wanted: str, data: bytes, folder: Path) -> None:
    deaths, symptoms = _read(data, folder)
    if dies := _DIES.search(wanted.replace("the console says: ", "")):
        stream, kind, blame = dies.groups()
        assert deaths, "nothing died"
        assert (deaths[0][0], deaths[0][1].kind, deaths[0][1].blame) == (stream, kind, blame)
    elif said := re.search(r"says: dies (\S+): ([\w ]+)", wanted):
        assert deaths and (deaths[0][0], deaths[0][1].kind) == said.groups()
    elif ails := _AILS.search(wanted):
        assert not deaths
        assert {event.kind for _, event in symptoms} & {ails[1].strip(), *_MAY_BE.findall(wanted)}
    elif ails := _AILS_OF.search(wanted):
        assert not deaths
        seen = [(stream, event.kind, event.blame) for stream, event in symptoms]
        assert seen == [(ails[1], ails[2], Blame(ails[3]))]
    elif reset := _RESET.search(wanted):
        assert [(event.kind, event.blame) for _, event in deaths] == [reset.groups()]
    else:
        assert wanted.startswith("no event"), f"no judge for {wanted}"
        assert not deaths and not symptoms


def _read(data: bytes, folder: Path) -> tuple[list[tuple[str, Event]], list[tuple[str, Event]]]:
    """Return the deaths and the symptoms that a console sees in ``data``, with their streams."""
    ours, theirs = socket.socketpair()
    console = Console(folder / "console")
    console.attach(ours)
    theirs.sendall(data)
    theirs.close()
    console.close()
    deaths = [(seen.line.stream, seen.event) for seen in console.events]
    symptoms = [(seen.line.stream, seen.event) for seen in getattr(console, "symptoms", ())]
    return deaths, symptoms
