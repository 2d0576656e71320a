from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.control.page import FOLDER, MEDIA_TYPES
from tests.gateway.control.client import Client

ROOT = Path(__file__).parent.parent.parent.parent
FILES = sorted(path.name for path in FOLDER.iterdir() if path.name != "index.html")


async def test_a_browser_gets_the_page_without_a_login_and_is_not_asked_for_one(client: Client) -> None:
    answer = await client("GET", "/ui/", login=False)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "www-authenticate" not in answer.headers
    assert "set-cookie" not in answer.headers


async def test_nothing_in_the_page_can_become_a_script_and_nobody_may_frame_it(client: Client) -> None:
    answer = await client("GET", "/ui/", login=False)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["trusted-types"] == "'none'"
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", answer.text)


async def test_files_are_kept_for_good_and_the_page_is_asked_for_anew(client: Client) -> None:
    page = await client("GET", "/ui/", login=False)
    assert page.headers["cache-control"] == "no-cache"
    again = await client("GET", "/ui/", headers={"If-None-Match": page.headers["etag"]}, login=False)
    assert (again.status, again.body) == (304, b"")
    for path in re.findall(r'(?:src|href)="(/ui/[^"]+)"', page.text):
        answer = await client("GET", path, login=False)
        assert (answer.status, answer.headers["cache-control"]) == (200, "public, max-age=31536000, immutable")
        assert answer.headers["content-type"] == MEDIA_TYPES[Path(path).suffix]
    script = re.search(r"/ui/(\w+)/app.js", page.text)
    assert script is not None
    assert (await client("GET", f"/ui/{script[1]}/none.js", login=False)).status == 404
    assert (await client("GET", "/ui/0123456789abcdef/app.js", login=False)).status == 404
    assert (await client("GET", f"/ui/{script[1]}/..%2fcontrol%2fauth.py")).status == 404


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host_and_all_that_are_imported_are_there(name: str) -> None:
    text = (FOLDER / name).read_text()
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert "innerHTML" not in text
    for imported in re.findall(r"from '\./([^']+)'", text):
        assert imported in FILES


def test_handlers_to_begin_with_are_the_templates_own() -> None:
    text = (FOLDER / "templates.js").read_text().replace("\\`", "`").replace("\\${", "${").replace("\\\\", "\\")
    found = re.findall(
        r"language: '([\w-]+)',\n    handler: '([\w.]+)',\n[^\n]*\n[^\n]*\n    text: `(.*?)`,\n  }", text, re.DOTALL
    )
    assert len(found) == text.count("language: ")
    for language, handler, content in found:
        assert content == (ROOT / "runtime-templates" / language / "function" / handler).read_text()


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 110_000
