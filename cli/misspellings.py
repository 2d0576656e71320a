"""Labels and annotations that look like the platform's own settings and are none: a deploy takes them, and nothing reads them.

A note and no error, because OpenFaaS has words of its own in the same families, and newer platforms will have more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from cli.hints import did_you_mean

FAMILIES = ("com.pinnace.", "com.openfaas.scale.", "com.openfaas.retry.")


def misspelt(labels: Mapping[str, str], annotations: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each setting that does nothing: its name is not known, or it is a schedule without its topic."""
    for word, said in (("label", labels), ("annotation", annotations)):
        suspects = [key for key in said if key.startswith(FAMILIES)]
        known = _known() if suspects else frozenset()
        for key in suspects:
            if key not in known:
                yield f"the {word} {key} is none of the platform's and changes nothing{did_you_mean(key, known)}"
    both = {**labels, **annotations}
    if "schedule" in both and "topic" not in both:
        yield "schedule calls nothing without the annotation topic=cron-function"


def _known() -> frozenset[str]:
    """Return every key of those families; imported where it is needed, for most deploys have none."""
    from orchestration import gradual, queueing, scaling_labels, settings, subscriptions, timers
    from orchestration.revision import KEEP_KEY

    return frozenset(
        chain(
            (spelling.key for spelling in scaling_labels.SPELLINGS),
            scaling_labels.IGNORED,
            queueing.KEYS,
            (timer.key for timer in timers.KEYS),
            (gradual.DURATION_KEY, gradual.STEPS_KEY, gradual.ABORT_KEY, subscriptions.EVENTS_KEY, KEEP_KEY),
            (settings.CONCURRENCY_LABEL, settings.TIMEOUT_LABEL, settings.ZYGOTE_LABEL),
        )
    )
