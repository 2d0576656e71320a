"""The server inside a Python replica.

A start goes through `process` (read the environment, load the handler, open the socket, serve), `loading` (import the
user's code and explain what fails), then one of two servers: `thread_server` runs ordinary functions, a blocking thread
for each connection, without asyncio; `loop_server` runs coroutines and ASGI applications on an event loop. A call
travels `http1` (bytes to request) → `event` (what the handler is given) → handler → `reply` (what it returned) →
`http1` (response to bytes). `logs` puts the call id on each line that is written meanwhile.

Start-up time is part of a cold start, so modules here import little: `_socket`, `_thread` and `_signal` are the C modules
beneath `socket`, `threading` and `signal`, which would add 7 ms to the interpreter's 8; what only some functions need
(json, traceback, urllib, asyncio) is imported where it is used.
"""
