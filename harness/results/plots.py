# SPDX-License-Identifier: GPL-2.0-or-later
"""The plots of the report, as SVG with the colours of the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.results.records import PHASES, Latency
from harness.results.store import HostRun

# We draw in these colours, then replace them by the page's CSS variables: so one figure serves
# light and dark pages.
_INK = "#010101"
_FAINT = "#020202"
_PAPER = "#040404"
_SERIES = tuple(f"#0301{i:02x}" for i in range(8))
_STYLE = {
    "svg.fonttype": "none",  # keep text as text: searchable, and in the font of the page
    "font.size": 9,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _FAINT,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}
_LEAST_US = 0.01  # a logarithmic axis has no zero
_WIDTH = 11.0  # inches; 72 to the inch fill the page at three quarters of its width


def throughput(hosts: Sequence[HostRun]) -> str:
    """Return operations per second over the load, one line per host; "" without samples."""
    sampled = [host for host in hosts if host.samples]
    if not sampled:
        return ""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "throughput"}):
        figure = Figure(figsize=(_WIDTH, 2.6), layout="constrained")
        axes = figure.add_subplot()
        for index, host in enumerate(sampled):
            times = [sample.t for sample in host.samples]
            rates = [sample.operations_per_second for sample in host.samples]
            axes.plot(
                times,
                rates,
                color=_colour(index),
                label=_label(host.name),
                linewidth=1.6,
                marker="o" if len(times) < 40 else "",
                markersize=3,
            )
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.set_xlabel("seconds of load")
        axes.set_ylabel("operations per second")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        _legend(figure, len(sampled))
        return _svg(figure)


def latency_range(hosts: Sequence[HostRun]) -> tuple[float, float]:
    """Return the axis, in microseconds, that holds the latencies of all ``hosts``."""
    entries = [entry for host in hosts for entry in host.latencies]
    low = min((entry.p50_us for entry in entries), default=1.0)
    high = max((entry.max_us for entry in entries), default=1.0)
    return max(low, _LEAST_US) / 1.5, max(high, _LEAST_US) * 1.5


def latency(host: HostRun, spread: tuple[float, float]) -> str:
    """Return latency per operation and domain: p50 to p99, and the maximum; "" without any.

    ``spread`` is the range of the axis in microseconds, the same for all hosts to compare them.
    """
    if not host.latencies:
        return ""
    operations = list(dict.fromkeys(entry.op for entry in host.latencies))
    domains = list(dict.fromkeys(entry.domain for entry in host.latencies))
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": f"latency-{host.name}"}):
        height = 0.9 + 0.15 * len(operations) * (len(domains) + 1)
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.add_subplot()
        for entry in host.latencies:
            _bar(axes, entry, operations, domains)
        axes.set_xscale("log")
        axes.set_xlim(spread)
        axes.xaxis.set_major_formatter(_microseconds)
        axes.xaxis.set_minor_formatter("")
        axes.set_yticks(range(len(operations)), [_label(name) for name in operations])
        axes.set_ylim(len(operations) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("bar: p50 to p99, dot: p90, tick: maximum")
        for index, domain in enumerate(domains):
            axes.plot([], [], color=_colour(index), linewidth=4, label=_label(domain))
        _legend(figure, len(domains))
        return _svg(figure)


def phases(hosts: Sequence[HostRun]) -> str:
    """Return the seconds of each phase as one stacked bar per host; "" if none has ended."""
    timed = [host for host in hosts if host.seconds]
    if not timed:
        return ""
    names = [name for name in PHASES if any(name in host.seconds for host in timed)]
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": "phases"}):
        figure = Figure(figsize=(_WIDTH, 0.9 + 0.34 * len(timed)), layout="constrained")
        axes = figure.add_subplot()
        longest = max(sum(host.seconds.values()) for host in timed)
        for row, host in enumerate(timed):
            left = 0.0
            for name in names:
                seconds = host.seconds.get(name, 0.0)
                axes.barh(row, seconds, left=left, height=0.6, color=_colour(PHASES.index(name)))
                if seconds > longest * 0.06:  # else the number is wider than its bar
                    _figure(axes, left + seconds / 2, row, f"{seconds:.0f}", _PAPER, "center")
                left += seconds
            _figure(axes, left, row, f"{left:.0f} s", _INK, "left")
        for name in names:
            axes.bar(0, 0, color=_colour(PHASES.index(name)), label=name)
        axes.set_yticks(range(len(timed)), [_label(host.name) for host in timed])
        axes.set_ylim(len(timed) - 0.5, -0.5)
        axes.set_xlim(0, longest * 1.08 or 1)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("seconds")
        _legend(figure, len(names))
        return _svg(figure)


def _bar(axes: Axes, entry: Latency, ops: list[str], domains: list[str]) -> None:
    index = domains.index(entry.domain)
    step = 0.8 / len(domains)
    row = ops.index(entry.op) - 0.4 + step * (index + 0.5)
    colour = _colour(index)
    points = (entry.p50_us, entry.p90_us, entry.p99_us, entry.max_us)
    p50, p90, p99, worst = (max(value, _LEAST_US) for value in points)
    axes.plot([p50, p99], [row, row], color=colour, linewidth=4, solid_capstyle="butt")
    axes.plot([p99, worst], [row, row], color=colour, linewidth=0.8)
    axes.plot([p90], [row], color=_INK, marker="o", markersize=2.5)
    axes.plot([worst], [row], color=colour, marker="|", markersize=6)


def _figure(axes: Axes, x: float, y: float, text: str, colour: str, side: str) -> None:
    shift = (4, 0) if side == "left" else (0, 0)
    axes.annotate(
        text,
        (x, y),
        xytext=shift,
        textcoords="offset points",
        ha=side,
        va="center",
        color=colour,
        fontsize=8,
    )


def _microseconds(value: float, _position: object) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g} s"
    return f"{value / 1e3:g} ms" if value >= 1e3 else f"{value:g} µs"


def _label(name: str) -> str:
    """Return ``name`` in a form that matplotlib can draw: no math text, no missing glyphs."""
    return "".join(c if c.isprintable() else "?" for c in name).replace("$", r"\$")


def _legend(figure: Figure, columns: int) -> None:
    figure.legend(loc="outside upper left", ncols=max(columns, 1), handlelength=1.2)


def _colour(index: int) -> str:
    return _SERIES[index % len(_SERIES)]


def _svg(figure: Figure) -> str:
    """Return ``figure`` as an <svg> element without size, fonts and colours of its own."""
    sink = StringIO()
    figure.set_facecolor("none")
    for axes in figure.axes:
        axes.set_facecolor("none")
    FigureCanvasSVG(figure).print_svg(sink, metadata={"Date": None, "Creator": None})
    svg = sink.getvalue()
    svg = svg[svg.index("<svg") :]
    # The page has their one rule in its own style sheet: its policy lets no other be used.
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<svg ([^>]*?)(width|height)="[^"]*"', r"<svg \1", svg)
    svg = re.sub(r'<svg ([^>]*?)(width|height)="[^"]*"', r"<svg \1", svg)
    svg = re.sub(
        r'<g id="[^"]*"', "<g", svg
    )  # ids would be the same in every figure, and are not used
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = svg.replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")
    svg = svg.replace(_PAPER, "var(--panel)")
    for index, colour in enumerate(_SERIES):
        svg = svg.replace(colour, f"var(--series-{index})")
    return svg
