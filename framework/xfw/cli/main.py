"""The ``xfw`` command: the list of commands, each imported only when it runs, and the exit codes."""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from types import FrameType
from typing import Any, NoReturn

import click

from xfw.errors import UserError, did_you_mean
from xfw.terminal import Screen

__all__ = ["COMMANDS", "cli", "invoke", "main"]

INTERRUPTED = 130

COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Experiments": {
        "run": ("xfw.cli.run:run", "Run trials of an experiment, or a named run."),
        "resume": ("xfw.cli.resume:resume", "Continue an interrupted run."),
        "config": ("xfw.cli.config:config", "Show every key of an experiment: value, origin, default, meaning."),
        "data": ("xfw.cli.data:data", "List, describe, fetch and check data sets."),
    },
    "Results": {
        "runs": ("xfw.cli.runs:runs", "List the runs."),
        "show": ("xfw.cli.runs:show", "Show one run."),
        "analyze": ("xfw.cli.analyze:analyze", "Make tables and figures of a run."),
        "compare": ("xfw.cli.analyze:compare", "Compare the conditions of a run, or runs."),
        "verify": ("xfw.cli.verify:verify", "Judge stored runs by the published numbers."),
        "merge": ("xfw.cli.merge:merge", "Join finished runs into one."),
        "export": ("xfw.cli.export:export", "Write a run's results in another format."),
        "clean": ("xfw.cli.clean:clean", "Remove runs."),
    },
    "Plugins": {
        "list-plugins": ("xfw.cli.listing:list_plugins", "List the installed plugins."),
        "doctor": ("xfw.cli.listing:doctor", "Say what is wrong with a plugin."),
        "new": ("xfw.cli.authors:new", "Write the package of a new plugin."),
        "check": ("xfw.cli.authors:check", "Check that a plugin keeps the rules."),
    },
}
"""The commands by section: where each one is, and its one-line help."""


class LazyGroup(click.Group):
    """A group whose commands are imported when they run; listing them imports nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [name for section in COMMANDS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in COMMANDS.values():
            if cmd_name in section:
                module, _, attribute = section[cmd_name][0].partition(":")
                command = getattr(importlib.import_module(module), attribute)
                assert isinstance(command, click.Command)
                return command
        raise UserError(
            f"unknown command '{cmd_name}'", hint=did_you_mean(cmd_name, self.list_commands(ctx)), exit_code=2
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for title, section in COMMANDS.items():
            with formatter.section(title):
                formatter.write_dl([(name, summary) for name, (_, summary) in section.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Print tracebacks of expected errors too.")
@click.version_option(package_name="xfw", message="xfw %(version)s")
def cli(debug: bool) -> None:
    """Published experiments as plugins: many trials at once.

    First steps: `xfw run psa --trials 10`, then `xfw analyze @last`.
    """
    del debug  # read from the arguments, so that it may stand anywhere


class Interruption:
    """Stop the command when a signal asks for it, and remember which.

    Not by SystemExit: plugins are isolated from the command, and what one raises (that too) is reported as its failure.
    """

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, number: int, _frame: FrameType | None) -> NoReturn:
        self.number = number
        raise KeyboardInterrupt

    def raise_again(self, unraisable: Any) -> None:
        """Ask again where the request fell into a destructor or a callback, from which nothing can be raised."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt) and self.number:
            signal.signal(signal.SIGALRM, lambda _alarm, frame: self(self.number, frame))
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        else:
            sys.__unraisablehook__(unraisable)


def main() -> NoReturn:
    """Run the command line and exit."""
    code, stopped = obey(sys.argv[1:])
    if stopped:
        # A library whose import was cut short may crash at Python's own end.
        sys.stdout.flush()
        os._exit(code)
    gc.freeze()  # else Python searches all of torch for garbage before it ends: a second or two
    sys.exit(code)


def obey(arguments: Sequence[str]) -> tuple[int, bool]:
    """Run one command line; return its exit code, and whether a signal stopped it. Later signals change nothing."""
    interruption = Interruption()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, interruption)
    sys.unraisablehook = interruption.raise_again
    try:
        code = invoke(arguments)
    except Exception:
        if not interruption.number:
            raise
        code = 1  # whatever a library makes of an import that was cut short
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)
    stopped = bool(interruption.number and code)
    return (128 + interruption.number if stopped else code), stopped


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors of the user are printed without a traceback.

    Whatever is printed meanwhile has its control characters escaped.
    """
    with redirect_stdout(Screen(sys.stdout)), redirect_stderr(Screen(sys.stderr)):
        return _invoke(arguments)


def _invoke(arguments: Sequence[str]) -> int:
    debug = "--debug" in arguments
    others = [argument for argument in arguments if argument != "--debug"]
    try:
        result = cli.main(["--debug", *others] if debug else others, prog_name="xfw", standalone_mode=False)
    except UserError as error:
        return failed(str(error), error.exit_code, debug)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx is not None else "xfw"
        return failed(f"{error.format_message()}\n  see: {command} --help", error.exit_code, debug)
    except click.ClickException as error:
        return failed(error.format_message(), error.exit_code, debug)
    except (KeyboardInterrupt, click.Abort):
        return failed("interrupted", INTERRUPTED, debug)
    except BrokenPipeError:
        # The reader of a pipe has gone: what Python still holds for it must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # What no command expects: a name that is too long, a folder that vanished.
        where = f"{error.filename}: " if error.filename else ""
        return failed(f"{where}{error.strerror or error}", 2 if error.errno == errno.ENAMETOOLONG else 1, debug)
    return result if isinstance(result, int) else 0


def failed(message: str, code: int, debug: bool) -> int:
    """Print an error, with its traceback if that is wanted, and return the exit code."""
    if debug:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
