// One exchange with everything that is known of it, and where its money comes from.

import { get, segment } from "./api.js";
import { card, failed, fill, h, put, table, waiting } from "./dom.js";
import { status } from "./exchanges.js";
import { amount, count, exact, moment, ms, usd, words } from "./format.js";

export function show({ host, id, may }) {
  const stop = new AbortController();
  const body = h("div", { class: "stack" }, waiting());
  put(host, h("div", { class: "crumbs" }, h("a", { href: "#/exchanges" }, "Exchanges"), "/", h("span", { class: "mono" }, id)),
    h("div", { class: "screen-head" }, h("h1", {}, "Exchange")), body);
  const load = async () => {
    try { draw(body, await get(`exchanges/${segment(id)}`, {}, stop.signal), may); } catch (error) { if (!stop.signal.aborted) fill(body, failed(error, load)); }
  };
  load();
  return { close: () => stop.abort() };
}

const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "").map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
const link = (screen, name, value) => value ? h("a", { href: `#/${screen}?${name}=${encodeURIComponent(value)}&range=30d` }, value) : null;

function draw(host, found, may) {
  const events = found.events ?? [];
  const last = events.at(-1) ?? {};
  const pick = (name) => found[name] ?? last[name] ?? last.event?.[name];
  const stepped = pick("degrade_step");
  fill(host,
    h("dl", { class: "card sums" }, [["Paid by the tenant", usd(amount(found, "sell"))], ...(may("billing") && amount(found, "cost") !== null ? [["Our cost", usd(amount(found, "cost"))]] : []),
      ["Tokens", count(found.tokens?.total ?? found.tokens)], ["Latency", ms(pick("latency_ms"))], ["First token", ms(pick("ttft_ms"))], ["Status", status(pick("status"))]].map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
    h("div", { class: "two" },
      card("What was asked", { body: facts([["At", moment(found.at)], ["Tenant", link("history", "tenant", pick("tenant"))], ["Project", link("history", "project", pick("project"))],
        ["Key", link("history", "key", pick("key"))], ["Feature", link("history", "feature", pick("feature"))], ["User", link("history", "user", pick("user"))], ["Session", link("history", "session", pick("session"))],
        ["Model", pick("model_requested")], ["Request id", h("code", {}, pick("request_id") ?? "")]]) }),
      card("What was served", { body: facts([["Model", last.event?.model_public || found.model], ["Upstream", [found.provider, found.model].filter(Boolean).join(" / ")], ["Answered as", pick("model_answered")], ["Stepped down", stepped ? words(stepped) : null],
        ["Fallback", pick("fallback_reason")], ["HTTP", pick("http_status")], ["Ended with", pick("finish_reason")], ["Cache", found.cache], ["Counted by", words(pick("usage_source"))], ["Exchange id", h("code", {}, found.exchange_id ?? "")]]) })),
    events.map((event, at) => money(event, at, events.length, may)),
    card("Everything that was recorded", { body: h("details", {}, h("summary", {}, `${events.length || 1} ${events.length === 1 ? "event" : "events"} as JSON`), h("div", { class: "scroll" }, h("pre", { class: "mono" }, JSON.stringify(found, null, 2)))) }));
}

// Pico-USD of one unit; tokens are so cheap that people think of a million of them.
const IS_TOKEN = /^(input|output)_/;
function rate(row) {
  const pico = row.rate_pico;
  if (pico === null || pico === undefined) return "–";
  const of = (nanos) => usd(nanos, nanos % 10000000n ? 4 : 2);
  return IS_TOKEN.test(row.unit) ? `${of(BigInt(pico) * 1000n)} / M` : `${of(BigInt(pico) / 1000n)} each`;
}

function money(event, at, many, may) {
  const size = (row) => Number(row.sell_nano || row.cost_nano || 0);
  const rows = [...(event.amounts ?? [])].sort((one, other) => size(other) - size(one));
  const name = many > 1 ? `Money of attempt ${event.attempt ?? at + 1}` : "Where the money comes from";
  const aside = [event.kind && event.kind !== "usage" ? words(event.kind) : null, words(event.reason), event.billable === false ? "not billed" : null].filter(Boolean).join(" · ");
  const columns = [
    { label: "Unit", cell: (row) => [words(row.unit), row.rate_for ? h("span", { class: "muted" }, ` ${words(row.rate_for)}`) : null], foot: () => "Together" },
    { label: "Quantity", num: true, cell: (row) => count(row.quantity) },
    { label: "Rate", num: true, cell: rate },
    { label: "Tenant pays", num: true, cell: (row) => exact(amount(row, "sell")), foot: (sum) => exact(amount(sum, "sell")) },
    ...(may("billing") && amount(event, "cost") !== null ? [{ label: "We pay", num: true, cell: (row) => exact(amount(row, "cost")), foot: (sum) => exact(amount(sum, "cost")) }] : []),
  ];
  return card(name, { aside, flush: true,
    body: rows.length ? table(name, columns, rows, { foot: event, cls: "money" }) : h("p", { class: "state small" }, "No money was moved by this one."),
    more: h("p", { class: "pager" }, `Quantity times rate, rounded half to even to a billionth of a dollar in each line; the sum is of those.`,
      event.price_versions?.sell ? h("span", {}, " Prices ", h("code", {}, event.price_versions.sell)) : null) });
}
