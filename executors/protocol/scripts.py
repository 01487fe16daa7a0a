"""The protocol's scripts on one machine: installing them, calling them, reading their answers.

Each call is one command over the transport. Answers are framed (``common.sh``): one that was cut counts for nothing.

Not here: what the tars hold in detail (``cargo.py``, ``leaves.py``).

Trap: the scripts' directory is named by the SHA-256 of their texts, so two versions of dflow_hpc share a machine, and a
job that waits for a week still finds the scripts that it was made for.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dflow_hpc.errors import ConfigError, ExecutorError, HostUnreachable
from dflow_hpc.executors.protocol.cargo import Cargo
from dflow_hpc.executors.protocol.pieces import Piece, Pieces
from dflow_hpc.executors.transport import Answer, Transport

_HERE = Path(__file__).parent
_HEAD = b"=dflow-hpc 1=\n"
_DEFAULT_ROOT = ".dflow-hpc/machine"
_LONG = 600.0
_NOT_BEGUN = 70
_NOT_THERE = 71


class ProtocolError(ExecutorError):
    """The machine answered, and could not do what was asked: no room, no permission, a tool is missing."""


class NotThere(ProtocolError):
    """The machine's cache has not what a cargo counts on: somebody cleaned it. Nothing has begun."""


@dataclass(frozen=True)
class Home:
    """What a machine says of itself when the scripts are brought."""

    root: str
    """Absolute."""
    ahead: float
    """Seconds by which its clock is ahead of ours, about."""
    free: int | None
    """Bytes that are free where the root is."""
    python: str
    """Version of ``python3`` before any setup lines; empty: there is none."""
    missing: tuple[str, ...]
    """Tools that are needed and not there."""
    cached: frozenset[str]
    """What its cache holds: bundles, and files by their content."""
    scripts: str
    """Directory of the scripts there."""


@dataclass(frozen=True)
class Frame:
    """One part of an answer."""

    name: str
    word: str
    rc: int
    out: bytes
    err: bytes


@dataclass(frozen=True)
class Questions:
    """What one ``ask`` asks; see ``ask.sh``."""

    run: Mapping[str, str] = field(default_factory=dict)
    """Shell commands by a name of letters and digits."""
    seal: Sequence[str] = ()
    revoke: Sequence[str] = ()
    forget: Sequence[str] = ()
    settle: Sequence[str] = ()
    """Tokens whose job is gone."""
    wait_for: Sequence[str] = ()
    """Tokens whose marker is awaited."""
    renew: Mapping[str, bytes] = field(default_factory=dict)
    """Texts of ``urls`` by token."""


@dataclass(frozen=True)
class Reply:
    """The answer of ``ask``."""

    ran: dict[str, Frame]
    """By the command's name."""
    batches: dict[str, Frame]
    """State of each sealed batch: the words of ``common.sh``."""
    ended: tuple[str, ...]
    outputs: bytes
    """A tar of ``<key>/attempt.<n>/...``; empty where nothing ended."""


def script_files() -> dict[str, bytes]:
    """Return the files that are brought to a machine, by name."""
    files = [path for path in sorted(_HERE.iterdir()) if path.suffix == ".sh"]
    return {path.name: path.read_bytes() for path in [*files, _HERE / "op.py"]}


# On one line: csh as a login shell takes no line ends inside quotes.
_INSTALL = (
    "umask 077; mkdir -p {root} && cd {root} && {{ test -d bin/{sha} || {{ mkdir -p bin && mkdir bin/in.$$ && "
    "tar -xzf - -C bin/in.$$ && test -e bin/in.$$/complete && {{ mv bin/in.$$ bin/{sha} 2>/dev/null || "
    "test -d bin/{sha}; }}; }}; }} && exec /bin/sh bin/{sha}/hello.sh"
)


