"""The command line, ``dflow-hpc``."""
