"""Answers that say where the time went, to clients that ask."""

from __future__ import annotations

import re

from gateway.edge.timed_call import server_timing
from orchestration.starts import Start
from tests.gateway.edge.lab import Lab, field, fields

START = Start(
    replica="r", revision="f-1", kind="zygote", at=0.0, placed_s=0.0, prepared_s=0.1, made_s=0.002, ready_s=0.003
)  # fmt: skip


def test_the_wait_the_start_in_it_and_the_run_are_metrics() -> None:
    assert server_timing(0.1062, 0.0015, START) == (
        b'Server-Timing: wait;dur=106.200, start;dur=105.000;desc="zygote", start-import;dur=100.000, start-fork;dur=2.000, '
        b"start-ready;dur=3.000, run;dur=1.500\r\n"
    )


def test_a_start_that_was_over_before_the_call_came_is_no_part_of_it() -> None:
    assert server_timing(0.05, 0.001, START) == b"Server-Timing: wait;dur=50.000, run;dur=1.000\r\n"
    assert server_timing(0.0, 0.001, None) == b"Server-Timing: wait;dur=0.000, run;dur=1.000\r\n"


async def test_who_asks_is_told_and_nobody_else(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    client = await lab.client()
    for extra, told in ((b"X-Pinnace-Timing: 1\r\n", True), (b"", False), (b"X-Pinnace-Timing: 0\r\n", False)):
        status, head, body = await client.get(extra=extra)
        assert (status, body) == (200, b"ok")
        timing = field(head, b"server-timing")
        assert (timing is not None) == told
        if told:
            assert re.fullmatch(rb"wait;dur=\d+\.\d{3}, run;dur=\d+\.\d{3}", timing or b"")
            assert len(fields(head, b"x-call-id")) == 1
        assert fields(origin.heads[-1], b"x-pinnace-timing") == fields(origin.heads[-1], b"server-timing") == []


async def test_a_functions_own_server_timing_is_kept_beside(lab: Lab) -> None:
    origin = await lab.replica(lab.deploy("echo"))
    origin.response = b"HTTP/1.1 200 OK\r\nServer-Timing: db;dur=5\r\nContent-Length: 0\r\n\r\n"
    client = await lab.client()
    _, head, _ = await client.get(extra=b"X-Pinnace-Timing: 1\r\n")
    own, edges = fields(head, b"server-timing")
    assert own == b"db;dur=5"
    assert edges.startswith(b"wait;")