class Scripts:
    """The protocol on one machine.

    Args:
        transport: The way to it.
        root: Directory there, absolute or relative to the home; None is ``.dflow-hpc/machine``.
    """

    def __init__(self, transport: Transport, root: str | None = None):
        self._transport = transport
        self._root = root or _DEFAULT_ROOT
        self._lock = threading.Lock()
        self._home: Home | None = None
        self._cached: set[str] = set()

    def home(self) -> Home:
        """Bring the scripts, if this was not done yet, and return what the machine says of itself.

        Raises:
            ProtocolError: The root cannot be made or written.
            ConfigError: A tool is missing there.
        """
        with self._lock:
            if self._home is None:
                self._home = self._install()
                self._cached = set(self._home.cached)
            return self._home

    def _install(self) -> Home:
        files = script_files()
        sha = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:16]
        cargo = Cargo()
        for name, data in files.items():
            cargo.text(name, data, 0o700)
        path = self._root.removeprefix("~/")
        before = time.time()
        answer = self._transport.run(_INSTALL.format(root=shlex.quote(path), sha=sha), cargo.close())
        clock = (before + time.time()) / 2
        if answer.rc:
            words = _words(answer)
            if tool := re.search(
                r"\b(tar|gzip|mkdir|mv): (?:command )?(?:not found|Cannot exec)", words, re.IGNORECASE
            ):
                raise ConfigError(_missing([tool[1]]))
            raise ProtocolError(f"the directory {self._root} was to be prepared there: {words}")
        found: dict[str, list[str]] = {}
        for line in _body(answer).decode(errors="replace").splitlines():
            key, _, value = line.partition(" ")
            found.setdefault(key, []).append(value)
        root, free = found["root"][0], found["free"][0]
        missing = tuple(found.get("missing", ()))
        if missing:
            raise ConfigError(_missing(missing))
        return Home(
            root=root,
            ahead=int(found["clock"][0]) - clock,
            free=int(free) * 1024 if free else None,
            python=found["python"][0],
            missing=missing,
            cached=frozenset(found.get("cached", ())),
            scripts=f"{root}/bin/{sha}",
        )

    def has(self, name: str) -> bool:
        """Say whether something is in the cache there: a bundle or a file, by the hash of its content."""
        self.home()
        with self._lock:
            return name in self._cached

    def body(self, batch: str, pack: int = 1) -> str:
        """Return the body of a batch's job script: each member runs its leaf, or its pack of leaves."""
        home = self.home()
        script = "member.sh" if pack == 1 else "pack.sh"
        words = ["exec", "/bin/sh", f"{home.scripts}/{script}", home.root, batch]
        return " ".join(map(shlex.quote, words)) + ' "${DFH_INDEX:-0}"' + f" {pack}" * (pack > 1) + "\n"

    def leaf_directory(self, token: str) -> str:
        """Return the absolute directory of an attempt there."""
        key, _, attempt = token.rpartition("-")
        return f"{self.home().root}/{key}/attempt.{attempt}"

    def batch_directory(self, batch: str) -> str:
        """Return the absolute directory of a batch there."""
        return f"{self.home().root}/.batch/{batch}"

    def add_leaf(
        self,
        cargo: Cargo,
        token: str,
        files: Mapping[str, bytes],
        root: Path | None = None,
        pieces: Pieces | None = None,
    ) -> None:
        """Pack a leaf.

        Args:
            cargo: What ``submit`` takes.
            token: Of the attempt; from now on it is the one that counts.
            files: From ``leaf_files``.
            root: The leaf's directory here; everything in it that is not in ``files`` goes along.
            pieces: Takes from that what is shared through the cache; None: nothing is.
        """
        key, _, attempt = token.rpartition("-")
        place = f"leaves/{key}/attempt.{attempt}"
        if root is not None:
            self.walk(root, pieces, cargo, place, files)
        if pieces is not None and (listed := pieces.listed()):
            cargo.text(f"{place}/inputs.list", listed)
        for name, data in files.items():
            cargo.text(f"{place}/{name}", data, 0o700 if name.startswith("root/") else 0o600)
        cargo.text(f"leaves/{key}/current", attempt + "\n")

    @staticmethod
    def walk(
        root: Path,
        pieces: Pieces | None,
        cargo: Cargo | None = None,
        place: str = "leaf",
        files: Iterable[str] = (),
    ) -> None:
        """Go through what a leaf's directory here has for the machine; into a cargo, where there is one."""
        names = {*files, "log.txt", "phase", "exit.json"}
        apart = pieces.take if pieces is not None else lambda *_: False
        (cargo or Cargo()).tree(place, root, skip=names.__contains__, apart=apart)

    def add_file(self, cargo: Cargo, token: str, name: str, content: str | bytes) -> None:
        """Pack one file more for a leaf."""
        key, _, attempt = token.rpartition("-")
        cargo.text(f"leaves/{key}/attempt.{attempt}/{name}", content)

    def add_code(self, cargo: Cargo, sha: str, code: Path) -> None:
        """Pack an extracted bundle for the cache."""
        cargo.tree(f"cas/{sha}", code)

    def add_piece(self, cargo: Cargo, piece: Piece) -> None:
        """Pack a file for the cache: nobody may write what many share."""
        cargo.file(f"cas/{piece.name}/data", piece.source, 0o500 if piece.executable else 0o400)

    def add_batch(self, cargo: Cargo, batch: str, script: str, command: str, tokens: Sequence[str]) -> None:
        """Pack a batch.

        Args:
            cargo: What ``submit`` takes.
            batch: Its id.
            script: Text of the batch script, ``job.sh``.
            command: The command that submits it, run in the batch's directory.
            tokens: Of its members, by index.
        """
        for name, text in (("job.sh", script), ("submit.sh", command + "\n"), ("members", "\n".join(tokens) + "\n")):
            cargo.text(f"batches/{batch}/{name}", text)

    def submit(self, cargo: Cargo, brings: Iterable[str] = (), needs: Iterable[str] = ()) -> dict[str, Frame]:
        """Bring a cargo and submit its batches, each at most once, whatever happens to the link.

        Args:
            cargo: Closed by this.
            brings: What it has for the cache there.
            needs: What its leaves take from the cache.

        Returns:
            By batch: its state. ``answered`` holds exit code and outputs of the submit command.

        Raises:
            HostUnreachable: No answer came; what was submitted is unknown. ``ask(seal=...)`` tells.
            NotThere: The cache has not all that is needed; ``has`` knows now. Nothing of it has begun by this.
            ProtocolError: It could not be brought: nothing of it has begun by this.
        """
        cargo.text("needs", "".join(f"{name}\n" for name in sorted(needs)))
        frames = self._call("submit", cargo.close())
        with self._lock:
            self._cached.update(brings)
        return {frame.name: frame for frame in frames}

    def ask(self, questions: Questions) -> Reply:
        """Ask many things in one command.

        Raises:
            HostUnreachable: No whole answer came.
            ProtocolError: The machine could not take the questions.
        """
        cargo = Cargo()
        lines = [
            *(f"revoke {token}" for token in questions.revoke),
            *(f"forget {token}" for token in questions.forget),
            *(f"seal {batch}" for batch in questions.seal),
            *(f"renew {token}" for token in questions.renew),
            *(f"run {name}" for name in questions.run),
            # Last: a job that the queue did not show any more has left its marker by now, if it ever will.
            *(f"settle {token}" for token in questions.settle),
            *(f"await {token}" for token in questions.wait_for),
        ]
        cargo.text("questions", "".join(line + "\n" for line in lines))
        for name, command in questions.run.items():
            cargo.text(f"run.{name}", command)
        for token, urls in questions.renew.items():
            cargo.text(f"urls.{token}", urls)
        frames = self._call("ask", cargo.close())
        ended = next(frame for frame in frames if frame.name == "ended")
        return Reply(
            ran={frame.name: frame for frame in frames if frame.word == "ran"},
            batches={frame.name: frame for frame in frames if frame.word not in ("ran", "ended")},
            ended=tuple(ended.out.decode().split()),
            outputs=ended.err,
        )

    def fetch(self, tokens: Sequence[str], urls: Mapping[str, bytes] | None = None) -> bytes:
        """Return a tar of ``<key>/attempt.<n>/...`` with all outputs of leaves, large ones included.

        Args:
            tokens: Of the leaves.
            urls: Texts of ``urls`` by token, where outputs must get to the object storage first.

        Raises:
            HostUnreachable: The answer is not whole.
        """
        cargo = Cargo()
        cargo.text("tokens", "".join(token + "\n" for token in tokens))
        for token, text in (urls or {}).items():
            cargo.text(f"urls.{token}", text)
        return _body(self._run("fetch", cargo.close()))

    def clean(self, days: int) -> dict[str, int]:
        """Remove what no live run needs.

        Args:
            days: Without a change, after which even what was never forgotten is removed.

        Returns:
            How many were removed, by kind.
        """
        answer = self._run("clean", b"", str(days))
        pairs = (line.split() for line in _body(answer).decode().splitlines())
        return {kind: int(number) for kind, number in pairs}

    def _run(self, script: str, stdin: bytes, *arguments: str) -> Answer:
        home = self.home()
        words = ["/bin/sh", f"{home.scripts}/{script}.sh", home.root, *arguments]
        answer = self._transport.run(" ".join(map(shlex.quote, words)), stdin, _LONG)
        if answer.rc == _NOT_THERE:
            gone = answer.err.decode(errors="replace").split()[1:]
            with self._lock:
                self._cached.difference_update(gone)
            raise NotThere(f"the cache there has no {' '.join(gone)} any more")
        if answer.rc == _NOT_BEGUN:
            raise ProtocolError(f"{script} could not be done there: {_words(answer)}")
        if answer.rc:
            raise HostUnreachable(f"{script} was broken off there (rc {answer.rc}): {_words(answer)}")
        return answer

    def _call(self, script: str, stdin: bytes) -> list[Frame]:
        return _frames(_body(self._run(script, stdin)))


def _missing(tools: Sequence[str]) -> str:
    return (
        f"a machine needs coreutils, util-linux, tar and gzip; there is no {', '.join(tools)} on it. "
        "Ask the site, or put a directory with them on the PATH that ssh gives to commands."
    )


def _words(answer: Answer) -> str:
    text = (answer.err or answer.out).decode(errors="replace").strip()
    return text[-1000:] or "nothing was said"


def _body(answer: Answer) -> bytes:
    _, head, body = answer.out.partition(_HEAD)
    if not head or not body.endswith(b"end\n"):
        raise HostUnreachable("the answer of a machine was cut; what it would have said is unknown")
    return body[: -len(b"end\n")]


def _frames(body: bytes) -> list[Frame]:
    frames, at = [], 0
    while at < len(body):
        line_end = body.index(b"\n", at)
        _, name, word, rc, out, err = body[at:line_end].decode().split(" ")
        middle = line_end + 1 + int(out)
        at = middle + int(err)
        frames.append(Frame(name, word, int(rc), body[line_end + 1 : middle], body[middle:at]))
    return frames
