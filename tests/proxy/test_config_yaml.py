"""The reader: YAML 1.2 values from source text, places, variables, and faults instead of raises."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import config_yaml
from proxy.config_yaml import (
    DEPTH_MAX,
    EnvText,
    Fault,
    format_path,
    parse,
    resolve_plain,
)

PLAIN = {
    "true": True,
    "True": True,
    "false": False,
    "no": "no",
    "yes": "yes",
    "on": "on",
    "Off": "Off",
    "": None,
    "~": None,
    "null": None,
    "8080": 8080,
    "010": 10,
    "-3": -3,
    "0o17": "0o17",
    "0x1F": "0x1F",
    "1:30": "1:30",
    "1_000": "1_000",
    "5e-6": Decimal("0.000005"),
    "0.0000025": Decimal("0.0000025"),
    "50.00": Decimal("50.00"),
    ".5": Decimal("0.5"),
    "1.": Decimal(1),
    ".inf": ".inf",
    ".nan": ".nan",
    "1e9999": "1e9999",
    "1." + "0" * 30: Decimal(1),
    "1." + "0" * 31: "1." + "0" * 31,
    "0" * 31 + ".5": "0" * 31 + ".5",
    "." + "1" * 31: "." + "1" * 31,
    "2026-01-01": "2026-01-01",
    "gpt-4o": "gpt-4o",
}


@pytest.mark.parametrize(("text", "value"), PLAIN.items(), ids=[repr(key) for key in PLAIN])
def test_plain_scalars(text: str, value: object) -> None:
    """An unquoted scalar means what YAML 1.2 core says, and no more."""
    read = resolve_plain(text)

    assert (read, type(read)) == (value, type(value))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=0, max_value=10**6))
def test_numbers_keep_their_digits(number: Decimal) -> None:
    """A number is the Decimal of its source text, however it is written."""
    tree = parse(f"rate: {number}\nagain: '{number}'\n", {}).tree

    assert (tree["rate"], tree["again"]) == (number, str(number))


@given(st.text(max_size=60))
def test_any_text_is_answered(text: str) -> None:
    """No text makes the reader raise: it gives a tree or says what is wrong."""
    document = parse(text, {})

    assert all(isinstance(fault, Fault) for fault in document.faults)


SYNTAX = {
    "tab": ("server:\n\tport: 1\n", "2:1 not YAML: a tab cannot indent (indent with spaces)"),
    "open list": ("a: [1, 2\n", "2:1 not YAML: expected ',' or ']', but got '<stream end>'"),
    "bare variable in braces": (
        "a: {b: ${X}}\n",
        (
            "1:9 not YAML: expected ',' or '}', but got '{' (put quotes around \"${NAME}\" "
            "inside { } and [ ])"
        ),
    ),
    "two documents": ("a: 1\n---\nb: 2\n", "2:1 not YAML: but found another document"),
    "duplicate": (
        "a: 1\nb: 2\na: 3\n",
        "3:1 a: duplicate key, first written on line 1 (keep one of them)",
    ),
    "merge": ("x: &x {a: 1}\ny:\n  <<: *x\n", None),
    "tag": ("a: !!python/object:os.system x\n", None),
    "variable in key": ("${X}: 1\n", None),
    "list as key": ("? [a]\n: 1\n", "1:3 a key must be plain text"),
    "itself": ("a: &a [*a]\n", "1:4 a[0]: an alias that contains itself"),
    "too deep": ("[" * (DEPTH_MAX + 1), None),
}


@pytest.mark.parametrize(("text", "expected"), SYNTAX.values(), ids=SYNTAX)
def test_what_is_no_yaml_of_ours_is_a_fault(text: str, expected: str | None) -> None:
    """Broken or unwanted YAML is one fault, with the line and column it begins at."""
    faults = parse(text, {"X": "1"}).faults

    assert len(faults) == 1
    assert faults[0].line > 0
    assert expected in (None, str(faults[0]))


def test_every_duplicate_is_reported() -> None:
    """Each repeated key is a fault of its own, at any depth, and the first value stands."""
    document = parse("a: 1\na: 2\nb: {c: 1, c: 2, c: 3}\n", {})

    assert [fault.path for fault in document.faults] == ["a", "b.c", "b.c"]
    assert document.tree == {"a": 1, "b": {"c": 1}}


def test_alias_bombs_stop() -> None:
    """Aliases that multiply end as a fault long before they fill the memory."""
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]

    document = parse("\n".join(lines), {})

    assert "values once aliases are expanded" in document.faults[0].message


def test_large_files_are_refused() -> None:
    """A file over one MiB is the wrong file, and is not parsed."""
    document = parse("#" * 1_048_577, {})

    assert (document.tree, document.faults[0].message) == (None, "the file is larger than 1024 KiB")


def test_aliases_repeat_values() -> None:
    """A plain alias gives the value again, at a place of its own."""
    document = parse("a: &x {k: 1}\nb: *x\n", {})

    assert document.tree == {"a": {"k": 1}, "b": {"k": 1}}


VARIABLES = {
    "name": ("${A}", EnvText("one")),
    "default unused": ("${A:-z}", EnvText("one")),
    "default of unset": ("${NOPE:-z}", EnvText("z")),
    "default of empty": ("${EMPTY:-z}", EnvText("z")),
    "empty default": ("${NOPE:-}", EnvText("")),
    "inside text": ("redis://${A}:6379/${B}", EnvText("redis://one:6379/two")),
    "os.environ": ("os.environ/A", EnvText("one")),
    "escaped": ("$${A}", "${A}"),
    "a dollar is a dollar": ("$A costs $5", "$A costs $5"),
    "not expanded twice": ("${TRICK}", EnvText("${A}")),
    "no structure": ("${YAML}", EnvText("x: 1\n- y")),
}
ENV = {"A": "one", "B": "two", "EMPTY": "", "TRICK": "${A}", "YAML": "x: 1\n- y"}


@pytest.mark.parametrize(("text", "value"), VARIABLES.values(), ids=VARIABLES)
def test_variables(text: str, value: str) -> None:
    """Variables give text, once, and only inside the value that asked for them."""
    document = parse(f"k: {text}\n", ENV)

    read = document.tree["k"]
    assert (read, type(read), document.faults, document.unset) == (value, type(value), [], {})


def test_unset_variables_are_noted() -> None:
    """A variable that is not set is known by its path; whether that is a fault is not said here."""
    document = parse("a: {b: '${NOPE}'}\n", {})

    assert (document.tree, document.unset) == ({"a": {"b": ""}}, {("a", "b"): "NOPE"})


@pytest.mark.parametrize("text", ["${1A}", "${A", "${A:-${B}}", "${}", "${A-z}"])
def test_malformed_variables_are_faults(text: str) -> None:
    """What looks like a variable and is none is not passed on as text."""
    faults = parse(f"k: '{text}'\n", ENV).faults

    assert [fault.suggestion for fault in faults] == ["write ${NAME} or ${NAME:-default}"]


@pytest.mark.parametrize("text", ["a: [" + "1," * 501, "{" + "? ," * 501])
def test_t66_a_file_of_countless_values_is_given_up_early(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T-66: at the bound, before its end is looked at, which would be another fault."""
    monkeypatch.setattr(config_yaml, "NODES_MAX", 500)

    [fault] = parse(text, {}).faults

    assert fault.message == "not YAML: more than 500 values"


def test_places_point_at_values_and_keys() -> None:
    """A scalar's place is the scalar, a section's place its key, an item's place the item."""
    places = parse("models:\n  gpt-4o:\n    upstreams:\n      - {provider: x}\n", {}).places

    assert places["models", "gpt-4o"] == (2, 3)
    assert places["models", "gpt-4o", "upstreams", 0] == (4, 9)
    assert places["models", "gpt-4o", "upstreams", 0, "provider"] == (4, 20)


def test_paths_are_written_as_people_would() -> None:
    """Indexes stand in brackets, and a key with a dot is quoted."""
    assert format_path(("models", "gpt-4o", "upstreams", 0, "provider")) == (
        "models.gpt-4o.upstreams[0].provider"
    )
    assert format_path(("models", "gpt-4.1", "fallbacks", 1)) == 'models."gpt-4.1".fallbacks[1]'


def test_a_character_of_two_escapes_is_one() -> None:
    """As JSON writes what lies beyond 16 bits; half of one is a character that stands for none."""
    document = parse('{"a": "\\ud83d\\ude00", "\\ud83d\\ude00": 1, "b": "\\ud83d"}', {})

    assert document.tree == {"a": "\U0001f600", "\U0001f600": 1, "b": "\ufffd"}
