"""The supervisor's part of a reload, with children that answer, answer badly, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fixtures_door import settings

from proxy import metrics_catalogue as catalogue
from proxy import reloading
from proxy.config import ConfigFaults, Fault, Loaded
from proxy.config_files import digest
from proxy.config_reading import Found
from proxy.metrics import Metrics
from proxy.reload_report import ReloadReport, read_report
from proxy.reloading import Reloads
from proxy.settings import Settings
from proxy.settings_line import Answer, Change, Hint, Said


@dataclass
class FakeLine:
    """A child that answers as it is told to; `is_full` takes nothing."""

    says: Callable[[Change], list[Said]] = lambda change: [Answer(change.generation)]
    is_full: bool = False
    sent: list[Change] = field(default_factory=list)
    waiting: list[Said] = field(default_factory=list)

    def renew(self) -> None:
        self.waiting.clear()

    def send(self, change: Change) -> bool:
        if self.is_full:
            return False
        self.sent.append(change)
        self.waiting += self.says(change)
        return True

    def heard(self) -> list[Said]:
        said, self.waiting = self.waiting, []
        return said


@dataclass
class SlowReading:
    """A reader that has found something once it is given to it."""

    settings: Settings | None = None
    is_stopped: bool = False

    def found(self) -> Found | None:
        return None if self.settings is None else Found(self.settings)

    def stop(self) -> None:
        self.is_stopped = True


@dataclass
class Site:
    """A supervisor's reloads over two children, and a file that says what it is told to."""

    folder: Path
    fresh: Settings | Exception
    reloads: Reloads
    lines: dict[str, FakeLine]
    opened: Any

    def report(self) -> ReloadReport:
        found = read_report(self.folder)
        assert found is not None
        return found

    def gauge(self, metric: Any) -> float:
        return self.reloads.metrics.gauges[metric.name,]

    def reload(self) -> ReloadReport:
        self.reloads.ask("SIGHUP")
        for _ in range(3):
            self.reloads.turn()
        return self.report()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    source = tmp_path / "config.yaml"
    source.write_text("a: 1")
    running = replace(settings({"one": "http://one"}), source=source, data_dir=tmp_path)
    opened = SimpleNamespace(settings=running, redis=None, simulator=None, keys=[])
    lines = {"proxy-0": FakeLine(), "worker": FakeLine()}

    def read() -> Any:
        if isinstance(made.fresh, Exception):
            raise made.fresh
        return Loaded(made.fresh)

    reloads = Reloads(cast("Any", opened), cast("Any", lines), Metrics(), read)
    for name in lines:
        reloads.before(name)()
    made = Site(tmp_path, running, reloads, lines, opened)
    return made


def test_every_child_gets_it_and_says_so(site: Site) -> None:
    """The same settings for all, counted; who starts later begins with them."""
    site.fresh = replace(site.opened.settings, models={})
    report = site.reload()

    assert (report.ok, report.generation, report.applied) == (True, 2, ["models.m"])
    assert report.processes == {"proxy-0": "applied", "worker": "applied"}
    assert [line.sent[0].settings for line in site.lines.values()] == [site.fresh] * 2
    assert site.opened.settings == site.fresh
    assert site.gauge(catalogue.CONFIG_FAILED) == 0


def test_what_was_taken_up_before_is_told(site: Site) -> None:
    """Who asks after the file was seen to change learns what became of the change."""
    site.fresh = replace(site.opened.settings, models={})
    first = site.reload()
    second = site.reload()

    assert (first.before, second.applied) == ({}, [])
    assert second.before == {
        "why": "SIGHUP",
        "finished_ns": first.finished_ns,
        "applied": ["models.m"],
    }


def test_a_faulty_file_changes_nothing_and_is_told(site: Site) -> None:
    """Line and column, a gauge, and no child hears of it; a sound file makes it good."""
    running = site.opened.settings
    site.fresh = ConfigFaults(Path("config.yaml"), [Fault("models.m", 3, 7, "no such thing")])
    report = site.reload()

    [fault] = report.faults
    assert (report.ok, fault["line"], fault["column"]) == (False, 3, 7)
    assert site.opened.settings is running
    assert [line.sent for line in site.lines.values()] == [[], []]
    assert site.gauge(catalogue.CONFIG_FAILED) == 1
    site.fresh = running
    assert site.reload().ok
    assert site.gauge(catalogue.CONFIG_FAILED) == 0


