"""What the supervisor makes of a changed registry, with children that answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fixtures_door import settings, tenant

from proxy import metrics_catalogue as catalogue
from proxy.config import ConfigFaults, Fault, Loaded
from proxy.config_registry import Registered
from proxy.metrics import Metrics
from proxy.registry_reloads import RegistryReloads
from proxy.reload_report import read_report
from proxy.reloading import Reloads
from proxy.settings import Settings
from proxy.settings_line import Answer, Change, RegistryHint, Said


@dataclass
class FakeLine:
    """A child that takes up everything; what it has to say is put in `waiting`."""

    sent: list[Change] = field(default_factory=list)
    waiting: list[Said] = field(default_factory=list)

    def renew(self) -> None:
        self.waiting.clear()

    def send(self, change: Change) -> bool:
        self.sent.append(change)
        self.waiting.append(Answer(change.generation))
        return True

    def heard(self) -> list[Said]:
        said, self.waiting = self.waiting, []
        return said


class Site:
    """A supervisor's reloads over one child; the file and the registry say what they are told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        source = folder / "config.yaml"
        source.write_text("a: 1")
        self.running = replace(settings({"one": "http://one"}), source=source, data_dir=folder)
        self.file: Settings | Exception = self.running
        self.registry: Settings | Exception = self.running
        self.left_out: dict[str, str] = {}
        self.texts: list[str] = []
        self.line = FakeLine()
        self.opened = SimpleNamespace(settings=self.running, redis=None, simulator=None, keys=[])
        self.reloads = Reloads(
            cast("Any", self.opened),
            cast("Any", {"proxy-0": self.line}),
            Metrics(),
            lambda: self.loaded(self.file, "new text"),
            registry=RegistryReloads(self.read_again, "text at the start"),
        )
        self.reloads.before("proxy-0")()

    def loaded(self, found: Settings | Exception, text: str) -> Loaded:
        if isinstance(found, Exception):
            raise found
        return Loaded(found, text=text, registry=Registered(left_out=self.left_out))

    def read_again(self, text: str) -> Loaded:
        self.texts.append(text)
        return self.loaded(self.registry, text)

    def hint(self, version: str) -> None:
        self.line.waiting.append(RegistryHint(version))
        for _ in range(4):
            self.reloads.turn()

    def reload(self) -> None:
        self.reloads.ask("SIGHUP")
        for _ in range(4):
            self.reloads.turn()

    def count(self, metric: Any, result: str) -> float:
        return self.reloads.metrics.counters.get((metric.name, result), 0)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def _with(running: Settings, version: str) -> Settings:
    more = replace(tenant(), id="more", is_registered=True)
    return replace(running, tenants={**running.tenants, "more": more}, registry=version)


def test_a_registry_is_taken_up_beside_a_faulty_file(site: Site) -> None:
    """It is read with the text that was taken up last, and what was told of the file stays."""
    site.file = ConfigFaults(Path("config.yaml"), [Fault("models", 1, 1, "no")])
    site.reload()
    site.registry = _with(site.running, "1-a")
    site.hint("1-a")

    assert site.texts == ["text at the start"]
    assert [each.settings.registry for each in site.line.sent] == ["1-a"]
    assert site.opened.settings.tenants.keys() == {"acme", "more"}
    assert site.reloads.metrics.gauges[catalogue.CONFIG_FAILED.name,] == 1
    assert site.count(catalogue.REGISTRY_RELOADS, "applied") == 1
    assert site.count(catalogue.CONFIG_RELOADS, "refused") == 1
    report = read_report(site.folder)
    assert report is not None
    assert report.why == "SIGHUP"
    site.hint("1-a")
    assert len(site.texts) == 1


def test_after_a_reload_the_new_text_is_used(site: Site) -> None:
    """And what the registry says is in what was read with it."""
    site.file = replace(site.running, models={})
    site.reload()
    site.registry = _with(site.running, "1-a")
    site.hint("1-a")

    assert site.texts == ["new text"]


def test_a_file_takes_no_tenant_from_service(site: Site) -> None:
    """One that would is refused, by the tenant's name; one that was left out already is none."""
    site.registry = _with(site.running, "1-a")
    site.left_out = {"old": "unknown model"}
    site.hint("1-a")
    assert site.reloads.metrics.gauges[catalogue.REGISTRY_LEFT_OUT.name,] == 1

    site.file = replace(_with(site.running, "1-a"), models={})
    site.reload()
    report = read_report(site.folder)
    assert report is not None
    assert report.ok
    site.left_out = {"old": "unknown model", "more": "unknown model 'm'"}
    site.file = replace(_with(site.running, "1-a"), on_exhausted="error")
    site.reload()
    report = read_report(site.folder)
    assert report is not None
    assert (report.ok, report.faults[0]["key"]) == (False, "registry.more")
    assert site.opened.settings.on_exhausted == "soft"


def test_a_registry_that_cannot_be_read_changes_nothing(site: Site) -> None:
    """What was there is served, and the count says so."""
    site.registry = ConfigFaults(Path("config.yaml"), [Fault("", 0, 0, "no")])
    site.hint("1-a")

    assert site.line.sent == []
    assert site.opened.settings == site.running
    assert site.count(catalogue.REGISTRY_RELOADS, "refused") == 1
