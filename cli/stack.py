"""stack.yaml: the functions of a project, in OpenFaaS's format, checked field by field before anything is sent.

Scalars keep the text that stands in the file (`1.10` stays `1.10`, `yes` stays `yes`), because every field of the
format is a text; only `true` and `false` where a switch is wanted are read as such.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from cli.envsubst import BadExpansion, expand
from cli.errors import GatewayUnreachable, Misuse
from cli.hints import did_you_mean
from orchestration.names import InvalidName, check_function_name, check_namespace
from orchestration.quantity import InvalidQuantity, parse_quantity

LARGEST_FILE_BYTES = 4 << 20
DOCKERFILE = "dockerfile"


@dataclass(frozen=True)
class StackFunction:
    """One function as a stack file or a command line describes it. `handler` is a folder, None for a ready image."""

    name: str
    lang: str = ""
    handler: Path | None = None
    image: str = ""
    fprocess: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    readonly_root_filesystem: bool = False
    skip_build: bool = False
    build_options: tuple[str, ...] = ()
    build_args: Mapping[str, str] = field(default_factory=dict)
    build_secrets: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()

    @property
    def builds(self) -> bool:
        """Whether a deploy builds it, and does not only name an image that exists."""
        return self.handler is not None and not self.skip_build


_FUNCTION_FIELDS = {f.name for f in fields(StackFunction)} - {"name"} | {"environment_file"}


@dataclass(frozen=True)
class TemplateSource:
    """A template that a stack file names, and where `faas template pull stack` gets it: `URL[#REF]`, empty for the store."""

    name: str
    source: str


@dataclass(frozen=True)
class Stack:
    """A stack file. `copies` are extra paths that go into each function's folder, `notes` what is read but not followed."""

    source: str
    gateway: str
    functions: tuple[StackFunction, ...]
    copies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    templates: tuple[TemplateSource, ...] = ()

    def select(self, glob: str = "", regex: str = "") -> tuple[StackFunction, ...]:
        """Return the functions whose names fit the glob or the regular expression. Raises Misuse when none does."""
        if glob and regex:
            raise Misuse("--filter and --regex do not go together")
        try:
            pattern = re.compile(regex or fnmatch.translate(glob or "*"))
        except re.error as error:
            raise Misuse(f"--regex {regex!r}: {error}") from None
        found = tuple(f for f in self.functions if pattern.search(f.name))
        if not found:
            known = ", ".join(f.name for f in self.functions)
            wanted = f" fits {glob or regex!r}" if glob or regex else ""
            raise Misuse(f"{self.source}: no function{wanted}" + (f"; it has {known}" if known else ""))
        return found


def read_stack(source: str | Path, *, envsubst: bool = True, environment: Mapping[str, str] = os.environ) -> Stack:
    """Return the stack file at a path or an http(s) URL. Raises Misuse that names file and field."""
    name = str(source)
    content = _load(_text(name), name, envsubst, environment)
    version = content.get("version")
    if version not in (None, "1.0", "1"):
        raise Misuse(f"{name}: version {version!r} is not known; write 1.0 or leave it out")
    gateway = _provider_gateway(content, name)
    functions = content.get("functions") or {}
    if not isinstance(functions, dict):
        raise Misuse(f"{name}: functions must be a mapping of names to functions, not {_kind(functions)}")
    base = Path() if name.startswith(("http://", "https://")) else Path(name).parent
    copies, templates, notes = _configuration(content, name)
    read = tuple(_function(key, value, name, base, envsubst, environment) for key, value in functions.items())
    for key, value in functions.items():
        notes += _unknown(value, _FUNCTION_FIELDS, f"{name}: functions.{key}.")
        if value.get("build_options"):
            notes.append(f"{name}: functions.{key}.build_options does nothing; templates are built in")
    return Stack(name, gateway, read, copies, tuple(notes), templates)


def read_provider_gateway(path: Path, environment: Mapping[str, str] = os.environ) -> str:
    """Return only the gateway that a stack file names, empty when it names none. Raises Misuse."""
    return _provider_gateway(_load(_text(str(path)), str(path), True, environment), str(path))


