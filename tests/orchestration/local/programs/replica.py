"""A replica in a few lines, for tests: it keeps the contract, and misbehaves as its environment tells it.

`GET /env/NAME` gives a variable, `/file/PATH` a file (403 when it cannot be read), `/ids` its user, `/write/PATH` tries to
write, `/connect/PATH` to connect, `/eat/BYTES` takes memory, `/escape` leaves a
daemon in a session of its own without environment and gives its pid,
`/say/TEXT` prints.
"""

# ruff: noqa: PTH123, PTH208 - started often, it imports little
from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from types import FrameType


def notify(**message: object) -> None:
    os.write(int(os.environ["PINNACE_NOTIFY_FD"]), json.dumps(message).encode() + b"\n")


def escape() -> str:
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writing, str(os.getpid()).encode())
            for fd in range(64):
                try:
                    os.close(fd)
                except OSError:
                    continue
            os.execve(sys.executable, [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"], {})
        os._exit(0)
    os.wait()
    return os.read(reading, 100).decode()


def answer(path: str) -> tuple[int, str]:
    _, what, *rest = path.split("/", 2)
    value = rest[0] if rest else ""
    try:
        if what == "env":
            return 200, os.environ.get(value, "")
        if what == "file":
            with open("/" + value) as file:
                return 200, file.read()
        if what == "list":
            return 200, "\n".join(sorted(os.listdir("/" + value)))
        if what == "connect":
            with socket.socket(socket.AF_UNIX) as other:
                other.connect("/" + value)
            return 200, "connected"
        if what == "write":
            with open("/" + value, "w") as file:
                file.write("x")
            return 200, "written"
        if what == "ids":
            with open("/proc/self/status") as file:
                lines = [line.split() for line in file]
            status = {line[0]: line[1:] for line in lines if line}
            return 200, json.dumps(
                {"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "no_new_privs": status["NoNewPrivs:"]}
            )
        if what == "eat":
            taken = bytearray(int(value))
            taken[::4096] = b"x" * len(taken[::4096])
            return 200, str(len(taken))
        if what == "escape":
            return 200, escape()
        if what == "say":
            print(value, flush=True)
            return 200, "said"
        if what == "burn":
            deadline = time.monotonic() + float(value)
            while time.monotonic() < deadline:
                pass
            return 200, str(time.process_time())
        if what == "exit":
            print("going down", file=sys.stderr, flush=True)
            os._exit(int(value))
    except OSError as error:
        return 403, str(error)
    return 200, "ok"


def serve(connection: socket.socket) -> None:
    with connection:
        while request := connection.recv(65536):
            path = request.split(b" ", 2)[1].decode()
            status, text = answer(path)
            body = text.encode()
            connection.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


def main() -> None:
    def terminate(number: int, frame: FrameType | None) -> None:
        if os.environ.get("STUBBORN"):
            return
        print("terminated", flush=True)
        os._exit(0)

    signal.signal(signal.SIGTERM, terminate)
    print("starting", flush=True)
    if os.environ.get("FAIL"):
        notify(failed=os.environ["FAIL"], detail="Traceback …")
        sys.exit(1)
    if os.environ.get("EXIT"):
        print("last words", file=sys.stderr, flush=True)
        sys.exit(int(os.environ["EXIT"]))
    listener = socket.socket(fileno=int(os.environ["PINNACE_LISTEN_FD"]))
    if not os.environ.get("MUTE") and not os.environ.get("HANG"):
        notify(ready=True)
    while os.environ.get("HANG"):
        time.sleep(1)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


main()
