"""Teach a potential the copper-gold alloy, from three crystals, by letting it ask.

Each iteration trains a committee of models, lets it explore by heating random alloys until the models disagree, and
asks the reference (effective-medium theory) for the few structures that it knows least about. It ends when nearly all
that it explores is known. Beside it, the same number of labels drawn at random from the same structures trains a
second committee: what the choice is worth.

    dflow-hpc run main.py                 # about a minute of CPU; then look at active_learning.png
    dflow-hpc run main.py -p seed=3

Training is placed on the machine "gpu", exploration and labelling on "cpu"; machines.toml says what these are.
"""

import json
import os
from pathlib import Path
from typing import List

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by NumPy: steps run side by side, so one thread each

import ase.io
import numpy as np
import physics
import potential
import report
from ase.calculators.emt import EMT

from dflow_hpc import (
    OP,
    OPIO,
    Artifact,
    InputArtifact,
    InputParameter,
    Inputs,
    OPIOSign,
    OutputArtifact,
    Outputs,
    PythonOPTemplate,
    Slices,
    Step,
    Steps,
    Workflow,
    download_artifact,
    if_expression,
)

SETTINGS = {
    "members": 4,  # models of a committee
    "walkers": 5,  # trajectories an iteration
    "steps": 200,  # of each
    "every": 8,  # steps between two frames
    "lower": 0.05,  # eV/angstrom: below this deviation a structure counts as known
    "upper": 0.30,  # above it the trajectory ends: its physics is not to be trusted
    "labels": 3,  # an iteration
    "enough": 0.95,  # fraction of known structures at which it ends
    "iterations": 10,  # at most
    "tests": 6,  # reference trajectories that are held out
    "test_steps": 80,
}


class Prepare(OP):
    """Make the crystals that it starts from: cold copper, cold gold, and one alloy."""

    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"seed": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"structures": Artifact(List[Path])})

    @OP.exec_sign_check
    def execute(self, op_in):
        rng = np.random.default_rng([op_in["seed"], 1])
        structures = []
        for gold in (0, 0.5, 1):
            structures.append(Path(f"start-{gold}.xyz"))
            ase.io.write(structures[-1], physics.crystal(gold, strain=0, rattle=0.05, rng=rng))
        return OPIO({"structures": structures})


class HoldOut(OP):
    """Heat one random alloy with the reference itself: structures to be judged by, never to learn from."""

    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"seed": int, "settings": dict, "number": int})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"frames": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        steps = op_in["settings"]["test_steps"]
        rng = np.random.default_rng([op_in["seed"], 2, op_in["number"]])
        path = physics.heat(physics.random_alloy(rng), EMT(), rng, steps, every=steps // 4)
        frames = Path(f"held-out-{op_in['number']}.xyz")
        ase.io.write(frames, [physics.label(atoms) for _, atoms in path])
        return OPIO({"frames": frames})


class Label(OP):
    """Ask the reference for energy and forces of one structure."""

    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"structure": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"labelled": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        labelled = Path(op_in["structure"].name)
        ase.io.write(labelled, physics.label(ase.io.read(op_in["structure"])))
        return OPIO({"labelled": labelled})


class Extend(OP):
    """Add new labels to the data that there are."""

    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"data": Artifact(Path, optional=True), "new": Artifact(List[Path])})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"data": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        frames = ase.io.read(op_in["data"], ":") if op_in["data"] else []
        for path in op_in["new"]:
            frames.append(ase.io.read(path))
        ase.io.write("data.xyz", frames)
        return OPIO({"data": Path("data.xyz")})


class Train(OP):
    """Train one member of a committee: it sees all labels, and weighs them in its own way."""

    @classmethod
    def get_input_sign(cls):
        return OPIOSign({"seed": int, "member": int, "data": Artifact(Path)})

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"model": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        structures = ase.io.read(op_in["data"], ":")
        rng = np.random.default_rng([op_in["seed"], 3, op_in["member"], len(structures)])
        model = Path(f"model-{op_in['member']}.npy")
        np.save(model, potential.fit(structures, weights=rng.exponential(size=len(structures))))
        return OPIO({"model": model})


