"""The dashboard's files, read for what its policy would forbid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.dashboard.assets import POLICY, load_assets

STATIC = Path(__file__).parents[3] / "proxy" / "dashboard" / "static"
OURS = sorted(path for path in STATIC.rglob("*") if path.is_file() and "vendor" not in path.parts)
HTML_FROM_TEXT = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser"
    r"|\beval\(|new Function|setHTMLUnsafe|srcdoc"
)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_no_text_is_read_as_html_and_nothing_comes_from_elsewhere(path: Path) -> None:
    """What a tenant is called is text; scripts and styles are files of ours, never inline."""
    text = path.read_text(encoding="utf-8")

    assert HTML_FROM_TEXT.findall(text) == []
    assert [
        url for url in re.findall(r"https?://[^\s\"'`)]+", text) if "www.w3.org" not in url
    ] == []
    if path.suffix == ".html":
        assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text) == []


def test_the_policy_allows_our_own_files_and_nothing_else() -> None:
    """No inline script or style, no eval, no frame around it, no text as HTML."""
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY
    assert "frame-ancestors 'none'" in POLICY
    assert "require-trusted-types-for 'script'" in POLICY


def test_every_module_that_is_imported_is_there() -> None:
    """A page asks for nothing that is not among its files."""
    files = load_assets().files
    for name in [name for name in files if name.startswith("js/")]:
        for wanted in re.findall(r'from "\./(.+?)"', files[name].body.decode()):
            assert f"js/{wanted}" in files
        for wanted in re.findall(r'from "\.\./(.+?)"', files[name].body.decode()):
            assert wanted in files


def test_pages_name_their_files_by_what_these_hold() -> None:
    """Another file makes another address, so that what may be kept for ever is never old."""
    assets = load_assets()

    page = assets.page("index.html").body.decode()

    assert f"/dashboard/assets/{assets.digest}/js/app.js" in page
    assert "{{" not in page


def test_the_chart_library_lies_beside_its_licence() -> None:
    """uPlot is not ours: its licence goes where it goes."""
    assert b"Leon Sorokin" in load_assets().files["vendor/LICENSE.uplot"].body
    assert b"Leon Sorokin" in load_assets().files["vendor/uplot.js"].body
