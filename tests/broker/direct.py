"""A machine without scheduler or shell: leaves run at once, in a directory of their own, and their outputs come back.

It does what the protocol's scripts do with a parcel, in the fewest lines, so that what the engine packs and reads can
be tried by itself.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from dflow_hpc.executors import site

REPOSITORY = Path(__file__).parents[2]
RUNNER = "import json,sys,pathlib; from dflow_hpc.op import runner; record=json.load(open(sys.argv[1])); "
RUNNER += "runner.preload([record], sys.argv[2]); sys.exit(runner.run(pathlib.Path(sys.argv[3]), record))"


class DirectSite:
    def __init__(self, there):
        self.there = there
        self.results = {}
        self.outcome = {}  # token -> (rc, stage)
        self.fate = None  # a failure class and a word, instead of running anything

    def bounds(self):
        return site.Bounds()

    def submit(self, batches, parcels):
        for batch in batches:
            for token in batch.tokens:
                if self.fate is None:
                    self._run(token, parcels[token])
        return {batch.id: site.Taken("7") for batch in batches}

    def _run(self, token, parcel):
        name = f"{parcel.key}/attempt.{token.rpartition('-')[2]}"
        root = self.there / name
        shutil.copytree(parcel.root, root)
        for text in parcel.spec.get("texts", ()):
            (root / text).write_text((root / text).read_text().replace(str(parcel.root), str(root)))
        env = {name: value.replace(str(parcel.root), str(root)) for name, value in parcel.spec["env"].items()}
        if "record" in parcel.spec:
            (root / "record.json").write_text(json.dumps(parcel.spec["record"]))
            words = [sys.executable, "-c", RUNNER, str(root / "record.json"), str(parcel.code), str(root)]
            env["PYTHONPATH"] = str(REPOSITORY)
        else:
            words = [word.replace(str(parcel.root), str(root)) for word in parcel.spec["words"]]
        (root / "workdir").mkdir(exist_ok=True)
        done = subprocess.run(
            words, check=False, cwd=root / "workdir", env={**os.environ, **env}, capture_output=True, timeout=60
        )
        (root / "result").write_bytes(done.stdout)
        (root / "log.txt").write_bytes(done.stdout + done.stderr)
        self.outcome[token] = ({"rc": done.returncode, "stage": "main"}, root, parcel)

    def look_up(self, batches):
        raise AssertionError("every submission is answered")

    def look(self, live, parcels, gone):
        look = site.Look([], [])
        for batch, _ in live:
            for index, token in enumerate(batch.tokens):
                if token in self.outcome:
                    record, root, parcel = self.outcome[token]
                    for part in [*parcel.spec["outputs"], "result", "log.txt", "termination-log"]:
                        self._bring(root / part, parcels[token].root / part)
                    look.markers[token] = site.Marker(record, True)
                elif self.fate:
                    failure, word = self.fate
                    look.queue.append(site.Sighting(batch.id, index, False, True, word, failure))
        return look

    @staticmethod
    def _bring(source, target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy2(source, target)

    def peek(self, tokens):
        pass

    def cancel(self, items):
        pass

    def forget(self, tokens):
        pass

    def traffic(self):
        return ""

    def bytes(self):
        return site.Bytes()

    def close(self):
        pass
