"""The lock files name what the project asks for, by hash, and not where it was resolved."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ["requirements.lock", "requirements-dev.lock"]


def pinned(lock):
    """Versions by name; one name may have several, for different platforms."""
    text = (ROOT / lock).read_text()
    found = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", text, re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def wanted(lock):
    groups = PROJECT["dependency-groups"]
    plain = PROJECT["project"]["dependencies"] + groups["build"]
    if lock == "requirements-dev.lock":
        plain += [each for each in groups["dev"] if isinstance(each, str)]
    return [Requirement(each) for each in plain]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_is_locked(lock):
    """At a version that the project allows; `make lock` mends it."""
    versions = pinned(lock)

    for requirement in wanted(lock):
        found = versions.get(canonicalize_name(requirement.name), set())
        assert found, f"{requirement.name} is not in {lock}: make lock"
        assert all(version in requirement.specifier for version in found), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_a_hash_and_no_address(lock):
    """pip refuses a lock with one hash missing; an index of somebody's own helps nobody else."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / lock).read_text())[1:]

    assert blocks
    for block in blocks:
        assert "--hash=sha256:" in block, block.partition("\n")[0]
    text = "\n".join(blocks)
    assert not re.search(r"https?://|file://|--index-url|--find-links", text)


def test_one_environment_serves_both():
    """`make test` after `make run` changes no version."""
    runtime, development = (pinned(lock) for lock in LOCKS)

    assert runtime.items() <= development.items()
