# SPDX-License-Identifier: GPL-2.0-or-later
"""Every reader of what comes from outside, with a real input that it reads without complaint."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness import cli
from harness.agent.client import AgentClient
from harness.agent.load import LoadPlan, run_load
from harness.agent.recover import recover
from harness.bisect import journal as bisections
from harness.bisect.observations import Built, Observations, Skipped, Tested, Try
from harness.bisect.simulate import TARGET
from harness.config import nightly as plans
from harness.config.lab import load_lab
from harness.config.physical import Secret
from harness.corpus.entry import read_entries
from harness.evidence import Disallowed
from harness.history.checker import check
from harness.history.format import parquet
from harness.hypervisor import debug_keys, series
from harness.interleave.schedule_file import read_file
from harness.machine.console import Console
from harness.machine.rsp import StubLost, frame, unframe
from harness.machine.wires.tcp import Telnet
from harness.nightly.outcome import RunOutcome
from harness.nightly.store import FILE, Store
from harness.results import records, store
from harness.results.console import read_streams
from harness.results.directory import create
from harness.results.journal import Journal
from harness.results.report import write_reports
from harness.run import child
from harness.verdict import HarnessError, LabError, Verdict
from tests.agent import fake_agent
from tests.agent.test_recover import thread_pages
from tests.history.tiny import tiny
from tests.interleave.test_schedule_file import made
from tests.interleave.test_suggest import WITNESS
from tests.results import runs

Answer = tuple[object, Sequence[str]]  # what was read, and the warnings


class Unforeseen(Exception):
    """The last resort told what nobody foresaw: for the fuzzer that is a traceback."""


@dataclass(frozen=True)
class Reader:
    """One reader: ``read`` takes bytes, and returns or raises what the product does of them.

    ``sealed``: the input has a checksum, so that a change must not go unnoticed.  ``is_right``:
    whether an answer other than that of ``original`` is right all the same.
    """

    name: str
    original: bytes
    read: Callable[[bytes], Answer]
    sealed: bool = False
    is_right: Callable[[object], bool] = lambda answer: False
    weight: float = 1.0


def command(*words: str | Path) -> Answer:
    """Run ``evtchn-harness WORDS`` here; its error lines become a HarnessError."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli._run([str(word) for word in words])
    said = err.getvalue().splitlines()
    if "not foreseen" in err.getvalue() or "Traceback" in err.getvalue():
        raise Unforeseen(err.getvalue())
    errors = [line for line in said if line.startswith("error: ")]
    if errors or code not in (0, 1, 3):
        raise LabError("\n".join(errors))
    return (code, out.getvalue()), said


def all_readers(place: Path) -> list[Reader]:
    """Return the readers, their inputs made below ``place``."""
    makers = (
        _lab, _plan, _secret, _entry, _journal, _report, _manifest, _console_logs, _history, _check,
        _bisection, _replay_file, _nights, _mails, _coverage, _suggest, _document, _agent, _load,
        _memory, _serial, _telnet, _gdbstub, _registers,
    )  # fmt: skip
    return [make(_folder(place / make.__name__.strip("_"))) for make in makers]


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@dataclass(frozen=True)
class OfFile:
    """Reads bytes by writing them to ``path``, and reading that."""

    path: Path
    read: Callable[[Path], Answer]

    def __call__(self, data: bytes) -> Answer:
        self.path.write_bytes(data)
        return self.read(self.path)


# -- what people write -------------------------------------------------------------------


def _lab(place: Path) -> Reader:
    text = """\
hosts:
  big-arm: {kind: qemu, arch: arm64, cpus: 4, memory_mib: 4096, domus: 2}
  defaults: &d
    arch: x86_64
    cpus: 2
  other: {<<: *d, domus: 1}
  server:
    kind: physical
    arch: x86_64
    power: [{driver: ipmi, address: bmc, user: admin, password: {file: bmc.password}}]
    console: {driver: tcp, address: console-server, port: 4001, protocol: telnet}
    ssh: {address: server, key_file: id_ed25519, host_key: ssh-ed25519 AAAA}
    limits: {power: 30.5, boot: 600}
"""
    path = place / "lab.yaml"
    return Reader("lab.yaml", text.encode(), OfFile(path, lambda path: (load_lab(path), ())))


def _plan(place: Path) -> Reader:
    text = """\
budget_hours: 8
hosts: {qemu-arm64: {acquire: "true"}}
xens:
  counter: {flavour: counter}
  old: {release: "4.14", series: [a.patch]}
suites:
  hypercalls: {tests: [test_hypercalls.py], priority: 10}
  load: {tests: [test_load.py], duration: 60.5, seed: 7}
kcidb: {origin: me}
"""

    def read(path: Path) -> Answer:
        plan, document = plans.load_plan(path)
        document.finish()
        return plan, ()

    return Reader("PLAN.yaml", text.encode(), OfFile(place / "plan.yaml", read))


