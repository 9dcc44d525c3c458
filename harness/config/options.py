# SPDX-License-Identifier: GPL-2.0-or-later
"""The options that say what to run, each declared once.

A field of ``XenOptions`` or ``RunOptions`` is an option: ``xen_git`` is ``--xen-git``.  Its type
and its default are those of the field; the text that ``--help`` prints is in the field's metadata.
``harness.cli.options`` makes the options of the commands from these fields, and
``harness.pytest_plugin`` those of pytest; ``words`` turns them into the command line of a child.

Every pytest in the environment imports this file, so it must import nothing that is slow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from harness.config.releases import DEFAULT_RELEASE, RELEASES
from harness.verdict import ConfigError

DEFAULT_HOST = "qemu-x86_64"
DEFAULT_FLAVOUR = "counter"  # of the distribution's Xen; any other tree is taken as it stands
MODELS = ("counter", "rwlock", "spinlock")
SUITES = ("lock", "conformance")


def _says(
    help: str, metavar: str | None = None, *, unset: str = "", choices: Iterable[str] = ()
) -> dict[str, Any]:
    """Describe an option; --help prints ``unset``, if given, instead of the field's default."""
    return {"help": help, "metavar": metavar, "unset": unset, "choices": tuple(choices)}


@dataclass(frozen=True, kw_only=True)
class XenOptions:
    """The hypervisor under test: where its source comes from, and which patches are applied to it.

    Raises ConfigError if two options exclude each other.
    """

    flavour: str | None = field(
        default=None,
        metadata=_says(
            "Lock flavour: patches of ours for Xen's source; rwlock: none, the tree as it stands.",
            "NAME",
            unset=f"{DEFAULT_FLAVOUR} for the distribution's Xen, none for any other tree",
        ),
    )
    xen_release: str | None = field(
        default=None,
        metadata=_says(
            "Use the distribution's source package of this Xen release.",
            unset=DEFAULT_RELEASE,
            choices=RELEASES,
        ),
    )
    xen_src: Path | None = field(
        default=None,
        metadata=_says(
            "Use the Xen source tree in this directory, including its uncommitted changes.", "DIR"
        ),
    )
    xen_git: str | None = field(
        default=None,
        metadata=_says(
            "Use Xen from this git repository (path or URL), at the commit of --xen-ref.", "REPO"
        ),
    )
    xen_ref: str | None = field(
        default=None, metadata=_says("Commit, tag or branch in the repository of --xen-git.", "REF")
    )
    compiler: str = field(
        default="gcc",
        metadata=_says("Compiler that builds Xen: gcc or clang, or one of a version.", "NAME"),
    )
    release_build: bool = field(
        default=False,
        metadata=_says("Build Xen as it is shipped: optimised more, and without assertions."),
    )
    series: tuple[Path, ...] = field(
        default=(),
        metadata=_says(
            "Apply the patches in this mailbox, mail or file of git format-patch to the source, as "
            "`git am --3way` does; repeat the option for further files.",
            "FILE",
        ),
    )
    model: str | None = field(
        default=None,
        metadata=_says(
            "The lock by whose rules to judge Xen.",
            unset="as the flavour says; without one, recognised from the source",
            choices=MODELS,
        ),
    )

    def __post_init__(self) -> None:
        if self.xen_src is not None and self.xen_git is not None:
            raise ConfigError(
                "--xen-src and --xen-git exclude each other", hint="give only one of them"
            )
        if self.xen_release is not None and (self.xen_src or self.xen_git):
            raise ConfigError(
                "--xen-release excludes --xen-src and --xen-git: each selects another source",
                hint="give only one of them",
            )
        if (self.xen_git is None) != (self.xen_ref is None):
            raise ConfigError(
                "--xen-git needs --xen-ref, and --xen-ref needs --xen-git", hint="give both"
            )


