"""The client of S3: what it says when the storage is wrong, and what it does when the network is."""

import datetime
import filecmp
import hashlib
import http.server
import os
import threading
import urllib.request

import pytest

from dflow_hpc.errors import StorageError
from dflow_hpc.storage import large
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


WHOLE = b"1" * large.CHUNK + b"the rest"


def _broken(tag):
    """An answer whose body ends before its time."""
    return 200, {**tag, "Content-Length": str(len(WHOLE))}, WHOLE[: large.CHUNK + 2]


def test_a_download_that_breaks_off_goes_on_where_it_was(flaky, tmp_path):
    client, answers, asked = flaky
    tag = {"ETag": f'"{hashlib.md5(WHOLE).hexdigest()}"'}
    answers += [_broken(tag), (200, tag, WHOLE), (206, tag, b"the rest")]
    client.download("k", str(tmp_path / "f"))
    assert (tmp_path / "f").read_bytes() == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert len(asked) == 3


def test_an_object_that_was_replaced_meanwhile_is_fetched_anew(flaky, tmp_path):
    client, answers, _ = flaky
    old, new = {"ETag": '"old"'}, {"ETag": f'"{hashlib.md5(b"1").hexdigest()}"'}
    answers += [_broken(old), (200, old, WHOLE), (206, new, b"1"), (200, new, b"1")]
    client.download("k", str(tmp_path / "f"))
    assert (tmp_path / "f").read_text() == "1"


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


@pytest.fixture
def stored(s3_server):
    return MinioClient(*(s3_server[name] for name in ("endpoint", "access_key", "secret_key", "secure", "bucket_name")))


@pytest.mark.rig
def test_objects_in_parts_and_signed_addresses(stored, tmp_path):
    with (tmp_path / "big").open("wb") as file:
        file.write(b"head")
        file.truncate(large.PART + 1)  # sparse, so that it costs little
    stored.upload("big", str(tmp_path / "big"))
    assert stored.get_md5("big").endswith("-2")
    assert stored.list("big", recursive=True) == ["big"]
    stored.download("big", str(tmp_path / "back"))
    assert filecmp.cmp(tmp_path / "big", tmp_path / "back", shallow=False)
    address = stored.presigned_url("big", datetime.timedelta(minutes=1))
    with urllib.request.urlopen(address) as answer:
        assert answer.read(4) == b"head"


@pytest.mark.rig
def test_an_upload_that_is_broken_off_goes_on_with_the_parts_that_are_there(stored, tmp_path, monkeypatch):
    (tmp_path / "big").write_bytes(os.urandom(5 * large.PART - 7))
    real, sent = stored._client.put_object, []

    def breaking(bucket, name, data, length, **more):
        sent.append(name)
        if len(sent) == 4:
            raise KeyboardInterrupt
        return real(bucket, name, data, length, **more)

    monkeypatch.setattr(stored._client, "put_object", breaking)
    with pytest.raises(KeyboardInterrupt):
        stored.upload("broken", str(tmp_path / "big"))
    there = stored.list("broken.parts/")
    assert 0 < len(there) < 5
    assert not stored.has("broken")
    sent[:] = [""] * 4  # breaks off no more
    stored.upload("broken", str(tmp_path / "big"))
    assert len(sent) - 4 == 5 - len(there)
    assert stored.list("broken", recursive=True) == ["broken"]
    stored.download("broken", str(tmp_path / "back"))
    assert filecmp.cmp(tmp_path / "big", tmp_path / "back", shallow=False)
