"""`make screenshots`: every screen of the dashboard as a picture, over a running installation.

Starts `weir serve` with tenants of its own, reports some days of past usage, drives load through
the simulator for a while, and takes pictures in a light and a dark window. Needs Chromium,
Playwright and Pillow.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
COLOURS = 256
WINDOW = {"width": 1280, "height": 800}
PORT, ADMIN_PORT = 18_480, 18_481

TENANTS = {
    "acme": 0.75,
    "globex": 9.0,
    "initech": 0.09,
    "umbrella": 12.0,
    "hooli": 1.1,
    "stark": 20.0,
    "wayne": 40.0,
    "tyrell": 6.0,
    "cyberdyne": 0.055,
    "wonka": 80.0,
}
MODELS = {"demo": 6, "demo-mini": 4, "demo-slow": 1, "demo-no-usage": 1, "demo-500": 0.15}
CONFIG = """
server: {{host: 127.0.0.1, port: {port}}}
admin: {{host: 127.0.0.1, port: {admin_port}}}
providers: {{simulator: {{type: simulator}}}}
models:
  demo: {{upstreams: [{{provider: simulator, model: demo}}], fallbacks: [demo-mini]}}
  demo-mini: {{upstreams: [{{provider: simulator, model: demo-mini}}]}}
  demo-slow: {{upstreams: [{{provider: simulator, model: demo-slow}}]}}
  demo-500: {{upstreams: [{{provider: simulator, model: demo-500}}]}}
  demo-no-usage: {{upstreams: [{{provider: simulator, model: demo-no-usage}}]}}
pricing:
  rules:
    - {{model: demo, input_per_mtok: 2.50, output_per_mtok: 10.00, multiplier: 1.2}}
    - {{model: demo-mini, input_per_mtok: 0.15, output_per_mtok: 0.60, multiplier: 1.2}}
    - {{model: "demo-*", input_per_mtok: 2.50, output_per_mtok: 10.00, multiplier: 1.2}}
metering: {{event_age_max_hours: 1500}}
anomalies:
  mode: enforce
  minutes: 2
  ladder: [alert, pause]
  pause_after_min: 2
  tenants:
    hooli: {{cold_start_usd_per_min: 0.001, floor_usd_per_min: 0.001}}
    umbrella: {{cold_start_usd_per_min: 0.001, floor_usd_per_min: 0.001, pause_after_min: 60}}