class Explore(OP):
    """Heat one random alloy with the committee, until it is hot or the models disagree too much."""

    @classmethod
    def get_input_sign(cls):
        return OPIOSign(
            {"seed": int, "settings": dict, "iteration": int, "walker": int, "models": Artifact(List[Path])}
        )

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"frames": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        settings, walker = op_in["settings"], op_in["walker"]
        models = np.array([np.load(path) for path in op_in["models"]])
        rng = np.random.default_rng([op_in["seed"], 4, op_in["iteration"], walker])
        frames = []
        start, committee = physics.random_alloy(rng), physics.Committee(models)
        for temperature, atoms in physics.heat(start, committee, rng, settings["steps"], settings["every"]):
            deviation = potential.deviation(potential.predict(models, atoms)[1])
            failed = deviation > settings["upper"] or physics.closest(atoms) < physics.TOO_CLOSE
            atoms.info = {"walker": walker, "temperature": temperature, "deviation": deviation, "failed": failed}
            frames.append(atoms)
            if failed:
                break
        path = Path(f"walker-{walker}.xyz")
        ase.io.write(path, frames, format="extxyz")
        return OPIO({"frames": path})


class Select(OP):
    """Choose what to ask: of each trajectory the structure that it knows least about, the most unknown ones first.

    For the comparison, choose as many at random from all structures that were explored. Say how things stand.
    """

    @classmethod
    def get_input_sign(cls):
        return OPIOSign(
            {
                "seed": int,
                "settings": dict,
                "iteration": int,
                "frames": Artifact(List[Path]),
                "data": Artifact(Path),
                "held_out": Artifact(List[Path]),
                "models": Artifact(List[Path]),
                "random_models": Artifact(List[Path]),
                "history": Artifact(Path, optional=True),
            }
        )

    @classmethod
    def get_output_sign(cls):
        return OPIOSign(
            {
                "go_on": bool,
                "chosen": Artifact(List[Path]),
                "random": Artifact(List[Path]),
                "history": Artifact(Path),
            }
        )

    @OP.exec_sign_check
    def execute(self, op_in):
        settings, iteration = op_in["settings"], op_in["iteration"]
        frames = [atoms for path in op_in["frames"] for atoms in ase.io.read(path, ":")]
        trusted = [atoms for atoms in frames if not atoms.info["failed"]]
        candidates = [atoms for atoms in trusted if atoms.info["deviation"] > settings["lower"]]
        known = (len(trusted) - len(candidates)) / len(frames)

        least_known = {}
        for atoms in sorted(candidates, key=lambda atoms: atoms.info["deviation"]):
            least_known[atoms.info["walker"]] = atoms
        chosen = sorted(least_known.values(), key=lambda atoms: -atoms.info["deviation"])[: settings["labels"]]
        rng = np.random.default_rng([op_in["seed"], 5, iteration])
        random = [trusted[number] for number in rng.choice(len(trusted), len(chosen), replace=False)]

        held_out = [atoms for path in op_in["held_out"] for atoms in ase.io.read(path, ":")]
        predicted = report.predict(op_in["models"], held_out)
        history = json.loads(op_in["history"].read_text()) if op_in["history"] else []
        history.append(
            {
                "labels": len(ase.io.read(op_in["data"], ":")),
                "error": report.relative_error(held_out, predicted),
                "random_error": report.relative_error(held_out, report.predict(op_in["random_models"], held_out)),
                "predicted": predicted[:: report.SAMPLE].round(4).tolist(),
                "deviations": [round(atoms.info["deviation"], 5) for atoms in frames],
                "reached": float(np.mean([ase.io.read(path).info["temperature"] for path in op_in["frames"]])),
                "known": known,
                "candidate": len(candidates) / len(frames),
                "failed": 1 - len(trusted) / len(frames),
                "chosen": len(chosen),
            }
        )
        Path("history.json").write_text(json.dumps(history))
        print(report.line(iteration, history[-1]))
        done = known >= settings["enough"] or not chosen or iteration + 1 >= settings["iterations"]
        return OPIO(
            {
                "go_on": not done,
                "chosen": write_each("chosen", iteration, chosen),
                "random": write_each("random", iteration, random),
                "history": Path("history.json"),
            }
        )


