// Usage over time, by any dimension, down to the exchanges behind a bar.

import { get, query } from "./api.js";
import { behind, colour, legend, overTime } from "./charts.js";
import { card, empty, failed, fill, h, put, select, table, waiting } from "./dom.js";
import { amount, count, dollars, moment, ms, nano, percent, short, shortUsd, title, usd } from "./format.js";
import { changed, chips, chosen, DIMENSIONS, INTERVAL_S, rangePicker, rfc, span } from "./filters.js";

const GROUPS = 7;
const percentTick = (value) => `${Number((value * 100).toPrecision(3))} %`;
const MEASURES = {
  sell: { name: "Spend", kind: "bars", of: (row) => dollars(row, "sell"), text: (value) => shortUsd(value), axis: shortUsd },
  cost: { name: "Cost", kind: "bars", of: (row) => dollars(row, "cost"), text: shortUsd, axis: shortUsd, money: true },
  margin: { name: "Margin", kind: "lines", of: (row) => dollars(row, "margin"), text: shortUsd, axis: shortUsd, money: true },
  tokens: { name: "Tokens", kind: "bars", of: (row) => row.tokens.total, text: count, axis: short },
  requests: { name: "Requests", kind: "bars", of: (row) => row.requests, text: count, axis: short },
  errors: { name: "Error rate", kind: "lines", of: (row) => row.requests ? row.error_rate : null, text: percent, axis: percentTick },
  cache: { name: "Cache hits", kind: "lines", of: (row) => row.requests ? row.cache_hit_rate : null, text: percent, axis: percentTick },
  latency: { name: "Latency p95", kind: "lines", of: (row) => row.latency_ms?.p95 ?? null, text: ms, axis: ms },
  ttft: { name: "First token p95", kind: "lines", of: (row) => row.ttft_ms?.p95 ?? null, text: ms, axis: ms },
};
const SORTS = { sell: "sell", cost: "cost", margin: "margin", requests: "requests", tokens: "tokens", errors: "errors" };

export function show({ host, params, go: goTo, may }) {
  const go = (search) => goTo(`#/history?${search}`);
  const stop = new AbortController();
  const measure = MEASURES[params.get("measure")] && (!MEASURES[params.get("measure")].money || may("billing")) ? params.get("measure") : "sell";
  const by = DIMENSIONS.includes(params.get("by")) ? params.get("by") : chosen(params).model ? "tenant" : "model";
  const reach = span(params);
  const filters = chosen(params);
  const base = { from: reach.from, to: reach.to, ...filters };
  const chart = h("div", {}, waiting());
  const list = h("div", {}, waiting());
  const sums = h("div", {});
  const through = h("span", { class: "muted" });
  put(host,
    h("div", { class: "screen-head" }, h("h1", {}, "History"), rangePicker(params, go), h("span", { class: "grow" }), through,
      h("a", { class: "button", href: `/admin/v1/usage${query({ ...base, interval: reach.interval, by, format: "csv" })}`, download: `usage-by-${by}.csv` }, "CSV"),
      h("a", { class: "button", href: `#/exchanges?${changed(params, { by: null, measure: null, from: reach.from, to: reach.to })}` }, "Exchanges")),
    h("div", { class: "tools" },
      h("label", { class: "field" }, h("span", {}, "Show"), select(Object.entries(MEASURES).filter(([, each]) => !each.money || may("billing")).map(([value, each]) => [value, each.name]), measure, (value) => go(changed(params, { measure: value })))),
      h("label", { class: "field" }, h("span", {}, "By"), select(DIMENSIONS.map((name) => [name, name]), by, (value) => go(changed(params, { by: value })))),
      h("label", { class: "field" }, h("span", {}, "Every"), select(["hour", "day", "month"].map((name) => [name, name]), reach.interval, (value) => go(changed(params, { interval: value })))),
      chips(params, go)),
    h("div", { class: "stack" }, sums,
      card(`${MEASURES[measure].name} by ${by}`, { body: chart, flush: true, cls: "chart-card" }),
      card(`By ${by}`, { aside: "a row opens what is behind it", body: list, flush: true })));
  read({ chart, list, sums, through, measure, by, reach, base, params, go, may, signal: stop.signal });
  return { close: () => stop.abort() };
}

