// One event source for the page; screens subscribe to kinds and are given what stands already.

import { toLogin } from "./api.js";

const QUIET_MS = 15000;
const KINDS = ["history", "tick", "caps", "degradation", "alert", "upstreams", "away"];

export class Live {
  constructor(onState) {
    this.latest = new Map();
    this.listeners = new Map();
    this.onState = onState;
    this.state = "waiting";
    this.heard = 0;
    this.tries = 0;
    this.open();
    this.watch = setInterval(() => this.check(), 3000);
    addEventListener("online", () => this.open());
    document.addEventListener("visibilitychange", () => this.seen());
  }

  open() {
    this.source?.close();
    clearTimeout(this.retry);
    const source = this.source = new EventSource("/admin/v1/live");
    this.opened = Date.now();
    for (const kind of KINDS) source.addEventListener(kind, (event) => this.hear(kind, event));
    source.addEventListener("error", () => {
      if (source !== this.source) return;
      this.say("waiting");
      if (source.readyState === EventSource.CLOSED) this.again();
    });
  }

  // A refusal closes the source for good; whether the session is over is asked once.
  again() {
    this.tries += 1;
    clearTimeout(this.retry);
    this.retry = setTimeout(async () => {
      try {
        const answer = await fetch("/admin/v1/whoami", { credentials: "same-origin" });
        if (answer.status === 401) { toLogin(); return; }
      } catch { /* still away */ }
      this.open();
    }, Math.min(1000 * 2 ** this.tries, 15000));
  }

  // A page that nobody sees asks for nothing, and is whole again a moment after it is seen.
  seen() {
    if (document.hidden) { this.resting = setTimeout(() => { this.source?.close(); this.rests = true; }, 60000); return; }
    clearTimeout(this.resting);
    if (this.rests) { this.rests = false; this.open(); }
  }

  hear(kind, event) {
    let body;
    try { body = JSON.parse(event.data); } catch { return; }
    this.heard = Date.now();
    this.tries = 0;
    if (kind === "away") this.say("away", body);
    else if (kind === "tick") this.say("live");
    this.latest.set(kind, body);
    for (const listener of this.listeners.get(kind) ?? []) listener(body);
  }

  check() {
    if (this.rests) return;
    const silent = Date.now() - Math.max(this.heard, this.opened);
    if (silent > QUIET_MS && this.state !== "away") { this.say("waiting"); this.open(); }
  }

  say(state, body) {
    if (state === this.state) return;
    this.state = state;
    this.onState(state, body);
  }

  on(kind, listener) {
    if (!this.listeners.has(kind)) this.listeners.set(kind, new Set());
    this.listeners.get(kind).add(listener);
    if (this.latest.has(kind)) listener(this.latest.get(kind));
    return () => this.listeners.get(kind).delete(listener);
  }
}
