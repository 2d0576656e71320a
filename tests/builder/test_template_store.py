from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.template_pull import _NAME, parse_source
from builder.template_store import StoreFailed, find_entry, read_store


def test_the_store_that_comes_along_can_be_pulled_from() -> None:
    entries = read_store()
    assert len({entry.template for entry in entries}) == len(entries)
    for entry in entries:
        assert not parse_source(entry.repo).is_folder
        assert _NAME.fullmatch(entry.template)
        assert entry.language and entry.description and entry.source


def test_a_store_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "store.json"
    rows = [
        {"template": "go", "repo": "https://a/go", "source": "a", "official": "false", "unknown": 1},
        {"template": "go", "repo": "https://b/go", "source": "b", "official": "true"},
    ]
    path.write_text(json.dumps(rows))
    entries = read_store(str(path))
    assert find_entry(entries, "go").source == "b", "the official one"
    assert find_entry(entries, "a/go").repo == "https://a/go"
    with pytest.raises(StoreFailed, match=r"the store has no template 'goo'; did you mean go\?"):
        find_entry(entries, "goo")
    with pytest.raises(StoreFailed, match="faas template store list shows what there is"):
        find_entry(entries, "c/zzz")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}", "is no store of templates"), ("[{}]", "missing required field `template`"), ("x", "is no store")],
)
def test_a_store_that_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "store.json"
    path.write_text(text)
    with pytest.raises(StoreFailed, match=message) as caught:
        read_store(str(path))
    assert str(path) in str(caught.value)


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="cannot be read: No such file"):
        read_store(str(tmp_path / "none.json"))
    with pytest.raises(StoreFailed, match=r"http://127\.0\.0\.1:1/ cannot be read: "):
        read_store("http://127.0.0.1:1/")
