# SPDX-License-Identifier: GPL-2.0-or-later
"""Console capture: every stream recorded with timestamps from power-on to power-off.

A thread always reads the serial line, separates Xen's output from dom0's
(harness.hypervisor.console), writes one log for each of these streams, and remembers the lines
that report a crash.
"""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from harness.evidence import Crash
from harness.hypervisor.console import Blame, Event, Splitter, advice, explained, scan, symptom
from harness.hypervisor.console_lines import Lines
from harness.hypervisor.resets import Resets
from harness.machine.console_log import ConsoleLog, stamp
from harness.machine.patience import WALL, Clock, Deadline
from harness.machine.wires import Wire
from harness.unforeseen import said
from harness.verdict import HarnessError, HypervisorError, LabError

_KEPT_LINES = 2000  # per console, kept for expect() and excerpts
_KEPT_SYMPTOMS = 20  # of each kind and stream: a WARN in a loop says the same every time
_MOST_EVENTS = 200  # crashes that are told; a guest may print "Panic" without end
_MOST_HEARD = 10_000  # lines that wait for a listener; those that come then are lost to it
_SERIAL = "console-serial"  # the thread that reads the serial line
_LAST_SECONDS = 2.0  # until all that came before the machine's end is read
_REASON_SECONDS = 1.0  # between "Panic on CPU 0:" and the line that says why


@dataclass(frozen=True)
class Line:
    """One line of a console: ``seconds`` since the recording began."""

    stream: str
    time: datetime  # UTC, as in the log
    seconds: float
    text: str


@dataclass(frozen=True)
class ConsoleEvent:
    """A line that reports a crash, or a symptom."""

    line: Line
    event: Event


class LineMissing(LabError):
    """A line that was waited for has not come in time."""


