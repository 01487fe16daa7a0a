"""``doctor --engine argo``: what it tries, what it says of what is missing, and the documented Role."""

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from dflow_hpc.cli.doctor import doctor_command
from dflow_hpc.config import config
from dflow_hpc.engines.argo import repository
from dflow_hpc.engines.argo.doctor import RIGHTS, examine
from dflow_hpc.engines.argo.engine import ArgoEngine
from dflow_hpc.kube import WORKFLOWS, Cluster
from dflow_hpc.kube.errors import refusal

DOCS = Path(__file__).parents[2] / "docs/argo.md"


def _documented_role():
    [role] = re.findall(r"```yaml\n(apiVersion: rbac.*?)```", DOCS.read_text(), re.DOTALL)
    return role


def test_the_documented_role_is_what_doctor_asks_for():
    rules = yaml.safe_load(_documented_role())["rules"]
    told = {(rule["apiGroups"][0], rule["resources"][0], tuple(rule["verbs"])) for rule in rules}
    assert told == {(right.group, right.resource, right.verbs) for right in RIGHTS}


class Answers:
    """A connection that knows answers by path."""

    server = "https://fake"

    def __init__(self, answers):
        self.answers = answers

    def request(self, what, method, path, *, query=None, body=None, content=""):
        answer = self.answers.get(path)
        if callable(answer):
            return answer(body)
        if answer is None:
            raise refusal(what, 404, b"not found")
        return answer


def test_a_cluster_without_argo_is_told_as_such():
    findings = list(examine(ArgoEngine(cluster=Cluster(Answers({"/version": {"gitVersion": "v1.34"}}), "ns"))))
    assert findings[0] == (True, "Kubernetes v1.34 at https://fake")
    [(good, text)] = findings[1:]
    assert not good
    assert "install Argo Workflows" in text


def test_each_missing_right_is_named_with_its_rule(monkeypatch):
    monkeypatch.setattr(repository, "_known", {})

    def review(body):
        wish = body["spec"]["resourceAttributes"]
        refused = wish["resource"] == "secrets" and wish["verb"] != "get"
        refused = refused or (wish["resource"], wish["subresource"]) == ("pods", "log")
        return {"status": {"allowed": not refused}}

    answers = {
        "/version": {"gitVersion": "v1.34"},
        f"/apis/{WORKFLOWS.version}": {"resources": [{"name": "workflows"}]},
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews": review,
    }
    findings = examine(ArgoEngine(cluster=Cluster(Answers(answers), "ns")))
    texts = [next(findings) for _ in range(4)]
    assert [good for good, _ in texts] == [True, True, False, False]
    assert '{apiGroups: [""], resources: [secrets], verbs: [create, update, patch]}' in texts[2][1]
    assert '{apiGroups: [""], resources: [pods/log], verbs: [get]}' in texts[3][1]


@pytest.fixture
def account(kube_rig, monkeypatch, tmp_path):
    """Give a service account, made for the test, and let the settings be its user's."""
    made = {}

    def make(name, role=None):
        kube_rig.kubectl("create", "serviceaccount", name)
        made[name] = role
        if role:
            kube_rig.kubectl("apply", "--filename=-", text=role)
            bound = f"--serviceaccount={kube_rig.namespace}:{name}"
            kube_rig.kubectl("create", "rolebinding", name, "--role=dflow-hpc", bound)
        known = json.loads(Path(kube_rig.kubeconfig).read_text())  # JSON is YAML
        known["users"][0]["user"] = {"token": kube_rig.kubectl("create", "token", name).strip()}
        file = tmp_path / name
        file.write_text(json.dumps(known))
        monkeypatch.setitem(config, "k8s_config_file", str(file))
        monkeypatch.setitem(config, "namespace", kube_rig.namespace)

    monkeypatch.setattr(repository, "_known", {})
    yield make
    for name, role in made.items():
        kube_rig.kubectl("delete", "serviceaccount", name)
        if role:
            kube_rig.kubectl("delete", "rolebinding", name)
            kube_rig.kubectl("delete", "role", "dflow-hpc")


@pytest.mark.rig
def test_the_documented_role_is_enough(account):
    account("somebody", _documented_role())
    answer = CliRunner().invoke(doctor_command, ["--engine", "argo"], standalone_mode=False)
    assert answer.return_value == 0, answer.output
    assert "a workflow of one step ran (Argo v3.7" in answer.output


@pytest.mark.rig
def test_who_has_no_rights_is_told_which(account):
    account("nobody")
    answer = CliRunner().invoke(doctor_command, ["--engine", "argo"], standalone_mode=False)
    assert answer.return_value == 1
    for right in RIGHTS:
        assert f"you may not {', '.join(right.verbs)} {right.resource} in the namespace argo" in answer.output
