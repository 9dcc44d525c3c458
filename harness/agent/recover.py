# SPDX-License-Identifier: GPL-2.0-or-later
"""The agents' records, found in a dump of the machine's memory when no agent answers any more.

The header of a page of records (guests/agent/record.h) says whose page it is and where it belongs.
So neither page tables nor symbols are needed, only the physical memory, as QEMU's ``pmemsave``
writes it.  A guest can write any header into its own memory; so each domain's pages have a number
that only the agent there was told (LoadPlan.run_of), and pages with another one are nobody's.
After a hang, the last record of each thread is the most interesting one: it shows the operation
that is in flight.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from harness.agent.pages import MAGIC, PAGE, PAGE_BYTES, RECORDS_PER_PAGE, records_of
from harness.history.format.history import History
from harness.history.format.record import RECORD, Op
from harness.verdict import LabError

_CHUNK_PAGES = 1 << 16  # 256 MiB at a time


@dataclass(frozen=True)
class Recovered:
    """The records of one thread, as far as they are in memory."""

    domid: int
    thread: int
    vcpu: int
    records: npt.NDArray[np.void]  # dtype RECORD; the last may be in flight

    @property
    def in_flight(self) -> str:
        """The operation that has not returned, as "CLOSE of port 22"; "" if there is none."""
        return _in_flight(self.records)


def recover(image: Path, runs: Mapping[int, int]) -> list[Recovered]:
    """Find the records of a load in the memory ``image``, by domain and thread.

    ``runs``: by domid, the number that the load has in the pages of that domain.  Where a page of
    a thread is missing, the pages after it are left out.  Raises LabError when the image cannot be
    read.
    """
    found: dict[tuple[int, int], dict[int, npt.NDArray[np.void]]] = {}
    for page in _pages(image, runs):
        header = page["header"]
        thread = found.setdefault((int(header["domid"]), int(header["thread"])), {})
        number = int(header["page"])
        if number not in thread or _used(page) > _used(thread[number]):
            thread[number] = page
    return [_recovered(domid, thread, found[domid, thread]) for domid, thread in sorted(found)]


def complete(history: History, recovered: Iterable[Recovered]) -> History:
    """Return ``history``, with the ``recovered`` records of each thread that has fewer there."""
    longer = {(r.domid, r.thread): r.records for r in recovered}
    none = np.zeros(0, RECORD)
    return replace(
        history,
        threads=tuple(
            replace(
                log, records=max(log.records, longer.get((log.domid, log.thread), none), key=len)
            )
            for log in history.threads
        ),
    )


def in_flight(history: History) -> list[str]:
    """Return the operations that have not returned, as "domu1 vCPU0: CLOSE of port 22"."""
    return [
        f"{log.domain} vCPU{log.vcpu}: {flight}"
        for log in history.threads
        if (flight := _in_flight(log.records))
    ]


def _in_flight(records: npt.NDArray[np.void]) -> str:
    if not len(records) or records["ret"][-1]:
        return ""
    last = records[-1]
    return f"{Op(int(last['op'])).name} of port {int(last['port'])}"


def _pages(image: Path, runs: Mapping[int, int]) -> Iterable[npt.NDArray[np.void]]:
    try:
        count = image.stat().st_size // PAGE_BYTES
        memory = np.memmap(image, PAGE, mode="r", shape=(count,)) if count else np.zeros(0, PAGE)
    except OSError as error:
        raise LabError(f"cannot read the memory: {error.strerror}", where=str(image)) from error
    for start in range(0, count, _CHUNK_PAGES):
        chunk = memory[start : start + _CHUNK_PAGES]
        header = chunk["header"]
        ours = (header["magic"] == MAGIC) & (header["records"] == RECORDS_PER_PAGE)
        ours &= np.any(
            [(header["domid"] == domid) & (header["run"] == run) for domid, run in runs.items()],
            axis=0,
        )
        yield from (chunk[index].copy() for index in np.flatnonzero(ours))


def _used(page: npt.NDArray[np.void]) -> int:
    return int(np.count_nonzero(page["records"]["call"]))


def _recovered(domid: int, thread: int, pages: dict[int, npt.NDArray[np.void]]) -> Recovered:
    first = min(pages)
    unbroken: list[npt.NDArray[np.void]] = []
    while first == 0 and len(unbroken) in pages:
        unbroken.append(pages[len(unbroken)])
    vcpu = int(pages[first]["header"]["vcpu"])
    return Recovered(domid, thread, vcpu, records_of(np.array(unbroken, PAGE)))
