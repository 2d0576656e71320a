from __future__ import annotations

import os

import pytest

from tests.end_to_end.platform import Platform, until


def test_a_memory_limit_binds_and_says_so(platform: Platform) -> None:
    platform.deploy(
        "greedy",
        "def handle(event, context):\n"
        "    hoard = bytearray(int(event.body))\n"
        "    hoard[::4096] = b'x' * len(hoard[::4096])\n"
        "    return 'kept'\n",
        "--memory-limit",
        "64Mi",
    )
    assert platform.call("greedy", str(1 << 20)).text == "kept"
    assert platform.call("greedy", str(300 << 20)).status in (500, 502)
    if any("memory" in note and "not enforced" in note for note in platform.details("greedy")["notes"]):
        pytest.fail("memory limits are always enforced, by cgroup or by RLIMIT_DATA")
    shown = until(lambda: _mention(platform, "greedy", "memory"))
    assert "64Mi" in shown or "MemoryError" in shown


def _mention(platform: Platform, name: str, word: str) -> str:
    text = platform.faas("describe", name).stdout + platform.faas("logs", name).stdout
    return next((line for line in text.splitlines() if word in line.lower() and ("killed" in line or "Error" in line)), "")


def test_secrets_are_files_and_a_change_is_seen(platform: Platform) -> None:
    platform.faas("secret", "create", "api-key", "--from-literal", "one")
    assert platform.faas("secret", "create", "api-key", "--from-literal", "x", check=False).returncode == 1
    platform.deploy(
        "reader",
        "import os, pathlib\n"
        "def handle(event, context):\n"
        "    return pathlib.Path(os.environ['secret_mount_path'], 'api-key').read_bytes()\n",
        "--secret",
        "api-key",
    )
    assert platform.call("reader").text == "one"
    platform.faas("secret", "update", "api-key", "--from-literal", "two")
    until(lambda: platform.call("reader").text == "two")
    assert "api-key" in platform.faas("secret", "list").stdout
    assert platform.faas("secret", "remove", "api-key", check=False).returncode == 1, "a function uses it"
    platform.faas("remove", "reader")
    platform.faas("secret", "remove", "api-key")


def test_a_deploy_with_a_secret_that_is_not_there_is_refused(platform: Platform) -> None:
    folder = platform.home / "early"
    folder.mkdir()
    (folder / "handler.py").write_text("def handle(e, c):\n    return ''\n")
    done = platform.faas("deploy", folder, "--name", "early", "--lang", "python3-http", "--secret", "later", check=False)
    assert done.returncode == 1
    assert "later" in done.stdout + done.stderr
    assert platform.call("early").status == 404


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give each function a user of its own")
def test_a_function_cannot_read_the_platforms_state(platform: Platform) -> None:
    platform.deploy(
        "nosy",
        "import os, pathlib\n"
        "def handle(event, context):\n"
        "    found = []\n"
        "    for folder, _, files in os.walk(event.body.decode()):\n"
        "        for name in files:\n"
        "            try:\n"
        "                text = pathlib.Path(folder, name).read_bytes()\n"
        "                found.append('LEAK' if b''.join((b'a trade ', b'secret')) in text else name)\n"
        "            except OSError:\n"
        "                pass\n"
        "    return f'{os.getuid()} ' + ' '.join(found)\n",
    )
    platform.deploy("neighbour", "def handle(event, context):\n    return 'a trade secret'\n")
    uid, *found = platform.call("nosy", str(platform.data)).text.split()
    assert int(uid) != 0
    assert "LEAK" not in found, "no other function's code can be found by looking"
    assert not {"state.db", "secrets.db", "basic-auth-password", "payload-secret", "lock"} & set(found)
