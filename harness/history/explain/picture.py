# SPDX-License-Identifier: GPL-2.0-or-later
"""A witness as one HTML page that needs no other file: a lane per thread, a bar per operation."""

from __future__ import annotations

import numpy as np

from harness import page
from harness.history.explain.witness import describe
from harness.history.format.columns import NEVER, Columns
from harness.history.format.history import ThreadLog
from harness.history.format.record import Op


def picture(
    columns: Columns, threads: tuple[ThreadLog, ...], culprit: int, title: str, told: str
) -> str:
    """Return the page for ``columns`` (few operations) and their witness as text, ``told``.

    ``culprit``: row of the operation that cannot be explained.  It is shown at first, with what
    came before; the wheel zooms, dragging moves, and the mouse over a bar tells its answer.
    """
    names = {log.domid: log.domain for log in threads}
    lanes = np.unique(columns.log)
    zero = int(columns.call.min())
    flying = columns.ret == NEVER
    last = int(max(columns.call.max(), columns.ret[~flying].max(initial=zero)))
    spare = max(1, (last - zero) // 50)
    bars = [
        {
            "lane": int(np.searchsorted(lanes, columns.log[i])),
            "from": (int(columns.call[i]) - zero) / 1000,
            "to": (last + spare - zero if flying[i] else int(columns.ret[i]) - zero) / 1000,
            "open": bool(flying[i]),
            "what": Op(columns.op[i]).name.lower(),
            "text": describe(columns, i, threads[columns.log[i]], names),
            "cpu": int(columns.cpu[i]),
            "row": int(columns.row[i]),
            "bad": int(columns.row[i]) == culprit,
        }
        for i in range(len(columns))
    ]
    data = {
        "lanes": [threads[int(lane)].name for lane in lanes],
        "bars": bars,
        "end": (last + spare - zero) / 1000,
    }
    return page.render(
        "witness.html.j2",
        {"title": title, "told": told},
        packages=("harness.history.explain",),
        styles=("witness.css",),
        script="witness.js",
        data=data,
    )
