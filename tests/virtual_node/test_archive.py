"""The log of a leaf as an artifact."""

from pathlib import Path

import pytest

from dflow_hpc.errors import StorageError
from dflow_hpc.storage.objects import ObjectStore
from dflow_hpc.virtual_node.archive import with_log

TEMPLATE = {"archiveLocation": {"archiveLogs": True, "s3": {"bucket": "b", "key": "wf/pod"}}}
DONE = {"phase": "Succeeded", "outputs": {"exitCode": "0", "artifacts": [{"name": "a"}]}}


class Client(dict):
    """A storage client in memory."""

    broken = False

    def upload(self, key, path):
        if self.broken:
            raise StorageError("the bucket is gone")
        self[key] = Path(path).read_bytes()


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "leaf" / "log.txt"
    path.parent.mkdir()
    path.write_text("hello\n")
    return path


def test_it_is_stored_beside_the_other_artifacts(log):
    client = Client()
    record = with_log(DONE, TEMPLATE, log, lambda: ObjectStore(client))
    assert client == {"wf/pod/main.log": b"hello\n"}
    assert record["outputs"]["artifacts"] == [{"name": "a"}, {"name": "main-logs", "s3": {"key": "wf/pod/main.log"}}]
    assert DONE["outputs"]["artifacts"] == [{"name": "a"}]


def test_one_who_wrote_nothing_has_an_empty_log(tmp_path):
    client = Client()
    record = with_log(
        {"phase": "Failed", "message": "m"}, TEMPLATE, tmp_path / "none" / "log.txt", lambda: ObjectStore(client)
    )
    assert client == {"wf/pod/main.log": b""}
    assert record["outputs"]["artifacts"][0]["name"] == "main-logs"


@pytest.mark.parametrize("template", [{}, {"archiveLocation": {"archiveLogs": False, "s3": {"key": "k"}}}])
def test_nothing_is_stored_unasked(log, template):
    client = Client()
    assert with_log(DONE, template, log, lambda: ObjectStore(client)) == DONE
    assert client == {}


def test_a_storage_that_refuses_makes_a_success_an_error_and_leaves_a_failure_its_reason(log):
    client = Client()
    client.broken = True
    record = with_log(DONE, TEMPLATE, log, lambda: ObjectStore(client))
    assert (record["phase"], record["message"]) == ("Error", "wait: Error (exit code 64): the bucket is gone")
    failed = {"phase": "Failed", "message": "main: Error (exit code 3)"}
    assert with_log(failed, TEMPLATE, log, lambda: ObjectStore(client)) == failed
