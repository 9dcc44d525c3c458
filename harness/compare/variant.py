# SPDX-License-Identifier: GPL-2.0-or-later
"""The variants of Xen to compare, as the user names them: ``rwlock``, ``4.14``, ``~/xen``,
``~/xen@stable-4.17``, ``4.14:counter``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from harness.config.options import XenOptions
from harness.config.releases import DEFAULT_RELEASE, RELEASES
from harness.hypervisor import flavour as flavours
from harness.hypervisor.flavour import Flavour
from harness.hypervisor.source import Source
from harness.run.plan import open_hypervisor
from harness.verdict import ConfigError


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the two hypervisors that are compared."""

    name: str  # as the user wrote it
    options: XenOptions
    source: Source
    flavour: Flavour


def find_variant(
    text: str, argument: str, series: tuple[Path, ...] = (), model: str | None = None
) -> Variant:
    """Return the variant that ``text`` names, [TREE:]FLAVOUR or TREE[:FLAVOUR], with ``series``
    applied, judged as ``model``.

    TREE is a release that the distribution has, a directory, or REPO@REF of a git repository.
    A flavour alone is of the default release; a tree alone is built as it stands.  If there is
    no such tree or flavour: ConfigError, which names ``argument``.
    """
    where, _, flavour = text.rpartition(":")
    if not where:
        where, flavour = (text, "") if _is_tree(text) else (DEFAULT_RELEASE, text)
    if not _is_tree(where):
        raise ConfigError(
            f"{where} is not a release, a directory or REPO@REF",
            where=argument,
            hint=f"releases are {', '.join(RELEASES)}",
        )
    as_it_stands = flavours.AS_IT_STANDS if where in RELEASES else None
    options = replace(_tree(where), flavour=flavour or as_it_stands, series=series, model=model)
    found = open_hypervisor(options)
    return Variant(name=text, options=options, source=found.source, flavour=found.flavour)


def _is_tree(text: str) -> bool:
    return text in RELEASES or Path(text.rpartition("@")[0] or text).expanduser().is_dir()


def _tree(text: str) -> XenOptions:
    if text in RELEASES:
        return XenOptions(xen_release=text)
    if Path(text).expanduser().is_dir():
        return XenOptions(xen_src=Path(text))
    repository, _, ref = text.rpartition("@")
    return XenOptions(xen_git=repository, xen_ref=ref)