def _secret(place: Path) -> Reader:
    path = place / "password"
    secret = Secret(file=str(path))
    return Reader("a secret's file", b"s3cret\n", OfFile(path, lambda path: (secret.read(), ())))


def _entry(place: Path) -> Reader:
    folder = _folder(place / "4.17") / "bad" / "mine"
    folder.mkdir(parents=True)
    (folder / "series").write_text("a.patch\n")
    text = """\
kind: racy
caught_by: test_hypercalls.py::test_poll
shows: {hang: evtchn_write_lock}
"""
    path = folder / "entry.yaml"
    return Reader(
        "entry.yaml", text.encode(), OfFile(path, lambda path: (read_entries(["4.17"], place), ()))
    )


def _mails(place: Path) -> Reader:
    mail = b"""\
From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001
From: A <a@example.org>
Date: Mon, 1 Jan 2026 00:00:00 +0000
Subject: [PATCH 1/2] evtchn: change

Why.
---
 x.c | 2 +-
 1 file changed, 1 insertion(+), 1 deletion(-)

diff --git a/x.c b/x.c
index 1..2 100644
--- a/x.c
+++ b/x.c
@@ -1,1 +1,1 @@
-a
+b
--
2.39.0

"""
    path = place / "mbox"
    both = mail + mail.replace(b"1/2", b"2/2")
    return Reader(
        "mails (--series)", both, OfFile(path, lambda path: (series.read([path]), ())), weight=0.3
    )


# -- what the harness wrote, and others may have changed ------------------------------------


def _unfinished(answer: object) -> bool:
    """A run whose end is not there says so: MISS, interrupted."""
    return isinstance(answer, store.Run) and answer.state != "finished"


def _journal(place: Path) -> Reader:
    directory = runs.failing(place / "run")

    def read(path: Path) -> Answer:
        run = store.load(path.parent)
        return run, run.problems

    content = directory.journal.read_bytes()
    return Reader("results.jsonl", content, OfFile(directory.journal, read), True, _unfinished)


def _report(place: Path) -> Reader:
    directory = runs.failing(place / "run")

    def read(path: Path) -> Answer:
        run = write_reports(path.parent)
        return run, run.problems

    content = directory.journal.read_bytes()
    return Reader("report", content, OfFile(directory.journal, read), True, _unfinished, weight=0.1)


def _manifest(place: Path) -> Reader:
    directory = runs.good(place / "run")

    def read(path: Path) -> Answer:
        run = store.load(path.parent)
        return run, run.problems

    content = directory.manifest.read_bytes()
    return Reader("manifest.json", content, OfFile(directory.manifest, read), True)


def _console_logs(place: Path) -> Reader:
    directory = runs.failing(place / "run")
    path = directory.console(runs.HOSTS[0]) / "xen.log"
    host = store.load(directory.path).hosts[0]

    def read(path: Path) -> Answer:
        return read_streams(path.parent, host.console_events), ()

    return Reader("console logs", path.read_bytes(), OfFile(path, read))


def _history(place: Path) -> Reader:
    path = place / "h.parquet"
    parquet.write(tiny(3), path)

    def read(path: Path) -> Answer:
        history = parquet.read(path)
        said = [(log.name, log.records.tobytes()) for log in history.threads]
        return (history.flavour, history.release, said), ()

    return Reader("a history (read)", path.read_bytes(), OfFile(path, read), True)


def _check(place: Path) -> Reader:
    path = place / "h.parquet"
    parquet.write(tiny(3), path)

    def read(path: Path) -> Answer:
        result = check(path)
        return (result.verdict, result.operations, result.found), ()

    return Reader("a history (check)", path.read_bytes(), OfFile(path, read), True, weight=0.5)


def _bisection(place: Path) -> Reader:
    path = place / "bisect.jsonl"
    head = bisections.Header("good", "bad", ("test_x.py::test_y",), "qemu-arm64", "")
    events = (
        Built("bad", "digest", 1.5),
        Tested("bad", (Try("race", "fail", TARGET, "lost"),), 2.0, 40.0, "/p", "bad"),
        Skipped("c3", "does not build"),
    )
    with bisections.Journal(path, head, Observations()) as journal:
        for event in events:
            journal.add(event)

    def read(path: Path) -> Answer:
        with bisections.Journal(path, head, Observations()) as journal:
            return journal.observations.events, ()

    def is_beginning(answer: object) -> bool:
        """What a killed writer leaves: the rest is done again."""
        return isinstance(answer, tuple) and answer == events[: len(answer)]

    return Reader("bisect.jsonl", path.read_bytes(), OfFile(path, read), True, is_beginning)


