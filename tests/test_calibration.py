"""Prompts of models whose tokenizer is not ours: the hold learns from what providers report."""

from __future__ import annotations

from dataclasses import replace

from fixtures_door import OpenDoor, settings
from fixtures_upstream import ScriptedUpstream, completion

from metering.calibration import SAMPLES_MIN
from routing.upstreams import Model, Upstream

PROMPT = "The quick brown fox jumps over the lazy dog. " * 20


async def test_after_some_answers_prompts_are_held_as_they_are_billed(
    open_door: OpenDoor, upstream: ScriptedUpstream
) -> None:
    """What is learned stays with its model, and exact tokenizers learn nothing."""
    made = settings({"one": upstream.url})
    models = {
        name: Model(name, (Upstream("one", name, name),)) for name in ("somebodys-model", "gpt-4o")
    }
    door = await open_door(replace(made, models=models))
    ask = {"messages": [{"role": "user", "content": PROMPT}]}
    counted: dict[str, list[int]] = {name: [] for name in models}

    for name in models:
        upstream.scripts = [[completion(prompt=400, output=2)]]
        for _ in range(SAMPLES_MIN + 1):
            await (await door.chat(model=name, **ask)).read()
            counted[name].append(door.events[-1].counted["input_uncached"])

    first, *_, last = counted["somebodys-model"]
    assert first < 250
    assert last >= 400
    assert len(set(counted["gpt-4o"])) == 1
    assert door.door.calibration.samples("gpt-4o") == 0
