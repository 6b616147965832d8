// Charts over uPlot: drawn in the colours of the theme, drawn again when it changes, with a table
// behind for who does not see them.

import uPlot from "../vendor/uplot.js";
import { fill, h, table } from "./dom.js";
import { clock } from "./format.js";

const SHOWN = new Set();
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = (place) => `var(--chart-${Math.min(place, 7) + 1})`;
const ink = (place) => css(`--chart-${Math.min(place, 7) + 1}`);
const FONT = "12px system-ui, -apple-system, \"Segoe UI\", Roboto, \"Noto Sans\", sans-serif";

export function redrawAll() { for (const each of SHOWN) each.rebuild(); }
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawAll);

const follow = new ResizeObserver((entries) => {
  for (const entry of entries) entry.target.chart?.fit();
});

class Chart {
  constructor(host, options) {
    this.host = host;
    this.options = options;
    host.chart = this;
    SHOWN.add(this);
    follow.observe(host);
  }
  size() { return { width: Math.max(80, this.host.clientWidth), height: Math.max(40, this.host.clientHeight) }; }
  fit() { if (!this.host.isConnected) { this.drop(); return; } if (this.plot) this.plot.setSize(this.size()); else if (this.data) this.rebuild(); }
  set(data) {
    this.data = data;
    if (this.plot && this.plot.series.length === data.length) this.plot.setData(data); else this.rebuild();
  }
  rebuild() {
    if (!this.data || !this.host.isConnected || !this.host.clientWidth) return;
    this.plot?.destroy();
    this.plot = new uPlot({ ...this.options(this), ...this.size() }, this.data, this.host);
  }
  drop() { SHOWN.delete(this); follow.unobserve(this.host); this.plot?.destroy(); this.plot = null; }
}

const fade = (paint) => (plot) => {
  const { top, height } = plot.bbox;
  const gradient = plot.ctx.createLinearGradient(0, top, 0, top + height);
  gradient.addColorStop(0, `${paint}48`);
  gradient.addColorStop(1, `${paint}06`);
  return gradient;
};

const axis = (more) => ({ stroke: css("--muted"), font: FONT, grid: { stroke: css("--grid"), width: 1 }, ticks: { show: false }, ...more });

// A line over the last ten minutes, without axes but for a floor; the number stands above it.
export function spark(host, { place = 0, text, label, floor = 0 }) {
  const said = h("span", { class: "unseen" });
  const tip = h("div", { class: "tip", hidden: true });
  host.setAttribute("role", "img");
  host.setAttribute("aria-label", label);
  host.classList.add("chart-box");
  host.append(tip, said);
  return new Chart(host, () => ({
    padding: [6, 0, 0, 0], legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: { x: { time: true }, y: { range: (_, low, high) => [0, Math.max(high ?? 0, floor) * 1.12 || 1] } },
    axes: [{ show: false }, { show: false }],
    series: [{}, { stroke: ink(place), width: 1.6, fill: fade(ink(place)), points: { show: false }, spanGaps: false }],
    hooks: { setCursor: [(plot) => {
      const at = plot.cursor.idx;
      const value = at === null || at === undefined ? null : plot.data[1][at];
      tip.hidden = value === null || value === undefined || plot.cursor.left < 0;
      if (tip.hidden) return;
      fill(tip, h("b", {}, clock(new Date(plot.data[0][at] * 1000))), text(value));
      tip.style.setProperty("left", `${Math.min(Math.max(4, plot.cursor.left - 40), host.clientWidth - 110)}px`);
    }] },
  }));
}

// Bars on top of each other, or lines beside each other, over time. groups: [{name, values}].
export function overTime(host, { starts, groups, interval, text, axisText, atText, kind, label, onPick }) {
  const stacked = kind === "bars";
  const tip = h("div", { class: "tip", hidden: true });
  host.classList.add("chart-box");
  host.setAttribute("role", "img");
  host.setAttribute("aria-label", label);
  host.append(tip);
  let shown = groups.map((group) => group.values);
  if (stacked) {
    const sums = starts.map(() => 0);
    shown = groups.map((group) => group.values.map((value, at) => (sums[at] += value ?? 0)));
  }
  // what is on top is drawn first, so that each bar covers the one that it stands before
  const order = groups.map((_, place) => place);
  if (stacked) order.reverse();
  const chart = new Chart(host, () => ({
    padding: [12, 10, 0, 0], legend: { show: false },
    cursor: { y: false, points: { show: !stacked, size: 7 }, drag: { x: false, y: false } },
    scales: { x: { time: true, range: (_, low, high) => [low - interval * .6, high + interval * .6] },
      y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
    axes: [axis({ space: 72, size: 34, values: (_, ticks) => ticks.map(atText) }), axis({ size: 58, space: 34, values: (_, ticks) => ticks.map(axisText) })],
    series: [{}, ...order.map((place) => stacked
      ? { stroke: ink(place), fill: ink(place), width: 0, paths: uPlot.paths.bars({ size: [.74, 46], radius: place === groups.length - 1 ? .06 : 0 }), points: { show: false } }
      : { stroke: ink(place), width: 1.8, points: { show: starts.length < 40, size: 5, fill: ink(place) }, spanGaps: true })],
    hooks: {
      setCursor: [(plot) => {
        const at = plot.cursor.idx;
        tip.hidden = at === null || at === undefined || plot.cursor.left < 0;
        if (tip.hidden) return;
        fill(tip, h("b", {}, starts.text(at)), groups.map((group, place) => group.values[at] === null || group.values[at] === undefined ? null
          : h("div", {}, h("span", {}, h("i", { class: "swatch", colour: colour(place) }), group.name), h("span", {}, text(group.values[at])))));
        const left = plot.cursor.left + 74;
        tip.style.setProperty("left", `${left > host.clientWidth - 220 ? Math.max(4, left - 240) : left}px`);
      }],
      ready: [(plot) => { if (onPick) plot.over.addEventListener("click", () => { if (plot.cursor.idx !== null) onPick(plot.cursor.idx); }); }],
    },
  }));
  chart.set([starts, ...order.map((place) => shown[place])]);
  return chart;
}

export function legend(groups) {
  return h("div", { class: "legend", "aria-hidden": "true" }, groups.map((group, place) =>
    h("span", {}, h("i", { class: "swatch", colour: colour(place) }), group.name)));
}

export function behind(caption, starts, groups, text) {
  const columns = [{ label: "From", cell: (at) => starts.text(at) },
    ...groups.map((group) => ({ label: group.name, num: true, cell: (at) => group.values[at] === null || group.values[at] === undefined ? "–" : text(group.values[at]) }))];
  const details = h("details", { class: "behind" }, h("summary", {}, "The same as a table"));
  details.addEventListener("toggle", () => { if (details.open && details.childElementCount === 1) details.append(table(caption, columns, starts.map((_, at) => at))); });
  return details;
}
