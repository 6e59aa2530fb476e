"use strict";
// Panels over one time axis: hovering shows the values at a time in all of them, a drag zooms all of them, a double click shows all.
const data = JSON.parse(document.getElementById("data").textContent);
const LEFT = 51, RIGHT = 6, TOP = 6, BOTTOM = 19;
const film = document.querySelector("video[data-follows]");
const whole = data.span, clock = document.querySelector(".bar output"), back = document.querySelector(".bar button");
let view = whole.slice();

function make(name, attributes, parent) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (parent) parent.append(element);
  return element;
}
const colour = series => `var(--c${series.colour})`;
const shown = value => value == null ? "–" : Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)));

// Number of times that are not later.
function after(times, time) {
  let low = 0, high = times.length;
  while (low < high) { const middle = (low + high) >> 1; if (times[middle] <= time) low = middle + 1; else high = middle; }
  return low;
}

function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(n => n * power).find(n => n >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(Number((i * step).toPrecision(12)));
  return found;
}

class Panel {
  constructor(content, parent) {
    Object.assign(this, content);
    const figure = document.createElement("figure"), caption = document.createElement("figcaption"), plot = document.createElement("div");
    caption.textContent = this.title;
    for (const text of [this.unit, this.note]) if (text) {
      const span = document.createElement("span");
      span.textContent = text;
      caption.append(span);
    }
    plot.className = "plot";
    this.svg = make("svg", { role: "img", "aria-label": this.title });
    this.legend = document.createElement("ul");
    this.legend.className = "legend";
    plot.append(this.svg, this.legend);
    figure.append(caption, plot);
    parent.append(figure);
    for (const series of this.series) this.addLegend(series);
    this.rows.forEach((row, i) => this.addLane(row, i));
    this.pile();
    this.listen();
  }

  addLegend(series) {
    const item = document.createElement("li"), key = make("svg", { viewBox: "0 0 24 12" }), name = document.createElement("span");
    if (series.style === "area") make("rect", { x: 4, y: 1, width: 14, height: 10, rx: 2, fill: colour(series) }, key);
    else if (series.style === "dots") make("circle", { cx: 11, cy: 6, r: 3, fill: colour(series) }, key);
    else make("path", { d: "M1 6H23", fill: "none", stroke: colour(series), "stroke-width": 2.2, ...(series.style === "dashed" ? { "stroke-dasharray": "6 3" } : {}) }, key);
    name.textContent = series.name;
    series.value = document.createElement("b");
    item.append(key, name, series.value);
    item.title = "click: hide or show";
    item.onclick = () => { series.hidden = item.classList.toggle("off"); this.pile(); this.draw(); };
    this.legend.append(item);
  }

  addLane(row, i) {
    const item = document.createElement("li"), name = document.createElement("span"), key = make("svg", { viewBox: "0 0 24 12" });
    make("rect", { x: 4, y: 1, width: 14, height: 10, rx: 2, fill: `var(--c${i % 8})` }, key);
    name.textContent = row.name;
    row.value = document.createElement("b");
    item.append(key, name, row.value);
    item.style.height = `${(this.height - TOP - BOTTOM) / this.rows.length}px`;
    this.legend.classList.add("lanes");
    this.legend.append(item);
  }

  // Areas lie on those before them: costs above zero, rewards (negative costs) below it.
  pile() {
    const above = [], below = [];
    for (const series of this.series) if (series.style === "area" && !series.hidden) {
      const piles = series.v.map(value => value < 0 ? below : above);
      series.floor = series.v.map((_, i) => piles[i][i] || 0);
      series.top = series.v.map((value, i) => series.floor[i] + (value || 0));
      series.top.forEach((top, i) => { piles[i][i] = top; });
    }
  }

  x(time) { return LEFT + (time - view[0]) / (view[1] - view[0]) * (this.width - LEFT - RIGHT); }
  time(event) {
    const box = this.svg.getBoundingClientRect(), at = (event.clientX - box.left) * this.width / box.width;
    return Math.min(Math.max(view[0] + (at - LEFT) / (this.width - LEFT - RIGHT) * (view[1] - view[0]), view[0]), view[1]);
  }

