# SPDX-License-Identifier: GPL-2.0-or-later
"""Records found again in raw memory: of a real agent, and of agents with bad luck."""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from harness.agent.build import agent_binary
from harness.agent.client import AgentClient
from harness.agent.load import LoadPlan
from harness.agent.pages import MAGIC, PAGE, PAGE_BYTES
from harness.agent.recover import complete, recover
from harness.agent.wire import AgentRefused
from harness.arch import Arch
from harness.history.format.history import History, ThreadLog
from harness.history.format.record import RECORD, Op
from harness.verdict import LabError

from .channels import ProcessChannel

UNKNOWN_DOMID = 0xFFFF  # guests/agent/actor.h: there is no Xen here


def memory_of(pid: int) -> bytes:
    """The writable memory of a process, page after page."""
    parts = []
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if region := re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line):
                start, end = (int(word, 16) for word in region.groups())
                memory.seek(start)
                parts.append(memory.read(end - start))
    return b"".join(parts)


def shuffled(memory: bytes, seed: int) -> bytes:
    """The same pages in another order, as physical memory would have them."""
    pages = [memory[at : at + PAGE_BYTES] for at in range(0, len(memory), PAGE_BYTES)]
    random.Random(seed).shuffle(pages)
    return b"".join(pages)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="runs the x86-64 agent")
def test_a_running_agents_records_are_found_in_its_memory(tmp_path: Path) -> None:
    channel = ProcessChannel(agent_binary(Arch.X86_64), "serve")
    agent = AgentClient(channel, "here")
    for port in range(400):
        with pytest.raises(AgentRefused):
            agent.raw.send(port)
    image = tmp_path / "memory"
    image.write_bytes(shuffled(memory_of(channel.process.pid), 3))
    by_thread = {found.thread: found for found in recover(image, {UNKNOWN_DOMID: 0})}
    assert list(by_thread[0].records["port"]) == list(range(400))
    assert (by_thread[0].records == agent.collect(0).records).all()
    assert by_thread[1].vcpu == 1 and not len(by_thread[1].records)
    assert recover(image, {UNKNOWN_DOMID: 5}) == []
    channel.close()


def thread_pages(count: int, *, thread: int = 2, run: int = 1) -> npt.NDArray[np.void]:
    """Pages full of sends, the last one in flight."""
    pages = np.zeros(count, PAGE)
    header = pages["header"]
    header["magic"], header["run"], header["records"] = MAGIC, run, 127
    header["domid"], header["thread"], header["vcpu"] = 3, thread, 1
    header["page"] = np.arange(count)
    records = pages["records"]
    records["op"] = Op.SEND
    records["call"] = np.arange(1, count * 127 + 1).reshape(count, 127)
    records["ret"] = records["call"]
    records["ret"][-1, -1] = 0
    records["op"][-1, -1] = Op.CLOSE
    records["port"][-1, -1] = 22
    return pages


def written(path: Path, *parts: npt.NDArray[np.void]) -> Path:
    noise = np.frombuffer(random.Random(1).randbytes(50 * PAGE_BYTES), PAGE)
    path.write_bytes(shuffled(np.concatenate([noise, *parts]).tobytes(), 9) + b"a partial page")
    return path


def test_what_was_in_flight_is_known(tmp_path: Path) -> None:
    [found] = recover(written(tmp_path / "m", thread_pages(5)), {3: 1})
    assert (found.domid, found.thread, found.vcpu, len(found.records)) == (3, 2, 1, 5 * 127)
    assert found.in_flight == "CLOSE of port 22"


def test_a_record_that_is_just_being_written_does_not_count(tmp_path: Path) -> None:
    pages = thread_pages(5)
    pages["records"]["op"][-1, -1] = 0  # a running thread's page, caught halfway
    [found] = recover(written(tmp_path / "m", pages), {3: 1})
    assert len(found.records) == 5 * 127 - 1 and found.in_flight == ""


def test_records_end_where_a_page_is_missing(tmp_path: Path) -> None:
    pages = thread_pages(5)
    [found] = recover(written(tmp_path / "m", np.delete(pages, 3)), {3: 1})
    assert len(found.records) == 3 * 127 and found.in_flight == ""
    [found] = recover(written(tmp_path / "m", pages[1:]), {3: 1})
    assert len(found.records) == 0


def test_older_loads_and_stale_copies_do_not_count(tmp_path: Path) -> None:
    stale = thread_pages(5)
    stale["records"]["call"][4, 3:] = 0
    image = written(tmp_path / "m", stale[4:], thread_pages(5), thread_pages(9, run=7))
    [found] = recover(image, {3: 1})
    assert len(found.records) == 5 * 127


def test_recovered_records_complete_a_history(tmp_path: Path) -> None:
    empty = np.zeros(0, RECORD)
    log = ThreadLog(3, "domu1", 2, 1, empty, 1000, 0, 0)
    history = History("counter", (4, 17), "x86_64", "h", (log,))
    found = recover(written(tmp_path / "m", thread_pages(2)), {3: 1})
    assert complete(history, found).operations == 2 * 127
    assert complete(complete(history, found), []).operations == 2 * 127


def test_an_unreadable_image_is_the_labs_fault(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot read"):
        recover(tmp_path / "none", {3: 1})
    (tmp_path / "short").write_bytes(b"x" * 100)
    assert recover(tmp_path / "short", {3: 1}) == []


def test_pages_that_another_domain_planted_are_nobodys(tmp_path: Path) -> None:
    """A guest writes pages with dom0's domid, and longer ones, into its own memory."""
    mine, planted, blind = thread_pages(2, run=11), thread_pages(5, run=22), thread_pages(5, run=0)
    mine["header"]["domid"] = planted["header"]["domid"] = blind["header"]["domid"] = 0
    image = written(tmp_path / "m", planted, mine, blind, thread_pages(3, run=22))
    dom0, domu = recover(image, {0: 11, 3: 22})  # only the agent in domain 3 was told 22
    assert (dom0.domid, len(dom0.records)) == (0, 2 * 127)
    assert (domu.domid, len(domu.records)) == (3, 3 * 127)


def test_each_domain_has_a_number_that_the_others_cannot_know() -> None:
    one, other = LoadPlan(seed=1, duration_s=1), LoadPlan(seed=1, duration_s=1)
    numbers = [plan.run_of(domid) for plan in (one, other) for domid in range(100)]
    assert len(set(numbers)) == 200 and max(numbers) < 1 << 32
    assert str(one.secret) not in repr(one)
