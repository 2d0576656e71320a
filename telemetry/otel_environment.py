"""OpenTelemetry's own variables, as far as the platform acts on them itself (the exporting process reads the others).

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HTTP: Final = "http/protobuf"
_RATIOS: Final = {"always_on": "1", "always_off": "0", "parentbased_always_on": "1", "parentbased_always_off": "0"}


def ratio(environment: Mapping[str, str]) -> str:
    """Return the share of calls to trace that OTEL_TRACES_SAMPLER asks for; empty when it asks for none that is known here."""
    sampler = environment.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    if sampler in ("traceidratio", "parentbased_traceidratio"):
        return environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or "1"
    return _RATIOS.get(sampler, "")


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether these variables name a collector, and nothing switches traces off."""
    off = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    none = environment.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() == "none"
    return bool(environment.get(ENDPOINT) or environment.get(TRACES_ENDPOINT)) and not (off or none)


def unspoken_protocol(environment: Mapping[str, str]) -> str:
    """Return the protocol that is asked for and not spoken here; empty when all is well."""
    asked = next((environment[name] for name in PROTOCOLS if environment.get(name)), HTTP)
    return asked if asked != HTTP else ""
