"""T-34, T-36, T-63, T-66: a configuration that is hostile, broken, or written by a tired person."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from config_samples import BASE, faults, loaded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metering.ids import is_id
from metering.redis_keys import RedisKeys
from proxy.config import ConfigFaults, load
from proxy.config_decode import shape_keys

ROOT = Path(__file__).parents[2]

NAUGHTY = [
    "",
    " ",
    ".",
    "..",
    "../x",
    "/",
    "\\",
    "~",
    "*",
    "?",
    "%",
    "%s",
    "%00",
    "$HOME",
    "`id`",
    "$(id)",
    "; ls",
    "| ls",
    "'",
    '"',
    "''",
    "' OR 1=1--",
    "a:b",
    "{}",
    "}x",
    "{x",
    "a}b{c",
    "{{7*7}}",
    "#{1}",
    "<b>",
    "<img src=x onerror=alert(1)>",
    "]]>",
    "&amp;",
    "=1+1",
    "@SUM(A1)",
    "+cmd|' /C calc'!A0",
    "a b",
    "a\tb",
    "a\nb",
    "a\rb",
    "a\r\nX: y",
    "\x00",
    "a\x00b",
    "\x1b[31m",
    "\x7f",
    "\u00e9",
    "\u4e2d\u6587",
    "\U0001f600",
    "\u202eabc",
    "\u200b",
    "\ufeff",
    "\u0430cme",
    "\u2028",
    "\u00a0",
    "I\u0307",
    "\u00df",
    "a" * 65,
    "a" * 512,
    "a,b",
    "a;b",
    "a=b",
    "a@b",
    "a/b",
    "a#b",
    "!!python/object:os.system",
    "&a",
]
"""Names that some layer below would read as something else."""


@pytest.mark.parametrize("name", NAUGHTY, ids=lambda name: ascii(name)[:24])
def test_t63_t34_no_id_is_anything_but_letters_and_digits(tmp_path: Path, name: str) -> None:
    """T-63, T-34: ids stand in keys, rows, metrics and pages, so the file is their only door."""
    quoted = json.dumps(name)
    places = {
        "tenants[0].id": f"tenants: [{{id: {quoted}}}]",
        "tenants[0].keys[0].id": f"tenants: [{{id: t, keys: [{{id: {quoted}, mint: true}}]}}]",
        "tenants[0].projects[0].id": f"tenants: [{{id: t, projects: [{{id: {quoted}}}]}}]",
        "redis.prefix": f"redis: {{prefix: {quoted}}}",
        "metering.queue": f"metering: {{queue: {quoted}}}",
    }

    assert not is_id(name)
    for place, text in places.items():
        found = faults(tmp_path, f"{BASE}{text}\n")
        assert any(place in each for each in found), place


def test_t63_every_tenants_keys_lie_in_one_slot() -> None:
    """T-63: the slot comes from a number of ours, so no name can empty or split its tag."""
    keys = RedisKeys(prefix="weir")

    tags = {keys.tag(keys.shard(f"tenant-{index}")) for index in range(500)}

    assert tags == {f"weir:{{s{shard}}}" for shard in range(keys.shards)}


BILLION = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in itertools.pairwise("abcdefghi")
)
HOSTILE = {
    "alias_bomb": BILLION,
    "alias_of_itself": "a: &a [*a]\n",
    "ten_megabytes": "a: b\n" * 2_500_000,
    "deep": "a: " + "[" * 5000,
    "python_object": "a: !!python/object/apply:os.system [id]\n",
    "custom_tag": "a: !secret x\n",
    "merge_key": "a: &a {b: c}\nd: {<<: *a}\n",
    "two_documents": "a: b\n---\nc: d\n",
    "duplicate_key": "server: {port: 1}\nserver: {port: 2}\n",
    "nul": "a: \0\n",
    "tab": "server:\n\tport: 1\n",
    "long_number": f"server: {{port: {'9' * 5000}}}\n",
    "huge_exponent": "limits: {tenant: {daily_cap: 1e999999}}\n",
    "nan": "limits: {tenant: {daily_cap: .nan}}\n",
    "negative_price": "pricing: {rules: [{model: a, input_per_mtok: -1, output_per_mtok: 1}]}\n",
    "free_by_accident": "pricing: {rules: [{model: a, input_per_mtok: 0, output_per_mtok: 0}]}\n",
    "octal": "server: {port: 0o17}\n",
    "norway": "tenants: [{id: t, keys: [{id: k, mint: no}]}]\n",
    "nested_variable": 'server: {host: "${A:-${B}}"}\n',
    "unset_variable": 'server: {host: "${NOT_SET}"}\n',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_t66_a_file_that_is_none_is_refused_with_its_place(tmp_path: Path, name: str) -> None:
    """T-66: refused with line and column, where there is one; nothing is expanded."""
    path = tmp_path / "config.yaml"
    path.write_text(HOSTILE[name])

    with pytest.raises(ConfigFaults) as caught:
        load(path, {})

    assert caught.value.faults
    for fault in caught.value.faults:
        assert fault.message
        assert (fault.line > 0 and fault.column > 0) or name in {"ten_megabytes", "nul"}


def test_t36_secrets_that_everybody_can_read_are_warned_about(tmp_path: Path) -> None:
    """T-36: a key written into a file of mode 0644 is one that every user of the machine has."""
    text = f"{BASE}tenants: [{{id: t, keys: [{{id: k, key: sk-{'a' * 40}}}]}}]\n"
    path = tmp_path / "config.yaml"
    loaded(tmp_path, text)
    said = {}
    for mode in (0o644, 0o640, 0o600):
        path.chmod(mode)
        said[mode] = [str(warning) for warning in load(path, {}).warnings]

    assert any("every user of this machine can read" in each for each in said[0o644])
    assert not any("every user" in each for each in said[0o640] + said[0o600])
    assert "aaaa" not in str(said)


@pytest.mark.parametrize("key", ["", "${EMPTY}"])
def test_t36_an_empty_key_is_refused(tmp_path: Path, key: str) -> None:
    """T-36: a key of no length would be everybody's."""
    text = f'{BASE}tenants: [{{id: t, keys: [{{id: k, key: "{key}"}}]}}]\n'

    assert any("the key is empty" in each for each in faults(tmp_path, text, EMPTY=""))


