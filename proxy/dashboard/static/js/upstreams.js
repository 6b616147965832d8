// How each upstream does, as all proxies saw it within the hour.

import { get } from "./api.js";
import { card, empty, failed, fill, h, put, table, waiting } from "./dom.js";
import { ago, count, moment, ms, percent, usd } from "./format.js";

const STATE = { closed: ["good", "well"], half_open: ["warn", "on trial"], open: ["bad", "passed over"], unavailable: ["", "not set up"] };

export function show({ host, live, may }) {
  const stop = new AbortController();
  const list = h("div", {}, waiting());
  const aside = h("span", { class: "muted" });
  const search = h("input", { type: "search", placeholder: "Find an upstream …", "aria-label": "Find an upstream", "data-search": "", onInput: () => draw() });
  put(host, h("div", { class: "screen-head" }, h("h1", {}, "Upstreams"), aside, h("span", { class: "grow" }), h("div", {}, search)), card(null, { body: list, flush: true }));
  let rows = null;
  const draw = () => { if (rows) fill(list, shown(rows, search.value.trim().toLowerCase(), may)); };
  const load = async () => {
    try {
      const body = await get("upstreams", {}, stop.signal);
      rows = body.data;
      aside.textContent = body.processes === undefined ? "the last hour" : `the last hour, as ${count(body.processes)} ${body.processes === 1 ? "process" : "processes"} saw it`;
      draw();
    } catch (error) { if (!stop.signal.aborted && !rows) fill(list, failed(error, load)); }
  };
  load();
  const off = live.on("upstreams", () => { if (rows) load(); });
  return { close: () => { stop.abort(); off(); } };
}

function shown(rows, wanted, may) {
  const found = rows.filter((row) => !wanted || `${row.upstream} ${(row.models ?? []).join(" ")} ${row.provider}`.toLowerCase().includes(wanted));
  if (!found.length) return empty("No upstream fits", "Upstreams are configured under models and providers.");
  const state = (row) => {
    const [tone, text] = STATE[row.state] ?? ["", row.state];
    return [h("i", { class: `dot ${tone}` }), text, row.until ? h("span", { class: "muted" }, ` until ${moment(row.until).slice(11)}`) : null];
  };
  return table("Upstreams", [
    { label: "Upstream", cls: "name", cell: (row) => [h("b", {}, row.upstream), (row.vendor ?? row.provider) === row.upstream.split("/")[0] ? null : h("div", { class: "muted" }, row.vendor ?? row.provider)] },
    { label: "State", cls: "state-cell", cell: state },
    { label: "Success", num: true, cell: (row) => percent(row.success_ratio) },
    { label: "Asked", num: true, cell: (row) => count(row.attempts) },
    { label: "429", num: true, cell: (row) => count(row.rate_limited) },
    { label: "In flight", num: true, cell: (row) => count(row.in_flight) },
    { label: "p50 / p95", num: true, cell: (row) => row.latency_ms?.p50 == null ? "–" : `${ms(row.latency_ms.p50)} / ${ms(row.latency_ms.p95)}` },
    { label: "First event", num: true, cell: (row) => ms(row.first_event_ms?.p50) },
    { label: "Tokens/s", num: true, cell: (row) => count(row.tokens_per_s?.p50) },
    ...(may("billing") ? [{ label: "Cost of 1,000", num: true, cell: (row) => row.cost_usd_per_1000 ? usd(row.cost_usd_per_1000) : "–" }] : []),
    { label: "Last failure", cls: "fold", cell: (row) => row.last_failure ? `${row.last_failure.outcome}, ${ago(row.last_failure.at)} ago` : row.why ?? "–" },
  ], found, { cls: "dense" });
}
