# SPDX-License-Identifier: GPL-2.0-or-later
"""Which lines of Xen's event channels run on a machine under TCG (--lines)."""

from __future__ import annotations

from pathlib import Path

from harness.config.host import QemuHost
from harness.hypervisor.build import Build
from harness.hypervisor.dwarf import lines as dwarf
from harness.hypervisor.event_channels import flavoured
from harness.machine.executed import Executed
from harness.results import lines as results
from harness.results.directory import RunDirectory
from harness.run.plan import Hypervisor
from harness.verdict import ConfigError


class Lines:
    """Notes what one machine executes."""

    def __init__(self, built: Build, hypervisor: Hypervisor, host: QemuHost, folder: Path) -> None:
        """Prepare that in ``folder``.

        ConfigError if it cannot be told which line an instruction belongs to.
        """
        if not built.has_symbols:
            raise ConfigError(
                "no symbols: nobody knows which lines of this Xen run",
                where="--lines",
                hint="take a Xen that is built from source",
            )
        texts = flavoured(built.source, hypervisor.flavour)
        self._texts = {name: text.decode(errors="replace") for name, text in texts.items()}
        self._rows = dwarf.rows(built.syms, self._texts)
        self._executed = Executed(folder / "executed", dwarf.merged(self._rows))
        self._built, self._host = built, host
        self.arguments = self._executed.arguments(host.arch)

    def save(self, directory: RunDirectory) -> None:
        """Write what has run until now, and the page, into the run directory."""
        was_executed = self._executed.read()
        code: dict[str, set[int]] = {name: set() for name in self._texts}
        ran: dict[str, set[int]] = {name: set() for name in self._texts}
        for row in self._rows:
            code[row.file].add(row.line)
            if was_executed(*row.addresses):
                ran[row.file].add(row.line)
        files = {
            name: results.FileLines(text, frozenset(code[name]), frozenset(ran[name]))
            for name, text in self._texts.items()
            if code[name]
        }
        xen = f"{self._built.source.version} {self._built.flavour}"
        name = self._host.name
        found = results.HostLines(name, self._host.arch.value, xen, files)
        results.save(found, directory.path, name)
