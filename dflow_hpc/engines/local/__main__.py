"""A session in a process of its own: ``python -m dflow_hpc.engines.local RUN_DIRECTORY READY_FD``.

Started by ``launch.py`` for a detached run, never by hand (that is ``dflow-hpc resume``). It forks once, so that the
process which started it has no child to look after; this interpreter is fresh and has no threads, so it may.
"""

import os
import sys
import time
from pathlib import Path


def main(directory: str, ready: str) -> None:
    """Work on the run, and say on the file descriptor ``ready`` that it was taken over."""
    if os.fork():
        os._exit(0)
    os.setsid()
    from dflow_hpc.engines.local import launch
    from dflow_hpc.engines.local.rundir import RunDir

    def tell() -> None:
        os.write(int(ready), b"ready")
        os.close(int(ready))

    def say(line: str) -> None:
        sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    launch.here(RunDir(Path(directory)), say, ready=tell)


if __name__ == "__main__":
    main(*sys.argv[1:])