def check_handler(function: StackFunction, where: str) -> StackFunction:
    """Return `function` when its handler's folder is there. Raises Misuse."""
    if function.builds and function.handler is not None and not function.handler.is_dir():
        what = "is not a folder" if function.handler.exists() else "does not exist"
        raise Misuse(f"{where}: functions.{function.name}.handler: the folder {function.handler} {what}")
    return function


def expand_text(text: str, name: str, environment: Mapping[str, str]) -> str:
    """Return `text` with `${VAR}` replaced. Raises Misuse with the line."""
    try:
        return expand(text, environment)
    except BadExpansion as error:
        raise Misuse(f"{name} line {error.line}: {error}") from None


class _TextLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but scalars stay the text they are, and a key that is there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain text", key.start_mark)
            if key.value in seen and key.value != "<<":
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _as_text(loader: _TextLoader, node: yaml.ScalarNode) -> str:
    return str(node.value)


for _tag in ("bool", "int", "float", "timestamp"):
    _TextLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _as_text)


def _text(source: str) -> str:
    if source.startswith(("http://", "https://")):
        return _download(source)
    try:
        with Path(source).open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise Misuse(f"{source}: {error.strerror}") from None
    return _decoded(data, source)


def _download(url: str) -> str:
    from urllib.parse import parse_qsl, urlsplit

    from cli.api import Gateway

    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    try:
        with Gateway(f"{parts.scheme}://{parts.netloc}").stream("GET", parts.path or "/", query=query) as reply:
            if reply.status != 200:
                raise Misuse(f"{url}: HTTP {reply.status}")
            return _decoded(reply.read(), url)
    except GatewayUnreachable as error:  # its words are about gateways; what it comes from is about this address
        raise Misuse(f"{url} cannot be downloaded: {error.__context__ or error}") from None


def _decoded(data: bytes, source: str) -> str:
    if len(data) > LARGEST_FILE_BYTES:
        raise Misuse(f"{source}: more than {LARGEST_FILE_BYTES >> 20} MiB is no stack file")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Misuse(f"{source}: not a text in UTF-8") from None


