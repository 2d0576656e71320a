from __future__ import annotations

import hashlib
import hmac
import io
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.context import BuildConfig, InvalidContext, sign, write_context
from builder.extraction import extract
from builder.templates import Templates

MakeFunction = Callable[..., Path]
CONFIG = BuildConfig(image="hello:latest", build_args={"A": "b"})


def written(function: Path) -> bytes:
    out = io.BytesIO()
    write_context(out, function, Templates().find("python3-http"), CONFIG)
    return out.getvalue()


def names(content: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return tar.getnames()


def test_the_context_is_openfaas_format(make_function: MakeFunction) -> None:
    content = written(make_function({"handler.py": "x = 1", "lib/a.txt": "a"}))
    assert names(content) == [
        "context",
        "context/template.yml",
        "context/function",
        "context/function/handler.py",
        "context/function/lib",
        "context/function/lib/a.txt",
        "com.openfaas.docker.config",
    ]


def test_what_is_written_is_what_is_read(make_function: MakeFunction, tmp_path: Path) -> None:
    function = make_function({"handler.py": "x = 1", "lib/run.sh": "echo"})
    (function / "lib" / "run.sh").chmod(0o755)
    (function / "link").symlink_to("lib/run.sh")
    assert extract(io.BytesIO(written(function)), tmp_path / "out") == CONFIG
    out = tmp_path / "out" / "function"
    assert (out / "link").readlink() == Path("lib/run.sh")
    assert (out / "lib/run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "template.yml").read_text() == "language: python3-http\n"


def test_the_same_folder_gives_the_same_bytes(make_function: MakeFunction) -> None:
    function = make_function({"b.py": "2", "a.py": "1", "a/c.py": "3"})
    first = written(function)
    os.utime(function / "a.py", (time.time() + 100,) * 2)
    (function / "b.py").chmod(0o600)
    assert written(function) == first


def test_an_ignore_file_keeps_files_at_home(make_function: MakeFunction) -> None:
    files = {
        "handler.py": "",
        ".pinnaceignore": "*.log\ndata/\n!keep.log\n",
        "x.log": "",
        "keep.log": "",
        "data/d": "",
        "sub/y.log": "",
    }
    assert [name for name in names(written(make_function(files))) if "function/" in name] == [
        "context/function/handler.py",
        "context/function/keep.log",
        "context/function/sub",
    ]


def test_what_tools_leave_behind_stays_at_home(make_function: MakeFunction) -> None:
    files = {"handler.py": "", "__pycache__/handler.pyc": "", ".git/HEAD": "", ".venv/bin/python": "", "old.pyc": ""}
    assert [name for name in names(written(make_function(files))) if "function/" in name] == ["context/function/handler.py"]


@pytest.mark.parametrize("target", ["/etc/passwd", "../other", "lib/../../other"])
def test_a_link_that_leaves_the_folder_is_refused(make_function: MakeFunction, target: str) -> None:
    function = make_function({"handler.py": "", "lib/x": ""})
    (function.parent / "other").write_text("secret")
    (function / "link").symlink_to(target)
    with pytest.raises(
        InvalidContext, match=r"hello/link is a link to .* outside of the function's folder: copy the file into it"
    ):
        written(function)


def test_what_is_no_file_is_refused(make_function: MakeFunction) -> None:
    function = make_function()
    os.mkfifo(function / "pipe")
    with pytest.raises(InvalidContext, match="neither a file nor a folder"):
        written(function)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidContext, match=r"there is no folder .*nowhere"):
        written(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InvalidContext, match="file is not a folder"):
        written(tmp_path / "file")


def test_signature_is_the_hmac_of_the_tar() -> None:
    expected = "sha256=" + hmac.new(b"secret", b"content", hashlib.sha256).hexdigest()
    assert sign(io.BytesIO(b"content"), b"secret\n") == expected
    assert sign(io.BytesIO(b"content"), b"other") != expected


def test_an_empty_secret_signs_nothing() -> None:
    with pytest.raises(InvalidContext, match="the payload secret is empty"):
        sign(io.BytesIO(b"content"), b"\n")
