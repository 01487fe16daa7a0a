"""Runs the benchmarks: ours and the peers in turns (bench/README.md has the workloads).

python bench/run.py [--pairs N] [--machine PROFILE] [--nodes N] [NAME ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from harness import Contestant, compare, peer_python

WORKLOADS = Path(__file__).resolve().parent / "workloads"


def _ours(name: str, *arguments: object) -> Contestant:
    return Contestant("dflow_hpc", (sys.executable, str(WORKLOADS / f"{name}_ours.py"), *map(str, arguments)))


def _peer(peer: str, name: str, *arguments: object) -> Contestant:
    return Contestant(peer, (peer_python(peer), str(WORKLOADS / f"{name}_{peer}.py"), *map(str, arguments)))


def _import(pairs: int) -> None:
    contestants = [_ours("hello", 10), _peer("pydflow", "hello", 10), _peer("hera", "hello", 10)]
    compare("import: load, define an OP, compile ten steps", contestants, pairs, "cpu")


def _help(pairs: int) -> None:
    ours = Contestant("dflow-hpc --help", (sys.executable, "-m", "dflow_hpc.cli.main", "--help"))
    peer = Contestant("dflow --help", (peer_python("pydflow"), "-m", "dflow", "--help"))
    compare("help: print the command line's help", [ours, peer], pairs, "cpu")


def _compile(pairs: int) -> None:
    contestants = [_ours("hello", 1000), _peer("pydflow", "hello", 1000), _peer("hera", "hello", 1000)]
    compare("compile: 1,000 steps of one OP to YAML", contestants, pairs, "cpu")


def _fanout(pairs: int) -> None:
    spawn = Contestant("bare python a step", (sys.executable, str(WORKLOADS / "fanout_spawn.py"), "1000"))
    jobflow = _peer("jobflow", "fanout", 1000)
    compare("fanout: 1,000 OPs, two at a time", [_ours("fanout", 1000), spawn, jobflow], pairs)
    compare("fanout: 50 OPs, two at a time", [_ours("fanout", 50), _peer("pydflow", "fanout", 50)], 1)


def _chain(pairs: int) -> None:
    contestants = [_ours("chain", 100), _peer("jobflow", "chain", 100), _peer("pydflow", "chain", 100)]
    compare("chain: 100 OPs, one after the other", contestants, pairs)


def _bigfile(pairs: int) -> None:
    contestants = [_ours("files", 1, 1 << 30), _peer("pydflow", "files", 1, 1 << 30)]
    compare("bigfile: one artifact of 1 GiB through two steps", contestants, pairs)


def _manyfiles(pairs: int) -> None:
    contestants = [_ours("files", 20000, 10), _peer("pydflow", "files", 20000, 10)]
    compare("manyfiles: 20,000 files through two steps", contestants, pairs)


BENCHMARKS: dict[str, tuple[Callable[[int], None], int]] = {
    "import": (_import, 5),
    "help": (_help, 5),
    "compile": (_compile, 3),
    "fanout": (_fanout, 5),
    "chain": (_chain, 3),
    "bigfile": (_bigfile, 3),
    "manyfiles": (_manyfiles, 3),
}


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--pairs", type=int, help="rounds in turns")
    parser.add_argument("--nodes", type=int, default=500, help="for `argo`: steps of the workflow")
    parser.add_argument("--machine", metavar="PROFILE", help="for `machines`: instead of the project's own clusters")
    options = parser.parse_args()
    known = [*BENCHMARKS, "machines", "argo"]
    unknown = sorted(set(options.names) - set(known))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; they are: {', '.join(known)}")
    for name in options.names or BENCHMARKS:
        if name == "machines":  # it needs clusters, so it is not among those that run when none is named
            from machines import benchmark as on_machines

            on_machines(options.pairs or 3, options.machine)
            continue
        if name == "argo":  # as above
            from argo import benchmark as on_argo

            on_argo(options.nodes)
            continue
        benchmark, pairs = BENCHMARKS[name]
        benchmark(options.pairs or pairs)


if __name__ == "__main__":
    main()