async function read(view) {
  const { by, reach, base, measure, signal, chart, list, sums } = view;
  const again = () => { fill(chart, waiting()); fill(list, waiting()); read(view); };
  let groups;
  try {
    groups = await get("usage", { ...base, interval: "none", by, sort: view.params.get("sort") ?? SORTS[measure] ?? "sell", limit: 50 }, signal);
  } catch (error) {
    if (signal.aborted) return;
    fill(chart, failed(error, again));
    fill(list);
    return;
  }
  totals(sums, groups, view);
  if (!groups.data.length) {
    fill(chart, empty("Nothing was used in this time", "Choose a longer range, or fewer filters.", false));
    fill(list, empty("No rows"));
    return;
  }
  rows(list, groups, view);
  try {
    draw(chart, groups, await overInterval(groups, view), view);
  } catch (error) {
    if (!signal.aborted) fill(chart, failed(error, again));
  }
}

async function pages(params, signal) {
  const found = [];
  let cursor = null;
  do {
    const page = await get("usage", { ...params, limit: 1000, cursor }, signal);
    found.push(...page.data);
    cursor = page.next_cursor;
  } while (cursor && found.length < 20000);
  return found;
}

// The largest groups by time, and the sum of all by time: what is between them are the others.
async function overInterval(groups, { base, by, reach, signal }) {
  const top = groups.data.slice(0, GROUPS).map((row) => row[by] ?? "");
  const only = groups.data.length > GROUPS && !top.some((value) => String(value).includes(","));
  const params = { ...base, interval: reach.interval };
  const [series, whole] = await Promise.all([
    pages({ ...params, by, ...(only ? { [by]: top.join(",") } : {}) }, signal),
    only ? pages(params, signal) : [],
  ]);
  return { series, whole };
}

function starts(reach) {
  const found = [];
  let at = new Date(reach.from);
  const end = new Date(reach.to);
  if (reach.interval === "month") at = new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), 1));
  else at = new Date(Math.floor(at / (INTERVAL_S[reach.interval] * 1000)) * INTERVAL_S[reach.interval] * 1000);
  while (at < end && found.length < 2400) {
    found.push(at / 1000);
    if (reach.interval === "month") at = new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + 1, 1));
    else at = new Date(+at + INTERVAL_S[reach.interval] * 1000);
  }
  const cut = reach.interval === "month" ? 7 : reach.interval === "day" ? 10 : 16;
  found.text = (place) => `${rfc(found[place] * 1000).slice(0, cut).replace("T", " ")}${reach.interval === "hour" ? " UTC" : ""}`;
  return found;
}

// Sums are of UTC hours, days and months, so the axis speaks UTC as well.
function axisTime(reach) {
  const one = Date.parse(reach.to) - Date.parse(reach.from) <= 26 * 3600000;
  return (seconds) => {
    const text = new Date(seconds * 1000).toISOString();
    if (reach.interval === "month") return text.slice(0, 7);
    if (reach.interval === "hour") return one ? text.slice(11, 16) : `${text.slice(5, 10)} ${text.slice(11, 16)}`;
    return text.slice(5, 10);
  };
}

const named = (value) => value === null || value === undefined || value === "" ? "none" : String(value);

function draw(host, groups, { series, whole }, { by, measure, reach, params, go }) {
  const { of, kind, text, axis, name } = MEASURES[measure];
  const xs = starts(reach);
  const place = new Map(xs.map((start, at) => [start, at]));
  const top = groups.data.slice(0, GROUPS).map((row) => named(row[by]));
  const blank = () => xs.map(() => kind === "bars" ? 0 : null);
  const shown = new Map(top.map((value) => [value, blank()]));
  const rest = blank();
  let hasRest = false;
  for (const row of series) {
    const at = place.get(Date.parse(row.start) / 1000);
    if (at === undefined) continue;
    const values = shown.get(named(row[by]));
    if (values) values[at] = of(row);
    else if (kind === "bars" && !whole.length) { rest[at] += of(row); hasRest = true; }
  }
  for (const row of kind === "bars" ? whole : []) {
    const at = place.get(Date.parse(row.start) / 1000);
    if (at === undefined) continue;
    rest[at] = Math.max(0, of(row) - [...shown.values()].reduce((sum, values) => sum + values[at], 0));
    hasRest ||= rest[at] > 0;
  }
  const drawn = [...shown].map(([value, values]) => ({ name: value, values }));
  if (hasRest) drawn.push({ name: "others", values: rest });
  const box = h("div", { class: "chart" });
  fill(host, box, legend(drawn), behind(`${name} by ${by} over time`, xs, drawn, text));
  overTime(box, {
    starts: xs, groups: drawn, interval: INTERVAL_S[reach.interval], text, axisText: axis, kind, atText: axisTime(reach),
    label: `${name} by ${by} from ${reach.from} to ${reach.to}; the table below has the numbers`,
    onPick: (at) => {
      const from = xs[at] * 1000;
      const until = xs[at + 1] ? xs[at + 1] * 1000 : Date.parse(reach.to);
      if (reach.interval === "hour") location.hash = `#/exchanges?${changed(params, { by: null, measure: null, from: rfc(from), to: rfc(until), interval: null })}`;
      else go(changed(params, { from: rfc(from), to: rfc(until), interval: reach.interval === "month" ? "day" : "hour" }));
    },
  });
}

