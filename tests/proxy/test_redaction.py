"""What hides a provider's credential, and what it leaves alone."""

from __future__ import annotations

import base64
import html
import json
from urllib.parse import quote

import pytest

from proxy.redaction import NOTHING, Redaction, credentials_in

PLAIN = "sk-canary-provider-31337"
ODD = """a+b/c="d"&<e>\\f'g"""

SPELLINGS = {
    "itself": str,
    "json": lambda key: json.dumps(key)[1:-1],
    "json_with_slashes": lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    "json_for_html": lambda key: (
        json.dumps(key)[1:-1]
        .replace("&", "\\u0026")
        .replace("<", "\\u003C")
        .replace("+", "\\u002b")
    ),
    "url": lambda key: quote(key, safe=""),
    "html": html.escape,
    "basic_user": lambda key: base64.b64encode(f"{key}:x".encode()).decode(),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64_url": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
}


@pytest.mark.parametrize("key", [PLAIN, ODD], ids=["plain", "odd"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_t30_a_credential_is_found_as_others_spell_it(key: str, spelling: str) -> None:
    """T-30: nothing of it is left, and nothing around it is lost."""
    redaction = Redaction([key])
    told = f'{{"error": "bad key: {SPELLINGS[spelling](key)}."}}'

    assert redaction.text(told) == '{"error": "bad key: ***."}'
    assert redaction.data(told.encode()) == b'{"error": "bad key: ***."}'


def test_t30_two_credentials_of_which_one_begins_with_the_other() -> None:
    """The longer one goes first; else its end would be left."""
    redaction = Redaction(["sk-canary", "sk-canary-more"])

    assert redaction.text("sk-canary-more sk-canary") == "*** ***"


@pytest.mark.parametrize("credentials", [[], ["EMPTY"], ["none", ""]])
def test_words_that_are_no_secrets_stay(credentials: list[str]) -> None:
    """A server that wants no key is given a word, which stands in honest texts."""
    redaction = Redaction(credentials)

    assert redaction.text("the list is EMPTY, none left") == "the list is EMPTY, none left"
    assert redaction.data(b"\xff EMPTY") == b"\xff EMPTY"
    assert NOTHING.data(b"x") == b"x"


def test_credentials_are_what_follows_the_scheme() -> None:
    """A bearer, a key alone, and the pair within Basic with its password."""
    pair = base64.b64encode(b"user:password").decode()

    assert list(credentials_in(["Bearer abc", "def"])) == ["abc", "def"]
    assert list(credentials_in([f"Basic {pair}"])) == [pair, "user:password", "password"]
