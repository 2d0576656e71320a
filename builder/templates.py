"""Language templates: what is in `runtime-templates/`, and a new function's folder made from one.

`runtime-templates/LANGUAGE/` holds `template.yml` and `function/`, the skeleton that a new function starts from. The
folder beside it, `_python/`, is the server that runs inside a replica of every Python template. They lie next to the
packages both in the repository and in an installed wheel.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec

import builder

TEMPLATES_FOLDER = Path(builder.__file__).parent.parent / "runtime-templates"
RUNTIME_FOLDER = "_python"
TEMPLATE_FILE = "template.yml"
HANDLER_FOLDER = "function"

# The languages whose handlers our templates serve unchanged, under the names that OpenFaaS's template store gives them.
_SERVED_BY = {
    "python3-http": ("python3-http-debian", "python3-http-armhf"),
    "python3": ("python3-debian", "python3-armhf"),
}


class UnknownTemplate(LookupError):
    """No template serves that language; the message lists the ones there are."""


class InvalidTemplate(ValueError):
    """A template.yml that cannot be read; the message says where and why."""


class FolderExists(FileExistsError):
    """A new function's folder is there already."""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """`command` is `orchestration.bundle.Bundle`'s, with its placeholders. `folder` is where the template lies."""

    language: str
    folder: Path
    command: tuple[str, ...]
    env: dict[str, str]
    welcome_message: str = ""
    description: str = ""
    aliases: tuple[str, ...] = ()


class Templates:
    """The templates below one folder, read when asked for."""

    def __init__(self, folder: Path = TEMPLATES_FOLDER) -> None:
        self.folder = folder

    @property
    def runtime(self) -> Path:
        """The folder of the Python runtime, which becomes the runtime layer."""
        return self.folder / RUNTIME_FOLDER

    def list(self) -> list[Template]:
        """Return every template, by name. Raises InvalidTemplate."""
        return [read_template(path.parent) for path in sorted(self.folder.glob(f"[!_.]*/{TEMPLATE_FILE}"))]

    def find(self, language: str) -> Template:
        """Return the template for a language as a stack file names it: an alias or a pinned version (`python3-http@1.0`) too.

        Raises UnknownTemplate and InvalidTemplate.
        """
        name = language.partition("@")[0].strip()
        name = next((ours for ours, theirs in _SERVED_BY.items() if name in theirs), name)
        folder = self.folder / name
        if name and not name.startswith(("_", ".")) and Path(name).name == name and (folder / TEMPLATE_FILE).is_file():
            return read_template(folder)
        known = [template.language for template in self.list()]
        if name == "dockerfile":
            raise UnknownTemplate(
                "lang: dockerfile needs a container builder, which this gateway does not have; "
                f"the languages it builds are {', '.join(known)}"
            )
        raise UnknownTemplate(f"no template for language {name!r}; there are {', '.join(known)}")

    def new(self, language: str, destination: Path) -> Template:
        """Make the folder `destination` with the template's handler in it.

        Raises UnknownTemplate, InvalidTemplate, and FolderExists when `destination` is there already.
        """
        template = self.find(language)
        try:
            shutil.copytree(
                template.folder / HANDLER_FOLDER,
                destination,
                ignore=shutil.ignore_patterns("__pycache__"),
                copy_function=shutil.copyfile,
            )
        except FileExistsError:
            raise FolderExists(f"{destination} exists already") from None
        return template


def read_template(folder: Path) -> Template:
    """Return the template that lies in `folder`. Raises InvalidTemplate."""
    said = read_template_file(folder / TEMPLATE_FILE)
    try:
        return Template(
            language=folder.name,
            folder=folder,
            command=msgspec.convert(said.get("command"), tuple[str, ...]),
            env=msgspec.convert(said.get("env") or {}, dict[str, str]),
            welcome_message=str(said.get("welcome_message") or ""),
            description=str(said.get("description") or ""),
            aliases=_SERVED_BY.get(folder.name, ()),
        )
    except msgspec.ValidationError as error:
        raise InvalidTemplate(f"{folder / TEMPLATE_FILE}: {error}") from None


def read_template_file(path: Path) -> dict[str, Any]:
    """Return what a template.yml says, ours or OpenFaaS's. Raises InvalidTemplate."""
    import yaml  # 15 ms, which those who only resolve bundles need not pay

    try:
        said = yaml.safe_load(path.read_bytes())
    except FileNotFoundError:
        raise InvalidTemplate(f"{path.name} is missing") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidTemplate(f"{path.name} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(said, dict):
        raise InvalidTemplate(f"{path.name} must be a mapping with at least `language: NAME`")
    return said
