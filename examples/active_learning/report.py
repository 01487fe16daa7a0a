"""How the study is judged, drawn and told."""

import numpy as np
import potential

SAMPLE = 3  # of so many predicted force components one is kept for the plot


def load(paths):
    """Return the models of a committee."""
    return np.array([np.load(path) for path in paths])


def predict(paths, structures):
    """Return the force components (eV/angstrom) that a committee predicts on average."""
    mean = load(paths).mean(axis=0)
    return np.concatenate([potential.predict(mean, atoms)[1].ravel() for atoms in structures])


def reference(structures):
    """Return the force components that the reference gave."""
    return np.concatenate([atoms.get_forces().ravel() for atoms in structures])


def relative_error(structures, predicted):
    """Return the root mean square error of forces, relative to the spread of the reference."""
    wanted = reference(structures)
    return float(np.sqrt(np.mean((predicted - wanted) ** 2)) / wanted.std())


def line(iteration, entry):
    """Return one iteration in one line."""
    return (
        f"iteration {iteration}: {entry['labels']} labels, force error {entry['error']:.1%} of the spread "
        f"(random labels {entry['random_error']:.1%}), {entry['known']:.0%} of the explored structures known"
    )


def table(history):
    """Return all iterations as a table."""
    rows = ["iteration  labels   error  random  reached  known  chosen"]
    for number, entry in enumerate(history):
        rows.append(
            f"{number:9d}  {entry['labels']:6d}  {entry['error']:6.1%}  {entry['random_error']:6.1%}"
            f"  {entry['reached']:5.0f} K  {entry['known']:5.0%}  {entry['chosen']:6d}"
        )
    return "\n".join(rows)


def summary(history, settings):
    """Return the outcome: figures, and a sentence."""
    last = history[-1]
    converged = last["known"] >= settings["enough"]
    text = (
        f"{'Converged' if converged else 'Stopped'} after {len(history)} iterations with {last['labels']} labels. "
        f"Force error on held-out structures: {last['error']:.1%} of the spread of the forces; "
        f"{last['random_error']:.1%} with as many labels chosen at random."
    )
    return {
        "converged": converged,
        "iterations": len(history),
        "labels": last["labels"],
        "error": last["error"],
        "random_error": last["random_error"],
        "text": text,
    }


ACTIVE, RANDOM, KNOWN, CANDIDATE, FAILED = "#0b6e8a", "#b0b4ba", "#7fbfb0", "#f2b84b", "#d1495b"


def draw(history, settings, held_out, file):
    """Draw error, deviation and fractions by iteration, and the forces of the first and the last potential."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style = {
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.grid": True,
        "grid.color": "#e6e8eb",
        "axes.axisbelow": True,
        "figure.dpi": 150,
    }
    with plt.rc_context(style):
        figure, panels = plt.subplots(2, 2, figsize=(9.6, 7.2), layout="constrained")
        _errors(panels[0, 0], history)
        _deviations(panels[0, 1], history, settings)
        _fractions(panels[1, 0], history)
        _forces(panels[1, 1], reference(held_out)[::SAMPLE], history)
        for panel in (panels[0, 0], panels[0, 1], panels[1, 0]):
            panel.set_xlabel("iteration")
            panel.set_xticks(range(len(history)))
        figure.suptitle("A potential for Cu-Au learns by asking", x=0.01, ha="left", fontsize=14, fontweight="bold")
        figure.savefig(file)
        plt.close(figure)


def _errors(panel, history):
    from matplotlib.ticker import NullLocator

    steps = range(len(history))
    panel.axhspan(1e-3, 20, color="#eef6f3", zorder=0)
    panel.text(len(history) - 1, 19, "20 % of the spread", va="top", ha="right", color="#6c8f86", fontsize=8.5)
    panel.plot(steps, [100 * entry["random_error"] for entry in history], "o--", color=RANDOM, label="labels at random")
    panel.plot(
        steps, [100 * entry["error"] for entry in history], "o-", color=ACTIVE, lw=2, label="labels it asked for"
    )
    for step, entry in enumerate(history):
        panel.annotate(
            str(entry["labels"]),
            (step, 100 * entry["error"]),
            xytext=(0, -13),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=ACTIVE,
        )
    panel.set_yscale("log")
    values = [100 * entry[name] for entry in history for name in ("error", "random_error")]
    panel.set_yticks([1, 2, 5, 10, 20, 50, 100, 200])
    panel.set_ylim(min(values) * 0.6, max(*values, 25) * 1.4)
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    panel.yaxis.set_minor_locator(NullLocator())
    panel.set_title("Force error on held-out structures")
    panel.legend(frameon=False, loc="upper right")


def _deviations(panel, history, settings):
    for step, entry in enumerate(history):
        deviations = np.clip(entry["deviations"], 1e-3, 3)
        spread = np.random.default_rng(step).uniform(-0.28, 0.28, len(deviations))
        colours = np.where(
            deviations > settings["upper"], FAILED, np.where(deviations > settings["lower"], CANDIDATE, KNOWN)
        )
        panel.scatter(step + spread, deviations, s=7, c=colours, alpha=0.65, linewidths=0)
        panel.plot([step - 0.33, step + 0.33], [np.median(deviations)] * 2, color="#333333", lw=1.6)
    for name, text in (("lower", "known below"), ("upper", "not trusted above")):
        panel.axhline(settings[name], color="#333333", lw=0.8, ls=":")
        panel.text(len(history) - 0.5, settings[name], text, va="bottom", ha="right", fontsize=8.5, color="#333333")
    panel.set_yscale("log")
    panel.set_ylabel("eV/Å")
    panel.set_title("Committee deviation, explored structures")


def _fractions(panel, history):
    steps = range(len(history))
    bottom = np.zeros(len(history))
    for name, colour in (("known", KNOWN), ("candidate", CANDIDATE), ("failed", FAILED)):
        heights = np.array([100 * entry[name] for entry in history])
        panel.bar(steps, heights, bottom=bottom, color=colour, width=0.72, label=name)
        bottom += heights
    for step, entry in enumerate(history):
        panel.text(step, 103, f"{entry['reached']:.0f} K", ha="center", fontsize=8, color="#333333")
    panel.set_ylim(0, 128)
    panel.set_yticks(range(0, 101, 25))
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    panel.set_title("Explored structures, temperature reached")
    panel.legend(frameon=False, ncols=3, loc="upper left", handlelength=1, columnspacing=1.2)


def _forces(panel, wanted, history):
    limit = 1.05 * np.abs(wanted).max()
    panel.plot([-limit, limit], [-limit, limit], color="#333333", lw=0.8)
    for entry, colour, size in ((history[0], CANDIDATE, 6), (history[-1], ACTIVE, 6)):
        label = f"{entry['labels']} labels, {entry['error']:.1%}"
        panel.scatter(wanted, entry["predicted"], s=size, color=colour, alpha=0.45, linewidths=0, label=label)
    panel.set_xlim(-limit, limit)
    panel.set_ylim(-limit, limit)
    panel.set_xlabel("reference force, eV/Å")
    panel.set_ylabel("predicted force, eV/Å")
    panel.set_title("Held-out forces, first and last potential")
    panel.legend(loc="upper left", handletextpad=0.2, markerscale=2.5, edgecolor="white", framealpha=0.9)
