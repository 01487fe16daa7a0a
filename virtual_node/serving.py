"""The certificate with which the node's API serves: from files, signed by the cluster, or by itself.

An API server that checks kubelets (``--kubelet-certificate-authority``) takes files of the administrator's, or what the
cluster's own signer gave after somebody has approved the request (``kubernetes.io/kubelet-serving``). One that does not
check takes the node's own.

Not here: who may ask (``access.py``).

Trap: files are replaced while we run (a mounted Secret): they are read anew when they have changed.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dflow_hpc.errors import ConfigError
from dflow_hpc.kube import Cluster, Conflict, Kind, KubeError

REQUESTS = Kind("certificates.k8s.io/v1", "CertificateSigningRequest", "certificatesigningrequests")
_SIGNER = "kubernetes.io/kubelet-serving"
_OWN = timedelta(days=3650)
_AGAIN = 60.0
"""Seconds between two looks at a request that is not answered."""


class Serving:
    """The certificate and its key, as files.

    Args:
        certificate: The file of the certificate; with those that signed it.
        key: The file of its key.
        clients: The authority of clients, PEM; None: no client certificate is taken.
    """

    def __init__(self, certificate: Path, key: Path, clients: str | None):
        self.certificate, self.key = certificate, key
        self._clients = clients
        self._lock = threading.Lock()
        self._made: tuple[tuple[int, ...], ssl.SSLContext] | None = None

    def trust(self, clients: str | None) -> None:
        """Take this for the authority of clients from now on."""
        with self._lock:
            self._clients, self._made = clients, None

    def context(self) -> ssl.SSLContext:
        """Return what a connection is served with.

        Raises:
            ConfigError: The files cannot be read.
        """
        with self._lock:
            try:
                state = tuple(path.stat().st_mtime_ns for path in (self.certificate, self.key))
                if self._made is None or self._made[0] != state:
                    self._made = (state, self._read())
            except (OSError, ssl.SSLError) as error:
                raise ConfigError(
                    f"the node's API was to serve with {self.certificate} and {self.key}; they cannot be read: "
                    f"{error}. Name a certificate and its key as PEM files (--tls-cert, --tls-key)."
                ) from error
            return self._made[1]

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        if self._clients:
            context.load_verify_locations(cadata=self._clients)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context


def own(state: Path, node: str, address: str) -> tuple[Path, Path]:
    """Return certificate and key that the node signs itself; made once for an address.

    Args:
        state: The node's directory.
        node: Its name.
        address: At which it is found.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    certificate, key_file = state / "serving.crt", state / "serving.key"
    key = _key(key_file)
    if certificate.exists():
        known = x509.load_pem_x509_certificate(certificate.read_bytes())
        same = known.public_key().public_numbers() == key.public_key().public_numbers()  # type: ignore[union-attr]
        if same and _names(address) in known.extensions.get_extension_for_class(x509.SubjectAlternativeName).value:
            return certificate, key_file
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(_subject(node)).issuer_name(_subject(node))
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + _OWN)
    builder = builder.add_extension(x509.SubjectAlternativeName([_names(address)]), critical=False)
    _write(certificate, _pem(builder.sign(key, hashes.SHA256())), 0o644)
    return certificate, key_file


def _subject(node: str) -> Any:
    from cryptography import x509

    names = x509.oid.NameOID
    pairs = ((names.ORGANIZATION_NAME, "system:nodes"), (names.COMMON_NAME, f"system:node:{node}"))
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in pairs])


def _names(address: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _pem(thing: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    found: bytes = thing.public_bytes(Encoding.PEM)
    return found


def _key(file: Path) -> Any:
    """Return the key in a file; a new one where there is none."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    if not file.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        _write(file, made.private_bytes(*form), 0o600)
    return serialization.load_pem_private_key(file.read_bytes(), password=None)


def _write(file: Path, data: bytes, mode: int) -> None:
    part = file.with_name(f"{file.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
    part.replace(file)


class Signing:
    """Has the cluster sign the node's certificate, and sign it anew before it ends. A thread of its own.

    Args:
        state: The node's directory: it has the files that ``own`` made, until the cluster has answered.
        node: The node's name.
        address: At which it is found.
        cluster: What the API has in no namespace.
        say: Called with what the administrator should know.
    """

    def __init__(self, state: Path, node: str, address: str, cluster: Cluster, say: Callable[[str], None]):
        self._state, self._node, self._address = state, node, address
        self._cluster = cluster
        self._say = say
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="signing", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._over.set()

    def _work(self) -> None:
        while not self._over.is_set():
            try:
                rest = self.once()
            except (KubeError, OSError, ValueError) as error:
                self._say(f"the node's serving certificate: {error}")
                rest = _AGAIN
            self._over.wait(rest)

    def once(self) -> float:
        """Take a step: ask, or take the answer. Return in how many seconds the next one is due."""
        from cryptography import x509

        file = self._state / "serving.crt"
        known = x509.load_pem_x509_certificate(file.read_bytes())
        now = datetime.now(UTC)
        if known.issuer != known.subject:
            life = known.not_valid_after_utc - known.not_valid_before_utc
            rest = (known.not_valid_after_utc - 0.2 * life - now).total_seconds()
            if rest > 0:
                return rest
        signed = self._ask(hashlib.sha256(_pem(known)).hexdigest()[:10])
        if signed is None:
            return 2.0
        _write(file, signed, 0o644)
        self._say("the cluster has signed the node's serving certificate")
        return 1.0

    def _ask(self, mark: str) -> bytes | None:
        """Return what the cluster signed; it is asked first where it was not. ``mark`` is of what is replaced."""
        name = f"{self._node}-serving-{mark}"
        wish = {
            "request": b64encode(_pem(self._request())).decode(),
            "signerName": _SIGNER,
            "usages": ["digital signature", "server auth"],
        }
        try:
            found = self._cluster.create(REQUESTS, {"metadata": {"name": name}, "spec": wish})
            self._say(f"approve the node's serving certificate: kubectl certificate approve {name}")
        except Conflict:
            found = self._cluster.get(REQUESTS, name)
        status = found.get("status") or {}
        for condition in status.get("conditions") or ():
            if condition["type"] in ("Denied", "Failed"):
                raise ValueError(f"the request {name} was refused: {condition.get('message') or condition['type']}")
        return b64decode(status["certificate"]) if status.get("certificate") else None

    def _request(self) -> Any:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes

        builder = x509.CertificateSigningRequestBuilder().subject_name(_subject(self._node))
        builder = builder.add_extension(x509.SubjectAlternativeName([_names(self._address)]), critical=False)
        return builder.sign(_key(self._state / "serving.key"), hashes.SHA256())
