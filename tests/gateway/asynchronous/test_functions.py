"""Which functions exist and how their calls are carried out follows the orchestrator's events."""

from __future__ import annotations

import pytest

from gateway.asynchronous.functions import Functions
from orchestration.events import FunctionChanged, FunctionRemoved
from orchestration.names import FunctionId
from orchestration.queueing import QueueSettings, RetrySettings
from orchestration.rollout import deploy
from orchestration.spec import FunctionSpec

ECHO = FunctionId("openfaas-fn", "echo")
QUEUE = "echo.openfaas-fn"


def changed(**annotations: str) -> FunctionChanged:
    said = {f"com.openfaas.retry.{key}": text for key, text in annotations.items()}
    return FunctionChanged(deploy(None, FunctionSpec(service="echo", image="x", annotations=said), "sha256:0", 0.0))


def test_a_function_has_what_it_says_for_as_long_as_it_exists() -> None:
    functions = Functions()
    assert not functions.knows(ECHO)
    functions.apply(changed(attempts="3"))
    assert functions.knows(ECHO) and functions.knows(FunctionId("openfaas-fn", "echo--tag")) and functions.has(QUEUE)
    assert functions.of(QUEUE).retry.attempts == 3
    functions.apply(changed(attempts="4"))
    assert functions.of(QUEUE).retry.attempts == 4
    functions.apply(FunctionRemoved(*ECHO))
    assert not functions.knows(ECHO) and functions.of(QUEUE) == QueueSettings()


def test_settings_that_make_no_sense_are_warned_of_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    functions = Functions()
    functions.apply(changed(attempts="many"))
    assert functions.knows(ECHO) and functions.of(QUEUE) == QueueSettings()
    assert "com.openfaas.retry.attempts='many'" in caplog.text


def test_queues_of_another_kind_have_settings_of_their_own() -> None:
    own = QueueSettings(concurrency=3, retry=RetrySettings(attempts=2))
    functions = Functions({"callback": own})
    functions.apply(changed(attempts="9"))
    assert functions.of(f"{QUEUE}#callback") == own
    assert functions.of(f"{QUEUE}#else") == QueueSettings()
