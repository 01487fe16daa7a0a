"""The yardstick: one bare Python a step, two at a time, each doing the arithmetic and nothing else."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor


def one(n):
    out = subprocess.run([sys.executable, "-c", f"print(2 * {n})"], capture_output=True, check=True)
    return int(out.stdout)


if __name__ == "__main__":
    count = int(sys.argv[1])
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, range(count))) == [2 * n for n in range(count)]
