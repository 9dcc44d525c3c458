# SPDX-License-Identifier: GPL-2.0-or-later
"""A witness as one HTML page that needs no other file: a lane per thread, a bar per operation."""

from __future__ import annotations

import html
import json

import numpy as np

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
    blob = json.dumps(data).replace("</", "<\\/")
    page = _PAGE.replace("@TITLE@", html.escape(title)).replace("@STORY@", html.escape(told))
    return page.replace("@DATA@", blob)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>@TITLE@</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --faint: #8a929c; --paper: #fff;
  --bar: #7aa7d9; --read: #b9c7d6; --bad: #d1242f; --line: #d8dee4; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --faint: #8b949e;
  --paper: #14171a; --bar: #3f74ad; --read: #4a5662; --bad: #f0545f; --line: #30363d; } }
body { font: 14px/1.4 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  margin: 1.5rem; }
h1 { font-size: 1.15rem; } pre { overflow-x: auto; font-size: 12px; }
svg { width: 100%; display: block; cursor: grab; user-select: none; }
text { fill: var(--ink); font-size: 12px; } .faint { fill: var(--faint); font-size: 11px; }
line { stroke: var(--line); } rect { fill: var(--bar); } rect.read { fill: var(--read); }
rect.bad { fill: var(--bad); } rect.open { stroke: var(--bad); stroke-dasharray: 4 3; }
#tip { position: fixed; pointer-events: none; background: var(--ink); color: var(--paper);
  padding: .3rem .5rem; border-radius: 4px; font-size: 12px; display: none; max-width: 40rem; }
</style></head><body>
<h1>@TITLE@</h1>
<p class="hint">Wheel: zoom. Drag: move. Double click: everything. Times in microseconds.</p>
<svg id="chart" role="img" aria-label="Timeline of the operations"></svg>
<div id="tip"></div>
<pre>@STORY@</pre>
<script>
const data = @DATA@;
const svg = document.getElementById("chart"), tip = document.getElementById("tip");
const left = 90, lane = 46, top_ = 10, ns = "http://www.w3.org/2000/svg";
const height = top_ + data.lanes.length * lane + 30;
const bad = data.bars.find(bar => bar.bad), width_ = bad ? bad.to - bad.from : data.end;
let from = bad ? Math.max(0, bad.from - 40 * width_) : 0; // what came before explains most
let to = bad ? Math.min(data.end, bad.to + 15 * width_) : data.end;
svg.setAttribute("height", height);
const reads = new Set(["send", "status", "poll", "unmask", "enable", "recv", "set_priority"]);
function add(name, attributes, content) {
  const node = document.createElementNS(ns, name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (content !== undefined) node.textContent = content;
  svg.appendChild(node);
  return node;
}
function step(span) {
  const rough = span / 8, power = Math.pow(10, Math.floor(Math.log10(rough)));
  return [1, 2, 5, 10].map(n => n * power).find(n => n >= rough);
}
function draw() {
  svg.replaceChildren();
  const width = svg.clientWidth - left - 10, x = t => left + (t - from) / (to - from) * width;
  const tick = step(to - from);
  for (let t = Math.ceil(from / tick) * tick; t <= to; t += tick) {
    add("line", {x1: x(t), x2: x(t), y1: top_, y2: height - 22});
    add("text", {x: x(t), y: height - 6, "text-anchor": "middle", class: "faint"},
      +t.toPrecision(9));
  }
  data.bars.forEach((bar, i) => {
    const a = Math.max(left, x(bar.from)), b = Math.min(left + width, x(bar.to));
    if (b < left || a > left + width) return;
    const y = top_ + bar.lane * lane + 8;
    const kind = [reads.has(bar.what) ? "read" : "", bar.bad ? "bad" : "",
      bar.open ? "open" : ""].join(" ");
    const node = add("rect", {x: a, y, width: Math.max(2, b - a), height: 16, rx: 2, class: kind});
    node.onmousemove = event => {
      tip.style.display = "block";
      tip.style.left = Math.min(event.clientX + 12, innerWidth - 380) + "px";
      tip.style.top = event.clientY + 14 + "px";
      const end = bar.open ? "never returned" : bar.to.toFixed(3);
      tip.textContent = `${bar.text}  [${bar.from.toFixed(3)} .. ${end}] us, cpu ${bar.cpu}, ` +
        `operation ${bar.row}` + (bar.bad ? " - cannot be explained" : "");
    };
    node.onmouseleave = () => { tip.style.display = "none"; };
    if (b - a > 7 * bar.what.length || bar.bad || b - a > 30)
      add("text", {x: a, y: y + 28, class: "faint"}, bar.what);
  });
  add("rect", {x: 0, y: 0, width: left - 4, height, style: "fill: var(--paper)"});
  data.lanes.forEach((name, i) => add("text", {x: 0, y: top_ + i * lane + 20}, name));
}
svg.addEventListener("wheel", event => {
  event.preventDefault();
  const width = svg.clientWidth - left - 10;
  const at = from + (event.offsetX - left) / width * (to - from);
  const factor = event.deltaY > 0 ? 1.25 : 0.8;
  from = at - (at - from) * factor; to = at + (to - at) * factor; draw();
}, {passive: false});
let drag = null;
svg.onpointerdown = event => { drag = event.clientX; };
onpointerup = () => { drag = null; };
onpointermove = event => {
  if (drag === null) return;
  const move = (drag - event.clientX) / (svg.clientWidth - left - 10) * (to - from);
  from += move; to += move; drag = event.clientX; draw();
};
svg.ondblclick = () => { from = 0; to = data.end; draw(); };
addEventListener("resize", draw);
draw();
</script></body></html>
"""
