"""The encodings of the models that are configured, loaded before anybody waits for them."""

from __future__ import annotations

import importlib

from proxy.settings import Settings


def preload(settings: Settings) -> None:
    """Before forking, one copy of some 80 MB serves every process; later it is a process' own.

    Takes up to a second for one that is not loaded yet, so a running proxy does it in a thread.
    """
    try:
        tokenizer = importlib.import_module("metering.tokenizer")
    except ModuleNotFoundError:
        return
    upstreams = [upstream for each in settings.models.values() for upstream in each.upstreams]
    tokenizer.preload(sorted({tokenizer.encoding_name(each.model) for each in upstreams}))
