// The admin API as this page calls it. A session that is over leads to the login.

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `The console answered ${status}.`);
    this.status = status;
    this.code = body?.error?.code ?? null;
  }
}

export function toLogin() {
  // behind a #, so that the server is not told where somebody was
  location.assign(`/dashboard/login${location.hash.length > 2 ? location.hash : ""}`);
}

export function query(params = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    if (value !== null && value !== undefined && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return text ? `?${text}` : "";
}

async function ask(method, path, { params, body, signal } = {}) {
  const headers = { accept: "application/json" };
  if (method !== "GET") headers["x-weir-csrf"] = "1";
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(`${path.startsWith("/") ? path : `/admin/v1/${path}`}${query(params)}`, {
    method, headers, signal, credentials: "same-origin",
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) { toLogin(); throw new ApiError(401, null); }
  const text = await response.text();
  let found = null;
  try { found = text ? JSON.parse(text) : null; } catch { found = null; }
  if (!response.ok) throw new ApiError(response.status, found);
  return found;
}

export const get = (path, params, signal) => ask("GET", path, { params, signal });
export const send = (method, path, body) => ask(method, path, { body });

// Every page of a list, up to a bound that is said when it is met.
export async function all(path, params = {}, { most = 5000, signal } = {}) {
  const rows = [];
  let cursor = null;
  do {
    const page = await get(path, { limit: 200, ...params, cursor }, signal);
    rows.push(...page.data);
    cursor = page.next_cursor;
  } while (cursor && rows.length < most);
  return { rows, more: Boolean(cursor) };
}

export const segment = (text) => encodeURIComponent(text);
