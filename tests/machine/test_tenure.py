# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases on a simulated clock: controllers a day apart, processes stopped at any moment.

Each actor is a thread with the real code and real files; a baton lets one of them run at a time,
from one access to the files to the next.  So every schedule can be had again from its seed.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.machine import tenure
from harness.machine.holder import Fate, Process
from harness.machine.lease_files import Entry, LeaseFiles
from harness.machine.tenure import HELD, LIFE, RENEW, Claim, LeaseLost, Surroundings, Tenure

DAY = 86400.0
PAUSE = 1.0
LATE = 2 * PAUSE + 4.0  # what a look at the lease may come late, in this simulation
SECONDS = 1500.0


class Over(BaseException):
    """The simulation has ended, or this actor was killed."""


@dataclass
class Actor:
    """A process that uses the server again and again."""

    pid: int
    controller: int  # 0 or 1
    world: World
    wakes: float = 0.0
    killed: bool = False
    tenure: Tenure | None = None
    number: int = 0  # of the tenure
    waits_since: float = 0.0  # when it began to look, or was continued
    uses: int = 0
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def process(self) -> Process:
        return Process("lab", f"boot-{self.controller}", "pid:[1]", self.pid, self.pid)

    def monotonic(self) -> float:
        """Nobody shares it, and it does not go at quite the same rate everywhere."""
        return 1000.0 * self.pid + self.world.now * (1 + 0.0005 * (self.pid % 3 - 1))

    def fate(self, process: Process) -> Fate:
        if process.boot != self.process.boot:
            return Fate.UNKNOWN
        other = self.world.actors[process.pid - 1]
        if other.killed:
            return Fate.DEAD
        return Fate.RUNS if other.wakes <= self.world.now + RENEW else Fate.UNKNOWN

    def may_use(self) -> bool:
        """Whether it would use the server, if it ran now."""
        try:
            if self.tenure is None or self.killed:
                return False
            self.tenure.check()
        except LeaseLost:
            return False
        return True

    def live(self) -> None:
        surroundings = Surroundings(self.monotonic, self.monotonic, lambda: self.process, self.fate)
        files = Files(self.world.folder, "rack-1", self)
        while True:
            self.waits_since = self.world.now
            claim = Claim(files, "rack-1", surroundings)
            while (tenure := claim.take()) is None:
                self.world.waited(self)
                self.world.sleep(self, PAUSE)
            self.tenure, self.number = tenure, files.created
            try:
                for _ in range(self.world.random.randrange(8)):
                    self.use(tenure)
                    self.world.sleep(self, self.world.random.uniform(0, RENEW))
            except LeaseLost:
                self.world.lost += 1
            tenure.end()
            self.tenure = None
            self.world.sleep(self, self.world.random.uniform(0, 20))

    def use(self, tenure: Tenure) -> None:
        tenure.confirm()
        self.world.used(self)
        self.world.sleep(self, self.world.random.uniform(0, RENEW))
        tenure.check()
        self.world.used(self)


class Files(LeaseFiles):
    """The folder of the leases; at every access another process may be given the CPU."""

    def __init__(self, folder: Path, name: str, actor: Actor) -> None:
        super().__init__(folder, name)
        self._actor = actor
        self.created = 0

    def newest(self) -> Entry:
        self._actor.world.pause(self._actor)
        return super().newest()

    def create(self, number: int, body: bytes) -> int | None:
        self._actor.world.pause(self._actor)
        self.created = number
        return super().create(number, body)

    def write(self, file: int, body: bytes) -> None:
        self._actor.world.pause(self._actor)
        super().write(file, body)
        self._actor.world.written = self._actor.world.now

    def sweep(self, number: int) -> None:
        self._actor.world.pause(self._actor)
        super().sweep(number)


