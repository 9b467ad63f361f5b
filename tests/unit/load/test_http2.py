from __future__ import annotations

import struct

import pytest
from hpack import Decoder

from pytest_gpuperf.load import http2


class TestFrames:
    def test_a_frame_has_24_bits_of_length_then_type_flags_and_stream(self) -> None:
        written = http2.frame(http2.PING, http2.ACK, 0x01020304, b"12345678")
        assert written == b"\x00\x00\x08" + b"\x06" + b"\x01" + b"\x01\x02\x03\x04" + b"12345678"

    def test_lengths_of_more_than_16_bits_are_written(self) -> None:
        written = http2.frame(http2.DATA, 0, 1, bytes(0x012345))
        assert written[:4] == b"\x01\x23\x45\x00"
        word, flags, stream = http2.FRAME.unpack_from(written)
        assert (word >> 8, word & 0xFF, flags, stream) == (0x012345, http2.DATA, 0, 1)

    def test_settings_are_pairs_of_16_and_32_bits(self) -> None:
        written = http2.settings([(http2.ENABLE_PUSH, 0), (http2.INITIAL_WINDOW_SIZE, http2.MAX_WINDOW)])
        assert written[http2.FRAME_BYTES :] == struct.pack(">HIHI", 2, 0, 4, 2**31 - 1)

    def test_codes_of_rfc_9113(self) -> None:
        assert (http2.DATA, http2.SETTINGS, http2.GOAWAY, http2.CONTINUATION) == (0, 4, 7, 9)
        assert http2.error_name(0xB) == "ENHANCE_YOUR_CALM"
        assert http2.error_name(0xD) == "HTTP_1_1_REQUIRED"
        assert http2.error_name(0xE) == "error 14"


class TestContent:
    @pytest.mark.parametrize(
        ("flags", "payload", "priority", "expected"),
        [
            (0, b"abc", False, b"abc"),
            (0, b"", False, b""),
            (http2.PADDED, b"\x00abc", False, b"abc"),
            (http2.PADDED, b"\x02abc\0\0", False, b"abc"),
            (http2.PADDED, b"\x02\0\0", False, b""),
            (http2.HAS_PRIORITY, b"\0\0\0\1\x10abc", True, b"abc"),
            (http2.HAS_PRIORITY | http2.PADDED, b"\x01\0\0\0\1\x10abc\0", True, b"abc"),
            (http2.HAS_PRIORITY, b"\0\0\0\1\x10abc", False, b"\0\0\0\1\x10abc"),
        ],
    )
    def test_is_without_padding_and_priority(self, flags: int, payload: bytes, priority: bool, expected: bytes) -> None:
        assert bytes(http2.content(flags, memoryview(payload), priority=priority)) == expected

    @pytest.mark.parametrize(
        ("flags", "payload"),
        [
            (http2.PADDED, b""),
            (http2.PADDED, b"\x01"),
            (http2.PADDED, b"\xffabc"),
            (http2.HAS_PRIORITY, b"\0\0\0\1"),
            (http2.HAS_PRIORITY | http2.PADDED, b"\x03\0\0\0\1\x10ab"),
        ],
    )
    def test_refuses_more_padding_than_room(self, flags: int, payload: bytes) -> None:
        with pytest.raises(ValueError, match=r"padding|padded"):
            http2.content(flags, memoryview(payload), priority=True)


class TestLiteral:
    @pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 16_382, 16_511, 40_000])
    def test_another_decoder_reads_every_length(self, size: int) -> None:
        name, value = "x" * max(size, 1), "v" * size
        decoded = Decoder(max_header_list_size=1 << 20).decode(http2.literal(name, value))
        assert [(str(key), str(content)) for key, content in decoded] == [(name, value)]

    def test_leaves_nothing_in_the_decoders_table(self) -> None:
        decoder = Decoder()
        decoder.decode(http2.literal(":path", "/method") + http2.literal("authorization", "Bearer 1"))
        assert not decoder.header_table.dynamic_entries

    def test_text_beyond_latin_1_is_replaced(self) -> None:
        assert Decoder().decode(http2.literal("x", "é€"), raw=True) == [(b"x", b"\xe9?")]
