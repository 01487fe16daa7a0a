"""The client of S3: what it says when the storage is wrong, and what it does when the network is."""

import datetime
import http.server
import threading
import urllib.request

import pytest

from dflow_hpc.errors import StorageError
from dflow_hpc.storage.s3 import MinioClient


@pytest.fixture
def flaky():
    """A server that answers to each GET with the next of ``answers``: (status, headers, body)."""
    answers, asked = [], []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            status, headers, body = answers.pop(0)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    client = MinioClient(f"127.0.0.1:{server.server_port}", "a", "b", False, "bucket", attempts=3)
    client._client._region_map["bucket"] = "us-east-1"  # spares the question for it
    yield client, answers, asked
    server.shutdown()
    thread.join()
    server.server_close()


def _error(code):
    return (
        404,
        {"Content-Type": "application/xml"},
        f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode(),
    )


def test_a_damaged_download_is_tried_again(flaky, tmp_path):
    client, answers, asked = flaky
    md5 = "c4ca4238a0b923820dcc509a6f75849b"  # of "1"
    answers += [(200, {"ETag": f'"{md5}"'}, b"2"), (200, {"ETag": f'"{md5}"'}, b"1")]
    client.download("k", str(tmp_path / "f"))
    assert (tmp_path / "f").read_text() == "1"
    assert len(asked) == 2


def test_a_download_that_stays_damaged_leaves_no_file(flaky, tmp_path):
    client, answers, _ = flaky
    answers += [(200, {"ETag": f'"{"0" * 32}"'}, b"2")] * 3
    with pytest.raises(StorageError, match=r"fetch 'k'.*MD5 sum"):
        client.download("k", str(tmp_path / "f"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_transient_is_not_tried_again(flaky, tmp_path):
    client, answers, asked = flaky
    for code, advice in {"NoSuchKey": "see whether the step", "NoSuchBucket": "bucket_name"}.items():
        answers.append(_error(code))
        with pytest.raises(StorageError, match=f"{code}.*{advice}"):
            client.download("k", str(tmp_path / "f"))
    assert len(asked) == 2


def test_a_storage_that_does_not_answer_is_named():
    client = MinioClient("127.0.0.1:1", "a", "b", False, "bucket", attempts=1)
    client._client._http.connection_pool_kw["retries"] = False
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1.*see whether the storage runs"):
        client.list("x")


@pytest.mark.rig
def test_objects_in_parts_and_signed_addresses(s3_server, tmp_path):
    client = MinioClient(
        *(s3_server[name] for name in ("endpoint", "access_key", "secret_key", "secure", "bucket_name"))
    )
    with (tmp_path / "big").open("wb") as file:
        file.write(b"head")
        file.truncate(65 << 20)  # above one part; sparse, so that it costs little
    client.upload("big", str(tmp_path / "big"))
    assert client.get_md5("big").endswith("-2")
    client.download("big", str(tmp_path / "back"))
    assert (tmp_path / "back").stat().st_size == 65 << 20
    address = client.presigned_url("big", datetime.timedelta(minutes=1))
    with urllib.request.urlopen(address) as answer:
        assert answer.read(4) == b"head"