tenants:
"""
GO_ON = """
import asyncio, sys, orjson
from benchmarks.screenshots import go_on
asyncio.run(go_on(orjson.loads(sys.argv[1]), 150))
"""
SCREENS = {
    "now": "now",
    "history": "history?range=7d&by=model",
    "exchanges": "exchanges?range=24h",
    "tenants": "tenants",
    "tenant": "tenants/northwind",
    "reviews": "reviews?show=all",
    "invoices": "invoices",
    "upstreams": "upstreams",
    "audit": "audit",
}


def write_config(path: Path) -> dict[str, str]:
    """The configuration, and a raw key of each tenant."""
    text, keys = CONFIG.format(port=PORT, admin_port=ADMIN_PORT), {}
    for name, cap in TENANTS.items():
        keys[name] = f"sk-weir-{secrets.token_hex(6)}-{secrets.token_urlsafe(32)}"
        digest = hashlib.sha256(keys[name].encode()).hexdigest()
        text += (
            f"  - id: {name}\n    name: {name.title()} Inc\n"
            f"    limits: {{tenant: {{daily_cap: {cap}, burst_threshold: 0.8, alert_at: [0.5, 0.8],"
            f" fallback_model: demo-mini}}}}\n    keys: [{{id: prod, sha256: {digest}}}]\n"
        )
    path.write_text(text, encoding="utf-8")
    return keys


async def report_past(client: aiohttp.ClientSession, keys: dict[str, str]) -> None:
    """Six days of usage from outside, with weekdays and nights."""
    now = datetime.now(UTC)
    for tenant, key in keys.items():
        if tenant in ("cyberdyne", "initech"):  # their caps are small, and reports count as well
            continue
        events = []
        last_month = int((now - now.replace(day=1, hour=0)).total_seconds() // 3600) + 26
        for hour in (*range(26, 24 * 6, 2), *range(last_month, last_month + 24 * 12, 11)):
            at = now - timedelta(hours=hour)
            busy = (0.35 if at.weekday() > 4 else 1.0) * (0.4 if at.hour < 7 else 1.0)
            for model, share in (("demo", 1.0), ("demo-mini", 2.2), ("demo-slow", 0.3)):
                size = int(random.uniform(0.5, 1.5) * busy * share * TENANTS[tenant] ** 0.5 * 1_000)
                events.append(
                    {
                        "id": f"{tenant}-{model}-{hour}",
                        "time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                        "meter": "past",
                        "units": {"input_uncached": size, "output_text": size // 4},
                        "dimensions": {"model": model},
                    }
                )
        headers = {"Authorization": f"Bearer {key}"}
        for start in range(0, len(events), 200):
            url = f"http://127.0.0.1:{PORT}/v1/events"
            async with client.post(url, json=events[start : start + 200], headers=headers) as said:
                if said.status >= 300:
                    raise SystemExit(f"events: {said.status} {await said.text()}")


async def drive(client: aiohttp.ClientSession, keys: dict[str, str], seconds: float) -> None:
    """Requests of all tenants, so many at once, for so long."""
    until = time.monotonic() + seconds
    url = f"http://127.0.0.1:{PORT}/v1/chat/completions"

    async def one() -> None:
        while time.monotonic() < until:
            [model] = random.choices(list(MODELS), list(MODELS.values()))
            body = {
                "model": model,
                "stream": random.random() < 0.7,
                "max_tokens": random.choice([60, 200, 400]),
                "messages": [{"role": "user", "content": "water " * random.randint(2, 400)}],
                "user": random.choice("abcdef"),
            }
            headers = {"Authorization": f"Bearer {random.choice(list(keys.values()))}"}
            async with client.post(url, json=body, headers=headers) as answer:
                await answer.read()
            await asyncio.sleep(random.random() * (1.2 + 0.8 * (int(time.monotonic()) % 60 < 20)))

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(one())


async def make_registered(client: aiohttp.ClientSession, admin_key: str) -> None:
    """A tenant of the registry with a few keys, for the audit trail as well."""
    base = f"http://127.0.0.1:{ADMIN_PORT}/admin/v1/tenants"
    headers = {"Authorization": f"Bearer {admin_key}"}

    async def post(path: str, body: Any) -> None:
        async with client.post(base + path, json=body, headers=headers) as said:
            if said.status >= 300:
                raise SystemExit(f"{path}: {said.status} {await said.text()}")

    limits = {"tenant": {"daily_cap": 15}}
    await post("", {"id": "northwind", "name": "Northwind Traders", "limits": limits})
    for key in ("checkout", "search", "staging"):
        await post("/northwind/keys", {"id": key})
    await post("/northwind/keys/search/rotate", {"overlap_hours": 24})
    async with client.delete(f"{base}/northwind/keys/staging", headers=headers) as said:
        if said.status >= 300:
            raise SystemExit(await said.text())


def take(folder: Path, admin_key: str) -> None:
    """The pictures."""
    found = shutil.which("chromium")
    if found is None:
        raise SystemExit("Chromium is missing: apt-get install chromium")
    base = f"http://127.0.0.1:{ADMIN_PORT}/dashboard"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            tab = browser.new_page(viewport=WINDOW, color_scheme=scheme)
            tab.goto(f"{base}/login")
            tab.fill("#key", admin_key)
            tab.keyboard.press("Enter")
            tab.wait_for_url("**/dashboard")
            for name, screen in SCREENS.items():
                tab.goto(f"{base}#/{screen}")
                tab.wait_for_timeout(9_000 if name == "now" else 2_500)
                save(tab.screenshot(), folder / f"dashboard-{name}-{scheme}.png")
                if name == "exchanges":
                    tab.locator("tbody a").nth(2).click()
                    tab.wait_for_timeout(2_000)
                    save(tab.screenshot(), folder / f"dashboard-exchange-{scheme}.png")
        tab.set_viewport_size({"width": 360, "height": 740})
        tab.goto(f"{base}#/now")
        tab.wait_for_timeout(3_000)
        save(tab.screenshot(), folder / "dashboard-now-small.png")
        browser.close()


def save(picture: bytes, path: Path) -> None:
    """With few colours, which is a quarter of the size and looks alike."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(COLOURS, kmeans=1, dither=Image.Dither.NONE).save(path, optimize=True)
    sys.stdout.write(f"{path.name} {path.stat().st_size // 1024} KiB\n")


