from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinnace_runtime.websocket_frames import (
    MESSAGE_LIMIT_BYTES,
    FrameReader,
    Incoming,
    Opcode,
    ProtocolError,
    accept_key,
    close_frame,
    frame,
    masked,
    read_close,
    text_of,
)


def from_client(first: int, data: bytes, mask: bytes = b"\x01\x02\x03\x04") -> bytes:
    """A frame as a client sends it: masked. `first` is its first byte: flags and opcode."""
    if len(data) < 126:
        length = bytes((0x80 | len(data),))
    elif len(data) < 1 << 16:
        length = b"\xfe" + len(data).to_bytes(2, "big")
    else:
        length = b"\xff" + len(data).to_bytes(8, "big")
    return bytes((first,)) + length + mask + masked(data, mask)


def test_the_handshakes_example_of_rfc_6455() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert accept_key(b"short") is None and accept_key(b"dGhl") is None


@given(st.lists(st.binary(max_size=300), max_size=4), st.binary(min_size=4, max_size=4), st.data())
def test_messages_are_the_same_however_they_arrive(messages: list[bytes], mask: bytes, data: st.DataObject) -> None:
    wire = b"".join(from_client(0x82, message, mask) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    reader, received = FrameReader(), []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        received += reader.feed(wire[start:end])
    assert received == [Incoming(Opcode.BINARY, message) for message in messages]


def test_fragments_become_one_message_and_control_frames_may_come_between() -> None:
    wire = from_client(0x01, b"a") + from_client(0x89, b"ping") + from_client(0x00, b"b") + from_client(0x80, b"c")
    assert FrameReader().feed(wire) == [Incoming(Opcode.PING, b"ping"), Incoming(Opcode.TEXT, b"abc")]


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_lengths_of_every_form(size: int) -> None:
    assert FrameReader().feed(from_client(0x82, b"x" * size)) == [Incoming(Opcode.BINARY, b"x" * size)]
    assert frame(Opcode.BINARY, b"x" * size).endswith(b"x" * size)


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\x82\x01a", 1002),  # not masked
        (from_client(0xC2, b""), 1002),  # a reserved bit
        (from_client(0x83, b""), 1002),  # an unknown opcode
        (from_client(0x09, b""), 1002),  # a ping in fragments
        (from_client(0x89, b"x" * 126), 1002),  # a long ping
        (from_client(0x80, b"a"), 1002),  # a continuation of nothing
        (from_client(0x01, b"a") + from_client(0x81, b"b"), 1002),  # a message inside of another
        (b"\x82\xff" + (MESSAGE_LIMIT_BYTES + 1).to_bytes(8, "big") + bytes(4), 1009),
        (b"\x82\xff" + b"\xff" * 8 + bytes(4), 1009),
    ],
)
def test_what_breaks_the_protocol(wire: bytes, code: int) -> None:
    with pytest.raises(ProtocolError) as broken:
        FrameReader().feed(wire)
    assert broken.value.code == code


def test_closing() -> None:
    assert close_frame(1000, "bye") == b"\x88\x05\x03\xe8bye"
    assert len(close_frame(1000, "é" * 200)) <= 127
    assert read_close(b"\x03\xe8bye") == (1000, "bye") and read_close(b"") == (1005, "")
    for invalid in (b"\x03", b"\x00\x01", b"\x03\xed"):
        with pytest.raises(ProtocolError):
            read_close(invalid)


def test_text_is_utf_8() -> None:
    assert text_of("é".encode()) == "é"
    with pytest.raises(ProtocolError, match="UTF-8"):
        text_of(b"\xff")
