"""schemathesis against the API: every operation of the document, with data that fits and data that does not.

It runs against a fake orchestrator; with `PINNACE_TEST_URL` (and `PINNACE_TEST_LOGIN` as `USER:PASSWORD`) it runs against
a platform that is up, whose functions, secrets and namespaces it makes, changes and removes.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.control.auth import Auth, Login
from orchestration.orchestrator import Namespace
from orchestration.spec import FunctionSpec
from tests.fakes.orchestrator import FakeOrchestrator
from tests.gateway.control.conftest import Application, serving

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "positive_data_acceptance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
    "use_after_free",
    "ensure_resource_availability",
)
"""All that schemathesis has but `object_level_authorization`, which needs two logins, and there is one."""

LONGEST_S = 90


@pytest.fixture
async def target(application: Application, orchestrator: FakeOrchestrator) -> AsyncIterator[tuple[str, str]]:
    """URL and login of what is tested."""
    if live := os.environ.get("PINNACE_TEST_URL"):
        yield live, os.environ["PINNACE_TEST_LOGIN"]
        return
    await orchestrator.create_namespace(Namespace("dev"))
    await orchestrator.create_secret("openfaas-fn", "key", b"value")
    await orchestrator.apply(FunctionSpec(service="hello", image="example/hello", secrets=("key",)))
    await orchestrator.write(orchestrator.statuses("openfaas-fn")[0].function.id, "a line")
    async with serving(application(auth=Auth(Login("admin", "password"), b"payload secret"))) as client:
        yield f"http://{client.host}:{client.port}", "admin:password"


@pytest.mark.slow
@pytest.mark.timeout(LONGEST_S + 10)
async def test_schemathesis_finds_nothing(target: tuple[str, str], tmp_path: Path) -> None:
    url, login = target
    schemathesis = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("schemathesis"),
        *("--no-color", "--config-file", Path(__file__).with_name("schemathesis.toml").absolute()),
        *("run", f"{url}/api/v1/openapi.json", "--auth", login, "--checks", ",".join(CHECKS)),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(LONGEST_S):
            report, _ = await schemathesis.communicate()
    finally:
        if schemathesis.returncode is None:
            schemathesis.kill()
            await schemathesis.wait()
    assert schemathesis.returncode == 0, report.decode()
    told = re.search(r"Selected: (\d+)/(\d+)\s+Tested: (\d+)", report.decode())
    assert told is not None, report.decode()
    assert len(set(told.groups())) == 1, "every operation there is was tested"
    assert int(told[1]) > 30, report.decode()