async def settled(client: aiohttp.ClientSession, admin_key: str) -> None:
    """Until the worker has made the ledger."""
    url = f"http://127.0.0.1:{ADMIN_PORT}/admin/v1/reviews"
    for _ in range(300):
        with contextlib.suppress(aiohttp.ClientError):
            async with client.get(url, headers={"Authorization": f"Bearer {admin_key}"}) as said:
                if said.status == 200:
                    return
        await asyncio.sleep(0.2)
    raise SystemExit("the worker makes no ledger")


async def fill(data_dir: Path, keys: dict[str, str], seconds: float) -> None:
    """Everything that there is to see."""
    async with aiohttp.ClientSession() as client:
        admin_key = (data_dir / "admin_key").read_text().strip()
        await settled(client, admin_key)
        await make_registered(client, admin_key)
        await report_past(client, keys)
        await drive(client, keys, seconds)


def issue(words: list[str]) -> None:
    """Last month's invoices, once the worker has booked what was reported of it."""
    month = (datetime.now(UTC).replace(day=1) - timedelta(days=1)).strftime("%Y-%m")
    code = "from proxy.cli import main; main()"
    options = ["invoices", "issue", "--month", month, "--force", *words]
    subprocess.run([sys.executable, "-c", code, *options], check=True, stdout=subprocess.DEVNULL)


async def go_on(keys: dict[str, str], seconds: float) -> None:
    """More of the same, while the pictures are taken."""
    async with aiohttp.ClientSession() as client:
        await drive(client, keys, seconds)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=240, help="of load before the pictures")
    parser.add_argument("--into", type=Path, default=IMAGES)
    asked = parser.parse_args()
    asked.into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="weir-shots-") as name:
        folder = Path(name)
        keys = write_config(folder / "config.yaml")
        data_dir = folder / "data"
        where = ["--config", str(folder / "config.yaml"), "--data-dir", str(data_dir)]
        words = ["serve", *where]
        code = "from proxy.cli import main; main()"
        with (folder / "log").open("w") as log:
            serving = subprocess.Popen([sys.executable, "-c", code, *words], stdout=log, stderr=log)
        try:
            until = time.monotonic() + 60
            while not (data_dir / "admin_key").exists() or not (data_dir / "serve.json").exists():
                if serving.poll() is not None or time.monotonic() > until:
                    raise SystemExit((folder / "log").read_text()[-3000:])
                time.sleep(0.2)
            asyncio.run(fill(data_dir, keys, asked.seconds))
            issue(where)
            going = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    GO_ON,
                    orjson.dumps(keys).decode(),
                ]
            )
            try:
                take(asked.into, (data_dir / "admin_key").read_text().strip())
            finally:
                going.terminate()
                going.wait()
        finally:
            serving.terminate()
            serving.wait(30)


if __name__ == "__main__":
    main()
