# SPDX-License-Identifier: GPL-2.0-or-later
"""The pages of records in an agent's memory: the layout of guests/agent/record.h."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.history.format.record import RECORD
from harness.verdict import LabError

PAGE_BYTES = 4096
RECORDS_PER_PAGE = 127
MAGIC = int.from_bytes(b"EVTCHNLG", "little")

HEADER = np.dtype(
    [
        ("magic", "<u8"),
        ("tick_hz", "<u8"),
        ("run", "<u4"),
        ("page", "<u4"),
        ("domid", "<u2"),
        ("thread", "<u2"),
        ("vcpu", "<u2"),
        ("records", "<u2"),
    ]
)
PAGE = np.dtype([("header", HEADER), ("records", RECORD, (RECORDS_PER_PAGE,))])
assert PAGE.itemsize == PAGE_BYTES


def records_of(pages: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return the records in one thread's ``pages`` (dtype PAGE, in order).

    The last operation may be in flight: its ``ret`` is 0.  Left out are records that are not used
    yet, and one that the thread was just writing.
    """
    records: npt.NDArray[np.void] = pages["records"].reshape(-1)
    used: npt.NDArray[np.void] = records[(records["call"] != 0) & (records["op"] != 0)]
    return used


def parse(blob: bytes) -> npt.NDArray[np.void]:
    """Return ``blob`` as pages (dtype PAGE); LabError if they are cut off or out of order."""
    if len(blob) % PAGE_BYTES:
        raise LabError(f"{len(blob)} bytes of records are not a whole number of pages")
    pages = np.frombuffer(blob, PAGE)
    header = pages["header"]
    if (header["magic"] != MAGIC).any() or (header["page"] != np.arange(len(pages))).any():
        raise LabError("pages of records are damaged or out of order")
    return pages
