"""The options of commands that make or push container images (`faas build`, `push`, `publish`), and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import click

from cli.errors import Misuse
from cli.image_tags import TAGGINGS, Tagging
from cli.options import name_values
from cli.selection import Asked, Selection, select
from cli.stack import StackFunction
from cli.stack_flags import ENVSUBST, LANG, SELECTING, TESTING, VERBOSE, longest_tests_s

Command = TypeVar("Command", bound=Callable[..., Any])

_SELECTING = (
    *SELECTING,
    click.option("--image", metavar="IMAGE", default="", help="The image's name, for one function."),
    click.option(
        "--tag",
        "tagging",
        type=click.Choice(TAGGINGS),
        default="latest",
        help="Make the tag of the commit (sha, branch, describe) or of the code (digest). Default: latest, the name's own tag.",
    ),
    ENVSUBST,
    click.option("--parallel", type=click.IntRange(1, 32), default=1, show_default=True, help="How many at a time."),
    VERBOSE,
)
_BUILDING = (
    LANG,
    click.option(
        "--platforms",
        metavar="NAMES",
        default="",
        help="linux/amd64, linux/arm64 or both, comma-separated. Default: this machine's.",
    ),
    click.option(
        "--base-image",
        metavar="IMAGE",
        default="",
        help="What images are built on; else $PINNACE_BASE_IMAGE, else the template's.",
    ),
    click.option("--pull", is_flag=True, help="Ask the registry what the base image's name stands for now."),
    click.option("--no-cache", is_flag=True, help="Resolve requirements anew."),
    click.option("--offline", is_flag=True, help="Use only what is on this machine."),
    click.option(
        "--compression", type=click.Choice(["gzip", "zstd", "none"]), default="gzip", show_default=True, help="Of the layers."
    ),
    click.option("--sbom/--no-sbom", default=True, help="Attach a bill of materials. Default: attach."),
    click.option("--build-arg", "-b", multiple=True, metavar="NAME=VALUE", help="A build argument."),
    click.option("--build-label", multiple=True, metavar="NAME=VALUE", help="A label of the image."),
    *TESTING,
)


def select_options(command: Command) -> Command:
    """Add the options that say which functions and images are meant, for `SelectFlags`."""
    for option in reversed(_SELECTING):
        command = option(command)
    return command


def image_options(command: Command) -> Command:
    """Add the options of a build, and those of `select_options`, for `ImageFlags`."""
    for option in reversed((*_SELECTING, *_BUILDING)):
        command = option(command)
    return command


@dataclass(frozen=True, kw_only=True)
class SelectFlags:
    """The values of `select_options`, by their names."""

    file: str
    glob: str
    regex: str
    name: str
    image: str
    tagging: Tagging
    envsubst: bool
    parallel: int
    verbose: bool

    @classmethod
    def of(cls, values: dict[str, Any]) -> SelectFlags:
        """Return the flags among the keyword arguments of a command."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def selected(self, path: str, lang: str = "") -> Selection:
        """Return the functions that are meant, the image's name in place; notes are told. Raises Misuse."""
        selection = select(Asked(path, self.file, "", self.name, lang, self.glob, self.regex, self.envsubst))
        functions = tuple(function for function in selection.functions if function.builds)
        if self.image:
            if len(functions) != 1:
                raise Misuse(f"--image is one image's name, and there are {len(functions)} functions: say which one")
            functions = (replace(functions[0], image=self.image),)
        for note in selection.notes:
            click.echo(f"Note: {note}", err=True)
        return replace(selection, functions=functions)


@dataclass(frozen=True, kw_only=True)
class ImageFlags(SelectFlags):
    """The values of `image_options`, by their names."""

    lang: str
    platforms: str
    base_image: str
    pull: bool
    no_cache: bool
    offline: bool
    compression: str
    sbom: bool
    build_arg: tuple[str, ...]
    build_label: tuple[str, ...]
    skip_tests: bool
    test_timeout: str

    @classmethod
    def of(cls, values: dict[str, Any]) -> ImageFlags:
        """Return the flags among the keyword arguments of a command."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    @classmethod
    def plain(cls, *, verbose: bool) -> ImageFlags:
        """Return what holds where nothing was said, as for `faas up`, which has no options of a build."""

        @click.command()
        @image_options
        def nothing(**_: Any) -> None:
            """Only its options count."""

        values = nothing.make_context("build", []).params
        return cls.of({**values, "verbose": verbose})

    @property
    def test_timeout_s(self) -> float | None:
        """The longest that the tests of one function may take, None when they are not to run. Raises Misuse."""
        return longest_tests_s(skip=self.skip_tests, timeout=self.test_timeout)

    @property
    def only_here(self) -> tuple[str, ...]:
        """The options given that mean something only to a build on this machine: no build context carries them elsewhere."""
        given = {
            "--base-image": self.base_image,
            "--pull": self.pull,
            "--offline": self.offline,
            "--compression": self.compression != "gzip",
            "--no-sbom": not self.sbom,
            "--build-label": self.build_label,
        }
        return tuple(option for option, is_given in given.items() if is_given)

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels given. Raises Misuse."""
        return name_values(self.build_label, "--build-label")

    def applied_to(self, function: StackFunction) -> StackFunction:
        """Return the function with what the command line says of its build. Raises Misuse."""
        platforms = tuple(name.strip() for name in self.platforms.split(",") if name.strip())
        return replace(
            function,
            platforms=platforms or function.platforms,
            build_args={**function.build_args, **name_values(self.build_arg, "--build-arg")},
        )
