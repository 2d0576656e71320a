"""The classic watchdog: a program for each call."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pinnace_runtime.classic import HELD_BYTES, read_classic_settings
from pinnace_runtime.program import PIPE_BYTES
from pinnace_runtime.settings import InvalidSetting
from pinnace_runtime.spool import IN_MEMORY_BYTES

from tests.runtime_templates.replica import Replica, StartReplica, read_all, wait_until

Run = Callable[..., Replica]


@pytest.fixture
def run(start_replica: StartReplica) -> Run:
    """Start a watchdog for a script; other commands by `fprocess`."""

    def start(handler: str = "cat", **environment: str) -> Replica:
        return start_replica(handler, "classic", tcp=False, **{"fprocess": "bash handler.sh", **environment})

    return start


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_the_body_goes_in_and_the_output_comes_out(run: Run) -> None:
    replica = run("tr a-z A-Z")
    assert replica.notified == {"ready": True}
    answer = replica.call("/", b"hello")
    assert (answer.status, answer.body) == (200, b"HELLO")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert replica.call("/").body == b""


@pytest.mark.parametrize("size", [0, 1, PIPE_BYTES, PIPE_BYTES + 1, IN_MEMORY_BYTES + 1, HELD_BYTES + 1, 5_000_000])
def test_bodies_of_any_size(run: Run, size: int) -> None:
    """In a pipe, in memory, in a file; the answer at once or streamed."""
    body = os.urandom(size)
    assert run(fprocess="cat").call("/", body).body == body


def test_a_large_body_leaves_no_file(run: Run, tmp_path: Path) -> None:
    replica = run(fprocess="cat", TMPDIR=str(tmp_path / "0"))
    assert len(replica.call("/", b"x" * 1_000_000).body) == 1_000_000
    assert {path.name for path in (tmp_path / "0").iterdir()} == {"function", "log"}
    files = Path(f"/proc/{replica.process.pid}/fd")
    wait_until(lambda: not any("deleted" in str(path.readlink()) for path in files.iterdir()), "the file's end")


def test_the_request_is_in_the_environment(run: Run) -> None:
    replica = run(fprocess="env")
    answer = replica.call(
        "/a%20b/c?x=1&y=2", b"body", method="PATCH", content_type="text/x", x_call_id="id-7", x_b3_traceid="t"
    )
    said = dict(line.split("=", 1) for line in answer.body.decode().splitlines())
    wanted = {
        "Http_Method": "PATCH",
        "Http_Path": "/a b/c",
        "Http_Query": "x=1&y=2",
        "Http_ContentLength": "4",
        "Http_Content_Length": "4",
        "Http_Content_Type": "text/x",
        "Http_X_Call_Id": "id-7",
        "Http_X_B3_Traceid": "t",
        "Http_Host": "replica",
    }
    assert wanted.items() <= said.items()
    assert not [name for name in said if name.startswith("PINNACE_")]


def test_no_header_can_pass_for_another_or_for_a_proxy(run: Run) -> None:
    head = (
        b"GET /real HTTP/1.1\r\nHost: h\r\nConnection: close\r\nProxy: evil:1\r\nX_Call_Id: fake\r\nX-Call-Id: true\r\n"
        b"Path: /fake\r\nMethod: FAKE\r\nContentLength: 9\r\nA: 1\r\nA: 2\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n"
    )
    said = run(fprocess="env").send(head).decode()
    assert "Http_Proxy" not in said and "fake" not in said.lower()
    assert {"Http_Path=/real", "Http_Method=GET", "Http_ContentLength=0", "Http_X_Call_Id=true"} <= set(said.splitlines())
    assert {"Http_A=1, 2", "Http_Cookie=a=1; b=2"} <= set(said.splitlines())


def test_without_cgi_headers_the_environment_is_the_functions(run: Run) -> None:
    assert b"Http_" not in run(fprocess="env", cgi_headers="false").call("/", b"x").body


def test_a_path_with_a_nul_is_refused(run: Run) -> None:
    assert run(fprocess="env").call("/a%00b").status == 400


def test_a_failure_is_a_500_and_in_the_log(run: Run) -> None:
    replica = run("echo partial; echo why >&2; exit 3")
    answer = replica.call("/", X_Call_Id="c-1")
    assert (answer.status, answer.body) == (500, b"partial\n")
    assert {"c-1|why", "c-1|fprocess ended with exit code 3"} <= set(replica.log)
    silent = run("kill -9 $$")
    answer = silent.call("/", X_Call_Id="c-2")
    assert (answer.status, answer.body) == (500, b"Internal Server Error\n")
    assert "c-2|fprocess was killed by SIGKILL" in silent.log
    assert silent.call("/_/ready").status == 200


def test_a_failure_after_much_output_cuts_the_answer(run: Run) -> None:
    """A client must not take half an answer for a whole one."""
    replica = run(f"head -c {3 * HELD_BYTES} /dev/zero; exit 1")
    answer = replica.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and not answer.endswith(b"0\r\n\r\n")


def test_standard_error_goes_to_the_log_or_into_the_answer(run: Run) -> None:
    replica = run("echo out; echo err >&2; printf 'no line end' >&2")
    assert replica.call("/", X_Call_Id="c-1").body == b"out\n"
    replica.wait_for_log("c-1|no line end")
    assert replica.log == ["c-1|err", "c-1|no line end"]
    assert run("echo out; echo err >&2", combine_output="true").call("/").body == b"out\nerr\n"


def test_a_long_line_does_not_stop_the_log(run: Run) -> None:
    """OpenFaaS's watchdog stops reading at a line of more than 64 KiB, and every later call hangs."""
    replica = run("head -c 300000 /dev/zero | tr '\\0' x >&2; echo >&2; echo done")
    for _ in range(3):
        assert replica.call("/").body == b"done\n"
    assert [len(line) for line in replica.log] == [300_000] * 3


