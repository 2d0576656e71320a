"""A person who deploys a broken function is told what is wrong in one line."""

from __future__ import annotations

import pytest

from tests.end_to_end.platform import Platform, until

GOOD = "def handle(event, context):\n    return 'good'\n"


@pytest.mark.parametrize(
    ("name", "handler", "words"),
    [
        ("import-error", "import os\nimport no_such_module\n" + GOOD, ("handler.py", "line 2", "no_such_module")),
        ("syntax-error", "def handle(event, context)\n    return 1\n", ("handler.py", "line 1", "SyntaxError")),
        ("no-handle", "def handel(event, context):\n    return 1\n", ("handler.py", "handle")),
        ("raises", "raise RuntimeError('no database')\n", ("line 1", "no database")),
        ("exits", "import sys\nsys.exit(3)\n" + GOOD, ("handler.py",)),
    ],
)
def test_a_broken_handler_is_named_in_one_line(platform: Platform, name: str, handler: str, words: tuple[str, ...]) -> None:
    (platform.home / name).mkdir()
    (platform.home / name / "handler.py").write_text(handler)
    done = platform.faas("deploy", platform.home / name, "--name", name, "--lang", "python3-http", check=False)
    assert done.returncode == (2 if name in ("syntax-error", "no-handle") else 1)  # those are found before anything is sent
    said = [line for line in (done.stdout + done.stderr).splitlines() if all(word in line for word in words)]
    assert len(said) == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_an_unknown_package_is_named(platform: Platform) -> None:
    folder = platform.home / "wants"
    folder.mkdir()
    (folder / "handler.py").write_text(GOOD)
    (folder / "requirements.txt").write_text("pinnace-no-such-package-anywhere==1.0\n")
    done = platform.faas("deploy", folder, "--name", "wants", "--lang", "python3-http", check=False)
    assert done.returncode == 1
    assert "pinnace-no-such-package-anywhere" in done.stdout + done.stderr


def test_a_broken_redeploy_leaves_the_old_code_serving(platform: Platform) -> None:
    platform.deploy("steady", GOOD)
    (platform.home / "steady" / "handler.py").write_text("import nothing_like_this\n" + GOOD)
    done = platform.faas("deploy", platform.home / "steady", "--name", "steady", "--lang", "python3-http", check=False)
    assert done.returncode == 1
    assert platform.call("steady").text == "good"
    assert "nothing_like_this" in platform.faas("describe", "steady").stdout
    platform.deploy("steady", GOOD.replace("good", "mended"))
    assert platform.call("steady").text == "mended"


def test_why_a_function_cannot_start_is_told_to_its_owner_only(platform: Platform) -> None:
    folder = platform.home / "never"
    folder.mkdir()
    (folder / "handler.py").write_text("raise RuntimeError('licence missing')\n")
    platform.faas("deploy", folder, "--name", "never", "--lang", "python3-http", check=False)
    answer = platform.call("never")
    assert answer.status == 503
    assert answer.text == "function never.openfaas-fn cannot run; faas describe never and faas logs never say why\n"
    assert int(answer.headers["retry-after"]) > 0
    done = platform.faas("invoke", "never", "-d", "x", check=False)
    assert done.returncode == 1
    assert "licence missing" in done.stderr
    assert "licence missing" in platform.faas("describe", "never").stdout
    assert "licence missing" in platform.faas("logs", "never").stdout


def test_a_handler_that_raises_is_logged_and_leaks_nothing(platform: Platform) -> None:
    platform.deploy("throws", "def handle(event, context):\n    secret = 'hunter2'\n    raise ValueError(secret)\n")
    answer = platform.call("throws")
    assert answer.status == 500
    assert "hunter2" not in answer.text
    until(lambda: "ValueError: hunter2" in platform.faas("logs", "throws").stdout)


@pytest.mark.parametrize(
    ("name", "dies", "reason"),
    [
        ("leaves", "os._exit(7)", "exited with status 7"),
        ("crashes", "signal.raise_signal(signal.SIGSEGV)", "killed by SIGSEGV"),
    ],
)
def test_a_process_that_dies_in_a_call_says_why_in_the_log_of_the_call(
    platform: Platform, name: str, dies: str, reason: str
) -> None:
    platform.deploy(name, f"import os, signal\n\ndef handle(event, context):\n    {dies}\n")
    answer = platform.call(name)
    assert answer.status == 502
    call = answer.headers["x-call-id"]
    until(lambda: reason in platform.faas("logs", name, "--call", call).stdout)
    assert call in platform.faas("logs", name, "--call", call).stdout


def test_a_handler_that_takes_too_long_is_answered_504(platform: Platform) -> None:
    platform.deploy(
        "slow", "import time\ndef handle(event, context):\n    time.sleep(30)\n", "--label", "com.pinnace.timeout=1s"
    )
    answer = platform.call("slow")
    assert answer.status == 504
    assert answer.text.strip()


def test_an_unknown_image_says_how_to_build_it(platform: Platform) -> None:
    done = platform.faas("deploy", "--image", "nobody/built:this", "--name", "ghost", check=False)
    assert done.returncode == 1
    assert "nobody/built:this" in done.stdout + done.stderr
    assert platform.call("ghost").status == 404
