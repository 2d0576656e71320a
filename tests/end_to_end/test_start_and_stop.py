from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.platform import FAAS, Platform, running, until


def refused(home: Path, *flags: str) -> str:
    """Start a platform that must refuse; returns its one line."""
    environment = {**os.environ, "HOME": str(home), "OPENFAAS_CONFIG": str(home / ".openfaas")}
    done = subprocess.run([FAAS, "serve", *flags], capture_output=True, text=True, env=environment, cwd=home, timeout=30)
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in refused(tmp_path, "--port", port, "--data-dir", str(tmp_path / "data"))


def test_a_second_platform_on_one_data_folder_is_refused(own_platform: Platform, tmp_path: Path) -> None:
    line = refused(tmp_path, "--port", "0", "--data-dir", str(own_platform.data))
    assert own_platform.process is not None
    assert str(own_platform.process.pid) in line
    assert own_platform.request("GET", "/healthz").status == 200


def test_a_data_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refused(tmp_path, "--port", "0", "--data-dir", str(tmp_path / "file"))


def test_a_data_folder_from_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    import sqlite3

    (tmp_path / "data").mkdir()
    with sqlite3.connect(tmp_path / "data" / "state.db") as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    assert "newer" in refused(tmp_path, "--port", "0", "--data-dir", str(tmp_path / "data"))


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    disk = tmp_path / "data"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with running(tmp_path) as platform:
            platform.deploy("kept", "def handle(e, c):\n    return 'kept'\n")
            with (disk / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
                while True:
                    filler.write(b"x" * 65536)
            answer = platform.request("POST", "/system/secrets", '{"name": "big", "value": "%s"}' % ("x" * 200_000))
            assert answer.status == 507, answer
            assert "space" in answer.text or "full" in answer.text
            assert platform.call("kept").text == "kept"
            (disk / "filler").unlink()
            platform.stop()
            platform.start()
            assert platform.call("kept").text == "kept"
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_ready_stop_and_start_again(tmp_path: Path) -> None:
    with running(tmp_path) as platform:
        platform.deploy("stays", "def handle(e, c):\n    return 'here'\n")
        assert platform.stop(within_s=20) == 0
        started = time.monotonic()
        platform.start()
        assert time.monotonic() - started < 10
        assert platform.call("stays").text == "here"


def test_who_follows_a_log_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    with running(tmp_path, "--drain", "60s") as platform:
        platform.deploy("says", "def handle(event, context):\n    print('heard', flush=True)\n")
        platform.call("says")
        command = [str(FAAS), "logs", "says", "--follow"]
        environment = {**platform.environment, "OPENFAAS_URL": platform.url}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as follower:
            assert follower.stdout is not None
            assert "heard" in follower.stdout.readline()
            started = time.monotonic()
            assert platform.stop(within_s=30) == 0
            assert time.monotonic() - started < 30
            assert follower.wait(20) == 0


def test_a_call_in_flight_survives_a_stop(tmp_path: Path) -> None:
    import concurrent.futures

    with running(tmp_path) as platform, concurrent.futures.ThreadPoolExecutor(1) as pool:
        platform.deploy(
            "long", "import time\ndef handle(e, c):\n    print('begun', flush=True)\n    time.sleep(2)\n    return 'done'\n"
        )
        call = pool.submit(platform.call, "long")
        until(lambda: "begun" in platform.faas("logs", "long").stdout)
        assert platform.stop(within_s=10) == 0
        assert call.result().text == "done"


def test_no_auth_and_auth(tmp_path: Path) -> None:
    with running(tmp_path) as platform:
        refused_answer = platform.request("GET", "/system/functions", login=False)
        assert (refused_answer.status, refused_answer.text.strip()) == (401, "invalid credentials")
        assert platform.request("GET", "/healthz", login=False).status == 200
        assert platform.request("GET", "/system/functions").status == 200
        assert (tmp_path / ".openfaas" / "config.yml").exists(), "the CLI is logged in by the first start"
        assert oct((platform.data / "basic-auth-password").stat().st_mode)[-3:] == "600"
    with running(tmp_path, "--no-auth") as platform:
        assert platform.request("GET", "/system/functions", login=False).status == 200


@pytest.mark.parametrize(
    ("name", "method", "path", "headers", "body"),
    [
        ("foreign origin", "GET", "/system/functions", {"Origin": "https://evil.example"}, None),
        ("rebound host", "GET", "/system/functions", {"Host": "evil.example"}, None),
        (
            "plain text post",
            "POST",
            "/system/functions",
            {"Origin": "https://evil.example", "Content-Type": "text/plain"},
            "{}",
        ),
        (
            "form post",
            "POST",
            "/system/secrets",
            {"Origin": "null", "Content-Type": "application/x-www-form-urlencoded"},
            "a=b",
        ),
        ("cross site fetch", "GET", "/system/secrets", {"Sec-Fetch-Site": "cross-site"}, None),
    ],
)
def test_a_web_page_cannot_reach_the_api(
    tmp_path_factory: pytest.TempPathFactory, name: str, method: str, path: str, headers: dict[str, str], body: str | None
) -> None:
    with running(tmp_path_factory.mktemp("web"), "--no-auth") as platform:
        answer = platform.request(method, path, body, headers, login=False)
        assert answer.status == 403, f"{name}: {answer}"
