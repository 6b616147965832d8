// The requests themselves, newest first, by the same filters as history.

import { get } from "./api.js";
import { card, empty, failed, fill, h, put, table, waiting } from "./dom.js";
import { changed, chips, chosen, rangePicker, span } from "./filters.js";
import { amount, count, moment, ms, usd } from "./format.js";

export const TONE = { success: "good", error: "bad", truncated: "warn", stopped: "warn", cancelled: "" };
export const status = (name) => h("span", { class: `tag ${TONE[name] ?? ""}` }, name ?? "–");

// What was asked for, what that became by a step or a fallback, and below it whose model answered.
function model(row) {
  const served = row.model_public || row.model_requested;
  return [served === row.model_requested ? served : `${row.model_requested} → ${served}`,
    row.model && row.model !== served ? h("div", { class: "muted" }, row.model) : null];
}

export function show({ host, params, go: goTo, may }) {
  const go = (search) => goTo(`#/exchanges?${search}`);
  const stop = new AbortController();
  const reach = span(params);
  const list = h("div", {}, waiting());
  const byId = h("input", { "aria-label": "Exchange or request id", placeholder: "Exchange or request id …", spellcheck: "false", autocomplete: "off" });
  put(host,
    h("div", { class: "screen-head" }, h("h1", {}, "Exchanges"), rangePicker(params, go), h("span", { class: "grow" }),
      h("form", { onSubmit: (event) => { event.preventDefault(); const id = byId.value.trim();
        if (id.startsWith("req_")) go(changed(params, { request: id, range: "90d" })); else if (id) goTo(`#/exchanges/${encodeURIComponent(id)}`); } }, byId),
      h("a", { class: "button", href: `#/history?${params}` }, "History")),
    h("div", { class: "tools" }, chips(params, go)),
    card(null, { body: list, flush: true }));
  const base = { from: reach.from, to: reach.to, ...chosen(params), request: params.get("request"), limit: 50 };
  const pages = [null];
  const load = async (at) => {
    try {
      const page = await get("exchanges", { ...base, cursor: pages[at] }, stop.signal);
      pages[at + 1] = page.next_cursor;
      draw(list, page, { at, load, may });
    } catch (error) { if (!stop.signal.aborted) fill(list, failed(error, () => load(at))); }
  };
  load(0);
  return { close: () => stop.abort() };
}

function draw(host, page, { at, load, may }) {
  if (!page.data.length && at === 0) { fill(host, empty("No exchange fits", "Choose a longer range, or fewer filters.", false)); return; }
  const columns = [
    { label: "At", cls: "when", cell: (row) => h("a", { href: `#/exchanges/${encodeURIComponent(row.exchange_id)}` }, moment(row.at)) },
    { label: "Tenant", cls: "name", cell: (row) => row.tenant },
    { label: "Model", cls: "name", cell: model },
    { label: "Status", cls: "state-cell", cell: (row) => [status(row.status), row.cache === "hit" ? [" ", h("span", { class: "tag good" }, "cache")] : null, row.degrade_step ? [" ", h("span", { class: "tag warn" }, "stepped down")] : null] },
    { label: "Tokens", num: true, cell: (row) => count(row.tokens?.total ?? row.tokens) },
    { label: "Spend", num: true, cell: (row) => usd(amount(row, "sell")) },
    ...(may("billing") ? [{ label: "Cost", num: true, cell: (row) => usd(amount(row, "cost")) }] : []),
    { label: "First token", num: true, cell: (row) => ms(row.ttft_ms) },
    { label: "Latency", num: true, cell: (row) => ms(row.latency_ms) },
    { label: "Tries", num: true, cell: (row) => count(row.attempts) },
  ];
  fill(host, table("Exchanges", columns, page.data, { cls: "dense", onOpen: (row) => { location.hash = `#/exchanges/${encodeURIComponent(row.exchange_id)}`; } }),
    h("div", { class: "pager" }, `Page ${at + 1}`, h("span", { class: "grow" }),
      h("button", { class: "button small", type: "button", disabled: at === 0, onClick: () => load(at - 1) }, "Newer"),
      h("button", { class: "button small", type: "button", disabled: !page.next_cursor, onClick: () => load(at + 1) }, "Older")));
}
