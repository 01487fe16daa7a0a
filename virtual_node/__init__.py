"""A Slurm or PBS cluster as a node of Kubernetes.

The folder lies at the top of the repository and is imported as ``dflow_hpc.virtual_node`` (a link leads here).
"""

if __name__ != "dflow_hpc.virtual_node":
    raise ImportError(
        f"this package was imported as {__name__!r}; it is 'dflow_hpc.virtual_node'. "
        "Write 'from dflow_hpc import virtual_node'."
    )
