"""The server's side of one exec over SPDY/3.1: the streams of Kubernetes' protocol ``v4.channel.k8s.io``.

The API server speaks to a kubelet in no other way (1.34: a client's WebSocket ends at the API server). The client opens
a stream for each of ``error``, ``stdin``, ``stdout`` and ``stderr``; the end is a Status on ``error``.

Not here: HTTP (``kubelet_api.py``), and what is run.

Trap: headers of all frames of one direction are one zlib stream with SPDY's own dictionary. A header that is left out
breaks all that follow.
"""

from __future__ import annotations

import json
import struct
import zlib
from io import BufferedIOBase

PROTOCOL = "v4.channel.k8s.io"
UPGRADE = "SPDY/3.1"
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY = 1, 2, 3, 6, 7
_FIN = 1
_CHUNK = 32_768
_LARGEST = 1 << 20
"""Bytes of the longest frame that is taken."""

# The dictionary of SPDY/3, section 2.6.10.1: words with their lengths before them, then a text.
_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status|200 OK|version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    words = [word for part in _WORDS.split("|") for word in (part.split() if part != "200 OK" else [part])]
    return b"".join(struct.pack(">I", len(word)) + word.encode() for word in words) + _TEXT.encode()


class SpdyError(Exception):
    """What came is none of SPDY, or the client went away."""


class Exec:
    """The streams of one exec.

    Args:
        reader: What the client sends, after the 101.
        writer: What it gets.
        names: The streams that it will open.
    """

    def __init__(self, reader: BufferedIOBase, writer: BufferedIOBase, names: set[str]):
        self._reader, self._writer = reader, writer
        dictionary = _dictionary()
        self._inflate = zlib.decompressobj(zdict=dictionary)
        self._deflate = zlib.compressobj(zdict=dictionary)
        self._streams: dict[str, int] = {}
        self._stdin = bytearray()
        self._open = True
        """Whether stdin may still bring something."""
        while names - self._streams.keys():
            self._frame()

    def _read(self, size: int) -> bytes:
        data = self._reader.read(size)
        if len(data) < size:
            raise SpdyError("the client has gone")
        return data

    def _frame(self) -> None:
        first, second = struct.unpack(">II", self._read(8))
        flags, size = second >> 24, second & 0xFFFFFF
        if size > _LARGEST:
            raise SpdyError(f"a frame of {size} bytes came")
        body = self._read(size)
        if not first >> 31:
            self._take(first, body, bool(flags & _FIN))
            return
        kind = first & 0xFFFF
        if kind == _SYN_STREAM:
            (number,) = struct.unpack(">I", body[:4])
            self._streams[self._headers(body[10:]).get("streamtype", "")] = number
            self._send(0x80030000 | _SYN_REPLY, struct.pack(">I", number) + self._pack_no_headers())
        elif kind == _PING:
            self._send(0x80030000 | _PING, body)
        elif kind == _RST_STREAM:
            self._take(struct.unpack(">I", body[:4])[0], b"", True)
        elif kind == _GOAWAY:
            raise SpdyError("the client has ended it")

    def _take(self, number: int, data: bytes, last: bool) -> None:
        if number == self._streams.get("stdin"):
            self._stdin += data
            self._open = self._open and not last

    def _headers(self, packed: bytes) -> dict[str, str]:
        data = self._inflate.decompress(packed)
        found = {}
        (count,) = struct.unpack(">I", data[:4])
        place = 4
        for _ in range(count):
            pair = []
            for _ in range(2):
                (size,) = struct.unpack(">I", data[place : place + 4])
                pair.append(data[place + 4 : place + 4 + size].decode("utf-8", "replace"))
                place += 4 + size
            found[pair[0].lower()] = pair[1]
        return found

    def _pack_no_headers(self) -> bytes:
        return self._deflate.compress(struct.pack(">I", 0)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def _send(self, first: int, body: bytes, flags: int = 0) -> None:
        self._writer.write(struct.pack(">II", first, flags << 24 | len(body)) + body)
        self._writer.flush()

    def stdin(self) -> bytes:
        """Return all of the client's input; wait until that has ended."""
        while self._open and "stdin" in self._streams:
            self._frame()
        return bytes(self._stdin)

    def write(self, name: str, data: bytes) -> None:
        """Write to ``stdout`` or ``stderr``; nothing where the client did not ask for it."""
        if name in self._streams:
            for place in range(0, len(data), _CHUNK):
                self._send(self._streams[name], data[place : place + _CHUNK])

    def end(self, code: int, why: str = "") -> None:
        """Say how the command ended, and end all streams.

        Args:
            code: Its exit code.
            why: What kept it from running, if so.
        """
        status: dict[str, object] = {"metadata": {}, "status": "Success"}
        if why:
            status = {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": why, "code": 500}
        elif code:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            status |= {"status": "Failure", "reason": "NonZeroExitCode", "details": {"causes": causes}}
            status["message"] = f"command terminated with exit code {code}"
        self.write("error", json.dumps(status).encode())
        for name in ("stdout", "stderr", "error"):
            if name in self._streams:
                self._send(self._streams[name], b"", _FIN)

    def drain(self) -> None:
        """Take what the client still says, until it goes: its last frames must not meet a closed link.

        Raises:
            SpdyError: It has gone.
        """
        while True:
            self._frame()
