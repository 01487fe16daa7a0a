"""``dflow-hpc``: the commands, and what becomes of an error.

A command's code is imported when the command is used, so that ``--help`` stays quick. Errors that the package raises
on purpose are printed as they are, without a traceback; anything else is a bug and shows one.

Exit codes: 0 well, 1 a run has failed, 2 the wish could not be met (usage, bad input), 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from dflow_hpc.errors import DflowError, WorkflowFailed

_COMMANDS = {
    "run": ("run", "Run a Python program or an Argo manifest here, and look on."),
    "submit": ("run", "The same in the background: returns at once."),
    "lint": ("run", "Compile a Python program's workflows and say what looks wrong."),
    "list": ("look", "List the runs of this machine."),
    "get": ("look", "Show a run: its tree of steps, or the Workflow object."),
    "logs": ("look", "Print what the steps of a run printed."),
    "explain": ("explain", "Say where a step is and why, what comes next, and how to look by hand."),
    "wait": ("look", "Wait until a run has ended."),
    "resume": ("steer", "Go on: after a crash, Ctrl-C, suspend, or at a suspend step."),
    "retry": ("steer", "Run what failed again, and keep what succeeded."),
    "resubmit": ("steer", "Run a workflow anew from its start."),
    "suspend": ("steer", "Start nothing more until resume."),
    "stop": ("steer", "End the steps of a run; its exit handlers still run."),
    "terminate": ("steer", "End the steps of a run at once."),
    "delete": ("steer", "Remove runs with their artifacts."),
    "gc": ("steer", "Remove runs that ended a while ago."),
    "config": ("doctor", "Print the settings, each with the layer it came from."),
    "machine": ("machine", "Look at the profiles of machines, and prove that one works."),
    "bridge": ("gateway", "Run the step of this pod on its machine: what bridge pods of Argo run."),
    "gateway": ("gateway", "Run the steps that pods of Argo hand over, on one machine and over one login."),
    "node": ("node", "Let a machine be a node of Kubernetes."),
    "doctor": ("doctor", "Check that this machine can run workflows."),
}


class _Group(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"dflow_hpc.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name + "_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            guess = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"no command {args[0]!r}.{guess} They are: {', '.join(_COMMANDS)}.", ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(None, "--version", package_name="dflow-hpc", message="dflow-hpc %(version)s")
def cli() -> None:
    """Typed Python workflows for computational science, on this machine, on Kubernetes and on clusters."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    try:
        result: Any = cli.main(args=argv, prog_name="dflow-hpc", standalone_mode=False)
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except WorkflowFailed as error:
        click.echo(f"dflow-hpc: {error}", err=True)
        return 1
    except DflowError as error:
        click.echo(f"dflow-hpc: {error}", err=True)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `dflow-hpc list | head`
        sys.stderr.close()
        return 0
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
