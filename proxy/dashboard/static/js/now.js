// The screen that is left open: the last ten minutes, who is near a cap, what was stepped down.

import { spark } from "./charts.js";
import { card, empty, fill, h, put, unseen, waiting } from "./dom.js";
import { ago, count, moment, ms, percent, short, shortUsd, title, usd, words } from "./format.js";

const KEPT = 600;
const TILES = [
  { name: "tokens_per_s", label: "Tokens per second", unit: "/s", place: 0, floor: 10, text: (value) => `${short(value)} tokens/s`, big: short },
  { name: "spend", label: "Spend per minute", unit: "/min", place: 2, floor: 0.0001, text: (value) => `${shortUsd(value)} per minute`, big: shortUsd },
  { name: "requests_per_s", label: "Requests per second", unit: "/s", place: 1, floor: 1, text: (value) => `${short(value)} requests/s`, big: short },
  { name: "in_flight", label: "In flight", unit: "open", place: 4, floor: 4, text: (value) => `${count(value)} open`, big: count },
];

export function show({ host, live }) {
  const tiles = TILES.map((tile) => {
    const value = h("span", {}, "–");
    const small = h("small", {}, tile.unit);
    const chart = h("div", { class: "chart" });
    const peak = h("span", { class: "peak", title: "Highest of the last ten minutes" });
    return { ...tile, value, small, peak, chart, node: h("section", { class: "card tile" }, h("div", { class: "tile-head" }, h("h2", { class: "label" }, tile.label), peak), h("div", { class: "value" }, value, small), chart) };
  });
  const parts = Object.fromEntries(["caps", "models", "steps", "alerts", "ups"].map((name) => [name, h("div", {}, waiting())]));
  const asides = Object.fromEntries(["caps", "models", "steps", "alerts", "ups"].map((name) => [name, h("span")]));
  const part = (name, text, cls, flush) => card(text, { aside: asides[name], body: parts[name], cls, flush });
  put(host, h("h1", { class: "unseen" }, "Now"), h("div", { class: "tiles" }, tiles.map((tile) => tile.node)),
    h("div", { class: "now" },
      h("div", { class: "now-left" }, part("caps", "Nearest to their caps", "caps"),
        part("steps", "Stepped down", "steps", true), part("alerts", "Alerts", "alerts", true)),
      h("div", { class: "now-right" }, part("models", "Models, last minute", "models"), part("ups", "Upstreams, last hour", "ups", true))));
  const charts = tiles.map((tile) => spark(tile.chart, { place: tile.place, floor: tile.floor, text: tile.text, label: `${tile.label}, the last ten minutes` }));
  const data = { at: [], tokens_per_s: [], spend: [], requests_per_s: [], in_flight: [] };

  const draw = () => TILES.forEach(({ name, big }, at) => {
    charts[at].set([data.at, data[name]]);
    const peak = data[name].reduce((most, value) => Math.max(most, value ?? 0), 0);
    tiles[at].peak.textContent = peak ? `peak ${big(peak)}` : "";
  });
  const stops = [
    live.on("history", (body) => {
      data.at = [...body.at_s];
      for (const name of ["tokens_per_s", "requests_per_s", "in_flight"]) data[name] = [...body[name]];
      data.spend = body.spend_nano_per_min.map((nano) => nano / 1e9);
      draw();
    }),
    live.on("tick", (tick) => {
      const second = Math.floor(tick.at_ms / 1000);
      const values = { ...tick, spend: tick.spend_nano_per_min / 1e9 };
      tiles.forEach((tile) => { tile.value.textContent = tile.big(values[tile.name]); });
      tiles[2].small.textContent = tick.errors_per_min ? `/s · ${count(tick.errors_per_min)} failed/min` : "/s";
      const last = data.at.at(-1) ?? 0;
      if (second > last) {
        data.at.push(second);
        TILES.forEach(({ name }) => data[name].push(values[name]));
        while (data.at.length > KEPT) { data.at.shift(); TILES.forEach(({ name }) => data[name].shift()); }
        draw();
      }
      models(parts.models, asides.models, tick);
    }),
    live.on("caps", (body) => caps(parts.caps, asides.caps, body)),
    live.on("degradation", (body) => steps(parts.steps, asides.steps, body)),
    live.on("alert", (body) => alerts(parts.alerts, body)),
    live.on("upstreams", (body) => upstreams(parts.ups, asides.ups, body)),
  ];
  return { close: () => { stops.forEach((stop) => stop()); charts.forEach((chart) => chart.drop()); } };
}