  range() {
    let low = this.zero ? 0 : Infinity, high = this.zero ? 0 : -Infinity;
    for (const series of this.series) if (!series.hidden) {
      const begin = Math.max(after(series.t, view[0]) - 1, 0), end = Math.min(after(series.t, view[1]) + 1, series.t.length);
      for (const column of [series.top || series.v, series.low, series.high]) if (column) for (let i = begin; i < end; i++) {
        const value = column[i];
        if (value != null) { if (value < low) low = value; if (value > high) high = value; }
      }
    }
    if (!(high > low)) { const middle = isFinite(high) ? high : 0; return this.zero ? [0, middle > 0 ? 1.25 * middle : 1] : [middle - 1, middle + 1]; }
    const room = 0.06 * (high - low);
    return [this.zero && low >= 0 ? 0 : low - room, high + room];
  }

  draw() {
    const svg = this.svg, height = this.height;
    this.width = Math.max(svg.parentNode.clientWidth ? svg.getBoundingClientRect().width : 0, 260);
    svg.setAttribute("viewBox", `0 0 ${this.width} ${height}`);
    svg.style.height = `${height}px`;
    svg.replaceChildren();
    const right = this.width - RIGHT, bottom = height - BOTTOM;
    for (const tick of ticks(view[0], view[1], Math.max(this.width / 110, 3))) {
      make("path", { class: "grid", d: `M${this.x(tick).toFixed(1)} ${TOP}V${bottom}` }, svg);
      make("text", { x: this.x(tick).toFixed(1), y: height - 5, "text-anchor": "middle" }, svg).textContent = `${shown(tick)}${tick === 0 ? " s" : ""}`;
    }
    const clip = `clip${panels.indexOf(this)}`;
    make("rect", { x: LEFT, y: TOP, width: right - LEFT, height: bottom - TOP }, make("clipPath", { id: clip }, svg));
    const inside = make("g", { "clip-path": `url(#${clip})` }, svg);
    if (this.rows.length) this.drawRows(inside, bottom);
    else this.drawSeries(inside, svg, right, bottom);
    for (const [begin, end] of data.fallen)
      make("title", {}, make("rect", { class: "fallen", x: this.x(begin), y: TOP, width: Math.max(this.x(end) - this.x(begin), 1), height: bottom - TOP }, inside)).textContent = "fallen";
    this.chosen = make("rect", { class: "chosen", y: TOP, height: bottom - TOP }, svg);
    this.cursor = make("path", { class: "cursor", d: `M0 ${TOP}V${bottom}` }, svg);
  }

  drawRows(inside, bottom) {
    const each = (bottom - TOP) / this.rows.length;
    this.rows.forEach((row, i) => {
      const y = TOP + i * each;
      make("path", { class: "grid", d: `M${LEFT} ${y + each}H${this.width}` }, inside);
      for (const [begin, end] of row.spans) if (end >= view[0] && begin <= view[1])
        make("rect", { x: this.x(begin).toFixed(1), y: y + 3, width: Math.max(this.x(end) - this.x(begin), 0.8).toFixed(1), height: each - 6, rx: 2, fill: `var(--c${i % 8})` }, inside);
    });
  }

  drawSeries(inside, svg, right, bottom) {
    const [low, high] = this.range(), y = value => bottom - (value - low) / (high - low) * (bottom - TOP);
    for (const tick of ticks(low, high, Math.max((bottom - TOP) / 36, 2))) {
      make("path", { class: tick === 0 && low < 0 ? "zero" : "grid", d: `M${LEFT} ${y(tick).toFixed(1)}H${right}` }, svg.insertBefore(make("g", {}), inside));
      make("text", { x: LEFT - 7, y: (y(tick) + 4).toFixed(1), "text-anchor": "end" }, svg).textContent = shown(tick);
    }
    for (const series of this.series) if (!series.hidden && series.t.length) {
      const begin = Math.max(after(series.t, view[0]) - 2, 0), end = Math.min(after(series.t, view[1]) + 2, series.t.length);
      const at = (column, i) => `${this.x(series.t[i]).toFixed(1)} ${y(column[i]).toFixed(1)}`;
      const polygon = (over, under) => {
        const out = [], home = [];
        for (let i = begin; i < end; i++) if (over[i] != null && under[i] != null) { out.push(at(over, i)); home.unshift(at(under, i)); }
        return out.length ? `M${out.join("L")}L${home.join("L")}Z` : "";
      };
      if (series.low) make("path", { d: polygon(series.high, series.low), fill: colour(series), opacity: 0.2 }, inside);
      if (series.style === "area") { make("path", { d: polygon(series.top, series.floor), fill: colour(series), opacity: 0.88 }, inside); continue; }
      if (series.style === "dots") {
        for (let i = begin; i < end; i++) make("circle", { cx: this.x(series.t[i]).toFixed(1), cy: y(series.v[i]).toFixed(1), r: 2.6, fill: colour(series) }, inside);
        continue;
      }
      const steps = series.style !== "line", dense = end - begin > 2 * (right - LEFT);
      let path = "", pen = false;
      for (let i = begin; i < end; i++) {
        if (series.v[i] == null) { pen = false; continue; }
        path += !pen ? `M${at(series.v, i)}` : steps ? `H${this.x(series.t[i]).toFixed(1)}V${y(series.v[i]).toFixed(1)}` : `L${at(series.v, i)}`;
        pen = true;
      }
      make("path", { d: path, fill: "none", stroke: colour(series), "stroke-width": dense ? 0.7 : steps ? 1.7 : 1.35, opacity: dense ? 0.6 : 1, "stroke-linejoin": "round", ...(series.style === "dashed" ? { "stroke-dasharray": "6 4" } : {}) }, inside);
    }
  }

