from __future__ import annotations

import pytest

from cli.hints import did_you_mean


@pytest.mark.parametrize(
    ("word", "hint"),
    [("enviroment", "; did you mean environment?"), ("Labels", "; did you mean labels?"), ("zzz", ""), ("", "")],
)
def test_what_is_almost_known_is_named(word: str, hint: str) -> None:
    assert did_you_mean(word, ("environment", "labels")) == hint