def write_each(name, iteration, structures):
    """Write each structure into a file of its own; return the paths."""
    paths = []
    for number, atoms in enumerate(structures):
        paths.append(Path(f"{name}-{iteration}-{number}.xyz"))
        ase.io.write(paths[-1], atoms)
    return paths


class Report(OP):
    """Draw what happened, and say it in a few lines."""

    @classmethod
    def get_input_sign(cls):
        return OPIOSign(
            {
                "settings": dict,
                "history": Artifact(Path),
                "held_out": Artifact(List[Path]),
            }
        )

    @classmethod
    def get_output_sign(cls):
        return OPIOSign({"summary": dict, "plot": Artifact(Path)})

    @OP.exec_sign_check
    def execute(self, op_in):
        history = json.loads(op_in["history"].read_text())
        held_out = [atoms for path in op_in["held_out"] for atoms in ase.io.read(path, ":")]
        report.draw(history, op_in["settings"], held_out, "active_learning.png")
        summary = report.summary(history, op_in["settings"])
        print(report.table(history), summary["text"], sep="\n\n")
        return OPIO({"summary": summary, "plot": Path("active_learning.png")})


def labelling(name, key, structures):
    """Return a step that labels several structures, each in a leaf of its own."""
    template = PythonOPTemplate(
        Label, slices=Slices(input_artifact=["structure"], output_artifact=["labelled"]), retry_on_transient_error=2
    )
    return Step(name, template, artifacts={"structure": structures}, executor="cpu", key=f"{key}-{{{{item}}}}")


def training(name, key, seed, data, settings):
    """Return a step that trains a committee, each member in a leaf of its own."""
    template = PythonOPTemplate(Train, slices=Slices(input_parameter=["member"], output_artifact=["model"]))
    members = list(range(settings["members"]))
    return Step(
        name,
        template,
        parameters={"seed": seed, "member": members},
        artifacts={"data": data},
        executor="gpu",
        key=f"{key}-{{{{item}}}}",
    )


def make_loop(settings):
    """Return the Steps of one iteration, which end by calling themselves."""
    artifacts = ("data", "random_data", "held_out", "history")
    loop = Steps(
        "iteration",
        inputs=Inputs(
            parameters={"seed": InputParameter(type=int), "iteration": InputParameter(type=int)},
            artifacts={name: InputArtifact(optional=name == "history") for name in artifacts},
        ),
        outputs=Outputs(artifacts={"history": OutputArtifact(), "models": OutputArtifact()}),
    )
    seed, iteration = loop.inputs.parameters["seed"], loop.inputs.parameters["iteration"]
    data, random_data, held_out, history = (loop.inputs.artifacts[name] for name in artifacts)

    train = training("train", f"train-{iteration}", seed, data, settings)
    train_random = training("train-random", f"train-random-{iteration}", seed, random_data, settings)
    loop.add([train, train_random])
    models = train.outputs.artifacts["model"]

    explore = Step(
        "explore",
        PythonOPTemplate(Explore, slices=Slices(input_parameter=["walker"], output_artifact=["frames"])),
        parameters={
            "seed": seed,
            "settings": settings,
            "iteration": iteration,
            "walker": list(range(settings["walkers"])),
        },
        artifacts={"models": models},
        executor="cpu",
        key=f"explore-{iteration}-{{{{item}}}}",
    )
    loop.add(explore)

    select = Step(
        "select",
        PythonOPTemplate(Select),
        parameters={"seed": seed, "settings": settings, "iteration": iteration},
        artifacts={
            "frames": explore.outputs.artifacts["frames"],
            "data": data,
            "held_out": held_out,
            "models": models,
            "random_models": train_random.outputs.artifacts["model"],
            "history": history,
        },
        key=f"select-{iteration}",
    )
    loop.add(select)

    ask = Step(
        "ask",
        make_ask(loop),
        parameters={"seed": seed, "iteration": iteration},
        artifacts={
            "data": data,
            "random_data": random_data,
            "held_out": held_out,
            "history": select.outputs.artifacts["history"],
            "chosen": select.outputs.artifacts["chosen"],
            "random": select.outputs.artifacts["random"],
        },
        when=select.outputs.parameters["go_on"],
    )
    loop.add(ask)
    go_on = select.outputs.parameters["go_on"]
    for name, here in (("history", select.outputs.artifacts["history"]), ("models", models)):
        loop.outputs.artifacts[name].from_expression = if_expression(
            _if=go_on, _then=ask.outputs.artifacts[name], _else=here
        )
    return loop