def test_content_type_is_a_setting(run: Run) -> None:
    assert run(content_type="application/json").call("/", b"{}").headers["content-type"] == "application/json"


def test_a_program_that_takes_too_long_is_killed_with_all_it_started(run: Run, tmp_path: Path) -> None:
    replica = run(f"sleep 60 & echo $! > {tmp_path}/child; echo $$ > {tmp_path}/self; sleep 60", exec_timeout="300ms")
    answer = replica.call("/", X_Call_Id="c-1")
    assert answer.status == 504
    assert answer.headers["x-openfaas-internal"] == "runtime"
    for name in ("child", "self"):
        wait_until(lambda name=name: has_ended(int((tmp_path / name).read_text())), f"the end of {name}")  # type: ignore[misc]
    wait_until(lambda: "c-1|fprocess took longer than exec_timeout, 0.3 s, and was killed" in replica.log, "the log")


def test_x_timeout_shortens_the_limit(run: Run) -> None:
    replica = run("sleep 60")
    assert replica.call("/", X_Timeout="200ms").status == 504


def test_a_call_ends_with_its_program_whatever_it_left_behind(run: Run, tmp_path: Path) -> None:
    """A background process that holds the output open neither holds up the answer nor lives on."""
    replica = run(f"echo answer; sleep 60 & echo $! > {tmp_path}/child")
    assert replica.call("/").body == b"answer\n"
    wait_until(lambda: has_ended(int((tmp_path / "child").read_text())), "the end of the background process")


