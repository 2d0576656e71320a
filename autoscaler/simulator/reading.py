"""Which trace a text names: a folder, a file, or a kind of made-up traffic."""

from __future__ import annotations

from pathlib import Path

from autoscaler.simulator import azure2019, azure2021, call_log, load_record, synthetic
from autoscaler.simulator.trace import InvalidTrace, Trace


def open_trace(text: str) -> Trace:
    """Return the trace that `text` names. Raises InvalidTrace.

    A folder is Azure 2019; a `.csv` file is Azure 2021, a `.json` file the recorded load of a function, any other a record of
    calls; what is
    neither is `KIND:NAME=VALUE,…`. A file named like a kind is meant by `./step`.
    """
    if synthetic.is_synthetic(text):
        return synthetic.make(text)
    path = Path(text)
    if path.is_dir():
        return azure2019.read(path)
    if not path.exists():
        raise InvalidTrace(text, f"no such file or folder, and none of {', '.join(synthetic.DEFAULTS)}")
    if path.suffix == ".csv":
        return azure2021.read(path)
    if path.suffix == ".json":
        return load_record.read(path)
    return call_log.read(path)