def make_ask(loop):
    """Return the Steps that label what was chosen, and go on with the next iteration."""
    artifacts = ("data", "random_data", "held_out", "history", "chosen", "random")
    ask = Steps(
        "ask",
        inputs=Inputs(
            parameters={"seed": InputParameter(type=int), "iteration": InputParameter(type=int)},
            artifacts={name: InputArtifact() for name in artifacts},
        ),
        outputs=Outputs(artifacts={"history": OutputArtifact(), "models": OutputArtifact()}),
    )
    data, random_data, held_out, history, chosen, random = (ask.inputs.artifacts[name] for name in artifacts)
    iteration = ask.inputs.parameters["iteration"]
    label = labelling("label", f"label-{iteration}", chosen)
    label_random = labelling("label-random", f"label-random-{iteration}", random)
    ask.add([label, label_random])
    extend, extend_random = (
        Step(
            name,
            PythonOPTemplate(Extend),
            artifacts={"data": old, "new": step.outputs.artifacts["labelled"]},
        )
        for name, old, step in (("extend", data, label), ("extend-random", random_data, label_random))
    )
    ask.add([extend, extend_random])
    again = Step(
        "again",
        loop,
        parameters={"seed": ask.inputs.parameters["seed"], "iteration": iteration + 1},
        artifacts={
            "data": extend.outputs.artifacts["data"],
            "random_data": extend_random.outputs.artifacts["data"],
            "held_out": held_out,
            "history": history,
        },
    )
    ask.add(again)
    for name in ("history", "models"):
        ask.outputs.artifacts[name]._from = again.outputs.artifacts[name]
    return ask


def make_workflow(settings=SETTINGS, seed=1):
    """Return the whole study: reference data, the loop, and the report."""
    workflow = Workflow(name="active-learning", parameters={"seed": seed})
    seed = "{{workflow.parameters.seed}}"
    prepare = Step("prepare", PythonOPTemplate(Prepare), parameters={"seed": seed})
    hold_out = Step(
        "hold-out",
        PythonOPTemplate(HoldOut, slices=Slices(input_parameter=["number"], output_artifact=["frames"])),
        parameters={"seed": seed, "settings": settings, "number": list(range(settings["tests"]))},
        executor="cpu",
    )
    workflow.add([prepare, hold_out])
    label = labelling("label-first", "label-first", prepare.outputs.artifacts["structures"])
    workflow.add(label)
    first = Step(
        "first-data", PythonOPTemplate(Extend), artifacts={"data": None, "new": label.outputs.artifacts["labelled"]}
    )
    workflow.add(first)
    learn = Step(
        "learn",
        make_loop(settings),
        parameters={"seed": seed, "iteration": 0},
        artifacts={
            "data": first.outputs.artifacts["data"],
            "random_data": first.outputs.artifacts["data"],
            "held_out": hold_out.outputs.artifacts["frames"],
            "history": None,
        },
    )
    workflow.add(learn)
    tell = Step(
        "report",
        PythonOPTemplate(Report),
        parameters={"settings": settings},
        artifacts={
            "history": learn.outputs.artifacts["history"],
            "held_out": hold_out.outputs.artifacts["frames"],
        },
        key="report",
    )
    workflow.add(tell)
    return workflow


if __name__ == "__main__":
    study = make_workflow()
    study.submit()
    for step in study.query_step(key="report", phase="Succeeded"):
        print(step.outputs.parameters["summary"].value["text"])
        print("plot:", *download_artifact(step.outputs.artifacts["plot"]))
        [learned] = study.query_step(name="learn")
        print("potential:", *download_artifact(learned.outputs.artifacts["models"], path="potential"))