def test_what_is_the_same_is_not_sent(site: Site) -> None:
    """Nothing changed: no child is bothered, and the generation stays."""
    report = site.reload()

    assert (report.ok, report.generation, report.applied) == (True, 1, [])
    assert site.lines["proxy-0"].sent == []


def test_a_child_that_fails_is_named_and_told_again(site: Site) -> None:
    """The others go on with the new settings; the next reload makes it good, changed or not."""
    site.lines["worker"].says = lambda change: [Answer(change.generation, "no such sink")]
    site.fresh = replace(site.opened.settings, models={})
    failed = site.reload()
    site.lines["worker"].says = lambda change: [Answer(change.generation)]
    mended = site.reload()

    assert (failed.ok, failed.processes["worker"]) == (False, "failed: no such sink")
    assert failed.processes["proxy-0"] == "applied"
    assert (mended.ok, mended.processes["worker"]) == (True, "applied")


def test_a_child_that_failed_is_told_again_by_itself(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, without anybody asking; then it is good."""
    monkeypatch.setattr(reloading, "AGAIN_FIRST_S", 0.0)
    site.reloads._again_s = 0.0
    site.lines["worker"].says = lambda change: [Answer(change.generation, "no such sink")]
    site.fresh = replace(site.opened.settings, models={})
    assert not site.reload().ok

    site.lines["worker"].says = lambda change: [Answer(change.generation)]
    for _ in range(3):
        site.reloads.turn()

    report = site.report()
    assert (report.ok, report.why) == (True, "not everywhere yet")
    assert report.processes["worker"] == "applied"
    count = len(site.lines["worker"].sent)
    for _ in range(3):
        site.reloads.turn()
    assert len(site.lines["worker"].sent) == count


def test_an_edit_before_anybody_watched_is_noticed(site: Site) -> None:
    """The file that the settings came from was another one than lies there now."""
    before = digest((site.folder / "config.yaml",))
    (site.folder / "config.yaml").write_text("a: 2")
    read, opened = site.reloads.read, cast("Any", site.opened)
    late = Reloads(opened, cast("Any", site.lines), Metrics(), read, sha256=before)
    files = late._files
    assert files is not None

    looks = [files.has_changed(now_s) for now_s in (10.0, 20.0, 30.0)]

    assert late.hash == before
    assert looks == [False, True, False]


def test_while_it_is_read_everything_goes_on(site: Site) -> None:
    """A turn does not wait for the reader; what is asked meanwhile is read after it."""
    slow = SlowReading()
    site.reloads.begin = lambda read, leave: slow
    site.reloads.ask("SIGHUP")
    site.reloads.turn()
    site.reloads.ask("SIGHUP once more")
    site.reloads.turn()
    assert site.reloads.patience_s() is not None
    assert read_report(site.folder) is None

    slow.settings = replace(site.opened.settings, models={})
    for _ in range(2):
        site.reloads.turn()
    assert site.report().applied == ["models.m"]
    assert site.report().why == "SIGHUP"
    site.reloads.turn()
    site.reloads.turn()
    assert site.report().why == "SIGHUP once more"

    slow.settings = None
    site.reloads.ask("SIGHUP")
    site.reloads.turn()
    site.reloads.stop()
    assert slow.is_stopped


def test_a_child_that_is_silent_is_named_in_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for it for ever, and a full socket counts as silence."""
    monkeypatch.setattr(reloading, "ANSWER_S", 0.0)
    site.lines["worker"].says = lambda change: []
    site.lines["proxy-0"].is_full = True
    site.fresh = replace(site.opened.settings, models={})
    report = site.reload()

    assert not report.ok
    assert report.processes == {
        "proxy-0": "failed: it does not take messages",
        "worker": "failed: it did not answer in time",
    }


def test_a_child_that_is_started_meanwhile_has_it(site: Site) -> None:
    """It died over the message, and was forked with the newest settings."""
    site.lines["worker"].says = lambda change: []
    site.fresh = replace(site.opened.settings, models={})
    site.reloads.ask("SIGHUP")
    site.reloads.turn()
    site.reloads.before("worker")()
    site.reloads.turn()

    assert site.report().processes["worker"] == "started with it"
    assert site.report().ok


def test_a_hint_has_the_own_file_read_once(site: Site) -> None:
    """It is no configuration: what our file says counts, whatever was announced."""
    site.fresh = replace(site.opened.settings, models={})
    for _ in range(2):
        site.lines["proxy-0"].waiting.append(Hint("1:abc"))
        for _ in range(3):
            site.reloads.turn()

    assert site.report().why == "announced in Redis"
    assert len(site.lines["proxy-0"].sent) == 1
