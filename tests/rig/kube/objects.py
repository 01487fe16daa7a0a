"""What the Kubernetes rig applies and writes: Argo's objects, and the configuration of kubelet, containerd and S3."""

import json

NAMESPACE = "argo"
BUCKET = "my-bucket"
ACCESS_KEY, SECRET_KEY = "admin", "password"
NODE = "rig"


def argo(s3, database=None):
    """Return the objects of a namespace in which Argo works, as an administrator would set it up.

    Args:
        s3: ``host:port`` of the artifact repository.
        database: Address of a PostgreSQL for node trees and ended Workflows; None for none.
    """
    executor = [
        {"apiGroups": ["argoproj.io"], "resources": ["workflowtaskresults"], "verbs": ["create", "patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "watch", "patch"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get", "watch"]},
        {"apiGroups": ["argoproj.io"], "resources": ["workflows"], "verbs": ["get", "patch"]},  # of large ones
    ]
    accounts = [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE} for name in ("default", "argo")]
    repository = {
        "s3": {
            "bucket": BUCKET,
            "endpoint": s3,
            "insecure": True,
            "accessKeySecret": {"name": "s3-cred", "key": "accesskey"},
            "secretKeySecret": {"name": "s3-cred", "key": "secretkey"},
        }
    }
    controller = {
        "artifactRepository": repository,
        "executor": {"resources": {"requests": {"cpu": "1m", "memory": "8Mi"}}},
        "images": {
            "argoproj/argosay:v1": {"entrypoint": ["argosay"]},
            "argoproj/argosay:v2": {"entrypoint": ["argosay"]},
            "docker/whalesay:latest": {"entrypoint": ["cowsay"]},
        },
        "metricsConfig": {"enabled": False},
        # There is no registry, and a name without a tag would be pulled each time.
        "workflowDefaults": {
            "spec": {"podSpecPatch": json.dumps({"containers": [_never_pull("main")]})},
        },
    }
    if database:
        controller["persistence"] = {
            "archive": True,
            "nodeStatusOffLoad": True,
            "postgresql": {
                "host": database,
                "port": 5432,
                "database": "postgres",
                "tableName": "argo_workflows",
                "userNameSecret": {"name": "database", "key": "user"},
                "passwordSecret": {"name": "database", "key": "password"},
            },
        }
    return [
        _named("v1", "Namespace", NAMESPACE, namespace=None),
        _named("v1", "ServiceAccount", "argo"),
        {**_named("rbac.authorization.k8s.io/v1", "Role", "executor"), "rules": executor},
        {
            **_named("rbac.authorization.k8s.io/v1", "RoleBinding", "executor"),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "executor"},
            "subjects": accounts,
        },
        {**_named("v1", "Secret", "database"), "stringData": {"user": "postgres", "password": "none"}},
        {**_named("v1", "Secret", "s3-cred"), "stringData": {"accesskey": ACCESS_KEY, "secretkey": SECRET_KEY}},
        {
            **_named("v1", "ConfigMap", "workflow-controller-configmap"),
            "data": {name: json.dumps(value) for name, value in controller.items()},
        },
    ]


def _named(version, kind, name, namespace=NAMESPACE):
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _never_pull(container):
    return {"name": container, "imagePullPolicy": "IfNotPresent"}


def kubeconfig(server, authority, token):
    """Return the text of a kubeconfig; JSON is YAML."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "rig", "cluster": {"server": server, "certificate-authority": str(authority)}}],
            "users": [{"name": "user", "user": {"token": token}}],
            "contexts": [{"name": "rig", "context": {"cluster": "rig", "user": "user", "namespace": NAMESPACE}}],
            "current-context": "rig",
        },
        indent=1,
    )


def kubelet(rig):
    """Return the kubelet's configuration."""
    keys = rig.state / "pki"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": rig.address,
        "healthzBindAddress": rig.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(keys / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(keys / "kubelet.crt"),
        "tlsPrivateKeyFile": str(keys / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{rig.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{rig.name}",  # two kubelets in one would end each other's pods
        "podLogsDir": str(rig.state / "pods"),
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "imageGCHighThresholdPercent": 100,  # an image that goes cannot be pulled again
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "maxPods": 250,
        "syncFrequency": "10s",
    }


def containerd(rig, pause):
    """Return containerd's configuration."""
    return f'''version = 2
root = "{rig.room}/containerd"
state = "{rig.sockets}"
[grpc]
  address = "{rig.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true # lowering it needs CAP_SYS_RESOURCE
  sandbox_image = "{pause}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{rig.state}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
'''


def network(rig):
    """Return the pods' network: a bridge of this machine."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": rig.pods}]], "routes": [{"dst": "0.0.0.0/0"}]}
    bridge = {"type": "bridge", "bridge": rig.bridge, "isGateway": True, "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": rig.name, "plugins": [bridge, {"type": "loopback"}]}


def s3_identities():
    """Return who may use the S3 server."""
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    keys = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    return {"identities": [{"name": ACCESS_KEY, "credentials": keys, "actions": actions}]}
