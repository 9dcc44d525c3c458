# SPDX-License-Identifier: GPL-2.0-or-later
"""Small pictures as SVG text: a row of nights, and a figure over the nights."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Mapping, Sequence

_TILE, _HEIGHT = 7, 14  # of one night in a strip, in pixels
_WIDTH, _TALL = 260, 34  # of a trend
_MARGIN = 3


def strip(nights: Sequence[tuple[str, str]]) -> str:
    """Return one tile for each night of ``nights``: (verdict, link), oldest first.

    Verdict "" is a night without the cell, link "" a tile without a link.  Equal nights in a row
    are one rectangle, so that a page with a thousand rows stays small.
    """
    parts = []
    at = 0
    for (verdict, link), group in itertools.groupby(nights):
        count = len(list(group))
        if verdict:
            tile = (
                f'<rect class="{html.escape(verdict.lower())}" x="{at * _TILE}" '
                f'width="{count * _TILE - 1}" height="{_HEIGHT}"/>'
            )
            parts.append(f'<a href="{html.escape(link)}">{tile}</a>' if link else tile)
        at += count
    return (
        f'<svg class="strip" width="{len(nights) * _TILE}" height="{_HEIGHT}">'
        f"{''.join(parts)}</svg>"
    )


def trend(values: Mapping[int, float], nights: int, since: int | None = None) -> str:
    """Return the line of ``values`` (by number of the night, from 0) over ``nights`` nights.

    The scale is logarithmic, from the smallest to the largest value and at least 20 %, so that
    the same noise looks the same in all trends.  ``since`` is the first night that is worse.
    """
    logs = {night: math.log(value) for night, value in values.items()}
    low, high = min(logs.values()), max(logs.values())
    room = max(high - low, math.log(1.2))
    middle = (low + high) / 2

    def place(night: int) -> str:
        x = _MARGIN + night / max(nights - 1, 1) * (_WIDTH - 2 * _MARGIN)
        y = _TALL / 2 - (logs[night] - middle) / room * (_TALL - 2 * _MARGIN)
        return f"{x:.0f},{y:.1f}"

    points = [place(night) for night in sorted(logs)]
    mark = ""
    if since is not None:
        left = _MARGIN + (since - 0.5) / max(nights - 1, 1) * (_WIDTH - 2 * _MARGIN)
        mark = f'<path class="since" d="M{left:.1f} 0V{_TALL}"/>'
    x, y = points[-1].split(",")
    return (
        f'<svg class="trend" width="{_WIDTH}" height="{_TALL}">{mark}'
        f'<polyline points="{" ".join(points)}"/><circle cx="{x}" cy="{y}" r="2.5"/></svg>'
    )
