"""The JSON Schema: what the decoder accepts it accepts, and typical slips both refuse."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import pytest
from config_samples import BASE, faults, schema_faults
from jsonschema import Draft202012Validator

from proxy.config_schema import COPY, config_schema, schema_text
from proxy.config_shape import FileShape
from proxy.config_yaml import parse

ROOT = Path(__file__).parents[2]


def test_the_copy_is_the_schema() -> None:
    """What the package carries is what `weir config schema` prints."""
    assert COPY.read_text(encoding="utf-8") == schema_text()


def test_the_schema_is_one() -> None:
    """It is a valid schema of its draft, and names the sections in the order of the file."""
    schema = json.loads(schema_text())

    Draft202012Validator.check_schema(schema)
    assert list(schema["properties"]) == [field.name for field in fields(FileShape)]


def test_every_field_is_described() -> None:
    """The schema explains every key, so an editor can; and it forbids all others."""
    schema = config_schema()
    sections = [each for each in schema["$defs"].values() if each["type"] == "object"]

    for section in (schema, *sections):
        assert section["additionalProperties"] is False
        undescribed = [
            key for key, value in section["properties"].items() if not value.get("description")
        ]
        assert undescribed == []


def test_descriptions_have_no_dead_links() -> None:
    """An editor cannot follow a link that is relative to our pages."""
    assert re.findall(r"\]\([^)]*\)", schema_text()) == []


def test_every_bound_is_a_bound() -> None:
    """No bound stands in words that only pydantic knows."""
    assert not re.search(r'"(ge|le|gt|lt)":', schema_text())


def _example_files() -> list[Path]:
    found = [ROOT / "config.yaml", *(ROOT / "deploy").glob("*.yaml")]
    return [path for path in found if "providers:" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", _example_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_are_accepted(path: Path) -> None:
    """Every configuration that we ship."""
    assert schema_faults(path.read_text(encoding="utf-8")) == []


ACCEPTED = {
    "nothing": "",
    "empty sections": "server:\nproviders:\nmodels:\ntenants:\nlimits: {tenant: , caps: }\n",
    "variables": 'server: {port: "${PORT:-8080}", explain: "${E}", on_disconnect: "${D}"}\n',
    "litellm's variables": "server: {port: os.environ/PORT}\n",
    "exponents": "pricing: {rules: [{model: m, input_rate: 5e-6, output_rate: 1}]}\n",
    "null for none": "limits: {tenant: {daily_cap: null}}\n",
    "an id of a variable": 'tenants: [{id: "${WHO}"}]\n',
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_accepted(text: str) -> None:
    """Empty sections, variables where a number stands, exact numbers."""
    assert parse(text, {}).faults == []
    assert schema_faults(text) == []


REFUSED = {
    "unknown key": BASE + "server: {prot: 1}\n",
    "unknown section": BASE + "servers: {}\n",
    "quoted number": BASE + 'server: {port: "8080"}\n',
    "port too high": BASE + "server: {port: 65536}\n",
    "not a choice": BASE + "server: {on_disconnect: stop}\n",
    "not a flag": BASE + "server: {explain: yes}\n",
    "no vendor": "providers: {x: {type: opnai}}\n",
    "missing": "providers: {x: {}}\n",
    "a mapping for a list": BASE + "tenants: {id: a}\n",
    "no id": BASE + "tenants: [{id: a b}]\n",
    "no hash": BASE + "tenants: [{id: a, keys: [{id: k, sha256: abc}]}]\n",
    "a number for text": BASE + "tenants: [{id: 2024}]\n",
    "a share above 1": BASE + "redis: {outage_share: 1.5}\n",
    "too often": "providers: {x: {type: simulator, probe: {path: /m, every_s: 0.5}}}\n",
    "too late": "webhooks: [{name: a, url: 'https://a.example', secret: '${S}', events: [x], "
    "dead_after_days: 31}]\n",
    "no seconds": "providers: {x: {type: simulator, timeout_s: 0}}\n",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_typical_slips_are_refused_by_both(tmp_path: Path, text: str) -> None:
    """What an editor underlines is what `weir config check` tells."""
    assert faults(tmp_path, text)
    assert schema_faults(text)