class World:
    """Time, and who runs."""

    def __init__(self, folder: Path, seed: int, *, actors: int = 4) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.now = 0.0
        self.written = 0.0  # when somebody last wrote to a lease
        self.actors = [Actor(pid, pid % 2, self) for pid in range(1, actors + 1)]
        self.wrong: list[str] = []
        self.taken: list[int] = []
        self.lost = self.longest = 0.0
        self._over = False
        self._back = threading.Semaphore(0)
        self.stops = self.random.choice((0.0, 0.02, 0.05))  # how often, at each access

    def run(self) -> None:
        threads = [threading.Thread(target=self._thread, args=(a,)) for a in self.actors]
        for thread in threads:
            thread.start()
        while self.now < SECONDS and not self.wrong:
            ready = [a for a in self.actors if a.wakes <= self.now and not a.killed]
            if not ready:
                self.now = min((a.wakes for a in self.actors if not a.killed), default=SECONDS)
                continue
            actor = self.random.choice(ready)
            actor.turn.release()
            self._back.acquire()
            self.now += self.random.uniform(0, 0.1)
        self._over = True
        for actor, thread in zip(self.actors, threads, strict=True):
            actor.turn.release()
            thread.join()

    def pause(self, actor: Actor) -> None:
        """Give the CPU away, and perhaps be stopped or killed here."""
        if self._over:
            raise Over
        self._disturb(actor)
        self._back.release()
        self._wait(actor)

    def sleep(self, actor: Actor, seconds: float) -> None:
        actor.wakes = self.now + seconds
        self.pause(actor)

    def used(self, actor: Actor) -> None:
        """``actor`` uses the server now: no other may."""
        actor.uses += 1
        self.taken.append(actor.number)
        if self.taken[-1] < max(self.taken):
            self.wrong.append(f"{self.now:.1f}: an old tenure is used: {self.taken[-5:]}")
        inside = [other.pid for other in self.actors if other.may_use()]
        if inside != [actor.pid]:
            self.wrong.append(f"{self.now:.1f}: {actor.pid} uses the server, inside: {inside}")

    def waited(self, actor: Actor) -> None:
        """``actor`` has looked, and could not take the lease."""
        blocked = self.now - max(actor.waits_since, self.written)
        self.longest = max(self.longest, blocked)
        if blocked > LIFE + LATE:
            self.wrong.append(f"{self.now:.1f}: {actor.pid} is blocked for {blocked:.1f} s")

    def _disturb(self, actor: Actor) -> None:
        if self.random.random() < self.stops:  # SIGSTOP, or its computer is suspended
            actor.wakes = max(actor.wakes, self.now) + self.random.choice((5, 20, 40, 70, 150))
            actor.waits_since = actor.wakes
        elif self.random.random() < 0.0015 and sum(not a.killed for a in self.actors) > 2:
            actor.killed = True

    def _thread(self, actor: Actor) -> None:
        try:
            self._wait(actor)
            actor.live()
        except Over:
            pass
        except BaseException as error:
            self.wrong.append(f"{self.now:.1f}: {actor.pid} ended with {error!r}")
        if not self._over:
            actor.killed = True
            self._back.release()

    def _wait(self, actor: Actor) -> None:
        while True:
            actor.turn.acquire()
            if self._over:
                raise Over
            if not actor.killed:
                return


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100))
def test_never_two_inside_and_never_blocked_longer_than_a_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Two controllers with clocks a day apart, four runs that are stopped and killed anywhere."""
    world = World(tmp_path, seed)
    wall = time.time

    def a_day_apart() -> float:
        return wall() + DAY * (threading.get_native_id() % 2)

    monkeypatch.setattr(time, "time", a_day_apart)
    world.run()
    assert world.wrong == []
    assert sum(actor.uses for actor in world.actors) > 5
    assert len(list(tmp_path.iterdir())) <= 3  # the newest, and what latecomers have left


@pytest.mark.slow
def test_the_simulation_sees_a_run_that_stays_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenure, "HELD", 2 * LIFE)
    wrong = []
    for seed in range(10):
        (folder := tmp_path / str(seed)).mkdir()
        world = World(folder, seed)
        world.run()
        wrong += world.wrong
    assert any("inside" in line or "an old tenure" in line for line in wrong)


class Clock:
    """One clock for everybody, which only the test moves."""

    now = 0.0
    known = Fate.UNKNOWN

    def claim(self, files: LeaseFiles, pid: int = 1) -> Claim:
        process = Process("lab", "boot", "pid:[1]", pid, 1)
        read = lambda: self.now  # noqa: E731
        return Claim(
            files, "rack-1", Surroundings(read, read, lambda: process, lambda _: self.known)
        )


class Stopped(LeaseFiles):
    """Files whose holder is stopped for ``seconds`` before or after its next write."""

    before = after = 0.0
    clock: Clock

    def write(self, file: int, body: bytes) -> None:
        self.clock.now += self.before
        super().write(file, body)
        self.clock.now += self.after
        self.before = self.after = 0.0


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_renewal_that_took_too_long_is_none(tmp_path: Path, where: str) -> None:
    """Stopped within a renewal: meanwhile somebody may have decided that the lease has expired."""
    clock, files = Clock(), Stopped(tmp_path, "rack-1")
    files.clock = clock
    mine = clock.claim(files).take()
    assert mine is not None
    clock.now = HELD - 1
    setattr(files, where, 5.0)
    with pytest.raises(LeaseLost, match="not renewed for 49 s"):
        mine.confirm()


def test_a_latecomer_does_not_take_a_lease_that_was_taken_and_given_back(tmp_path: Path) -> None:
    """It looked, and saw a dead holder; then it was stopped for as long as two tenures took."""
    clock = Clock()

    class Late(LeaseFiles):
        stopped = True

        def create(self, number: int, body: bytes) -> int | None:
            if self.stopped:
                self.stopped = False
                for pid in (2, 3):
                    tenure_ = clock.claim(LeaseFiles(tmp_path, "rack-1"), pid).take()
                    assert tenure_ is not None
                    tenure_.end() if pid == 2 else others.append(tenure_)
            return super().create(number, body)

    others: list[Tenure] = []
    late = clock.claim(Late(tmp_path, "rack-1"))
    assert late.take() is None
    others[0].confirm()
    assert late.take() is None and late.holder == "process 3 of lab"


JUNK = [
    b"",
    b"\0" * 100,
    b"{",
    b"null",
    b"[1]",
    b"[" * 4000,
    b'{"token": "t", "process": null, "renewals": 1}',
    b'{"token": "t", "process": {"pid": -1}, "renewals": 1}',
    b'{"token": "t", "machine": "x", "pid": 1e999, "born": NaN, "until": Infinity}',
    b'{"token":"t","process":{"machine":"\\u001b[2J","boot":"","namespace":"","pid":1,"ticks":1},'
    b'"renewals":1}',
    b'{"token":"t","process":{"machine":"m","boot":"","namespace":"","pid":99999999999,"ticks":1},'
    b'"renewals":1}',
    b'{"token":"t","process":{"machine":"m","boot":"","namespace":"","pid":1,"ticks":1},'
    b'"renewals":Infinity}',
    b"x" * 10_000_000,
]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: str(junk[:20]))
def test_junk_in_a_lease_file_is_waited_for_and_replaced(tmp_path: Path, junk: bytes) -> None:
    """Whoever wrote it may be alive: junk was taken for no lease at all."""
    (tmp_path / "rack-1@3.json").write_bytes(junk)
    for name in ("rack-1@4.jsonx", "rack-1@-1.json", "rack-1@.json", "rack-11@9.json"):
        (tmp_path / name).write_bytes(junk)
    clock = Clock()
    claim = clock.claim(LeaseFiles(tmp_path, "rack-1"))
    assert claim.take() is None
    assert claim.holder == "somebody, whose lease cannot be read," and not claim.alive
    clock.now = LIFE - 1
    assert claim.take() is None
    clock.now = LIFE
    assert claim.take() is not None and (tmp_path / "rack-1@4.json").exists()


def test_whoever_renews_is_alive_whatever_it_writes(tmp_path: Path) -> None:
    clock = Clock()
    claim = clock.claim(LeaseFiles(tmp_path, "rack-1"))
    for number in range(10):
        (tmp_path / "rack-1@3.json").write_text(f"a lease of version {number}")
        assert claim.take() is None
        assert claim.alive == (number > 0)
        clock.now += LIFE - 1


def test_the_dead_hold_nothing_and_the_living_only_while_they_renew(tmp_path: Path) -> None:
    clock = Clock()
    files = LeaseFiles(tmp_path, "rack-1")
    assert clock.claim(files, pid=1).take() is not None
    clock.known = Fate.RUNS
    second = clock.claim(files, pid=2)
    assert second.take() is None and second.alive
    clock.now = LIFE  # it runs, and renews nothing: its thread is dead, or its storage
    assert second.take() is not None
    clock.known = Fate.DEAD
    assert clock.claim(files, pid=3).take() is not None