EXAMPLE = (ROOT / "config.yaml").read_text(encoding="utf-8")
NAMES = sorted({part for key in shape_keys() for part in key.replace("[]", "").split(".")})
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([*NAUGHTY, "${A}", "${A:-b}", "os.environ/A", "demo", "simulator", "gpt-4o"]),
)
trees: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=4),
    ),
    max_leaves=12,
)
FUZZ = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(st.dictionaries(st.sampled_from([key for key in NAMES if "." not in key]), trees))
def test_t66_any_tree_is_settings_or_faults(tmp_path: Path, tree: dict[str, Any]) -> None:
    """T-66: whatever is written under whichever name, the answer is settings or faults."""
    judged(tmp_path, json.dumps(tree).encode())


@FUZZ
@given(st.data())
def test_t66_any_change_of_the_example_is_settings_or_faults(
    tmp_path: Path, data: st.DataObject
) -> None:
    """T-66: a file that was cut, doubled or overwritten somewhere."""
    raw = bytearray(EXAMPLE.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(raw)))
        cut = data.draw(st.integers(0, 40))
        raw[at : at + cut] = data.draw(
            st.binary(max_size=12) | st.sampled_from([b"{", b"]", b"&a ", b"*a", b"!!int ", b"\n"])
        )

    judged(tmp_path, bytes(raw))


def judged(folder: Path, raw: bytes) -> None:
    """Loaded, or refused with faults that say where: never anything else."""
    path = folder / "config.yaml"
    path.write_bytes(raw)
    try:
        load(path, {"A": "x"})
    except ConfigFaults as refused:
        for fault in refused.faults:
            assert fault.message
            assert fault.line >= 0 and fault.column >= 0
            assert fault.line <= raw.count(b"\n") + raw.count(b"\r") + 2
