"""The same for jobflow, which runs all jobs in one process."""

import sys

from jobflow import Flow, job, run_locally


@job
def twice(n):
    return 2 * n


if __name__ == "__main__":
    jobs = []
    value = 1
    for _ in range(int(sys.argv[1])):
        jobs.append(twice(value))
        value = jobs[-1].output
    responses = run_locally(Flow(jobs), log=False, ensure_success=True)
    assert len(responses) == len(jobs)
