// Numbers as people read them. Money is counted in whole nano-USD and never becomes a fraction here.

const NANO = 1000000000n;

export function nano(value) {
  if (value === null || value === undefined || value === "") return null;
  if (typeof value === "bigint") return value;
  if (typeof value === "number") return BigInt(Math.trunc(value));
  const [, sign, whole, part = ""] = /^(-?)(\d+)(?:\.(\d{1,9}))?$/.exec(value) ?? [];
  if (whole === undefined) return null;
  const found = BigInt(whole) * NANO + BigInt(part.padEnd(9, "0"));
  return sign ? -found : found;
}

export function usd(amount, places = null) {
  const value = nano(amount);
  if (value === null) return "–";
  const size = value < 0n ? -value : value;
  const digits = places ?? (size === 0n || size >= NANO ? 2 : size >= NANO / 100n ? 4 : 6);
  const unit = 10n ** BigInt(9 - digits);
  let scaled = size / unit;
  const rest = (size % unit) * 2n;
  if (rest > unit || (rest === unit && scaled % 2n === 1n)) scaled += 1n;
  if (scaled === 0n && size > 0n && places === null) return `${value < 0n ? "−" : ""}<$0.000001`;
  const whole = (scaled / 10n ** BigInt(digits)).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  const part = digits ? `.${(scaled % 10n ** BigInt(digits)).toString().padStart(digits, "0")}` : "";
  return `${value < 0n ? "−" : ""}$${whole}${part}`;
}

export const exact = (amount) => usd(amount, 9);

// Of a {name}_nano or {name}_usd pair, whichever there is.
export const amount = (row, name) => row?.[`${name}_nano`] ?? row?.[`${name}_usd`] ?? null;
export const dollars = (row, name) => Number(nano(amount(row, name)) ?? 0n) / 1e9;

export function count(value) {
  if (value === null || value === undefined) return "–";
  return Number(value).toLocaleString("en-US", { maximumFractionDigits: 0 });
}

const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
export function short(value) {
  if (value === null || value === undefined) return "–";
  if (Math.abs(value) < 10 && !Number.isInteger(value)) return value.toFixed(value < 1 ? 2 : 1);
  return SHORT.format(Math.abs(value) < 100 || Math.abs(value) >= 1000 ? value : Math.round(value));
}

export function shortUsd(value) {
  const size = Math.abs(value);
  if (size === 0) return "$0";
  if (size >= 1000) return `$${SHORT.format(value)}`;
  if (size >= 10) return `$${value.toFixed(0)}`;
  if (size >= 1) return `$${value.toFixed(2).replace(/\.?0+$/, "")}`;
  if (size >= 0.095) return `$${value.toFixed(2)}`;
  return `$${Number(value.toPrecision(2))}`;
}

// What is almost all is not shown as all: a cap at 99.8 % has something left.
export function percent(share, digits = 1) {
  if (share === null || share === undefined) return "–";
  const part = share > 0 && share < 1;
  const text = (share * 100).toFixed(part ? digits : 0);
  return part && Number(text) === 100 ? `>${digits ? "99.9" : "99"} %` : `${text} %`;
}

export function ms(value) {
  if (value === null || value === undefined) return "–";
  return value >= 10000 ? `${(value / 1000).toFixed(1)} s` : value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${Math.round(value)} ms`;
}

const pad = (value) => String(value).padStart(2, "0");
const day = (at) => `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
export const clock = (at) => `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
export function moment(text) {
  if (!text) return "–";
  const at = new Date(text);
  return Number.isNaN(at.getTime()) ? String(text) : `${day(at)} ${clock(at)}`;
}
export function ago(text, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - new Date(text).getTime()) / 1000));
  if (Number.isNaN(seconds)) return "";
  if (seconds < 3) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export const words = (name) => String(name ?? "").replace(/[_.]/g, " ");
export const title = (name) => words(name).replace(/^./, (letter) => letter.toUpperCase());