def _replay_file(place: Path) -> Reader:
    content = made().model_dump_json(indent=1).encode()
    path = place / "schedule.json"
    return Reader(
        "a replay file", content, OfFile(path, lambda path: (read_file(path), ())), True,
        lambda answer: answer == made().model_copy(update={"crc32": ""}),
    )  # fmt: skip


def _nights(place: Path) -> Reader:
    home = _folder(place / "store")
    test = records.Test("h1", "race", Verdict.FAIL, 1.0, "lost", evidence=runs.EVIDENCE)
    outcome = RunOutcome(Verdict.FAIL, "lost", 3.5, tests=(test,), metrics={"x": 1.5}, seed=7)
    with Store(home, write=True) as nights:
        night = nights.begin_night("plan", [("h1", "counter", "load")], 1_800_000_000.0, 60)
        attempt = nights.begin_attempt(nights.cells(night.id)[0])
        nights.end_attempt(attempt, outcome, state="done")
        nights.end_night(night.id, Verdict.FAIL, "")
        nights.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def read(path: Path) -> Answer:
        for beside in (f"{FILE}-wal", f"{FILE}-shm"):
            (home / beside).unlink(missing_ok=True)
        with Store(home) as nights:
            found = nights.nights(9)
            return [
                (
                    night,
                    nights.cells(night.id),
                    nights.attempts(night.id),
                    nights.tests_of(night.id),
                )
                for night in found
            ], ()

    return Reader("nightly.sqlite", (home / FILE).read_bytes(), OfFile(home / FILE, read))


def _coverage(place: Path) -> Reader:
    directory = create(place / "run")
    with Journal(directory.journal) as journal:
        journal.append(records.RunStart(1, ("x",), "1", ("qemu-x86_64",)))
        for number in range(5):
            journal.append(
                records.Cells(
                    "qemu-x86_64", f"t{number}", "x86_64 pv", "FIFO", "4.17", ("close: ok",)
                )
            )
        journal.append(records.RunEnd(Verdict.PASS, 1.0))

    def read(path: Path) -> Answer:
        return command("coverage", path.parent, "--out", place / "page", "--json")

    content = directory.journal.read_bytes()
    # Cut off between two lines, it is a run that was interrupted: the others may still be shown.
    return Reader(
        "coverage", content, OfFile(directory.journal, read), True,
        lambda answer: directory.journal.read_bytes() in _beginnings(content), weight=0.1,
    )  # fmt: skip


def _suggest(place: Path) -> Reader:
    directory = create(place / "run")
    seen = Disallowed(property="order", operations=WITNESS)
    with Journal(directory.journal) as journal:
        journal.append(records.RunStart(1, ("x",), "1", ("qemu-x86_64",)))
        for number in range(3):
            journal.append(
                records.Test("qemu-x86_64", f"t{number}", Verdict.FAIL, 1.0, "no", evidence=seen)
            )
        journal.append(records.RunEnd(Verdict.FAIL, 1.0))

    def read(path: Path) -> Answer:
        return command("interleave", "suggest", path.parent)

    content = directory.journal.read_bytes()
    return Reader(
        "suggest", content, OfFile(directory.journal, read), True,
        lambda answer: directory.journal.read_bytes() in _beginnings(content),
    )  # fmt: skip


def _beginnings(content: bytes) -> set[bytes]:
    lines = content.splitlines(keepends=True)
    return {b"".join(lines[:count]) for count in range(1, len(lines) + 1)}


def _document(place: Path) -> Reader:
    text = (
        b'{"verdict": "PASS", "hosts": '
        b'[{"name": "h", "seconds": 1.5, "message": "\\ud83d\\ude00"}]}'
    )
    return Reader("a child's document", text, lambda data: (child.read(data), ()))


# -- what machines send ---------------------------------------------------------------------


