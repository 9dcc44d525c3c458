# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: ``evtchn-harness COMMAND``.  Thin doors; each command is one file here."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from harness import __version__, interrupts, unforeseen
from harness.shown import shown
from harness.verdict import EXIT_INTERRUPTED, EXIT_LAB, EXIT_USAGE, HarnessError, Verdict

# Command name -> module that defines ``command``.  Loaded only when used, so that
# ``--help`` and ``model`` need neither libvirt nor matplotlib.
COMMANDS: dict[str, str] = {
    "run": "harness.cli.run",
    "build": "harness.cli.build",
    "boot": "harness.cli.boot",
    "doctor": "harness.cli.doctor",
    "report": "harness.cli.report",
    "coverage": "harness.cli.coverage",
    "model": "harness.cli.model",
    "corpus": "harness.cli.corpus",
    "fuzz": "harness.cli.fuzz",
    "bisect": "harness.cli.bisect",
    "compare": "harness.cli.compare",
    "check": "harness.cli.check",
    "interleave": "harness.cli.interleave",
    "nightly": "harness.cli.nightly",
    "bench": "harness.cli.bench",
    "lab": "harness.cli.lab",
}


class LazyGroup(click.Group):
    """A click group whose commands are imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name]).command
        assert isinstance(command, click.Command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name without importing the commands: a shell must not wait."""
        names = [CompletionItem(name) for name in COMMANDS if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Boot a real Xen, put its event channels under load, and say whether it behaved correctly.

    Exit codes: 0 pass, 1 the hypervisor FAILed, 2 usage or configuration,
    3 the lab or the harness failed (MISS, ERROR), 130 interrupted.
    """


def print_json(document: Any) -> None:
    """Print ``document`` as the one JSON document on stdout that --json promises."""
    echo(json.dumps(document, indent=2, sort_keys=False, default=str))


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print ``text`` as it may be shown (harness.shown); every command prints through this."""
    click.echo(shown(text), err=err, nl=nl)


def warn(problems: Iterable[str]) -> None:
    """Print a line on stderr for each of ``problems`` with a file that was read all the same."""
    for problem in problems:
        echo(f"warning: {problem}", err=True)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the documented code; no error ends in a traceback."""
    interrupts.handle()
    code = _run(sys.argv[1:] if argv is None else argv)
    if argv is None:  # what is done is done: a late Ctrl-C would only make the exit code lie
        for blow in (signal.SIGINT, signal.SIGTERM):
            signal.signal(blow, signal.SIG_IGN)
    sys.exit(code)


def _run(words: list[str]) -> int:
    try:
        code = cli.main(args=words, prog_name="evtchn-harness", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        if not words:  # click "fails" with the help text
            error.show()
            return EXIT_USAGE
        return _fail(words, _usage(error), Verdict.ERROR, EXIT_USAGE, "ConfigError")
    except (KeyboardInterrupt, click.Abort):
        return _fail(words, "interrupted", Verdict.MISS, EXIT_INTERRUPTED, "Interrupted")
    except HarnessError as error:
        return _fail(words, str(error), error.verdict, error.exit_code, type(error).__name__)
    except BrokenPipeError:
        # Who read our output has ended, as `head` does.  Python would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        echo("error: nobody reads our output any more", err=True)
        return EXIT_LAB
    except Exception as error:
        message = unforeseen.explained(error, _run_directory())
        return _fail(words, message, Verdict.ERROR, EXIT_LAB, type(error).__name__)


def _run_directory() -> Path | None:
    """Return the directory of the run that this process has begun; None if there is none.

    Found without an import: what is missing or broken may be the reason why we are here.
    """
    module = sys.modules.get("harness.results.directory")
    return module.newest() if module is not None else None


def _fail(words: list[str], message: str, verdict: Verdict, code: int, kind: str) -> int:
    for line in message.splitlines():  # a lab file can have several faults at once
        echo(f"error: {line}", err=True)
    if "--json" in words:
        print_json({"verdict": verdict, "error": message, "kind": kind})
    return code


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message}; see {context.command_path} --help" if context else message
