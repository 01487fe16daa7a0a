"""The fields of Argo's objects: a misspelt one is refused by name, and numbers become texts where texts are meant.

Kubernetes' own types are open below the fields of a container: they change with its version, not with Argo's.

Trap: a table of facts about Argo v3.7. A field that a later Argo brings is unknown here until it is added.
"""

from __future__ import annotations

from typing import Any

from dflow_hpc.manifest.view import Json, text_of

# Type: then pairs of the fields' type and their names. Types: s text, t text of anything, * anything,
# [T list of T, {T object of T.
_TABLE = """
Workflow: s apiVersion kind; ObjectMeta metadata; WorkflowSpec spec; * status
ObjectMeta: {s annotations labels; s creationTimestamp deletionTimestamp generateName name namespace resourceVersion
  selfLink uid; * deletionGracePeriodSeconds generation; [s finalizers; [* managedFields ownerReferences
WorkflowSpec: * activeDeadlineSeconds affinity archiveLogs automountServiceAccountToken dnsConfig hostNetwork
  parallelism podDisruptionBudget priority securityContext suspend; Arguments arguments;
  WorkflowLevelArtifactGC artifactGC; ArtifactRepositoryRef artifactRepositoryRef; s dnsPolicy entrypoint onExit
  podPriorityClassName podSpecPatch schedulerName serviceAccountName shutdown; ExecutorConfig executor;
  {LifecycleHook hooks; [* hostAliases imagePullSecrets tolerations volumeClaimTemplates volumes; Metrics metrics;
  {s nodeSelector; PodGC podGC; Metadata podMetadata; RetryStrategy retryStrategy; Synchronization synchronization;
  Template templateDefaults; [Template templates; TTLStrategy ttlStrategy; VolumeClaimGC volumeClaimGC; WorkflowMetadata
  workflowMetadata; WorkflowTemplateRef workflowTemplateRef
Arguments: [Artifact artifacts; [Parameter parameters
WorkflowLevelArtifactGC: * forceFinalizerRemoval; Metadata podMetadata; s podSpecPatch serviceAccountName strategy
ArtifactRepositoryRef: s configMap key
ExecutorConfig: s serviceAccountName
LifecycleHook: Arguments arguments; s expression template; TemplateRef templateRef
Metrics: [Prometheus prometheus
Metadata: {s annotations labels
RetryStrategy: RetryAffinity affinity; Backoff backoff; s expression limit retryPolicy
Synchronization: Mutex mutex; [Mutex mutexes; SemaphoreRef semaphore; [SemaphoreRef semaphores
Template: s activeDeadlineSeconds name podSpecPatch priorityClassName schedulerName serviceAccountName timeout; *
  affinity automountServiceAccountToken daemon failFast parallelism plugin securityContext; {s annotations
  nodeSelector; ArtifactLocation archiveLocation; Container container; ContainerSetTemplate containerSet;
  DAGTemplate dag; Data data; ExecutorConfig executor; [* hostAliases tolerations volumes; HTTP http; [UserContainer
  initContainers sidecars; Inputs inputs; Memoize memoize; Metadata metadata; Metrics metrics; Outputs outputs;
  ResourceTemplate resource; RetryStrategy retryStrategy; ScriptTemplate script; [[WorkflowStep steps;
  SuspendTemplate suspend; Synchronization synchronization
TTLStrategy: * secondsAfterCompletion secondsAfterFailure secondsAfterSuccess
VolumeClaimGC: s strategy
WorkflowMetadata: {s annotations labels; {* labelsFrom
WorkflowTemplateRef: * clusterScope; s name
Artifact: ArchiveStrategy archive; * archiveLogs artifactGC deleted mode optional recurseMode; ArtifactoryArtifact
  artifactory; AzureArtifact azure; s from fromExpression globalName name path subPath; GCSArtifact gcs; GitArtifact
  git; HDFSArtifact hdfs; HTTPArtifact http; OSSArtifact oss; RawArtifact raw; S3Artifact s3
Parameter: s description globalName name; t default value; [t enum; ValueFrom valueFrom
TemplateRef: * clusterScope; s name template
Prometheus: Counter counter; Gauge gauge; Histogram histogram; s help name when; [MetricLabel labels
RetryAffinity: * nodeAntiAffinity
Backoff: s cap duration factor maxDuration
Mutex: * database; s name namespace
SemaphoreRef: * configMapKeyRef; SyncDatabaseRef database; s namespace
ArtifactLocation: * archiveLogs; ArtifactoryArtifact artifactory; AzureArtifact azure; GCSArtifact gcs; GitArtifact
  git; HDFSArtifact hdfs; HTTPArtifact http; OSSArtifact oss; RawArtifact raw; S3Artifact s3
Container: [s args command; [EnvVar env; [* envFrom ports resizePolicy volumeDevices; s image imagePullPolicy name
  restartPolicy terminationMessagePath terminationMessagePolicy workingDir; * lifecycle livenessProbe readinessProbe
  resources securityContext startupProbe stdin stdinOnce tty; [VolumeMount volumeMounts
ContainerSetTemplate: [ContainerNode containers; ContainerSetRetryStrategy retryStrategy; [VolumeMount volumeMounts
DAGTemplate: * failFast; s target; [DAGTask tasks
Data: DataSource source; [TransformationStep transformation
HTTP: s body method successCondition url; HTTPBodySource bodyFrom; [HTTPHeader headers; * insecureSkipVerify
  timeoutSeconds
UserContainer: [s args command; [EnvVar env; [* envFrom ports resizePolicy volumeDevices; s image imagePullPolicy
  name restartPolicy terminationMessagePath terminationMessagePolicy workingDir; * lifecycle livenessProbe
  mirrorVolumeMounts readinessProbe resources securityContext startupProbe stdin stdinOnce tty; [VolumeMount
  volumeMounts
Inputs: [Artifact artifacts; [Parameter parameters
Memoize: Cache cache; s key maxAge
Outputs: [Artifact artifacts; s exitCode result; [Parameter parameters
ResourceTemplate: s action failureCondition manifest mergeStrategy successCondition; [s flags; ManifestFrom
  manifestFrom; * setOwnerReference
ScriptTemplate: [s args command; [EnvVar env; [* envFrom ports resizePolicy volumeDevices; s image imagePullPolicy
  name restartPolicy source terminationMessagePath terminationMessagePolicy workingDir; * lifecycle livenessProbe
  readinessProbe resources securityContext startupProbe stdin stdinOnce tty; [VolumeMount volumeMounts
WorkflowStep: Arguments arguments; ContinueOn continueOn; {LifecycleHook hooks; Template inline; s name onExit
  template when withParam; TemplateRef templateRef; [* withItems; Sequence withSequence
SuspendTemplate: s duration
ArchiveStrategy: * none zip; TarStrategy tar
ArtifactoryArtifact: * passwordSecret usernameSecret; s url
AzureArtifact: * accountKeySecret useSDKCreds; s blob container endpoint
GCSArtifact: s bucket key; * serviceAccountKeySecret
GitArtifact: s branch repo revision; * depth disableSubmodules insecureIgnoreHostKey insecureSkipTLS passwordSecret
  singleBranch sshPrivateKeySecret usernameSecret; [s fetch
HDFSArtifact: [s addresses; s dataTransferProtection hdfsUser krbRealm krbServicePrincipalName krbUsername path; *
  force krbCCacheSecret krbConfigConfigMap krbKeytabSecret
HTTPArtifact: HTTPAuth auth; [Header headers; s url
OSSArtifact: * accessKeySecret createBucketIfNotPresent secretKeySecret useSDKCreds; s bucket endpoint key
  securityToken; OSSLifecycleRule lifecycleRule
RawArtifact: s data
S3Artifact: * accessKeySecret caSecret insecure secretKeySecret sessionTokenSecret useSDKCreds; s bucket endpoint
  key region roleARN; CreateS3BucketOptions createBucketIfNotPresent; S3EncryptionOptions encryptionOptions
ValueFrom: * configMapKeyRef supplied; t default; s event expression jqFilter jsonPath parameter path
Counter: s value
Gauge: s operation value; * realtime
Histogram: [* buckets; s value
PodGC: s deleteDelayDuration strategy; LabelSelector labelSelector
LabelSelector: [LabelRequirement matchExpressions; {s matchLabels
LabelRequirement: s key operator; [s values
MetricLabel: s key value
SyncDatabaseRef: s key
EnvVar: s name value; * valueFrom
VolumeMount: s mountPath mountPropagation name recursiveReadOnly subPath subPathExpr; * readOnly
ContainerNode: [s args command dependencies; [EnvVar env; [* envFrom ports resizePolicy volumeDevices; s image
  imagePullPolicy name restartPolicy terminationMessagePath terminationMessagePolicy workingDir; * lifecycle
  livenessProbe readinessProbe resources securityContext startupProbe stdin stdinOnce tty; [VolumeMount volumeMounts
ContainerSetRetryStrategy: s duration retries
DAGTask: Arguments arguments; ContinueOn continueOn; [s dependencies; s depends name onExit template when withParam;
  {LifecycleHook hooks; Template inline; TemplateRef templateRef; [* withItems; Sequence withSequence
DataSource: ArtifactPaths artifactPaths
TransformationStep: s expression
HTTPBodySource: s bytes
HTTPHeader: s name value; HTTPHeaderSource valueFrom
Cache: * configMap
ManifestFrom: Artifact artifact
ContinueOn: * error failed
Sequence: s count end format start
TarStrategy: * compressionLevel
HTTPAuth: BasicAuth basicAuth; ClientCertAuth clientCert; OAuth2Auth oauth2
Header: s name value
OSSLifecycleRule: * markDeletionAfterDays markInfrequentAccessAfterDays
CreateS3BucketOptions: * objectLocking
S3EncryptionOptions: * enableEncryption serverSideCustomerKeySecret; s kmsEncryptionContext kmsKeyId
ArtifactPaths: ArchiveStrategy archive; * archiveLogs artifactGC deleted mode optional recurseMode;
  ArtifactoryArtifact artifactory; AzureArtifact azure; s from fromExpression globalName name path subPath;
  GCSArtifact gcs; GitArtifact git; HDFSArtifact hdfs; HTTPArtifact http; OSSArtifact oss; RawArtifact raw;
  S3Artifact s3
HTTPHeaderSource: * secretKeyRef
BasicAuth: * passwordSecret usernameSecret
ClientCertAuth: * clientCertSecret clientKeySecret
OAuth2Auth: * clientIDSecret clientSecretSecret tokenURLSecret; [OAuth2EndpointParam endpointParams; [s scopes
OAuth2EndpointParam: s key value
"""


