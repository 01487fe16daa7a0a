"""Tables: which modules ``dflow`` has, which names users import from them, and where dflow_hpc has those.

Not here: names that dflow_hpc has under dflow's own name; ``dflow_hpc/__init__.py`` lists them.

The trap: any module answers for any known name, whatever its row says: the rows give ``from dflow import *`` its
names, and tell a name that dflow has from a typing error.

This module travels with the author's code: standard library only, valid Python 3.8.
"""

from typing import Dict, List

_ROWS = {
    "dflow": """S3Artifact DAG Executor RemoteExecutor ContainerExecutor AutonamedDict IfExpression InputArtifact
        InputParameter Inputs OutputArtifact OutputParameter Outputs if_expression OPTemplate PythonScriptOPTemplate
        ShellOPTemplate ScriptOPTemplate ContainerOPTemplate HTTPOPTemplate Resource SlurmJob SlurmJobTemplate
        SlurmRemoteExecutor Step HookStep Task Steps argo_len argo_range argo_sequence argo_sum argo_concat
        argo_enumerate copy_artifact copy_s3 download_artifact download_s3 upload_artifact upload_s3
        path_list_of_artifact path_object_of_artifact s3_config config set_config set_s3_config Workflow Context
        randstr LocalArtifact CustomArtifact HTTPArtifact DockerSecret LineageClient Secret query_workflows
        query_archived_workflows ArgoStep ArgoWorkflow gen_code jsonpickle import_func""",
    "dflow.python": """OP OPIO OPIOSign Artifact Parameter BigParameter NestedDict HDF5Datasets PythonOPTemplate Slices
        TransientError FatalError upload_packages""",
    "dflow.python.op": "OP",
    "dflow.python.opio": """OPIO OPIOSign Artifact Parameter BigParameter NestedDict HDF5Dataset HDF5Datasets""",
    "dflow.python.python_op_template": "PythonOPTemplate Slices TransientError FatalError upload_packages",
    "dflow.config": "config s3_config set_config set_s3_config boolize nullable split_headers",
    "dflow.common": """S3Artifact LocalArtifact HTTPArtifact CustomArtifact LineageClient import_func jsonpickle""",
    "dflow.io": """IfExpression if_expression PVC InputArtifact InputParameter Inputs OutputArtifact OutputParameter
        Outputs InputParameters InputArtifacts OutputParameters OutputArtifacts AutonamedDict ArgoVar""",
    "dflow.op_template": """OPTemplate ScriptOPTemplate ShellOPTemplate PythonScriptOPTemplate ContainerOPTemplate
        HTTPOPTemplate Secret get_k8s_client""",
    "dflow.step": """Step HookStep ArgoRange ArgoSequence ArgoLen ArgoEnumerate ArgoSum ArgoConcat argo_len argo_range
        argo_sequence argo_sum argo_concat argo_enumerate upload_python_packages""",
    "dflow.steps": "Steps",
    "dflow.dag": "DAG",
    "dflow.task": "Task",
    "dflow.executor": "Executor ContainerExecutor RemoteExecutor run_script",
    "dflow.slurm": "SlurmJob SlurmJobTemplate SlurmRemoteExecutor",
    "dflow.resource": "Resource",
    "dflow.context": "Context",
    "dflow.workflow": "Workflow DockerSecret query_workflows query_archived_workflows parse_repo get_argo_api_client",
    "dflow.argo_objects": "ArgoObjectDict ArgoObjectList ArgoParameter ArgoStep ArgoWorkflow",
    "dflow.code_gen": "gen_code",
    "dflow.utils": """download_artifact upload_artifact copy_artifact download_s3 upload_s3 copy_s3 catalog_of_artifact
        path_list_of_artifact path_object_of_artifact convert_dflow_list get_md5 flatten expand dict2list randstr
        set_directory run_command StorageClient MinioClient""",
    "dflow.plugins": "",
    "dflow.plugins.bohrium": """config TiefblueClient BohriumExecutor BohriumContext BohriumDatasetsArtifact
        create_job_group""",
    "dflow.plugins.dispatcher": "DispatcherExecutor DispatcherArtifact update_dict",
    "dflow.plugins.datasets": "config DatasetsArtifact",
    "dflow.plugins.launching": "OP_to_parser",
    "dflow.plugins.lebesgue": "LebesgueExecutor LebesgueContext",
    "dflow.plugins.metadata": "MetadataClient",
    "dflow.plugins.oss": "OSSClient",
    "dflow.plugins.ray": "RayClusterExecutor",
}

MODULES: Dict[str, List[str]] = {module: names.split() for module, names in _ROWS.items()}
"""Module of dflow -> the names that users import from it."""

