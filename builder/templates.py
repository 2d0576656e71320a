"""Language templates: built in (`runtime-templates/`), pulled into a project (`template/`), or carried by a build context.

`LANGUAGE/` holds `template.yml` and `function/`, the skeleton that a new function starts from; the built-in ones lie next
to the packages both in the repository and in an installed wheel, and the folders beside them, `_python/` and `_node/`,
are what serves calls inside a replica. A template can be run here when its `template.yml` has a `command`; one of
OpenFaaS's, which has a Dockerfile instead, is for container images.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import builder
from orchestration.bundle import Listens

TEMPLATES_FOLDER = Path(builder.__file__).parent.parent / "runtime-templates"
PROJECT_FOLDER = Path("template")
"""Where `faas template pull` and OpenFaaS's client put templates, in the folder of the stack file."""
TEMPLATE_FILE = "template.yml"
HANDLER_FOLDER = "function"
DOCKERFILE_LANGUAGE = "dockerfile"

# The languages whose handlers our templates serve unchanged, under the names that OpenFaaS's template store gives them.
_SERVED_BY = {
    "python3-http": ("python3-http-debian", "python3-http-armhf"),
    "python3": ("python3-debian", "python3-armhf"),
    "node": ("node26", "node25", "node24", "node22", "node20", "node18", "node17", "node16", "node14", "node12"),
    "bash": ("bash-streaming",),
}


class UnknownTemplate(LookupError):
    """No template serves that language; the message lists the ones there are."""


class ImageTemplate(UnknownTemplate):
    """The template makes container images only; the message says what can be done with it."""


class InvalidTemplate(ValueError):
    """A template.yml that cannot be read; the message says where and why."""


class FolderExists(FileExistsError):
    """A new function's folder is there already."""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """One language. `folder` is where the template lies, `built_in` whether it came with the platform.

    `command` and `env` are `orchestration.bundle.Bundle`'s, with their placeholders; the command is empty for a template
    that only has a Dockerfile. `runtime` names the folder of built-in templates that becomes the runtime layer,
    `dependencies` says what the function's packages are installed by (`python`, `node`, or empty). `handler` are the
    files of which a function has one. `python` is the version `X.Y` that it is made for, empty for the platform's own.
    """

    language: str
    folder: Path
    command: tuple[str, ...] = ()
    env: dict[str, str] = {}
    fprocess: str = ""
    handler: tuple[str, ...] = ()
    handler_folder: str = HANDLER_FOLDER
    runtime: str = ""
    dependencies: str = ""
    listens: Listens = Listens.SOCKET
    python: str = ""
    welcome_message: str = ""
    description: str = ""
    aliases: tuple[str, ...] = ()
    built_in: bool = True

    @property
    def runs_here(self) -> bool:
        """Whether its functions can run as processes, and not only as container images."""
        return bool(self.command)

    @property
    def skeleton(self) -> Path:
        """The folder that a new function starts from."""
        return self.folder / self.handler_folder


