"""What runs a leaf: the Leaf protocol, machines and their schedulers, transports, staging, failure classes.

The folder lies at the top of the repository and is imported as ``dflow_hpc.executors`` (a link leads here), because a
top-level package called ``executors`` exists on PyPI and is not ours.
"""

if __name__ != "dflow_hpc.executors":
    raise ImportError(
        f"this package was imported as {__name__!r}; it is 'dflow_hpc.executors'. "
        "Write 'from dflow_hpc import executors', and keep the repository's own folder off PYTHONPATH's lower levels."
    )
