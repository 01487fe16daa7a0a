"""The server's side of an exec over SPDY, against frames as a client sends them."""

import hashlib
import io
import json
import struct
import zlib

import pytest

from dflow_hpc.virtual_node import spdy


def test_the_dictionary_is_that_of_the_protocol():
    data = spdy._dictionary()
    assert (len(data), zlib.adler32(data)) == (1423, 0xE3C6A7C2)  # the latter is what zlib names it by, in RFC 1950


class Client:
    """Makes the frames of a client and reads those of the server."""

    def __init__(self):
        self.sent = b""
        self.deflate = zlib.compressobj(zdict=spdy._dictionary())
        self.numbers = {}

    def open(self, name):
        number = self.numbers[name] = 2 * len(self.numbers) + 1
        key, value = b"streamtype", name.encode()
        block = struct.pack(">I", 1) + b"".join(struct.pack(">I", len(text)) + text for text in (key, value))
        packed = self.deflate.compress(block) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        body = struct.pack(">IIH", number, 0, 0) + packed
        self.sent += struct.pack(">II", 0x80030001, len(body)) + body

    def write(self, name, data, last=False):
        self.sent += struct.pack(">II", self.numbers[name], last << 24 | len(data)) + data

    def control(self, kind, body):
        self.sent += struct.pack(">II", 0x80030000 | kind, len(body)) + body

    def serve(self, names):
        self.answer = io.BytesIO()
        return spdy.Exec(io.BytesIO(self.sent), self.answer, names)

    def got(self):
        data, found, kinds = self.answer.getvalue(), dict.fromkeys(self.numbers, b""), []
        ended = set()
        names = {number: name for name, number in self.numbers.items()}
        while data:
            first, second = struct.unpack(">II", data[:8])
            size = second & 0xFFFFFF
            if first >> 31:
                kinds.append(first & 0xFFFF)
            else:
                found[names[first]] += data[8 : 8 + size]
                if second >> 24:
                    ended.add(names[first])
            data = data[8 + size :]
        return found, ended, kinds


def test_a_command_that_failed_says_its_code_and_what_it_wrote():
    client = Client()
    for name in ("error", "stdout", "stderr"):
        client.open(name)
    running = client.serve({"error", "stdout", "stderr"})
    large = hashlib.sha256(b"x").digest() * 3000
    running.write("stdout", large)
    running.write("stderr", b"oh")
    running.end(3)
    found, ended, kinds = client.got()
    assert kinds == [2, 2, 2]
    assert (found["stdout"], found["stderr"]) == (large, b"oh")
    status = json.loads(found["error"])
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert ended == {"error", "stdout", "stderr"}


def test_what_is_written_to_stdin_comes_whole():
    client = Client()
    for name in ("error", "stdin", "stdout"):
        client.open(name)
    client.control(4, b"\0\0\0\0")  # SETTINGS
    client.control(6, b"\0\0\0\1")  # PING
    client.write("stdin", b"one ")
    client.write("stdin", b"two", last=True)
    running = client.serve({"error", "stdin", "stdout"})
    assert running.stdin() == b"one two"
    running.end(0)
    found, _, kinds = client.got()
    assert json.loads(found["error"])["status"] == "Success"
    assert kinds == [2, 2, 2, 6]


def test_a_client_that_goes_away_is_an_error():
    client = Client()
    client.open("error")
    with pytest.raises(spdy.SpdyError):
        client.serve({"error", "stdout"})


def test_a_frame_that_is_too_long_is_refused():
    client = Client()
    client.sent = struct.pack(">II", 1, 0xFFFFFF)
    with pytest.raises(spdy.SpdyError, match="16777215 bytes"):
        client.serve({"error"})