class Templates:
    """The built-in templates below `folder`, and those of a `project`'s folder, where it has any. Read when asked for."""

    def __init__(self, folder: Path = TEMPLATES_FOLDER, project: Path | None = None) -> None:
        self.folder = folder
        self.project = project

    def runtime(self, template: Template) -> Path | None:
        """Return the folder that becomes the runtime layer, None for a template without one. Raises InvalidTemplate."""
        if not template.runtime:
            return None
        path = self.folder / template.runtime
        if not template.runtime.startswith("_") or "/" in template.runtime or not path.is_dir():
            known = ", ".join(sorted(each.name for each in self.folder.glob("_*")))
            raise InvalidTemplate(f"{template.language}: there is no runtime {template.runtime!r}; there are {known}")
        return path

    def list(self) -> list[Template]:
        """Return every template, by name, the project's in place of built-in ones. Raises InvalidTemplate."""
        found = {template.language: template for template in self._all(self.folder, built_in=True)}
        for template in self._all(self.project, built_in=False):
            if template.runs_here or template.language not in found:
                found[template.language] = template
        return [found[name] for name in sorted(found)]

    def find(self, language: str) -> Template:
        """Return the template for a language as a stack file names it: an alias or a pinned version (`python3-http@1.0`) too.

        A project's template that runs here comes first, then the built-in ones, then one with only a Dockerfile. Raises
        UnknownTemplate and InvalidTemplate.
        """
        name = language.strip()
        bare = name.partition("@")[0]
        own = self._read(self.project, name, built_in=False) or self._read(self.project, bare, built_in=False)
        own = own or self._pinned(name)
        if own is not None and own.runs_here:
            return own
        served_by = next((ours for ours, theirs in _SERVED_BY.items() if bare in theirs), bare)
        if built_in := self._read(self.folder, served_by, built_in=True):
            return built_in
        if own is not None:
            return own
        from difflib import get_close_matches

        there = self.list()
        known = [template.language for template in there]
        near = get_close_matches(bare.lower(), [*known, *(alias for template in there for alias in template.aliases)], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise UnknownTemplate(f"no template for language {bare!r}{hint}; there are {', '.join(known)}")

    def find_runnable(self, language: str) -> Template:
        """Return the template for a language whose functions are to run as processes.

        Raises UnknownTemplate, of which ImageTemplate is one, and InvalidTemplate.
        """
        template = self.find(language)
        if template.language == DOCKERFILE_LANGUAGE:
            known = ", ".join(template.language for template in self.list() if template.runs_here)
            raise ImageTemplate(
                "lang: dockerfile makes a container image, and this gateway runs functions as processes: deploy the image to a "
                "cluster (faas up builds it there), or build the program yourself and deploy it with lang: binary; "
                f"the languages that run here are {known}"
            )
        if not template.runs_here:
            raise ImageTemplate(
                f"template {template.language} has only a Dockerfile, so it makes container images, and this gateway runs "
                "functions as processes: deploy the image to a cluster (faas up builds it there), or build the program "
                "yourself and deploy it with lang: binary"
            )
        return template

    def new(self, language: str, destination: Path) -> Template:
        """Make the folder `destination` with the template's handler in it.

        Raises UnknownTemplate, InvalidTemplate, and FolderExists when `destination` is there already.
        """
        template = self.find(language)
        if not template.skeleton.is_dir():
            raise InvalidTemplate(f"template {template.language} has no folder {template.handler_folder}/ to start from")
        try:
            shutil.copytree(
                template.skeleton, destination, ignore=shutil.ignore_patterns("__pycache__"), copy_function=shutil.copy
            )
        except FileExistsError:
            raise FolderExists(f"{destination} exists already") from None
        return template

    def _all(self, folder: Path | None, *, built_in: bool) -> Iterator[Template]:
        if folder is not None:
            for path in sorted(folder.glob(f"[!_.]*/{TEMPLATE_FILE}")):
                yield read_template(path.parent, built_in=built_in)

    def _pinned(self, name: str) -> Template | None:
        """The template of the project that was pulled at some version, where there is only one of that name."""
        if self.project is None or "@" in name:
            return None
        found = [path.name for path in self.project.glob("*@*") if path.name.partition("@")[0] == name]
        return self._read(self.project, found[0], built_in=False) if len(found) == 1 else None

    def _read(self, folder: Path | None, name: str, *, built_in: bool) -> Template | None:
        if folder is None or not name or name.startswith(("_", ".")) or Path(name).name != name:
            return None
        return read_template(folder / name, built_in=built_in) if (folder / name / TEMPLATE_FILE).is_file() else None


def read_template(folder: Path, *, built_in: bool = True) -> Template:
    """Return the template that lies in `folder`. Raises InvalidTemplate."""
    said = read_template_file(folder / TEMPLATE_FILE)
    return template_of(said, folder, folder.name, built_in=built_in)


def template_of(said: dict[str, Any], folder: Path, language: str, *, built_in: bool) -> Template:
    """Return the template that `said`, the content of a template.yml in `folder`, describes. Raises InvalidTemplate."""

    def text(key: str) -> str:
        return str(said.get(key) or "")

    try:
        handler_folder = text("handler_folder") or HANDLER_FOLDER
        if Path(handler_folder).is_absolute() or ".." in Path(handler_folder).parts:
            raise msgspec.ValidationError(f"handler_folder {handler_folder!r} leaves the template's folder")
        if text("dependencies") not in ("", "python", "node"):
            raise msgspec.ValidationError(f"dependencies is {text('dependencies')!r}; it may be python, node, or missing")
        if isinstance(said.get("python"), float):
            raise msgspec.ValidationError(f'python: write the version in quotes: "{said["python"]}"')
        return Template(
            language=language,
            folder=folder,
            command=msgspec.convert(said.get("command") or (), tuple[str, ...]),
            env=msgspec.convert(said.get("env") or {}, dict[str, str]),
            fprocess=text("fprocess"),
            handler=msgspec.convert(said.get("handler") or (), tuple[str, ...]),
            handler_folder=handler_folder,
            runtime=text("runtime"),
            dependencies=text("dependencies"),
            listens=msgspec.convert(said.get("listens") or Listens.SOCKET, Listens),
            python=text("python"),
            welcome_message=text("welcome_message"),
            description=text("description"),
            aliases=_SERVED_BY.get(language, ()) if built_in else (),
            built_in=built_in,
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