const barShare = (part, whole) => whole > 0 ? Math.min(100, (part / whole) * 100) : 100;

// Rows are kept by their name, so that a bar moves and does not blink, and the focus stays.
function keyed(host, rows, key, make, update) {
  let list = host.firstElementChild;
  if (!list?.keyed) { list = h("ul", { class: "bars" }); list.keyed = new Map(); fill(host, list); }
  const before = list.keyed;
  const wanted = rows.map((row) => {
    const found = before.get(key(row)) ?? make(row);
    update(found, row);
    return [key(row), found];
  });
  list.keyed = new Map(wanted);
  const nodes = wanted.map(([, found]) => found.node);
  if (nodes.some((node, at) => list.children[at] !== node) || list.children.length !== nodes.length) list.replaceChildren(...nodes);
}

function caps(host, aside, body) {
  aside.textContent = body.known < body.total ? `${count(body.known)} of ${count(body.total)} tenants seen yet`
    : `${count(body.near)} of ${count(body.total)} at 80 % or more`;
  if (!body.tenants.length) { fill(host, empty("No tenant has a cap on money", "Caps are set with limits.tenant.daily_cap.")); return; }
  keyed(host, body.tenants, (row) => row.tenant, (row) => {
    const made = { left: h("b"), of: h("span"), spent: h("i"), held: h("i", { class: "held" }), told: unseen("") };
    made.bar = h("div", { class: "bar" }, made.spent, made.held);
    made.node = h("li", { class: "bar-row" }, h("a", { class: "name", href: `#/tenants/${encodeURIComponent(row.tenant)}`, title: row.name }, row.tenant),
      h("span", { class: "figures" }, made.left, made.of), made.bar, made.told);
    return made;
  }, (made, row) => {
    made.left.textContent = usd(row.remaining_usd, 2);
    made.of.textContent = ` left of ${usd(row.cap_usd, 2)} · ${percent(row.share, 0)}`;
    made.spent.style.setProperty("width", `${barShare(row.spent_nano, row.cap_nano)}%`);
    made.held.style.setProperty("width", `${barShare(row.held_nano, row.cap_nano)}%`);
    made.bar.className = row.share >= 1 ? "bar bad" : row.share >= 0.8 ? "bar warn" : "bar";
    made.bar.title = `${usd(row.spent_usd)} spent, ${usd(row.held_usd)} held, ${words(row.window)}`;
    made.told.textContent = made.bar.title;
  });
}

function models(host, aside, tick) {
  aside.textContent = `${count(tick.requests_per_min)} requests`;
  if (!tick.models.length) { fill(host, empty("Nothing was served in the last minute", "Send a request, and it shows here when it ends.")); return; }
  const most = Math.max(...tick.models.map((row) => row.spend_nano_per_min), 1);
  keyed(host, tick.models, (row) => row.model, (row) => {
    const made = { spend: h("b"), rate: h("span"), bar: h("i") };
    made.node = h("li", { class: "bar-row" }, h("a", { class: "name", href: `#/history?model=${encodeURIComponent(row.model)}` }, row.model || "unnamed"),
      h("span", { class: "figures" }, made.spend, made.rate), h("div", { class: "bar" }, made.bar));
    return made;
  }, (made, row) => {
    made.spend.textContent = shortUsd(row.spend_nano_per_min / 1e9);
    made.rate.textContent = `/min · ${count(row.tokens_per_s)} tok/s`;
    made.bar.style.setProperty("width", `${barShare(row.spend_nano_per_min, most)}%`);
  });
}

