"""The options that say where the hypervisor's source comes from, the same for every command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from harness.hypervisor.source import RELEASES
from harness.run.plan import Tree

_OPTIONS = (
    click.option(
        "--xen-release",
        type=click.Choice([*RELEASES]),
        help="The distribution's Xen of that release.  [4.17]",
    ),
    click.option("--xen-src", type=click.Path(path_type=Path), help="Xen source tree."),
    click.option("--xen-git", metavar="REPO", help="Git repository of Xen (path or URL)."),
    click.option("--xen-ref", metavar="REF", help="Commit, tag or branch of --xen-git."),
)


def tree_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give ``command`` the options; it is called with what they say as ``tree``."""

    @functools.wraps(command)
    def with_tree(
        *,
        xen_release: str | None,
        xen_src: Path | None,
        xen_git: str | None,
        xen_ref: str | None,
        **others: Any,
    ) -> Any:
        return command(tree=Tree(xen_src, xen_git, xen_ref, xen_release), **others)

    for option in reversed(_OPTIONS):
        with_tree = option(with_tree)
    return with_tree


def words(tree: Tree) -> list[str]:
    """Return the options that say ``tree``."""
    said = {
        "release": tree.release,
        "src": tree.directory,
        "git": tree.repository,
        "ref": tree.ref,
    }
    return [f"--xen-{name}={value}" for name, value in said.items() if value is not None]
