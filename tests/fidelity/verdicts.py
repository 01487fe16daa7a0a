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
        "scripts-javascript",
        "scripts-python",
        "template-defaults",
        "withsequence-nested-result",
        "workflow-template-retry-with-steps",
        "dag-task-level-timeout",  # 15 s of sleep meet a limit of 20 s, and a cluster is slow to start a pod
    ]
)
"""Depend on chance: their leaves end as they did on Argo, and the rest must follow from that."""

ALONE = ("step-level-timeout", "timeouts-step")
"""Have 10 s for a pod from its creation, so that nothing may run beside them."""

LONG = ("synchronization-mutex-tmpl-level", "synchronization-mutex-tmpl-level-legacy")
"""Sleep for more than four minutes: they are begun first."""

_CLAIM = "needs a volume claim, and no storage class of the rig's fills one: its pods are never placed"
_STORE = "needs an artifact server of the kind {}, which the rig does not have"

NOT_RUN = {
    **dict.fromkeys(
        [
            *("ci", "ci-output-artifact", "fun-with-gifs", "volumes-existing", "volumes-pvc", "work-avoidance"),
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
    "artifact-disable-archive": "stores `/etc` as it is: Argo leaves links out, the local store refuses what leads out",
    "fibonacci-seq-conditional-param": "Argo 3.7.4 keeps no outputs of memoized steps (its issue 16094, mended since)",
    "timeouts-workflow": "needs the command of an image, which Argo asks a registry for, and there is none",
}
"""Why a manifest differs."""

SOME = (
    *("archive-location", "arguments-artifacts", "arguments-parameters", "arguments-parameters-from-configmap"),
    *("artifact-passing", "artifact-path-placeholders", "artifact-repository-ref", "coinflip"),
    *("conditional-parameters", "conditionals", "container-set-template-outputs-result-workflow", "continue-on-fail"),
    *("dag-conditional-artifacts", "dag-continue-on-fail", "dag-diamond", "dag-enhanced-depends"),
    *("dag-inline-workflow", "dag-multiroot", "dag-targets", "exit-handler-step-level"),
    *("exit-handler-with-artifacts", "exit-handlers", "expression-destructure-json", "global-outputs"),
    *("global-parameters", "hello-world", "input-artifact-git", "input-artifact-raw"),
    *("intermediate-parameters", "k8s-jobs", "loops", "loops-dag"),
    *("loops-maps", "memoize-simple", "nested-workflow", "retry-container"),
    *("scripts-bash", "steps-inline-workflow", "synchronization-db-tmpl-level", "workflow-template-hello-world"),
)
"""The forty that continuous integration runs: of each kind some, with few pods, and none where time plays a part."""
