"""The Lua scripts as values."""

from __future__ import annotations

import hashlib

import pytest

from metering.scripts import load_script

VERBS = ("reserve", "swap", "commit", "release", "renew", "recover", "peek")


@pytest.mark.parametrize("verb", VERBS)
def test_flags_are_the_first_line_from_seven_on_only(verb: str) -> None:
    """Older servers do not compile the line, newer ones read it nowhere else."""
    script = load_script(verb)

    assert script.body((7, 0)).text.startswith("#!lua")
    assert "#!lua" not in script.body((6, 2)).text


@pytest.mark.parametrize("verb", VERBS)
def test_only_what_takes_room_is_refused_on_a_full_redis(verb: str) -> None:
    """What ends or keeps a hold must always go through."""
    first = load_script(verb).flagged.text.partition("\n")[0]

    assert ("allow-oom" in first) == (verb not in {"reserve", "swap"})


@pytest.mark.parametrize("verb", VERBS)
def test_the_sha_is_of_what_is_sent(verb: str) -> None:
    """Redis names a script by the SHA-1 of its text."""
    for body in (load_script(verb).flagged, load_script(verb).plain):
        assert body.sha == hashlib.sha1(body.text.encode()).hexdigest()
