"""What is known about single manifests of Argo's examples, by name."""

from __future__ import annotations

RANDOM = frozenset(
    [
        "coinflip",
        "coinflip-recursive",
        "conditional-artifacts",
        "conditional-parameters",
        "conditionals-complex",
        "custom-metrics",
        "dag-coinflip",
        "dag-conditional-artifacts",
        "dag-conditional-parameters",
        "resubmit",
        "retry-backoff",
        "retry-conditional",
        "retry-container",
        "retry-container-to-completion",
        "retry-on-error",
        "retry-script",
        "retry-with-steps",
        "scripts-bash",
        "scripts-python",
        "template-defaults",
        "withsequence-nested-result",
        "dag-task-level-timeout",  # 15 s of sleep meet a limit of 20 s, and a cluster is slow to start a pod
    ]
)
"""Depend on chance: their leaves end as they did on Argo, and the rest must follow from that."""

_CLAIM = "needs a volume claim, and no storage class of the rig's fills one: its pods are never placed"
_STORE = "needs an artifact server of the kind {}, which the rig does not have"

NOT_RUN = {
    **dict.fromkeys(
        [
            *("buildkit-template", "ci", "ci-output-artifact", "ci-workflowtemplate", "fun-with-gifs"),
            *("volumes-existing", "volumes-pvc", "work-avoidance"),
        ],
        _CLAIM,
    ),
    "artifactory-artifact": _STORE.format("Artifactory"),
    "forever": "never ends by itself",
    "hdfs-artifact": _STORE.format("HDFS"),
    "hello-hybrid": "asks for a node with Windows: its pod is never placed",
    "hello-windows": "asks for a node with Windows: its pod is never placed",
    "input-artifact-azure": _STORE.format("Azure"),
    "input-artifact-gcs": _STORE.format("GCS"),
    "input-artifact-s3": "needs Amazon's S3, and Argo waits for it",
    "input-artifact-oss": _STORE.format("OSS"),
    "output-artifact-azure": _STORE.format("Azure"),
    "output-artifact-gcs": _STORE.format("GCS"),
    "output-artifact-s3": "needs Amazon's S3, and Argo waits for it",
    "pod-spec-from-previous-step": "asks for more than the rig's node has: its pod is never placed",
    "secrets": "needs a Secret of the cluster: without it its pod is never started",
    "sidecar-dind": "needs the image of a Docker daemon",
    "sidecar-nginx": "needs the image of a web server, and waits for it without end",
    "webhdfs-input-output-artifacts": _STORE.format("WebHDFS"),
}
"""What the rig's cluster never ends, and why. The local engine runs them without what they ask of Kubernetes."""

REASONS = {
    "archive-location": "keeps logs as an artifact `main-logs`; locally they lie in the run's directory",
    "arguments-artifacts": "fetches a file over HTTP; the text of the failure is the network's",
    "artifact-disable-archive": "stores `/etc`, in which links lead out; the local store refuses those",
    "artifact-repository-ref": "names a repository that the cluster does not have; here the store is the run's",
    "exit-handler-with-artifacts": "writes to the current directory: `/` in its image, the leaf's own on the host",
    "fibonacci-seq-conditional-param": "Argo's cache gave no outputs for a key that it had, so that a step failed",
    "input-artifact-git": "clones over the network; the local engine does not, so the text of the failure is another",
    "input-artifact-http": "fetches a file over HTTP; the text of the failure is the network's",
    "scripts-javascript": "needs `node`, which the rig's image does not have and this host may",
    "timeouts-workflow": "needs the command of an image, which Argo asks a registry for, and there is none",
    "workflow-template-workflow-archive-logs": "keeps logs as an artifact; locally they lie in the run's directory",
}
"""Why a manifest differs."""

SOME = (
    *("arguments-parameters", "arguments-parameters-from-configmap", "artifact-passing", "artifact-path-placeholders"),
    *("coinflip", "conditional-parameters", "conditionals", "continue-on-fail"),
    *("dag-conditional-artifacts", "dag-continue-on-fail", "dag-diamond", "dag-diamond-steps"),
    *("dag-enhanced-depends", "dag-inline-workflow", "dag-multiroot", "dag-nested"),
    *("dag-targets", "default-pdb-support", "exit-handler-dag-level", "exit-handler-step-level"),
    *("exit-handlers", "expression-tag-template-workflow", "global-outputs", "global-parameters"),
    *("hello-world", "input-artifact-raw", "intermediate-parameters", "k8s-jobs"),
    *("label-value-from-workflow", "loops", "loops-dag", "loops-maps"),
    *("loops-sequence", "memoize-simple", "output-parameter", "parallelism-limit"),
    *("retry-container", "scripts-bash", "steps", "steps-inline-workflow"),
)
"""The forty that continuous integration runs: of each kind some, and none that takes long."""
