"""What choosing costs: the pure choice, and the whole plan of a request with many upstreams.

`python -m benchmarks.choices` prints microseconds of CPU, median and 99th percentile, and how often
the median holds a sum of a thousand integers, which was measured in turns with it. The largest
case is one model with ten upstreams of ten upstream models and four fallback models with ten each,
every one with prices, abilities and a full history, judged for its margin as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from statistics import median, quantiles

import orjson

from metering.money import rate_pico_per_mtok
from metering.prices import PriceBook, PriceRule
from metering.tenants import SpendLimits, Tenant
from proxy.admission import Routes, count_prompts
from proxy.choosing import Around
from proxy.pace import Asked, Pace
from proxy.planning import plan
from proxy.settings import Metering, Provider, RedisSettings, Server, Settings
from proxy.wire.openai_chat.client import parse_request
from routing.abilities import Abilities
from routing.affinity import Affinity
from routing.choice import Dice, Entrant, choose
from routing.conditions import Traits
from routing.cost_to_serve import CostRules, Mode
from routing.fallback import Outcome
from routing.health import Health
from routing.history import History, Observed
from routing.samples import ENOUGH
from routing.upstreams import AS_WRITTEN, Model, Policy, Strategy, Terms, Upstream

ROUNDS = 2_000
YARDSTICK = range(1_000)
"""What it takes to sum it stands beside every case: about 6 us on a machine of 2024."""
TENANT = Tenant("acme", "Acme", SpendLimits(daily_cap_nano=10**12), ())
KNOWN = Abilities(tools=True, vision=True, audio=False, max_context_tokens=400_000)
BODY = orjson.dumps({"model": "m0", "messages": [{"role": "user", "content": "What is a weir?"}]})


def main() -> None:
    """Print a line per case."""
    for strategy in Strategy:
        _print(f"choice of 20, {strategy}", _choice(Policy(strategy, Affinity.AUTO)))
    _print("plan, 1 upstream", _plan(1, 1, AS_WRITTEN))
    _print("plan, 3 upstreams as written", _plan(3, 1, AS_WRITTEN))
    for strategy in Strategy:
        policy = Policy(strategy, Affinity.AUTO)
        _print(f"plan, 10 upstreams, {strategy}", _plan(10, 1, policy))
    for strategy in Strategy:
        policy = Policy(strategy, Affinity.AUTO)
        _print(f"plan and margin, 5 models of 10, {strategy}", _plan(10, 5, policy, judges=True))


def _choice(policy: Policy) -> Callable[[int], object]:
    entrants = [
        Entrant(
            f"provider-{number}/model",
            Terms(weight=1 + number % 3),
            nano=number % 7,
            observed=Observed(p95_ms=100 + number % 5, in_flight=number % 4),
        )
        for number in range(20)
    ]
    return lambda number: choose(policy, entrants, Dice(str(number).encode(), b"home"))


def _plan(
    upstreams: int, models: int, policy: Policy, *, judges: bool = False
) -> Callable[[int], object]:
    settings = _settings(upstreams, models, policy)
    routes, history = Routes(settings), _history(settings)
    rules = CostRules(mode=Mode.ENFORCE, margin_threshold_ppm=900_000) if judges else CostRules()
    pace, health = Pace(rules, history), Health()
    request = parse_request(BODY)
    traits = Traits({"tenant": "acme", "project": "default", "key": "k", "session": "s-1"})

    def run(number: int) -> object:
        route = routes.find(TENANT, "m0")
        prompt = count_prompts(request, route)
        around = Around(f"exchange-{number}", traits, None, 1.0, history, health)
        return pace.judge(plan(route, request, prompt, around=around), Asked(), 1.0)

    return run


def _settings(upstreams: int, models: int, policy: Policy) -> Settings:
    names = [f"m{number}" for number in range(models)]
    providers = [f"p{number}" for number in range(upstreams)]
    found = {
        name: Model(
            name,
            tuple(
                Upstream(each, f"{name}-{each}", name, terms=Terms(abilities=KNOWN))
                for each in providers
            ),
            tuple(names[index + 1 : index + 2]),
            policy=policy,
        )
        for index, name in enumerate(names)
    }
    rules = tuple(
        PriceRule(
            model=upstream.model,
            input_rate_pico=rate_pico_per_mtok(Decimal(1)) * (1 + index % 7),
            output_rate_pico=rate_pico_per_mtok(Decimal(4)) * (1 + index % 7),
        )
        for model in found.values()
        for index, upstream in enumerate(model.upstreams)
    )
    return Settings(
        source=None,
        server=Server(),
        data_dir=Path(),
        redis=RedisSettings(),
        ledger_url="",
        providers={name: Provider(name, "openai", "http://x") for name in providers},
        models=found,
        prices=PriceBook(rules),
        tenants={"acme": TENANT},
        metering=Metering(),
        default_output_tokens=1000,
    )


def _history(settings: Settings) -> History:
    history = History()
    for model in settings.models.values():
        for index, upstream in enumerate(model.upstreams):
            for sample in range(ENOUGH):
                is_cold = history.begin(upstream.label, 0.0)
                history.end(
                    upstream.label,
                    Outcome.SERVED,
                    0.0,
                    took_ms=100 + index * 10 + sample % 9,
                    stream=False,
                    is_cold=is_cold,
                )
    return history


def _print(name: str, run: Callable[[int], object]) -> None:
    for number in range(ROUNDS // 10):
        run(number)
    times, beside = _times(run)
    usual = median(times)
    print(
        f"{name:48} {usual:8.1f} us  p99 {quantiles(times, n=100)[98]:8.1f} us"
        f"  {usual / median(beside):6.1f} x"
    )


def _times(run: Callable[[int], object]) -> tuple[Sequence[float], Sequence[float]]:
    """CPU of each round, and of the yardstick in turns with it: this machine's speed changes."""
    times, beside = [], []
    for number in range(ROUNDS):
        began = time.thread_time_ns()
        run(number)
        between = time.thread_time_ns()
        sum(YARDSTICK)
        times.append((between - began) / 1000)
        beside.append((time.thread_time_ns() - between) / 1000)
    return times, beside


if __name__ == "__main__":
    main()
