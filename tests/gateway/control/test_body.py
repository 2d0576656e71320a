from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from gateway.control.body import LARGEST_JSON_BYTES, decode
from gateway.control.wire import FunctionDeployment, ScaleServiceRequest
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client

START = b'{"service": "hello", "image": "x", "extra": '


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"{", "truncated"),
        (b'{"service": "hello",}', "byte 20"),
        (b"[]", "object"),
        (b"null", "object"),
        (b'"text"', "object"),
        (b"{} {}", "byte"),
        (b"service=hello", "byte 0"),
        (START + b"[" * 100_000, "recursion"),
        (START + b'{"a":' * 100_000, "recursion"),
        (START + b"1" * 5000 + b"}", "out of range"),
        (START + b"1e999}", "out of range"),
        (START + b"NaN}", "byte"),
        (START + b'"\xff"}', "utf-8"),
        (START + b'"\\ud800"}', "JSON"),
        (b"\xef\xbb\xbf{}", "byte 0"),
        ('{"service": "hello"}'.encode("utf-16"), "byte 0"),
        (b'{"service": "he\\u0000llo", "image": "x"}', "NUL character in `$.service`"),
        (b'{"service": "hello", "image": "x", "secrets": ["\\u0000"]}', "NUL character in `$.secrets`"),
        (b'{"service": "hello", "image": "x", "limits": {"cpu": "1\\u0000"}}', "NUL character in `$.limits.cpu`"),
        (b'{"service": ["hello"], "image": "x"}', "$.service"),
        (b'{"service": "hello", "image": "x", "readOnlyRootFilesystem": "yes"}', "$.readOnlyRootFilesystem"),
    ],
)
async def test_what_no_client_means_is_400_in_one_line(
    client: Client, orchestrator: FakeOrchestrator, body: bytes, words: str
) -> None:
    answer = await client("POST", "/system/functions", body)
    assert answer.status == 400
    assert words in answer.text
    assert answer.text.count("\n") == 1
    assert orchestrator.statuses("openfaas-fn") == []


async def test_a_body_may_have_a_mebibyte(client: Client) -> None:
    whole = json.dumps({"service": "hello", "image": "x", "annotations": {"a": ""}})
    fits = whole.replace('""', '"' + "x" * (LARGEST_JSON_BYTES - len(whole)) + '"')
    assert (await client("POST", "/system/functions", fits)).status == 202
    assert (await client("POST", "/system/functions", fits + " ")).status == 413
    chunked = b"%x\r\n%b\r\n" % (len(fits) + 1, fits.encode() + b" ") + b"0\r\n\r\n"
    headers: dict[str, Any] = {"Transfer-Encoding": "chunked", "Content-Length": None}
    assert (await client("POST", "/system/functions", chunked, headers)).status == 413


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert decode(b'{"replicas": 2.0}', ScaleServiceRequest).replicas == 2
    with pytest.raises(HTTPException):
        decode(b'{"replicas": 2.5}', ScaleServiceRequest)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(["service", "SERVICE", "image", "envVars", "labels", "limits", "secrets", "other"])


@given(st.dictionaries(keys, json_values) | json_values)
def test_any_json_is_taken_or_refused_with_400(value: object) -> None:
    try:
        decoded = decode(json.dumps(value).encode(), FunctionDeployment)
    except HTTPException as refused:
        assert refused.status_code == 400
    else:
        assert isinstance(decoded, FunctionDeployment)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken_or_refused_with_400(body: bytes) -> None:
    with pytest.raises(HTTPException) as refused:
        decode(body, FunctionDeployment)
    assert refused.value.status_code == 400


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@given(st.dictionaries(texts, texts))
def test_maps_are_kept_as_they_are_sent(labels: dict[str, str]) -> None:
    body = {"service": "hello", "image": "x", "LABELS": labels}
    assert decode(json.dumps(body).encode(), FunctionDeployment).labels == labels
