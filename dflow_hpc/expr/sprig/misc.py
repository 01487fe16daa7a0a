"""sprig's encodings, hashes, paths, URLs, regular expressions, random values, and what is not here.

Random values draw from a generator that is passed in, so that a run that is resumed draws the same. Functions that
need a cryptography library or the network are refused by name.

Trap: ``b64dec`` of something else gives the *text of the error*, as in Go.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import posixpath
import random
import re
import urllib.parse
import uuid
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from dflow_hpc.errors import ExpressionError
from dflow_hpc.expr import golang, goregexp
from dflow_hpc.expr.golang import strings
from dflow_hpc.expr.lang.builtins import decode_base64
from dflow_hpc.expr.sprig import semver

_REFUSED = (
    "bcrypt", "htpasswd", "genPrivateKey", "derivePassword", "buildCustomCert", "genCA", "genCAWithKey",
    "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey", "encryptAES",
    "decryptAES", "getHostByName",
)  # fmt: skip
"""They need a cryptography library, or the network."""

_DIGITS = "0123456789"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_MAX_RANDOM = 1_000_000


def _refused(name: str) -> golang.Function:
    def refuse(*_: Any) -> Any:
        raise ExpressionError(
            f"sprig.{name} was called; this engine does not have it, because it needs a cryptography library or the "
            "network. Compute the value in a step and pass it as a parameter."
        )

    return golang.function("...any: any", refuse)


def _hash(name: str) -> Callable[[str], str]:
    return lambda text: hashlib.new(name, golang.to_bytes(text)).hexdigest()


def _decode64(text: str) -> str:
    try:
        return golang.from_bytes(decode_base64(text))
    except ExpressionError as error:
        return str(error)


def _decode32(text: str) -> str:
    data = golang.to_bytes(text).replace(b"\r", b"").replace(b"\n", b"")
    try:
        return golang.from_bytes(base64.b32decode(data))
    except (binascii.Error, ValueError):
        good = re.match(rb"[A-Z2-7]*", data)
        return f"illegal base32 data at input byte {good.end() if good else 0}"


# --- paths


def clean(path: str) -> str:
    """Return the shortest equal path."""
    made = posixpath.normpath(path) if path else "."
    return made[1:] if made.startswith("//") else made


def base(path: str) -> str:
    """Return the last part of a path."""
    if not path:
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def directory(path: str) -> str:
    """Return a path without its last part."""
    return clean(path.rpartition("/")[0] + "/" if "/" in path else "")


def extension(path: str) -> str:
    """Return the last point of the last part and what follows it."""
    name = path.rpartition("/")[2]
    return name[name.rindex(".") :] if "." in name else ""


# --- URLs

_URL = re.compile(r"(?:([a-zA-Z][a-zA-Z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)


def url_parse(text: str) -> dict[str, Any]:
    """Cut a URL into its parts."""
    match = _URL.fullmatch(text)
    bad_escape = re.search(r"%(?![0-9a-fA-F]{2}).{0,2}", text)
    if match is None or re.search(r"[\x00-\x1f\x7f]", text):
        raise ExpressionError(
            f"unable to parse url: parse {golang.quote(text)}: net/url: invalid control character in URL"
        )
    if bad_escape is not None:
        raise ExpressionError(
            f"unable to parse url: parse {golang.quote(text)}: invalid URL escape {golang.quote(bad_escape[0])}"
        )
    scheme, authority, path, query, fragment = (part or "" for part in match.groups())
    if match[1] is None and text.startswith(":"):
        raise ExpressionError(f"unable to parse url: parse {golang.quote(text)}: missing protocol scheme")
    if not scheme and match[2] is None and ":" in path.partition("/")[0]:
        raise ExpressionError(
            f"unable to parse url: parse {golang.quote(text)}: first path segment in URL cannot contain colon"
        )
    user, _, host = authority.rpartition("@")
    opaque = ""
    if scheme and match[2] is None and not path.startswith("/"):
        opaque, path = path, ""
    hostname = host[1 : host.index("]")] if host.startswith("[") and "]" in host else host.rpartition(":")[0] or host
    return {
        "scheme": scheme.lower(),
        "host": host,
        "hostname": hostname,
        "path": urllib.parse.unquote(path),
        "query": query,
        "opaque": opaque,
        "fragment": urllib.parse.unquote(fragment),
        "userinfo": user,
    }


def url_join(parts: Mapping[str, Any]) -> str:
    """Make a URL of its parts."""
    found = {
        name: parts.get(name, "") for name in ("scheme", "host", "path", "query", "opaque", "fragment", "userinfo")
    }
    for name, value in found.items():
        if not isinstance(value, str):
            kind = golang.kind(value)
            raise ExpressionError(f"unable to parse {name} key, must be of type string, but {kind} found")
    text = found["scheme"] + ":" if found["scheme"] else ""
    if found["opaque"]:
        text += found["opaque"]
    else:
        if found["scheme"] or found["host"] or found["userinfo"]:
            if found["host"] or found["path"].startswith("//") or found["userinfo"]:
                text += "//"
            text += found["userinfo"] + "@" if found["userinfo"] else ""
            text += found["host"]
        path = urllib.parse.quote(found["path"], safe="/$&+,:;=@!'()*~")
        if path and not path.startswith("/") and found["host"]:
            path = "/" + path
        text += path
    text += "?" + found["query"] if found["query"] else ""
    return text + ("#" + urllib.parse.quote(found["fragment"], safe="/$&+,:;=@!'()*~?") if found["fragment"] else "")


# --- regular expressions


def _must(pattern: str) -> goregexp.Regexp:
    """Compile a pattern or fail as ``regexp.MustCompile`` does."""
    try:
        return goregexp.compile(pattern)
    except ExpressionError as error:
        shown = f"`{pattern}`" if "`" not in pattern else golang.quote(pattern)
        raise ExpressionError(f"regexp: Compile({shown}): {error}") from None


def _match(pattern: str, text: str) -> bool:
    try:
        return goregexp.matches(pattern, text)
    except ExpressionError:
        return False


def _regex(read: Callable[[str], goregexp.Regexp]) -> dict[str, tuple[str, Callable[..., Any]]]:
    def find(pattern: str, text: str) -> str:
        match = read(pattern).search(text)
        return "" if match is None else text[match.start() : match.end()]

    def find_all(pattern: str, text: str, limit: int) -> list[str]:
        found = read(pattern).findall(text, limit)
        return golang.NilList("[]string") if found is None else strings(found)

    def split(pattern: str, text: str, limit: int) -> list[str]:
        found = read(pattern).split(text, limit)
        return golang.NilList("[]string") if found is None else strings(found)

    def literally(pattern: str, text: str, new: str) -> str:
        return read(pattern).replace(text, new, literal=True)

    return {
        "RegexFindAll": ("string, string, int: []string", find_all),
        "RegexFind": ("string, string: string", find),
        "RegexReplaceAll": (
            "string, string, string: string",
            lambda pattern, text, new: read(pattern).replace(text, new),
        ),
        "RegexReplaceAllLiteral": ("string, string, string: string", literally),
        "RegexSplit": ("string, string, int: []string", split),
    }


def _random(rng: random.Random) -> dict[str, tuple[str, Callable[..., Any]]]:
    def text(alphabet: str) -> Callable[[int], str]:
        def draw(count: int) -> str:
            if count > _MAX_RANDOM:
                raise ExpressionError(f"{count} random characters were asked for; allowed are {_MAX_RANDOM}")
            return "".join(rng.choice(alphabet) for _ in range(max(count, 0)))

        return draw

    def integer(least: int, most: int) -> int:
        if most <= least:
            raise ExpressionError("invalid argument to Intn")
        return rng.randrange(least, most)

    def shuffle(value: str) -> str:
        characters = list(value)
        rng.shuffle(characters)
        return "".join(characters)

    def data(count: int) -> str:
        if not 0 <= count <= _MAX_RANDOM:
            raise ExpressionError("runtime error: makeslice: len out of range")
        return base64.b64encode(rng.randbytes(count)).decode()

    return {
        "randInt": ("int, int: int", integer),
        "randAlphaNum": ("int: string", text(_LETTERS + _DIGITS)),
        "randAlpha": ("int: string", text(_LETTERS)),
        "randNumeric": ("int: string", text(_DIGITS)),
        "randAscii": ("int: string", text("".join(map(chr, range(32, 127))))),
        "randBytes": ("int: string", data),
        "shuffle": ("string: string", shuffle),
        "uuidv4": (": string", lambda: str(uuid.UUID(int=rng.getrandbits(128), version=4))),
    }


def _fail(message: str) -> Any:
    raise ExpressionError(message)


_TABLE: dict[str, tuple[str, Callable[..., Any]]] = {
    "b64enc": ("string: string", lambda text: base64.b64encode(golang.to_bytes(text)).decode()),
    "b64dec": ("string: string", _decode64),
    "b32enc": ("string: string", lambda text: base64.b32encode(golang.to_bytes(text)).decode()),
    "b32dec": ("string: string", _decode32),
    "sha1sum": ("string: string", _hash("sha1")),
    "sha256sum": ("string: string", _hash("sha256")),
    "sha512sum": ("string: string", _hash("sha512")),
    "adler32sum": ("string: string", lambda text: str(zlib.adler32(golang.to_bytes(text)))),
    "base": ("string: string", base),
    "dir": ("string: string", directory),
    "clean": ("string: string", clean),
    "ext": ("string: string", extension),
    "isAbs": ("string: bool", lambda path: path.startswith("/")),
    "osBase": ("string: string", base),
    "osDir": ("string: string", directory),
    "osClean": ("string: string", clean),
    "osExt": ("string: string", extension),
    "osIsAbs": ("string: bool", lambda path: path.startswith("/")),
    "urlParse": ("string: map[string]any", url_parse),
    "urlJoin": ("map[string]any: string", url_join),
    "regexMatch": ("string, string: bool", _match),
    "mustRegexMatch": ("string, string: bool", goregexp.matches),
    "regexQuoteMeta": ("string: string", goregexp.quote),
    "semver": ("string: *semver.Version", semver.Version),
    "semverCompare": ("string, string: bool", semver.compare),
    "fail": ("string: string", _fail),
}


def _made(table: Mapping[str, tuple[str, Callable[..., Any]]]) -> dict[str, golang.Function]:
    return {name: golang.function(signature, call) for name, (signature, call) in table.items()}


PURE = {
    **_made(_TABLE),
    **_made({name[0].lower() + name[1:]: entry for name, entry in _regex(_must).items()}),
    **_made({"must" + name: entry for name, entry in _regex(goregexp.compile).items()}),
    **{name: _refused(name) for name in _REFUSED},
}
"""The functions that draw nothing."""


def functions(rng: random.Random) -> dict[str, golang.Function]:
    """Return the functions that draw random values, by name.

    Args:
        rng: Where they come from.
    """
    return _made(_random(rng))