def _load(text: str, name: str, envsubst: bool, environment: Mapping[str, str]) -> dict[str, Any]:
    if envsubst:
        text = expand_text(text, name, environment)
    try:
        content = yaml.load(text, Loader=_TextLoader)  # noqa: S506  # a subclass of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}" if mark else ""
        raise Misuse(f"{name}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise Misuse(f"{name}: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise Misuse(f"{name}: a mapping with 'provider' and 'functions' is wanted, not {_kind(content)}")
    return content


def _provider_gateway(content: dict[str, Any], name: str) -> str:
    provider = content.get("provider")
    if provider is None:
        raise Misuse(f"{name}: 'provider' is missing; write 'provider:' and below it '  name: openfaas'")
    if not isinstance(provider, dict):
        raise Misuse(f"{name}: provider must be a mapping, not {_kind(provider)}")
    if provider.get("name") != "openfaas":
        raise Misuse(f"{name}: provider.name must be openfaas, not {provider.get('name')!r}")
    return _Reader(provider, name, "provider").text("gateway")


def _configuration(content: dict[str, Any], name: str) -> tuple[tuple[str, ...], tuple[TemplateSource, ...], list[str]]:
    configuration = _Reader(content, name, "").mapping("configuration")
    copies = _Reader(configuration, name, "configuration").texts("copy")
    found = []
    listed = configuration.get("templates") or []
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise Misuse(f"{name}: configuration.templates must be a list of mappings with name and source")
    for i, entry in enumerate(listed):
        given = _Reader(entry, name, f"configuration.templates[{i}]")
        found.append(TemplateSource(given.text("name"), given.text("source")))
    notes = _unknown(content, ("version", "provider", "functions", "configuration"), f"{name}: ")
    return copies, tuple(found), notes


def _unknown(fields: dict[str, Any], known: Collection[str], where: str) -> list[str]:
    """What is not a field is most often a slip of the keyboard: it is said, not refused, as newer files may have more."""
    unknown = [key for key in fields if key not in known]
    free = [name for name in known if name not in fields]  # one that is there, too, was hardly meant
    return [f"{where}{key} is not a known field and does nothing{did_you_mean(key, free)}" for key in unknown]


def _function(key: str, value: Any, name: str, base: Path, envsubst: bool, environment: Mapping[str, str]) -> StackFunction:
    where = f"functions.{key}"
    if not isinstance(value, dict):
        raise Misuse(f"{name}: {where} must be a mapping with 'lang' and 'handler', or 'image', not {_kind(value)}")
    given = _Reader(value, name, where)
    try:
        check_function_name(key)
        if namespace := given.text("namespace"):
            check_namespace(namespace)
    except InvalidName as error:
        raise Misuse(f"{name}: {where}: {error}") from None
    inline = given.text_map("environment")
    for file in given.texts("environment_file"):
        inline.update(_environment_file(_located(file, base), envsubst, environment))
    handler, lang, image = given.text("handler"), given.text("lang"), given.text("image")
    if not handler and not image:
        slips = "".join(f"; {slip}" for slip in _unknown(value, _FUNCTION_FIELDS, ""))
        raise Misuse(f"{name}: {where} needs 'handler' (a folder, with 'lang'), or 'image'{slips}")
    return StackFunction(
        name=key,
        lang=DOCKERFILE if lang.lower() == DOCKERFILE else lang,
        handler=_located(handler, base) if handler else None,
        image=image,
        fprocess=given.text("fprocess"),
        environment=inline,
        secrets=given.texts("secrets"),
        constraints=given.texts("constraints"),
        labels=given.text_map("labels"),
        annotations=given.text_map("annotations"),
        limits=given.resources("limits"),
        requests=given.resources("requests"),
        namespace=namespace,
        readonly_root_filesystem=given.switch("readonly_root_filesystem"),
        skip_build=given.switch("skip_build"),
        build_options=given.texts("build_options"),
        build_args=given.text_map("build_args"),
        build_secrets=given.text_map("build_secrets"),
        platforms=tuple(p for text in given.texts("platforms") for p in text.split(",") if p),
    )


def _located(path: str, base: Path) -> Path:
    """A path is relative to the current folder, as in faas-cli; when nothing is there, to the stack file's."""
    here = Path(path)
    return here if here.exists() or not (base / here).exists() else base / here


def _environment_file(path: Path, envsubst: bool, environment: Mapping[str, str]) -> dict[str, str]:
    content = _load(_text(str(path)), str(path), envsubst, environment)
    if "environment" not in content:
        raise Misuse(f"{path}: a mapping 'environment' is missing")
    return _Reader(content, str(path), "").text_map("environment")


class _Reader:
    """Reads typed fields of one mapping; each error names the file and the field."""

    def __init__(self, fields: dict[str, Any], file: str, where: str) -> None:
        self._fields = fields
        self._file = file
        self._where = where

    def text(self, key: str) -> str:
        value = self._fields.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, "a text", value)
        return (value or "").strip()

    def switch(self, key: str) -> bool:
        value = self._fields.get(key)
        if value is None:
            return False
        if not isinstance(value, str) or value.lower() not in ("true", "false"):
            raise self._wrong(key, "true or false", value)
        return value.lower() == "true"

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._fields.get(key)
        if isinstance(value, str):
            return (value,)
        if value is not None and (not isinstance(value, list) or not all(isinstance(item, str) for item in value)):
            raise self._wrong(key, "a list of texts", value)
        return tuple(value or ())

    def mapping(self, key: str) -> dict[str, Any]:
        value = self._fields.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._wrong(key, "a mapping", value)
        return value or {}

    def text_map(self, key: str) -> dict[str, str]:
        values = self.mapping(key)
        for name, value in values.items():
            if value is not None and not isinstance(value, str):
                raise self._wrong(f"{key}.{name}", "a text", value)
        return {name: value or "" for name, value in values.items()}

    def resources(self, key: str) -> dict[str, str]:
        values = self.text_map(key)
        for name, value in values.items():
            if name not in ("memory", "cpu"):
                hint = did_you_mean(name, ("memory", "cpu"))
                raise Misuse(f"{self._file}: {self._where}.{key}.{name} is not known; memory and cpu are{hint}")
            try:
                parse_quantity(value)
            except InvalidQuantity as error:
                raise Misuse(f"{self._file}: {self._where}.{key}.{name}: {error}") from None
        return values

    def _wrong(self, key: str, wanted: str, value: Any) -> Misuse:
        field_name = f"{self._where}.{key}" if self._where else key
        return Misuse(f"{self._file}: {field_name} must be {wanted}, not {_kind(value)}")


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return "empty" if value is None else repr(value)