def _read(table: str) -> dict[str, dict[str, str]]:
    types: dict[str, dict[str, str]] = {}
    for line in table.strip().replace("\n  ", " ").splitlines():
        name, _, fields = line.partition(": ")
        groups = [group.split() for group in fields.split("; ")]
        types[name] = {field: kind for kind, *names in groups for field in names}
    return types


_TYPES = _read(_TABLE)


class Malformed(Exception):
    """A manifest does not have the shape of Argo's objects; the argument says so as Go's JSON reader does."""


def normalise(workflow: Json) -> Json:
    """Return a Workflow whose texts are texts, as Argo reads ``args: [1, true]``; what needs no change is shared.

    Raises:
        Malformed: A field has no meaning, or holds what it cannot hold.
    """
    return {**workflow, "spec": _value(workflow.get("spec") or {}, "WorkflowSpec", "spec")}


def normalise_templates(resource: Json) -> Json:
    """Return a WorkflowTemplate or ClusterWorkflowTemplate, see ``normalise``."""
    return normalise(resource) if resource.get("kind") in ("WorkflowTemplate", "ClusterWorkflowTemplate") else resource


def _value(value: Any, kind: str, where: str) -> Any:
    """Return a value as its type wants it.

    Args:
        value: It.
        kind: Its type, as in the table.
        where: Its type and field, for the message.
    """
    if value is None or kind == "*":
        return value
    if kind in ("s", "t") and not isinstance(value, (list, dict)):
        return text_of(value)
    if kind == "t":
        return value
    if kind == "[[WorkflowStep" and isinstance(value, list):  # a group of one step may stand without its list
        value = [[group] if isinstance(group, dict) else group for group in value]
    shape: type[Any] = str if kind == "s" else list if kind[0] == "[" else dict
    if not isinstance(value, shape):
        found = {str: "string", list: "array", dict: "object", bool: "bool"}.get(type(value), "number")
        wanted = {"[": "an array", "{": "an object", "s": "a string"}.get(kind[0], f"an object {kind}")
        raise Malformed(f"json: cannot unmarshal {found} into {where}, which is {wanted}")
    if kind[0] == "[":
        # As Go reads a list: what is null in it is an empty one of its kind.
        inner = kind[1:]
        empty: Any = {"[": [], "*": None, "s": "", "t": ""}.get(inner[0], {})
        items = [empty if item is None else _value(item, inner, where) for item in value]
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if kind[0] == "{":
        pairs = {key: _value(item, kind[1:], where) for key, item in value.items()}
        return pairs if any(pairs[key] is not value[key] for key in value) else value
    return _object(value, kind)


def _object(value: Json, name: str) -> Json:
    fields = _TYPES[name]
    made: Json | None = None
    for key, item in value.items():
        kind = fields.get(key)
        if kind is None:
            meant = next((f' (meant is "{field}")' for field in fields if field.lower() == key.lower()), "")
            raise Malformed(f'json: unknown field "{key}"{meant}')
        changed = _value(item, kind, f"{name}.{key}")
        if changed is not item:
            made = dict(value) if made is None else made
            made[key] = changed
    return value if made is None else made