def test_output_is_streamed_once_it_is_long(run: Run, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    replica = run(f"head -c {HELD_BYTES + 1} /dev/zero; read line < {fifo}; echo end")
    with replica.open("GET", "/") as response:
        assert len(response.read(HELD_BYTES)) == HELD_BYTES  # the program still runs
        fifo.write_text("now\n")
        assert response.read() == b"\0end\n"


def test_the_program_of_a_client_that_left_a_stream_is_ended(run: Run, tmp_path: Path) -> None:
    replica = run(f"echo $$ > {tmp_path}/self; cat /dev/zero")
    client = replica.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert client.recv(100).startswith(b"HTTP/1.1 200")
    client.close()
    wait_until(lambda: has_ended(int((tmp_path / "self").read_text())), "the end of the program")


def test_a_head_of_a_long_answer_ends_the_program(run: Run, tmp_path: Path) -> None:
    replica = run(f"echo $$ > {tmp_path}/self; cat /dev/zero")
    assert replica.call("/", method="HEAD").status == 200
    wait_until(lambda: has_ended(int((tmp_path / "self").read_text())), "the end of the program")


def test_a_slow_client_holds_no_process(run: Run, tmp_path: Path) -> None:
    replica = run(f"touch {tmp_path}/started; cat")
    client = replica.connect()
    client.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 4\r\n\r\nab")
    assert replica.call("/_/ready").status == 200
    assert not (tmp_path / "started").exists()
    client.sendall(b"cd")
    assert read_all(client).endswith(b"abcd")


def test_more_than_max_inflight_is_refused_unread(run: Run, tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    replica = run(f"echo waiting >&2; cat {fifo}", max_inflight="1")
    answers: list[int] = []
    first = threading.Thread(target=lambda: answers.append(replica.call("/", X_Call_Id="a").status))
    first.start()
    replica.wait_for_log("a|waiting")
    refused = replica.call("/")
    assert (refused.status, refused.headers["x-openfaas-internal"]) == (429, "runtime")
    fifo.write_text("go")
    first.join(10)
    assert answers == [200]


def test_a_call_in_flight_finishes_at_sigterm(run: Run, tmp_path: Path) -> None:
    """OpenFaaS's watchdog passes the signal on, and most programs die of it."""
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    replica = run(f"echo waiting >&2; cat {fifo}")
    client = replica.connect()
    client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX-Call-Id: a\r\n\r\n")
    replica.wait_for_log("a|waiting")
    replica.terminate()
    fifo.write_text("finished")
    assert read_all(client).endswith(b"finished")
    assert replica.wait() == 0


def test_signals_are_as_a_program_expects_them(run: Run) -> None:
    """`yes | head` ends by SIGPIPE, which Python ignores for itself."""
    assert run("yes | head -n 1").call("/").body == b"y\n"
    assert int(run(fprocess="grep SigIgn /proc/self/status").call("/").body.split()[1], 16) & (1 << (signal.SIGPIPE - 1)) == 0


def test_a_program_inherits_three_files(run: Run) -> None:
    replica = run("ls /proc/self/fd | wc -l")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(replica.address))
        assert replica.call("/", b"x").body.strip() == b"4"  # and the folder that ls reads


BROKEN = [
    ("", "fprocess is empty"),
    ("bash 'x", "No closing quotation"),
    ("no-such-program", "there is no program 'no-such-program' in any folder of PATH"),
    ("./missing", "there is no program './missing' in the function's folder"),
    ("./handler.sh", "./handler.sh is not executable: chmod +x it before the deploy"),
    ("handler.sh", "(a program beside the handler is `./handler.sh`)"),
]


@pytest.mark.parametrize(("command", "message"), BROKEN)
def test_a_command_that_cannot_run_is_known_at_the_start(run: Run, command: str, message: str) -> None:
    replica = run(fprocess=command)
    assert message in replica.notified["failed"]
    assert replica.wait() == 1


def test_the_command_is_split_as_a_shell_would() -> None:
    assert read_classic_settings({"fprocess": "sh -c 'echo a  b'", "PATH": "/bin"}).words == ["/bin/sh", "-c", "echo a  b"]
    assert read_classic_settings({"function_process": "/bin/cat"}).words == ["/bin/cat"]
    with pytest.raises(InvalidSetting, match="combine_output='maybe': true or false"):
        read_classic_settings({"fprocess": "/bin/cat", "combine_output": "maybe"})