class Console:
    """Records the streams of one host into ``folder``/<stream>.log and watches them for crashes.

    A stream exists from its first line on.  "xen" and "dom0" come from the serial line;
    each domU has a stream of its own.  Who prints them is not to be trusted: lines, logs and the
    number of crashes have limits (console_lines, console_log).  Thread-safe.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.clock: Clock = WALL  # on which expect() counts; the machine sets its own
        self._began = time.monotonic()
        self._changed = threading.Condition()
        self._lines: deque[Line] = deque(maxlen=_KEPT_LINES)
        self._count = 0
        self._events: list[ConsoleEvent] = []
        self._symptoms: list[ConsoleEvent] = []
        self._resets = Resets()
        self._logs: dict[str, ConsoleLog] = {}
        self._serial: Wire | None = None
        self._readers: list[threading.Thread] = []
        self._raw: list[Callable[[bytes], None]] = []
        self._listeners: list[tuple[str, queue.Queue[str]]] = []
        self._ignored: set[str] = set()
        self._full: OSError | None = None
        self._failed: Exception | None = None  # what ended a thread that records, if not foreseen
        self._notes: list[str] = []  # on closed logs
        self._untold = 0  # crashes over _MOST_EVENTS
        self._forgotten = 0  # how many crashes are from before the last restore

    def attach(self, line: Wire, *, up: bool = False) -> None:
        """Start a thread that reads the machine's serial ``line`` until it ends.

        With ``up`` Xen and dom0 are up already, and what they said before is lost; else the
        machine is told to boot.
        """
        if up:
            self._resets.restored()
        else:
            self.booting()
        self._began = time.monotonic()
        self._serial = line
        self._start(_SERIAL, lambda: self._read_serial(line, up=up))

    def follow(self, stream: str, chunks: Iterator[bytes]) -> None:
        """Start a thread that records another console (a domU's) as ``stream`` until it ends."""
        self._start(f"console-{stream}", lambda: self._read_plain(stream, chunks))

    def expect(
        self,
        pattern: str,
        timeout: float,
        stream: str = "dom0",
        check: Callable[[], None] = lambda: None,
    ) -> Line:
        """Wait up to ``timeout`` seconds (of ``clock``) for a line of ``stream`` that matches.

        Return it; it may have been recorded before.  Raises the error for a crash on the
        console, what ``check`` (called every second) raises, or LineMissing after ``timeout``.
        """
        wanted = re.compile(pattern)
        deadline = Deadline(self.clock, timeout)
        seen = 0
        with self._changed:
            while True:
                fresh = list(self._lines)[-(self._count - seen) :] if self._count > seen else []
                seen = self._count
                for line in fresh:
                    if line.stream == stream and wanted.search(line.text):
                        return line
                self.check()
                check()
                left = deadline.left
                if left <= 0:
                    raise LineMissing(
                        f"no line matching {pattern!r} within {timeout:.0f} s",
                        where=f"{stream} console",
                        hint=f"see {self._folder}",
                    )
                self._changed.wait(min(left, 1.0))

    def check(self) -> None:
        """Raise for the first crash: HypervisorError if Xen is to blame, else LabError."""
        if self._full is not None:
            raise LabError(
                f"cannot record the console: {self._full.strerror}", where=str(self._folder)
            )
        if self._failed is not None:
            raise HarnessError(
                f"the console is not recorded any more: {said(self._failed)}",
                where=str(self._folder),
            ) from self._failed
        with self._changed:
            for at in range(self._forgotten, len(self._events)):
                if self._events[at].line.stream not in self._ignored:
                    self._changed.wait_for(partial(self._told, at), _REASON_SECONDS)
                    raise crash(self._events[at])

    def forget(self) -> None:
        """Ignore the crashes seen so far: the machine was restored to a state before them."""
        with self._changed:
            self._forgotten = len(self._events)
            self._resets.restored()

    def booting(self) -> None:
        """Expect firmware and Xen to begin anew, from now on: the machine is told to reboot."""
        with self._changed:
            self._resets.asked()

    def ended(self) -> str:
        """Note that the machine reset itself or switched itself off; return in words why.

        That is a crash of Xen, which ``check`` raises, unless the serial line tells who wanted it.
        """
        for reader in self._readers:
            if reader.name == _SERIAL:  # its end comes with the machine's
                reader.join(_LAST_SECONDS)
        with self._changed:
            event, why = self._resets.gone()
            if event is not None:
                now = time.monotonic() - self._began
                line = Line("xen", datetime.now(UTC), now, event.text)
                self._events.append(ConsoleEvent(line, event))
                self._changed.notify_all()
        return why

    def ignore(self, stream: str) -> None:
        """Do not report crashes on ``stream``, for example of a domU that a test kills."""
        self._ignored.add(stream)

    @property
    def events(self) -> tuple[ConsoleEvent, ...]:
        """All lines so far that report a crash."""
        return tuple(self._events)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out of the logs, and of ``events``; complete once the console is closed."""
        more = [f"{self._untold:,} more lines report a crash"] if self._untold else []
        return (*self._notes, *more)

    @property
    def symptoms(self) -> tuple[ConsoleEvent, ...]:
        """The first lines of each kind that report something wrong which killed nobody (a WARN)."""
        return tuple(self._symptoms)

    def tail(self, stream: str, lines: int = 20) -> list[Line]:
        """Return the last lines of ``stream``."""
        with self._changed:
            return [line for line in self._lines if line.stream == stream][-lines:]

    def tap(self, sink: Callable[[bytes], None]) -> None:
        """Also pass the raw bytes of the serial line to ``sink`` (for an interactive console)."""
        self._raw.append(sink)

    @contextmanager
    def listen(self, stream: str) -> Iterator[queue.Queue[str]]:
        """Yield a queue that gets each new line of ``stream`` while the block runs."""
        listener = (stream, queue.Queue[str](_MOST_HEARD))
        with self._changed:
            self._listeners.append(listener)
        try:
            yield listener[1]
        finally:
            with self._changed:
                self._listeners.remove(listener)

    def type(self, data: bytes) -> None:
        """Send ``data`` to the serial line (Ctrl-A three times switches to Xen's keys)."""
        if self._serial is None:
            raise LabError("the machine is not powered on", where="console")
        self._serial.sendall(data)

    def close(self) -> None:
        """Stop recording; everything read so far is in the logs."""
        if self._serial is not None:
            with contextlib.suppress(OSError):
                self._serial.shutdown(socket.SHUT_RDWR)
        for reader in self._readers:
            reader.join(timeout=5)
        if self._serial is not None:
            self._serial.close()
        with self._changed:
            for stream, log in self._logs.items():
                try:
                    log.close()
                except OSError as error:
                    self._full = error
                if log.capped:
                    self._notes.append(
                        f"the console of {stream} printed too much: {log.left_out:,} lines are "
                        "left out of the middle of its log"
                    )
            self._logs.clear()

    def _start(self, name: str, target: Callable[[], None]) -> None:
        def record() -> None:
            try:
                target()
            except Exception as error:  # check() tells it
                self._failed = error

        thread = threading.Thread(target=record, name=name, daemon=True)
        self._readers.append(thread)
        thread.start()

    def _read_serial(self, line: Wire, *, up: bool) -> None:
        splitter = Splitter(up=up)
        while True:
            try:
                chunk = line.recv(65536)
            except OSError:
                chunk = b""
            if not chunk:
                break
            for sink in self._raw:
                sink(chunk)
            for stream, text in splitter.feed(chunk):
                self._record(stream, text)
        for stream, text in splitter.flush():
            self._record(stream, text)

    def _read_plain(self, stream: str, chunks: Iterator[bytes]) -> None:
        lines = Lines()
        for chunk in chunks:
            for text, _ in lines.feed(chunk):
                self._record(stream, text.decode(errors="replace").rstrip("\r"))
        if rest := lines.flush():
            self._record(stream, rest.decode(errors="replace"))

    def _record(self, stream: str, text: str) -> None:
        now = datetime.now(UTC)
        line = Line(stream, now, time.monotonic() - self._began, text)
        event = scan(stream, text)
        ails = None if event else symptom(stream, text)
        with self._changed:
            event = event or self._resets.see(stream, text, ails, line.seconds)
            try:
                log = self._logs.get(stream)
                if log is None:
                    log = self._logs[stream] = ConsoleLog(self._folder / f"{stream}.log")
                log.write(stamp(now), text)
            except OSError as error:  # even with a full disk, go on watching for crashes
                self._full = error
            self._lines.append(line)
            self._count += 1
            for wanted, heard in self._listeners:
                if wanted == stream:
                    with contextlib.suppress(queue.Full):
                        heard.put_nowait(text)
            if self._events and text.strip():
                self._explain(stream, text.strip())
            if event is not None and len(self._events) - self._forgotten >= _MOST_EVENTS:
                self._untold += 1
            elif event is not None:
                self._events.append(ConsoleEvent(line, event))
                self._resets.died(event)
            elif ails is not None:
                self._note(ConsoleEvent(line, ails))
            self._changed.notify_all()

    def _note(self, seen: ConsoleEvent) -> None:
        """Keep a symptom, unless there are many of its kind, or it is of a domU that Xen ended."""
        if seen.line.stream == "xen" and seen.event.blame is Blame.DOMU:
            return
        like = (seen.line.stream, seen.event.kind)
        same = [one for one in self._symptoms if (one.line.stream, one.event.kind) == like]
        if len(same) < _KEPT_SYMPTOMS:
            self._symptoms.append(seen)

    def _told(self, at: int) -> bool:
        """Return whether the line with the reason of crash ``at`` has come, or none is expected."""
        return at + 1 < len(self._events) or not self._events[at].event.text.endswith(":")

    def _explain(self, stream: str, text: str) -> None:
        """Add to "Panic on CPU 0:" the line that says why, which comes after it."""
        seen = self._events[-1]
        if seen.line.stream == stream and seen.event.text.endswith(":"):
            self._events[-1] = replace(seen, event=explained(seen.event, text))


def crash(seen: ConsoleEvent) -> HarnessError:
    """Return the exception for a line that reports a crash."""
    where = f"{seen.line.stream} console at {seen.line.seconds:.1f} s"
    event = seen.event
    what = Crash(
        what=event.kind,
        stream=seen.line.stream,
        text=event.text,
        file=event.file,
        line=event.line,
        expression=event.expression,
    )
    hint = advice(event)
    if event.blame is Blame.HYPERVISOR:
        return HypervisorError(what, where=where, hint=hint)
    return LabError(what, where=where, hint=hint)
