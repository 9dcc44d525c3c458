# SPDX-License-Identifier: GPL-2.0-or-later
"""The man page: ``python -m harness.cli.man`` prints evtchn-harness(1), made of every --help."""

from __future__ import annotations

from collections.abc import Iterator

import click

from harness import __version__
from harness.cli import cli, echo
from harness.verdict import EXIT_FAIL, EXIT_INTERRUPTED, EXIT_LAB, EXIT_PASS, EXIT_USAGE

NAME = "evtchn-harness"

_EXITS = {
    EXIT_PASS: "Pass.",
    EXIT_FAIL: "The hypervisor FAILed.",
    EXIT_USAGE: "Usage or configuration.",
    EXIT_LAB: "The lab or the harness failed (MISS, ERROR).",
    EXIT_INTERRUPTED: "Interrupted.",
}
_ENVIRONMENT = {
    "EVTCHN_HARNESS_CACHE": "Directory of the cache; by default the user's own. Safe to delete.",
    "EVTCHN_HARNESS_LAB": "The lab file where no --lab is given.",
    "EVTCHN_HARNESS_LEASES": "Directory in which controllers that share servers keep their leases.",
    "TMPDIR": "Where the scratch files of a run are.",
}
_FILES = {
    "lab.yaml": "Hosts of your own, named with --lab.",
    "results/": "Run directories, below the working directory.",
}


def page() -> str:
    """Return the page, as roff."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    with click.Context(cli, info_name=NAME) as top:
        what, *rest = (text for text in _paragraphs(cli) if not text.startswith("Exit codes"))
        yield f'.TH EVTCHN\\-HARNESS 1 "" "xen\\-evtchn\\-harness {__version__}" "User Commands"'
        yield from (".SH NAME", f"{_text(NAME)} \\- {what.rstrip('.')}")
        yield from (".SH SYNOPSIS", f".B {_text(NAME)}", "COMMAND [OPTIONS] [ARGUMENTS]")
        yield from (".SH DESCRIPTION", what, *(line for text in rest for line in (".PP", text)))
        yield from _options(cli, top)
        yield ".SH COMMANDS"
        yield from _commands(cli, top)
    yield from (".SH EXIT STATUS", *_list({str(code): text for code, text in _EXITS.items()}))
    yield from (".SH ENVIRONMENT", *_list(_ENVIRONMENT))
    yield from (".SH FILES", *_list(_FILES))


def _commands(group: click.Group, above: click.Context) -> Iterator[str]:
    for name in group.list_commands(above):
        command = group.get_command(above, name)
        if command is None or command.hidden:
            continue
        with click.Context(command, info_name=name, parent=above) as context:
            usage = " ".join(command.collect_usage_pieces(context))
            path = context.command_path.removeprefix(f"{NAME} ")
            yield f'.SS "{_text(path)} {_text(usage)}"'
            for text in _paragraphs(command):
                yield from (text, ".PP")
            yield from _options(command, context)
            if isinstance(command, click.Group):
                yield from _commands(command, context)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    options = (each for each in command.get_params(context) if isinstance(each, click.Option))
    records = (option.get_help_record(context) for option in options if "--help" not in option.opts)
    yield from _list(dict(record for record in records if record))


def _list(entries: dict[str, str]) -> Iterator[str]:
    for name, text in entries.items():
        yield from (".TP", f".B {_text(name)}", _text(text) or "\\&")


def _paragraphs(command: click.Command) -> list[str]:
    paragraphs = (command.help or "").split("\n\n")
    return [_text(" ".join(text.split())) for text in paragraphs]


def _text(words: str) -> str:
    """Return ``words`` with what roff would take for its own escaped."""
    escaped = words.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    echo(page(), nl=False)
