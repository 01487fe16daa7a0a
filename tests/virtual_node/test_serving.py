"""A node's certificate that the cluster is asked to sign, against an API server in memory."""

import datetime
import ssl
from base64 import b64decode, b64encode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dflow_hpc.errors import ConfigError
from dflow_hpc.kube.errors import refusal
from dflow_hpc.virtual_node.serving import Serving, Signing, own


class Requests:
    """The requests of a cluster, and its signer."""

    def __init__(self):
        self.there = {}
        self.key = ec.generate_private_key(ec.SECP256R1())

    def create(self, kind, content):
        name = content["metadata"]["name"]
        if name in self.there:
            raise refusal("make", 409, b"exists")
        self.there[name] = content
        return content

    def get(self, kind, name):
        return self.there[name]

    def answer(self, days, age=0):
        for content in self.there.values():
            wish = x509.load_pem_x509_csr(b64decode(content["spec"]["request"]))
            names = wish.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(age)
            issuer = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "cluster")])
            made = x509.CertificateBuilder(issuer, wish.subject, wish.public_key(), 7)
            made = made.not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days))
            signed = made.add_extension(names, critical=False).sign(self.key, hashes.SHA256())
            text = b64encode(signed.public_bytes(serialization.Encoding.PEM)).decode()
            content["status"] = {"certificate": text}


@pytest.fixture
def requests():
    return Requests()


@pytest.fixture
def signing(tmp_path, requests):
    own(tmp_path, "n", "10.0.0.1")
    return Signing(tmp_path, "n", "10.0.0.1", requests, lambda _text: None)


def test_it_is_asked_for_once_as_a_kubelet_asks(signing, requests):
    signing.once()
    signing.once()
    ((_, content),) = requests.there.items()
    assert content["spec"]["signerName"] == "kubernetes.io/kubelet-serving"
    wish = x509.load_pem_x509_csr(b64decode(content["spec"]["request"]))
    assert wish.subject.rfc4514_string() == "CN=system:node:n,O=system:nodes"


def test_it_is_asked_for_anew_before_it_ends(signing, requests):
    signing.once()
    requests.answer(days=10)
    signing.once()
    assert signing.once() == pytest.approx(8 * 86_400, abs=60)
    requests.there.clear()
    (signing._state / "serving.crt").unlink()
    own(signing._state, "n", "10.0.0.1")
    signing.once()
    requests.answer(days=10, age=9)
    signing.once()
    assert signing.once() < 60
    assert len(requests.there) == 2


def test_a_request_that_was_denied_is_said(signing, requests):
    signing.once()
    for content in requests.there.values():
        content["status"] = {"conditions": [{"type": "Denied", "message": "not in my cluster"}]}
    with pytest.raises(ValueError, match="not in my cluster"):
        signing.once()


def test_files_are_read_anew_when_they_have_changed(tmp_path):
    files = own(tmp_path, "n", "10.0.0.1")
    serving = Serving(*files, None)
    first = serving.context()
    assert serving.context() is first
    own(tmp_path, "n", "10.0.0.2")
    assert serving.context() is not first
    files[0].write_text("no certificate")
    with pytest.raises(ConfigError, match="--tls-cert"):
        serving.context()


def test_clients_are_known_once_the_cluster_has_told_their_authority(tmp_path):
    files = own(tmp_path, "n", "10.0.0.1")
    serving = Serving(*files, None)
    assert serving.context().verify_mode is ssl.CERT_NONE
    serving.trust(files[0].read_text())
    assert serving.context().verify_mode is ssl.CERT_OPTIONAL