ELSEWHERE: Dict[str, str] = {
    "boolize": "dflow_hpc.config:boolize",
    "nullable": "dflow_hpc.config:nullable",
    "split_headers": "dflow_hpc.config:split_headers",
    "ArgoVar": "dflow_hpc.model.refs:ArgoVar",
    **{name: f"dflow_hpc.model.io:{name}" for name in ("InputParameters", "InputArtifacts")},
    **{name: f"dflow_hpc.model.io:{name}" for name in ("OutputParameters", "OutputArtifacts")},
    **{f"Argo{name}": f"dflow_hpc.model.loops:Argo{name}" for name in ("Range", "Sequence", "Len", "Enumerate")},
    **{f"Argo{name}": f"dflow_hpc.model.loops:Argo{name}" for name in ("Sum", "Concat")},
    "catalog_of_artifact": "dflow_hpc.storage.transfer:catalog_of_artifact",
    "flatten": "dflow_hpc.op.catalog:flatten",
    "expand": "dflow_hpc.op.catalog:expand",
    **{name: f"dflow_hpc.compat.utils:{name}" for name in ("convert_dflow_list", "dict2list", "get_md5")},
    **{name: f"dflow_hpc.compat.utils:{name}" for name in ("import_func", "jsonpickle", "run_command")},
    **{name: f"dflow_hpc.compat.utils:{name}" for name in ("set_directory", "update_dict")},
    "MinioClient": "dflow_hpc.storage.s3:MinioClient",
    "StorageClient": "dflow_hpc.storage.objects:StorageClient",
    "Context": "dflow_hpc.model.executor:Executor",
    **{name: f"dflow_hpc.compat.executors:{name}" for name in ("DispatcherExecutor", "RemoteExecutor", "SlurmJob")},
    **{name: f"dflow_hpc.compat.executors:{name}" for name in ("SlurmRemoteExecutor", "SlurmJobTemplate")},
    "ContainerExecutor": "dflow_hpc.compat.executors:ContainerExecutor",
    **dict.fromkeys(("BohriumExecutor", "BohriumContext"), "dflow_hpc.compat.elsewhere:BohriumExecutor"),
    **dict.fromkeys(("LebesgueExecutor", "LebesgueContext"), "dflow_hpc.compat.elsewhere:BohriumExecutor"),
    "RayClusterExecutor": "dflow_hpc.compat.elsewhere:RayClusterExecutor",
    **{name: f"dflow_hpc.compat.elsewhere:{name}" for name in ("OSSClient", "TiefblueClient")},
    "dflow.plugins.bohrium.config": "dflow_hpc.compat.elsewhere:bohrium_config",
    "dflow.plugins.datasets.config": "dflow_hpc.compat.elsewhere:datasets_config",
}
"""Name, or the whole name where it means something else in other modules -> ``module:attribute``."""

PLACE = "Give the step the name of a machine instead, `Step(..., executor='NAME')`, and describe that machine once."

_LINEAGE = "Lineage is not recorded; each run's journal says what came from what."
_DATA = "Put the data where the machine's steps find it, or upload_artifact() it."

INSTEAD: Dict[str, str] = {
    "Resource": "A step that creates a Kubernetes object is not supported.",
    "DockerSecret": "Name an existing secret of the cluster in `image_pull_secrets`.",
    "LineageClient": _LINEAGE,
    "MetadataClient": _LINEAGE,
    "DatasetsArtifact": _DATA,
    "OP_to_parser": "Write the program's arguments with argparse, and call submit().",
    "PVC": "Pass files as artifacts.",
    "BohriumDatasetsArtifact": _DATA,
    "DispatcherArtifact": _DATA,
    "create_job_group": PLACE,
    "query_archived_workflows": "Use query_workflows().",
    "gen_code": "Write the manifest with Workflow.to_yaml().",
    "run_script": "Use an executor, or a ShellOPTemplate.",
    "parse_repo": "Set s3_config.",
    "get_argo_api_client": "Use the `argo` command.",
    "get_k8s_client": "Use the `kubernetes` package.",
    "upload_python_packages": "PythonOPTemplate(python_packages=...) and upload_packages do it.",
    "ArgoObjectDict": "Query results answer to attributes by themselves.",
    "ArgoObjectList": "Query results answer to attributes by themselves.",
    "ArgoParameter": "Query results answer to attributes by themselves.",
}
"""Name that dflow has and dflow_hpc has not -> what to use. It can be imported; calling it says this."""

WITHOUT: Dict[str, str] = {
    "dflow.plugins": f"For a cluster: {PLACE} The services of the other plugins are not supported.",
    "dflow.client": "Write the manifest with Workflow.to_dict().",
    "dflow.util_ops": "continue_on_num_success and continue_on_success_ratio do it.",
    "dflow.python.vendor": "Install typeguard.",
    "dflow.python.utils": "It served dflow's generated scripts only.",
    "dflow.context_syntax": "Use `with Workflow(...)`.",
}
"""Module that dflow has and dflow_hpc has not -> what to use."""