function totals(host, groups, { may, through }) {
  const sum = groups.totals ?? {};
  if (groups.settled_through) through.textContent = `settled through ${moment(groups.settled_through)}`;
  const facts = [["Spend", usd(amount(sum, "sell"))],
    ...(may("billing") && amount(sum, "cost") !== null ? [["Cost", usd(amount(sum, "cost"))], ["Margin", usd(amount(sum, "margin"))]] : []),
    ["Requests", count(sum.requests)], ["Tokens", short(sum.tokens?.total)], ["Errors", percent(sum.error_rate)],
    ["Cache hits", percent(sum.cache_hit_rate)], ["Latency p50", ms(sum.latency_ms?.p50)], ["p95", ms(sum.latency_ms?.p95)]];
  fill(host, h("dl", { class: "card sums" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
}

const DEEPER = { tenant: "model", model: "tenant", project: "key", key: "model", provider: "model", feature: "user", user: "session", session: "model", version: "tenant", status: "reason", reason: "model", cache: "model" };

function rows(host, groups, { by, params, go, may }) {
  const whole = nano(amount(groups.totals ?? {}, "sell")) ?? 0n;
  const inside = (row) => go(changed(params, { [by]: row[by], by: DEEPER[by] }));
  const sort = { by: params.get("sort") ?? SORTS[params.get("measure")] ?? "sell", up: false };
  const has = (row) => row[by] !== null && row[by] !== undefined && row[by] !== "";
  const columns = [
    { label: title(by), cls: "name", cell: (row) => [h("i", { class: "swatch", colour: colour(Math.min(groups.data.indexOf(row), GROUPS)) }), has(row) ? h("button", { class: "row-button", type: "button", onClick: () => inside(row) }, String(row[by])) : h("span", { class: "muted" }, "none")], foot: () => "Total" },
    { label: "Spend", num: true, sort: "sell", cell: (row) => usd(amount(row, "sell")), foot: (sum) => usd(amount(sum, "sell")) },
    { label: "Share", num: true, cell: (row) => whole > 0n ? percent(Number((nano(amount(row, "sell")) ?? 0n) * 10000n / whole) / 10000) : "–" },
    ...(may("billing") && amount(groups.totals ?? {}, "margin") !== null ? [{ label: "Margin", num: true, cell: (row) => usd(amount(row, "margin")), foot: (sum) => usd(amount(sum, "margin")) }] : []),
    { label: "Requests", num: true, sort: "requests", cell: (row) => count(row.requests), foot: (sum) => count(sum.requests) },
    { label: "Tokens", num: true, sort: "tokens", cell: (row) => short(row.tokens.total), foot: (sum) => short(sum.tokens?.total) },
    { label: "Errors", num: true, cell: (row) => percent(row.error_rate), foot: (sum) => percent(sum.error_rate) },
    { label: "Cache", num: true, cell: (row) => percent(row.cache_hit_rate), foot: (sum) => percent(sum.cache_hit_rate) },
    { label: "p50", num: true, cell: (row) => ms(row.latency_ms?.p50) },
    { label: "p95", num: true, cell: (row) => ms(row.latency_ms?.p95) },
    { label: "First token p50", num: true, cell: (row) => ms(row.ttft_ms?.p50) },
  ];
  fill(host, table(`Usage by ${by}`, columns, groups.data, { onOpen: (row) => { if (has(row)) inside(row); }, sort, onSort: (value) => go(changed(params, { sort: value })), foot: groups.totals }),
    groups.next_cursor && h("div", { class: "pager" }, `The first ${groups.data.length}; the CSV has all.`));
}
