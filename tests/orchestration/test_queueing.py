"""Words about asynchronous calls, and what functions have without them."""

from __future__ import annotations

import pytest

from orchestration.queueing import QueueSettings, RetrySettings, is_queue_key, queue_settings, secrets_named
from orchestration.revision import is_function_key
from orchestration.settings import InvalidSetting
from orchestration.spec import FunctionSpec


def settings(labels: dict[str, str] | None = None, env: dict[str, str] | None = None) -> QueueSettings:
    return queue_settings(FunctionSpec(service="f", image="x", labels=labels or {}, env_vars=env))


def of(key: str, text: str) -> QueueSettings:
    return queue_settings(FunctionSpec(service="f", image="x", annotations={key: text}))


def test_without_a_word_a_function_gets_what_it_takes_at_its_largest() -> None:
    assert settings() == QueueSettings(concurrency=2000, calls=0, timeout_s=60.0, retry=RetrySettings())
    labels = {"com.openfaas.scale.max": "3", "com.pinnace.concurrency": "2"}
    assert settings(labels, {"exec_timeout": "5m"}).concurrency == 6
    assert settings(labels, {"exec_timeout": "5m"}).timeout_s == 300.0
    assert settings({"com.openfaas.scale.max": "3", "com.pinnace.concurrency": "0"}).concurrency == 300


def test_openfaas_words_set_how_often_and_when_a_call_is_tried_again() -> None:
    assert of("com.openfaas.retry.attempts", "3").retry.attempts == 3
    assert of("com.openfaas.retry.codes", "429, 503").retry.codes == {429, 503}
    assert of("com.openfaas.retry.min_wait", "1m").retry == RetrySettings(least_wait_s=60.0)
    assert of("com.openfaas.retry.max_wait", "5s").retry == RetrySettings(least_wait_s=5.0, longest_wait_s=5.0)
    assert of("com.openfaas.retry.min_wait", "5m").retry == RetrySettings(least_wait_s=300.0, longest_wait_s=300.0)
    assert of("com.openfaas.retry.else", "x").retry == RetrySettings()


def test_our_words_bound_a_function() -> None:
    assert of("com.pinnace.async.concurrency", "7").concurrency == 7
    assert of("com.pinnace.async.max-waiting", "1000").calls == 1000


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("com.openfaas.retry.attempts", "0"),
        ("com.openfaas.retry.attempts", "many"),
        ("com.openfaas.retry.codes", "200"),
        ("com.openfaas.retry.codes", "5xx"),
        ("com.openfaas.retry.min_wait", "soon"),
        ("com.openfaas.retry.max_wait", "48h"),
        ("com.pinnace.async.concurrency", "0"),
        ("com.pinnace.async.max-waiting", "-1"),
        ("com.pinnace.async.else", "1"),
        ("com.pinnace.callback.secrets", "a"),
        ("com.pinnace.callback.secret", "../etc"),
    ],
)
def test_what_makes_no_sense_is_said_with_its_key(key: str, text: str) -> None:
    with pytest.raises(InvalidSetting, match=key):
        of(key, text)


def test_a_number_that_is_too_small_is_told_which_would_fit() -> None:
    with pytest.raises(InvalidSetting, match="'0': a whole number from 1 to 1000"):
        of("com.openfaas.retry.attempts", "0")


def test_the_secret_that_signs_callbacks_is_one_without_which_the_function_is_not_whole() -> None:
    assert of("com.pinnace.callback.secret", " hooks ").callback_secret == "hooks"
    said = FunctionSpec(
        service="f",
        image="x",
        secrets=("key",),
        labels={"com.pinnace.callback.secret": "label"},
        annotations={"com.pinnace.callback.secret": "hooks"},
    )
    assert secrets_named(said) == ("key", "hooks")
    assert secrets_named(FunctionSpec(service="f", image="x")) == ()


def test_waits_may_not_contradict_each_other() -> None:
    said = {"com.openfaas.retry.min_wait": "10s", "com.openfaas.retry.max_wait": "5s"}
    with pytest.raises(InvalidSetting, match="longer"):
        queue_settings(FunctionSpec(service="f", image="x", annotations=said))


def test_they_are_settings_of_the_function_and_roll_nothing() -> None:
    for key in ("com.openfaas.retry.attempts", "com.pinnace.async.concurrency", "com.pinnace.callback.secret"):
        assert is_queue_key(key) and is_function_key(key)
    assert not is_queue_key("com.pinnace.concurrency")
