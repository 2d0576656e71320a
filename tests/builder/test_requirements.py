from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.requirements import InvalidRequirements, Requirements, read_requirements

MakeFunction = Callable[..., Path]


def read(make: MakeFunction, text: str, **others: str) -> Requirements:
    files = {"requirements.txt": text} | {name.replace("__", "/") + ".txt": content for name, content in others.items()}
    return read_requirements(make(files))


@pytest.mark.parametrize(
    "line",
    [
        "requests",
        "requests==2.32.0",
        "requests >= 2, < 3",
        "requests[socks,security]~=2.32",
        "zope.interface",
        "A",
        "requests (>=2)",
        'tomli>=2; python_version < "3.11"',
        "x==1.0 --hash=sha256:00ff --hash=sha256:11ee",
        "torch==2.1.0+cpu",
        "x==1.*",
    ],
)
def test_names_versions_extras_markers_and_hashes_are_accepted(make_function: MakeFunction, line: str) -> None:
    requirements = read(make_function, line + "\n")
    assert requirements.lines == (" ".join(line.split()),)
    assert requirements.names_packages


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "   # nothing", "\ufeff# nothing"])
def test_comments_and_white_space_ask_for_nothing(make_function: MakeFunction, text: str) -> None:
    assert read(make_function, text) == Requirements()


def test_no_file_asks_for_nothing(make_function: MakeFunction) -> None:
    assert read_requirements(make_function()) == Requirements()


def test_lines_are_joined_and_comments_cut(make_function: MakeFunction) -> None:
    assert read(make_function, "x==1 \\\n  --hash=sha256:aa  # why\ny # z\n").lines == (
        "x==1 --hash=sha256:aa",
        "y",
    )


def test_other_files_in_the_folder_may_be_named(make_function: MakeFunction) -> None:
    requirements = read(
        make_function, "-r more.txt\n--constraint=pins.txt\nz", more="x\n-r deps/deep.txt", deps__deep="y", pins="x==1"
    )
    assert requirements == Requirements(("x", "y", "z"), ("x==1",))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("-e .", "editable installs are not accepted: put the package's code into the function's folder"),
        ("--editable=./x", "editable installs"),
        ("./x", "is a path"),
        ("/opt/x", "is a path"),
        ("x/y.whl", "is a path"),
        ("..", "is a path"),
        ("..\\x", "is a path"),
        ("file:///opt/x", "names a URL"),
        ("x @ file:///opt/x", "names a URL"),
        ("x@file:x", "names a URL"),
        ("git+https://example.com/x", "names a URL"),
        ("https://example.com/x.whl", "names a URL"),
        ("x @ https://example.com/x.whl", "names a URL"),
        (
            "--index-url https://example.com",
            "--index-url is not accepted: where packages come from is set for the whole gateway",
        ),
        ("-ihttps://example.com", "-i is not accepted"),
        ("-f /opt", "-f is not accepted"),
        ("--find-links=/opt", "--find-links is not accepted"),
        ("--no-binary :all:", "the option --no-binary is not accepted"),
        ("--target /", "the option --target is not accepted"),
        ("x --global-option=y", "is not a requirement"),
        ("x; python_version > '3' --index-url=https://example.com", "names a URL"),
        ("x==${SECRET}", "variables are not replaced"),
        ("x y", "is not a requirement such as requests==2.32.0"),
        ("-r ../x.txt", "is not a file in the function's folder"),
        ("-r /etc/passwd", "is not a file in the function's folder"),
        ("-r https://example.com/x.txt", "is not a file in the function's folder"),
        ("-r", "is not a file in the function's folder"),
        ("-r absent.txt", "there is no file 'absent.txt'"),
        ("-r requirements.txt", "nested more than 8 deep"),
    ],
)
def test_what_is_refused_is_named_with_its_line(make_function: MakeFunction, line: str, message: str) -> None:
    with pytest.raises(InvalidRequirements) as caught:
        read(make_function, f"# first\n{line}\n")
    assert message in str(caught.value)
    assert str(caught.value).startswith("requirements.txt line 2: " if "nested" not in message else "requirements.txt line ")


def test_a_link_to_the_gateways_disk_is_not_followed(make_function: MakeFunction) -> None:
    function = make_function()
    (function.parent / "outside.txt").write_text("secret-package")
    (function / "requirements.txt").symlink_to("../outside.txt")
    with pytest.raises(InvalidRequirements, match="outside of the function's folder"):
        read_requirements(function)


def test_what_is_no_text_is_refused(make_function: MakeFunction) -> None:
    function = make_function()
    (function / "requirements.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidRequirements, match="it is not UTF-8 text"):
        read_requirements(function)


def test_the_digest_is_of_what_is_asked_for_and_for_whom() -> None:
    digests = {
        Requirements(("x",)).digest("3.11"),
        Requirements(("x",)).digest("3.12"),
        Requirements(("y",)).digest("3.11"),
        Requirements(("x",), ("y",)).digest("3.11"),
    }
    assert len(digests) == 4
    assert Requirements(("x",)).digest("3.11") in digests
