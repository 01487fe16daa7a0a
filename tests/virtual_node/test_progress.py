"""Progress of leaves: what the machine has of it becomes Argo's task result, until that is complete."""

import asyncio
import sys
import types
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from api import within

from dflow_hpc.errors import HostUnreachable
from dflow_hpc.executors.profiles.machine import Machine
from dflow_hpc.executors.remote import RemoteSite
from dflow_hpc.kube.errors import refusal
from dflow_hpc.virtual_node.argo_pod import ArgoPod
from dflow_hpc.virtual_node.progress import Progress, Reporter, valid
from dflow_hpc.virtual_node.reports import Reports


class Results:
    """The API server's task results."""

    def __init__(self):
        self.asked = []
        self.there = set()
        self.fail = []

    def create(self, kind, content):
        name = content["metadata"]["name"]
        if self.fail:
            raise self.fail.pop()
        if name in self.there:
            raise refusal("make", 409, b"exists")
        self.there.add(name)
        complete = content["metadata"]["labels"]["workflows.argoproj.io/report-outputs-completed"]
        self.asked.append((content["progress"], complete))

    def patch(self, kind, name, change):
        self.asked.append(change)


def leaf():
    given = {"workflow": "wf", "workflow_uid": "u", "node_id": "wf-1", "node_name": "wf", "template": {}}
    names = ArgoPod.__dataclass_fields__
    return ArgoPod(**{name: given.get(name, ()) for name in names})


def looked(*answers, results, ended=False):
    """Look as often as there are answers of the machine; the reporter."""
    site = types.SimpleNamespace()

    async def scenario():
        reports = Reports(lambda _namespace: results, print)
        progress, reporter = Progress(site, reports, lambda _namespace: results), Reporter("ns", leaf(), ended=ended)
        for answer in answers:

            def ask(_tokens, answer=answer):
                if isinstance(answer, Exception):
                    raise answer
                return answer

            site.progress = ask
            await progress.look({"k-1": reporter})
        await reports.close()
        return reporter

    return within(scenario())


def test_the_first_begins_the_task_result_and_others_change_it():
    results = Results()
    reporter = looked({"k-1": "1/4"}, {"k-1": "1/4"}, {}, {"k-1": "4/4"}, results=results)
    assert results.asked == [("1/4", "false"), {"progress": "4/4"}]
    assert reporter.told == "4/4"


def test_what_argo_would_not_take_is_left_out():
    results = Results()
    looked({"k-1": "5/4"}, {"k-1": "half"}, HostUnreachable("away"), results=results)
    assert results.asked == []
    assert not valid("0/0")
    assert valid("0/1")


def test_none_is_begun_after_the_last_one():
    results = Results()
    looked({"k-1": "1/4"}, results=results, ended=True)
    assert results.asked == []


def test_what_the_api_server_did_not_take_is_told_again():
    results = Results()
    results.fail = [refusal("make", 500, b"busy")]
    looked({"k-1": "1/4"}, {"k-1": "1/4"}, results=results)
    assert results.asked == [("1/4", "false")]


@pytest.fixture
def site(tmp_path):
    made = RemoteSite(Machine("here", "shell", transport="local", root=str(tmp_path)))
    yield made
    made.close()


def test_a_site_reads_the_last_lines_of_those_who_report(site, tmp_path):
    for key, text in (("a", "1/3\n2/3\n"), ("b", ""), ("c", "3/3")):
        (tmp_path / key / "attempt.2").mkdir(parents=True)
        (tmp_path / key / "attempt.2" / "progress").write_text(text)
    assert site.progress(["a-2", "b-2", "c-2", "d-1"]) == {"a-2": "2/3", "c-2": "3/3"}


def test_nobody_is_asked_when_nothing_runs():
    progress = Progress(types.SimpleNamespace(), None, None)
    asyncio.run(progress.look({}))
