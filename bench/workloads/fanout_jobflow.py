"""The same for jobflow, which runs all jobs in one process, one after the other."""

import sys

from jobflow import Flow, job, run_locally


@job
def twice(n):
    return 2 * n


if __name__ == "__main__":
    jobs = [twice(n) for n in range(int(sys.argv[1]))]
    assert len(run_locally(Flow(jobs), log=False, ensure_success=True)) == len(jobs)
