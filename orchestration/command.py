"""What a bundle's command means on this machine: its words with the folders of the layers and the programs put in."""

from __future__ import annotations

import os
import shutil
import sys

from orchestration.bundle import Bundle, BundleSource, LayerKind


class MissingProgram(LookupError):
    """A bundle needs a program that this machine does not have; the message says which, and how to get it."""


def places(bundle: Bundle, bundles: BundleSource) -> dict[str, str]:
    """Return what the words in a bundle's command stand for; reads the disk.

    `{python}` is this interpreter where a bundle brings none, `{node}` the machine's own. Raises MissingProgram.
    """
    found = {layer.kind: str(bundles.folder(layer)) for layer in bundle.layers}
    dependencies = found.get(LayerKind.DEPENDENCIES, "")
    names = {
        # Dependencies of Node.js are a layer without a Python.
        "python": f"{dependencies}/bin/python" if dependencies and bundle.python is not None else sys.executable,
        "runtime": found.get(LayerKind.RUNTIME, ""),
        "dependencies": dependencies,
        "code": found.get(LayerKind.CODE, "/"),
    }
    if any("{node}" in word for word in bundle.command):
        names["node"] = find_node()
    return names


def find_node() -> str:
    """Return the path of Node.js's program. Raises MissingProgram."""
    if path := shutil.which("node"):
        return os.path.realpath(path)
    raise MissingProgram(
        "Node.js is not on this machine: install it (apt-get install nodejs npm), and start the platform with it in PATH"
    )


def fill(text: str, names: dict[str, str]) -> str:
    """Return `text` with `{code}` and the other words replaced; other braces stay as they are."""
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def default_environment(bundle: Bundle, names: dict[str, str], *, temporary: str, env_process: str | None) -> dict[str, str]:
    """Return what a process of the bundle finds in its environment before the function's own variables are added.

    `temporary` is its folder for files. `env_process` replaces the command of templates that run one for each call.
    """
    path = [f"{names['dependencies']}/bin"] if names["dependencies"] else []
    own = {
        "PATH": os.pathsep.join([*path, "/usr/local/bin", os.defpath]),
        "LANG": "C.UTF-8",
        "HOME": temporary,
        "TMPDIR": temporary,
    }
    own |= {key: fill(value, names) for key, value in bundle.env.items()}
    if env_process is not None:
        own["fprocess"] = env_process
    return own