@dataclass(frozen=True, kw_only=True)
class RunOptions(XenOptions):
    """The options of a run.  Raises ConfigError if a value is out of range."""

    host: tuple[str, ...] = field(
        default=(),
        metadata=_says(
            "Host to test; repeat the option to test several hosts.  qemu-xen-emulation: QEMU's "
            "emulation of event channels instead of a Xen.",
            "NAME",
            unset=DEFAULT_HOST,
        ),
    )
    qemu_src: Path | None = field(
        default=None,
        metadata=_says(
            "With --host qemu-xen-emulation: QEMU's source, 8.0 or later, in this directory.",
            "DIR",
            unset="the distribution's source package",
        ),
    )
    duration: float = field(default=5.0, metadata=_says("Seconds of load on each host.", "SECONDS"))
    seed: int | None = field(
        default=None,
        metadata=_says(
            "Seed of all random choices in the tests.", "N", unset="a new one for each run"
        ),
    )
    suite: str = field(
        default="lock",
        metadata=_says(
            "Which of the harness's own tests to run if no TESTS are given.", choices=SUITES
        ),
    )
    snapshot: bool = field(
        default=False,
        metadata=_says(
            "Before each test, restore the machine to the state that it had before the first test."
        ),
    )
    no_snapshot: bool = field(
        default=False,
        metadata=_says(
            "Boot the machine, also if the cache has it booted from an earlier run of the same "
            "build, and keep none there."
        ),
    )
    lines: bool = field(
        default=False,
        metadata=_says(
            "Note which lines of Xen's event channels run: lines.html.  Under TCG, and the machine "
            "boots."
        ),
    )
    repeat: int = field(default=1, metadata=_says("How many times to run each test.", "N"))
    keep_going: bool = field(
        default=False,
        metadata=_says("Continue with the next test of a host after one that did not pass."),
    )
    strict: bool = field(
        default=False,
        metadata=_says("MISS, exit code 3, if more than a third of a host's tests was skipped."),
    )
    lab: Path | None = field(
        default=None,
        metadata=_says(
            "YAML file that defines more hosts.",
            "FILE",
            unset="$EVTCHN_HARNESS_LAB, or ./lab.yaml if it exists",
        ),
    )
    out: Path | None = field(
        default=None,
        metadata=_says(
            "Directory for the results; must not exist yet, or be empty.",
            "DIR",
            unset="results/<time>-<id>",
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.5 <= self.duration <= 86400:
            raise ConfigError(
                f"{self.duration:g} s is not between half a second and a day", where="--duration"
            )
        if self.repeat < 1:
            raise ConfigError(f"{self.repeat} is less than 1", where="--repeat")

    def with_xen(self, xen: XenOptions) -> RunOptions:
        """Return the options for the same run of another hypervisor."""
        return replace(self, **{each.name: getattr(xen, each.name) for each in fields(XenOptions)})


@dataclass(frozen=True)
class Option:
    """One option: what is needed to parse it from a command line, or to write it into one."""

    field: str
    type: type  # of the value (of each value, if several): str, int, float, Path; bool: a flag
    several: bool
    default: Any
    help: str
    unset: str  # what --help prints as the default, if ``default`` itself does not say it
    metavar: str | None
    choices: tuple[str, ...]
    required: bool = False

    @property
    def name(self) -> str:
        """Return the option as it is written on a command line: ``--xen-git``."""
        return f"--{self.field.replace('_', '-')}"

    @property
    def explained(self) -> str:
        """Return the text that --help prints: what the option does, and its default."""
        plain = "" if isinstance(self.default, bool | tuple | None) else str(self.default)
        otherwise = "" if self.required else self.unset or plain
        return f"{self.help}  [default: {otherwise}]" if otherwise else self.help


def table(kind: type[XenOptions]) -> dict[str, Option]:
    """Return the options of ``kind`` by field name; inherited ones come last."""
    inherited = {
        each.name for base in kind.__bases__ if is_dataclass(base) for each in fields(base)
    }
    hints = get_type_hints(kind)
    ordered = sorted(fields(kind), key=lambda each: each.name in inherited)
    return {each.name: _read(each, hints[each.name]) for each in ordered}


def _read(declared: Field[Any], hint: Any) -> Option:
    """Read an option from its field; the type is T, ``T | None`` or ``tuple[T, ...]``."""
    several = isinstance(declared.default, tuple)
    types = [part for part in get_args(hint) if part not in (NoneType, Ellipsis)] or [hint]
    return Option(declared.name, types[0], several, declared.default, **declared.metadata)


def words(chosen: XenOptions) -> list[str]:
    """Return ``chosen`` as words of a command line, without the options that have their default."""
    said = []
    for option in table(type(chosen)).values():
        value = getattr(chosen, option.field)
        if value == option.default:
            continue
        if option.type is bool:
            said.append(option.name)
        else:
            said += [f"{option.name}={each}" for each in (value if option.several else (value,))]
    return said