class Said:
    """An AgentChannel on which certain bytes come, in pieces, and then nothing any more."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def write(self, data: bytes) -> None:
        pass

    def read(self, limit: int, timeout: float) -> bytes:
        if not (data := self._data.read(min(limit, 5000))):
            raise TimeoutError
        return data

    def close(self) -> None:
        pass


def _agent(place: Path) -> Reader:
    fake = fake_agent.FakeAgent(1, [])
    verbs = ("hello", "clock", "collect thread=0", "release", "ticks")
    said = [fake._answer(verb.split()[0], verb) for verb in verbs[:4]]
    said.append(b"ok ticks=5 tick_hz=1000000000\n")

    def read(data: bytes) -> Answer:
        agent = AgentClient(Said(data), "domu1")
        info, clock, collected = agent.hello(), agent.clock(), agent.collect(0)
        return (info, clock, collected.records.tobytes(), agent.release(), agent.ticks()), ()

    return Reader("an agent's answers", b"".join(said), read)


def _load(place: Path) -> Reader:
    """A load in which one of two agents answers the mutated line to one of the commands."""
    verbs = ("clock", "load_begin", "load_status", "load_stop", "release", "collect")
    fakes = [fake_agent.FakeAgent(0, []), fake_agent.FakeAgent(1, [])]
    lines = [fakes[1]._answer(verb, f"{verb} thread=2") for verb in verbs]

    def read(data: bytes) -> Answer:
        agents = [fake_agent.FakeAgent(0, []), fake_agent.FakeAgent(1, [])]
        parts = data.split(b"|||")
        for verb, part in zip(verbs, parts, strict=False):
            agents[1].faults[verb] = lambda part=part: part  # type: ignore[misc]
        clients = {
            name: AgentClient(a, name) for name, a in zip(("dom0", "domu1"), agents, strict=True)
        }
        history = run_load(
            clients, LoadPlan(seed=1, duration_s=0.01), flavour="counter", release=(4, 17),
            arch="x86_64", host="fake", progress=lambda _: None, watch=lambda: None,
        )  # fmt: skip
        path = place / "h.parquet"
        parquet.write(history, path)
        return check(path).verdict, ()

    return Reader("a load's answers", b"|||".join(lines), read, weight=0.02)


def _memory(place: Path) -> Reader:
    pages = thread_pages(3)
    noise = np.frombuffer(bytes(4096 * 2), pages.dtype)
    content = np.concatenate([noise, pages, noise]).tobytes()

    def read(path: Path) -> Answer:
        found = recover(path, {3: 1})
        return [(each.domid, each.thread, each.records.tobytes()) for each in found], ()

    return Reader("the machine's memory", content, OfFile(place / "memory", read))


class Played:
    """A serial line, or a socket, on which certain bytes come, and then its end."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def recv(self, size: int, /) -> bytes:
        return self._data.read(min(size, 4096))

    def sendall(self, data: bytes, /) -> None:
        pass

    def shutdown(self, how: int, /) -> None:
        pass

    def close(self) -> None:
        pass


def _serial(place: Path) -> Reader:
    lines = [
        b"(XEN) Xen version 4.17\r\n[    0.1] Linux ver",
        b"(XEN) [ 1.2] hello\r\n",
        b"sion 6.1\r\n",
    ]
    lines += [b"(XEN) Assertion 'x > 0' failed at common/event_channel.c:12\r\n"] * 3
    lines += [b"(XEN) Panic on CPU 0:\r\n(XEN) why\r\n", b"\x1b[0;1mlogin: "]

    def read(data: bytes) -> Answer:
        folder = place / "console"
        shutil.rmtree(folder, ignore_errors=True)
        console = Console(folder)
        console.attach(Played(data))
        console._readers[0].join(30)
        assert not console._readers[0].is_alive()
        console.close()
        with contextlib.suppress(HarnessError):
            console.check()
        if console._failed is not None:
            raise console._failed
        return [event.event for event in console.events], console.notes

    return Reader("a serial console", b"".join(lines * 10), read)


def _telnet(place: Path) -> Reader:
    data = (
        b"\xff\xfb\x01\xff\xfd\x03(XEN) up\r\n\xff\xfa\x18\x01\xff\xf0text\xff\xff\r\n\xff\xf1end"
    )

    def read(data: bytes) -> Answer:
        line = Telnet(Played(data))  # type: ignore[arg-type]
        said = bytearray()
        while part := line.recv(65536):
            said += part
        return bytes(said), ()

    return Reader("a telnet line", data * 20, read)


def _gdbstub(place: Path) -> Reader:
    data = b"+".join(frame(packet) for packet in ("OK", "T05thread:p01.02;", "00ff", "l", "E01"))

    def read(data: bytes) -> Answer:
        pending, found = bytearray(data), []
        try:
            while (packet := unframe(pending)) is not None:
                found.append(packet)
        except StubLost as error:
            raise error
        return found, ()

    return Reader("the gdbstub", data, read)


def _registers(place: Path) -> Reader:
    text = """\
*** Dumping CPU0 host state: ***
Xen-4.17.6  x86_64  debug=y  Not tainted
RIP:    e008:[<ffff82d040200000>] evtchn_send+0x1/0x2
rax: 0000000000000000   rbx: ffff830000000000   rcx: 0000000000000001
Xen stack trace from rsp=ffff83007ffffe00:
   0000000000000001 ffff82d040200001
*** Dumping CPU1 guest state (d0v1): ***
PC:     ffff800010000000
X0: 0000000000000001  SP: ffff800010001000
"""

    def read(data: bytes) -> Answer:
        return debug_keys.registers(data.decode(errors="replace").splitlines()), ()

    return Reader("what a debug key prints", text.encode(), read)
