from __future__ import annotations

import errno
import json
import time

import pytest

from orchestration.orchestrator import NotNow
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.client import Client


async def test_info_names_everything_a_client_dereferences(client: Client) -> None:
    info = (await client("GET", "/system/info")).json()
    assert info["provider"]["provider"] == "pinnace"
    assert info["provider"]["orchestration"] == "local"
    for version in (info["version"], info["provider"]["version"]):
        assert version["release"] == "1.2.3"
        assert version["sha"]
    assert info["arch"]


async def test_health_is_200_and_empty(client: Client) -> None:
    answer = await client("GET", "/healthz", login=False)
    assert (answer.status, answer.body) == (200, b"")


async def test_the_root_leads_to_the_page_which_asks_for_the_login_itself(client: Client) -> None:
    answer = await client("GET", "/", login=False)
    assert (answer.status, answer.headers["location"]) == (307, "/ui/")
    page = await client("GET", "/ui/", login=False)
    assert page.headers["content-type"].startswith("text/html")
    assert "faas top" in page.text, "for browsers without scripts"


@pytest.mark.parametrize(
    "path", ["/none", "/ui", "/ui/none", "/system/functions/", "/system/telemetry", "/function/hello", "/async-function/hello"]
)
async def test_what_is_not_there_is_404_in_text(client: Client, path: str) -> None:
    answer = await client("GET", path)
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/plain")
    assert path in answer.text


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PATCH", "/system/functions", {"GET", "HEAD", "POST", "PUT", "DELETE"}),
        ("POST", "/system/function/hello", {"GET", "HEAD"}),
        ("GET", "/system/scale-function/hello", {"POST"}),
        ("GET", "/system/namespace/", {"POST"}),
        ("OPTIONS", "/healthz", {"GET", "HEAD"}),
        ("GET", "/build", {"POST"}),
    ],
)
async def test_a_wrong_method_is_405_with_all_the_right_ones(client: Client, method: str, path: str, allowed: set[str]) -> None:
    answer = await client(method, path)
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == allowed
    assert method in answer.text


async def test_answers_are_neither_guessed_at_nor_kept(client: Client) -> None:
    for path, login in (("/system/info", True), ("/none", True), ("/system/info", False)):
        headers = (await client("GET", path, login=login)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("error", [RuntimeError("inner state"), OSError("inner state"), TimeoutError("inner state")])
async def test_an_inner_error_is_500_logged_and_tells_nothing(
    client: Client,
    orchestrator: FakeOrchestrator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def broken(namespace: str) -> None:
        raise error

    monkeypatch.setattr(orchestrator, "statuses", broken)
    answer = await client("GET", "/system/functions")
    assert answer.status == 500
    assert "inner state" not in answer.text
    assert "inner state" in caplog.text


async def test_a_full_disk_is_507(client: Client, orchestrator: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(orchestrator, "apply", full)
    answer = await client("POST", "/system/functions", {"service": "hello", "image": "x"})
    assert (answer.status, answer.text) == (507, "the gateway's disk is full\n")


async def test_a_cluster_that_does_not_answer_is_503(
    client: Client, orchestrator: FakeOrchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise NotNow("the Kubernetes API does not answer", 2.5)

    monkeypatch.setattr(orchestrator, "apply", away)
    answer = await client("POST", "/system/functions", {"service": "hello", "image": "x"})
    assert (answer.status, answer.text) == (503, "the Kubernetes API does not answer\n")
    assert answer.headers["retry-after"] == "3"


async def test_names_in_paths_cannot_break_the_line(client: Client) -> None:
    for name in ("a%0Ab", "%00", "%F0%9F%9A%A2", "%ff", "a%1b[31m"):
        answer = await client("GET", f"/system/function/{name}")
        assert answer.status == 404, name
        assert answer.text.count("\n") == 1
        assert answer.text.strip().isprintable()


async def test_a_list_of_200_functions_is_quick(client: Client, orchestrator: FakeOrchestrator) -> None:
    """50 ms is what is promised on a quiet machine; the limit leaves room for a busy one."""
    for number in range(200):
        await orchestrator.apply(FunctionSpec(service=f"f{number}", image="x", labels={"a": "b"}, env_vars={"A": "1"}))
    taken = []
    for _ in range(5):
        begun = time.perf_counter()
        answer = await client("GET", "/system/functions")
        taken.append(time.perf_counter() - begun)
        assert len(json.loads(answer.body)) == 200
    assert min(taken) < 0.15, taken
