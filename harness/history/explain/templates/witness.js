// SPDX-License-Identifier: GPL-2.0-or-later
const data = JSON.parse(document.getElementById("data").textContent);
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
  add("rect", {x: 0, y: 0, width: left - 4, height, class: "cover"});
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