function steps(host, aside, body) {
  aside.textContent = body.total ? `${count(body.total)} in 10 minutes` : "the last 10 minutes";
  if (!body.degradations.length) { fill(host, empty("Everybody is served what they asked for", "Requests that a cap moves to a cheaper model show here.")); return; }
  fill(host, h("ul", { class: "feed" }, body.degradations.slice(0, 7).map((row) => h("li", {},
    h("span", { class: "what" }, row.model_requested, h("span", { class: "arrow", "aria-label": "became" }, "→"), h("b", {}, row.model)),
    h("time", { datetime: row.at }, ago(row.at)),
    h("span", { class: "sub" }, h("a", { href: `#/tenants/${encodeURIComponent(row.tenant)}` }, row.tenant), ` · ${count(row.count)} ${row.count === 1 ? "request" : "requests"}${row.step === row.model ? "" : ` · ${row.step}`}`)))));
}

const CALM = new Set(["prices_published", "recovered", "crossing_over"]);
function alerts(host, body) {
  if (!body.alerts.length) { fill(host, empty("No alerts", "Crossed marks, drift, dead letters and failed jobs show here.")); return; }
  fill(host, h("ul", { class: "feed" }, body.alerts.slice(0, 7).map((row) => h("li", {},
    h("span", { class: "what" }, h("i", { class: `dot ${CALM.has(row.kind) ? "" : "warn"}` }), title(row.kind)),
    h("time", { datetime: row.at, title: moment(row.at) }, ago(row.at)),
    h("span", { class: "sub" }, about(row))))));
}

const HIDDEN = new Set(["at", "at_ms", "schema"]);
function about(row) {
  const facts = Object.entries(row.about).filter(([name]) => !HIDDEN.has(name)).slice(0, 5);
  if (!facts.length) return row.key;
  return facts.map(([name, value]) => name.endsWith("_nano") ? `${words(name.slice(0, -5))} ${usd(value)}`
    : name.endsWith("_ppm") ? `${words(name.slice(0, -4))} ${percent(value / 1e6)}`
    : name === "tenant" ? String(value) : `${words(name)} ${value}`).join(" · ");
}

const HEALTH = { closed: ["good", "well"], half_open: ["warn", "on trial"], open: ["bad", "passed over"], unavailable: ["", "not set up"] };
function upstreams(host, aside, body) {
  aside.textContent = body.processes ? `seen by ${count(body.processes)} ${body.processes === 1 ? "process" : "processes"}` : "no proxy runs";
  const used = body.upstreams.filter((row) => row.attempts || !["closed", "unavailable"].includes(row.state));
  if (!used.length) { fill(host, empty("No upstream was asked within the hour", `${count(body.total)} are configured.`)); return; }
  fill(host, h("ul", { class: "feed" }, used.slice(0, 8).map((row) => {
    const [tone, text] = row.state === "closed" && row.success_ratio !== null && row.success_ratio < 0.9 ? ["warn", "failing"] : HEALTH[row.state] ?? ["", row.state];
    return h("li", {}, h("span", { class: "what" }, h("i", { class: `dot ${tone}` }), row.upstream, unseen(` ${text}`)),
      h("span", { class: "right" }, row.success_ratio === null ? "–" : percent(row.success_ratio)),
      h("span", { class: "sub" }, [text, row.latency_ms?.p50 == null ? null : `p50 ${ms(row.latency_ms.p50)}`, `${count(row.attempts)} asked`, row.rate_limited ? `${count(row.rate_limited)} × 429` : null].filter(Boolean).join(" · ")));
  })));
}