  point(time) {
    this.cursor.style.visibility = time == null ? "hidden" : "visible";
    if (time != null) this.cursor.setAttribute("transform", `translate(${this.x(time).toFixed(1)} 0)`);
    for (const series of this.series) {
      let i = time == null ? -1 : after(series.t, time) - 1;
      if (series.style === "line" && i >= 0 && i + 1 < series.t.length && series.t[i + 1] - time < time - series.t[i]) i++;
      series.value.textContent = i < 0 || series.style === "dots" ? "" : shown(series.v[i]);
    }
    for (const row of this.rows) row.value.textContent = time != null && row.spans.some(([begin, end]) => begin <= time && time < end) ? "●" : "";
  }

  choose(from, to) {
    this.chosen.style.visibility = from == null ? "hidden" : "visible";
    if (from == null) return;
    const [a, b] = [this.x(Math.min(from, to)), this.x(Math.max(from, to))];
    this.chosen.setAttribute("x", a);
    this.chosen.setAttribute("width", b - a);
  }

  listen() {
    let from = null, place = 0;
    this.svg.onpointerdown = event => { if (event.button === 0) { from = this.time(event); place = event.clientX; this.svg.setPointerCapture(event.pointerId); } };
    this.svg.onpointermove = event => {
      const time = this.time(event);
      point(time);
      if (from != null && Math.abs(event.clientX - place) > 4) panels.forEach(panel => panel.choose(from, time));
    };
    this.svg.onpointerup = event => {
      if (from == null) return;
      const to = this.time(event), dragged = Math.abs(event.clientX - place) > 4;
      panels.forEach(panel => panel.choose(null));
      if (dragged) zoom(Math.min(from, to), Math.max(from, to));
      else if (film) { film.pause(); film.currentTime = Math.max(to - data.film, 0); }
      from = null;
    };
    this.svg.onpointercancel = () => { from = null; panels.forEach(panel => panel.choose(null)); };
    this.svg.onpointerleave = () => { if (from == null) point(null); };
    this.svg.ondblclick = () => zoom(...whole);
  }
}

function point(time) {
  clock.textContent = time == null ? "" : `t = ${time.toFixed(2)} s`;
  panels.forEach(panel => panel.point(time));
}
function zoom(begin, end) {
  if (end - begin < 1e-6 * (whole[1] - whole[0])) return;
  view = [begin, end];
  back.hidden = begin <= whole[0] && end >= whole[1];
  panels.forEach(panel => panel.draw());
}

const panels = [];
for (const content of data.panels) panels.push(new Panel(content, document.getElementById("panels")));
const redraw = () => panels.forEach(panel => panel.draw());
redraw();
new ResizeObserver(redraw).observe(document.getElementById("panels"));
window.addEventListener("beforeprint", redraw);
back.onclick = () => zoom(...whole);
window.addEventListener("keydown", event => { if (event.key === "Escape") zoom(...whole); });
if (film) {
  const follow = () => { if (!film.paused) { point(Math.min(film.currentTime + data.film, whole[1])); requestAnimationFrame(follow); } };
  film.onplay = follow;
}
