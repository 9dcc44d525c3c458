# SPDX-License-Identifier: GPL-2.0-or-later
"""A private apt root in the cache: its configuration, and its index, which we renew."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from harness import cache, command
from harness.apt import archives
from harness.verdict import LabError

Notice = Callable[[str], None]

FRESH_SECONDS = 24 * 3600.0
RETRY_SECONDS = 900.0  # if the index cannot be renewed: how long until the next attempt
UPDATE_SECONDS = 600.0
_ORIGINS = {"debian": "Debian", "ubuntu": "Ubuntu"}

_CONFIGURATION = """\
Dir::State "{root}/state";
Dir::State::status "{root}/state/status";
Dir::State::lists "{root}/state/lists";
Dir::Cache "{root}/cache";
Dir::Cache::archives "{root}/cache/archives";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{root}/sources";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
#clear APT::Architectures;
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Default-Release "";
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
APT::Update::Error-Mode "any";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Periodic;
Acquire::Languages "none";
Acquire::ForceHash "SHA256";
Acquire::Retries "2";
"""


@dataclass(frozen=True)
class AptRoot:
    """A private apt root; ``directory`` holds its configuration, index and answers."""

    directory: Path
    release: archives.Release
    debian_arch: str
    types: str  # "deb" or "deb-src"

    @property
    def what(self) -> str:
        """The name of the root for notices and errors."""
        kind = "source packages" if self.types == "deb-src" else f"{self.debian_arch} packages"
        return f"{self.release.distribution} {self.release.codename} {kind}"

    def apt(self, tool: str, *words: str, cwd: Path | None = None, timeout: float = 600.0) -> str:
        """Run ``apt-get`` or ``apt-cache`` on this root and return what it printed."""
        program = command.which(tool, "apt")
        argv = [program, "-c", str(self.directory / "apt.conf"), "-q", *words]
        return command.run(argv, cwd=cwd, timeout=timeout, env={"LC_ALL": "C"})

    def lock(self) -> FileLock:
        """Return the lock that whoever runs apt on this root must hold."""
        return FileLock(self.directory / ".lock")

    def answer(self, question: object, ask: Callable[[], object]) -> object:
        """Return ``ask()`` (a JSON value), remembered until the index changes."""
        name = cache.key(question, (self.directory / "stamp").read_text())
        path = self.directory / "answers" / name
        if path.is_file():
            value: object = json.loads(path.read_text())
            return value
        value = ask()
        path.parent.mkdir(exist_ok=True)
        _write(path, json.dumps(value))
        return value

    def dropped(self) -> list[str]:
        """Return the suites that are not used until the next refresh."""
        path = self.directory / "dropped"
        return path.read_text().split() if path.is_file() else []

    def drop(self, suites: Iterable[str]) -> None:
        """Do not use ``suites`` until the next refresh; the caller must hold the lock."""
        gone = sorted({*self.dropped(), *suites})
        _write(self.directory / "dropped", "\n".join(gone))
        _configure(self, archives.without(_own_archives(self), gone))
        stamp = self.directory / "stamp"
        made = stamp.stat().st_mtime
        _write(
            stamp, f"{made} without {gone}"
        )  # makes the answers invalid, but keeps the age of the index
        os.utime(stamp, (made, made))


def open_root(
    debian_arch: str, *, types: str, notice: Notice, refresh: bool = False, codename: str = ""
) -> AptRoot:
    """Return the root for ``debian_arch``; renew its index first if that is older than a day.

    ``codename`` selects another release of this computer's distribution, from the same archives.
    With ``refresh`` the index is fetched again, whatever its age.  If the index cannot be renewed,
    the old one is used, with a notice; LabError if there is none.
    """
    command.which("apt-get", "apt")
    release = machine_release()
    if codename:
        release = archives.Release(release.distribution, codename)
    name = f"{release.codename}-{'source' if types == 'deb-src' else debian_arch}"
    directory = cache.shelf("apt") / name
    root = AptRoot(directory, release, debian_arch, types)
    if directory.is_dir():
        _check(directory)
    try:
        for part in ("state/lists/partial", "cache/archives/partial", "sources"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        (directory / "state/status").touch()
        with root.lock():
            _ensure_index(root, notice, refresh=refresh)
    except OSError as error:
        raise LabError(
            f"cannot write the apt root: {error.strerror or error}",
            where=str(error.filename or directory),
            hint=f"free space there, or point {cache.ENVIRONMENT} at another directory",
        ) from error
    return root


def _check(directory: Path) -> None:
    """LabError if another user could have written the configuration, the index or an answer.

    apt.conf can name programs that apt runs, and the answers name the packages.
    """
    cache.trusted(directory)
    for folder, folders, files in os.walk(directory):
        for name in (*folders, *files):
            with contextlib.suppress(FileNotFoundError):  # of another run, which replaces it
                cache.trusted(Path(folder, name))


def machine_release(os_release: Path = Path("/etc/os-release")) -> archives.Release:
    """Return this machine's release; LabError if it is neither Debian's nor Ubuntu's."""
    fields: dict[str, str] = {}
    if os_release.is_file():
        for word in shlex.split(os_release.read_text(), comments=True):
            name, _, value = word.partition("=")
            fields[name] = value
    distribution, codename = fields.get("ID", ""), fields.get("VERSION_CODENAME", "")
    if distribution not in _ORIGINS or not codename:
        raise LabError(
            f"this machine is {fields.get('PRETTY_NAME', 'of an unknown distribution')}",
            where=str(os_release),
            hint="packages for dom0 are taken from Debian's or Ubuntu's archive by apt",
        )
    return archives.Release(distribution, codename)


def machine_archives() -> list[archives.Archive]:
    """Return every entry of the machine's own apt source lists."""
    where = "Dir::Etc::sourcelist/f Dir::Etc::sourceparts/d"
    names = shlex.split(f"LIST {where.split()[0]} PARTS {where.split()[1]}")
    said = command.run([command.which("apt-config", "apt"), "shell", *names], timeout=60)
    paths = {k: v for k, _, v in (word.partition("=") for word in shlex.split(said))}
    parts = Path(paths.get("PARTS", "/etc/apt/sources.list.d"))
    files = [Path(paths.get("LIST", "/etc/apt/sources.list"))]
    files += sorted(parts.iterdir()) if parts.is_dir() else []
    found: list[archives.Archive] = []
    for path in files:
        if path.suffix not in (".list", ".sources") or not os.access(path, os.R_OK):
            continue
        parse = archives.parse_deb822 if path.suffix == ".sources" else archives.parse_one_line
        found += parse(path.read_text(errors="replace"))
    return found


def _own_archives(root: AptRoot) -> list[archives.Archive]:
    here = machine_release()
    own = archives.own(machine_archives(), here, root.debian_arch)
    if root.release != here:
        own = archives.of_release(own, here, root.release)
    if not own:
        ubuntu_ports = root.release.distribution == "ubuntu" and root.debian_arch == "arm64"
        raise LabError(
            f"apt's source lists have no archive with {root.what}",
            where="/etc/apt/sources.list.d",
            hint="add Ubuntu's ports archive there, with Architectures: arm64"
            if ubuntu_ports
            else "add the distribution's archive there",
        )
    return own


def _ensure_index(root: AptRoot, notice: Notice, *, refresh: bool) -> None:
    # If the source lists have changed, the index must be renewed too.
    own = _own_archives(root)
    text = archives.render(own, types=root.types)
    known = root.directory / "known"
    stamp = root.directory / "stamp"
    tried = root.directory / "tried"
    same = known.is_file() and known.read_text() == text and stamp.is_file()
    if same and not _is_configured(root):  # made by another version of us
        _write(root.directory / "apt.conf", _configuration(root))
    if same and not refresh:
        now = time.time()
        if _age(stamp, now) < FRESH_SECONDS or _age(tried, now) < RETRY_SECONDS:
            return
    notice(f"fetching the index of {root.what}")
    for archive in archives.passed_over(machine_archives(), machine_release()):
        where = f"{archive.uris[0]} {archive.suites[0]}"
        notice(f"not used for {root.what}, it may be another release: {where}")
    try:
        left = _update(root, own, notice)
    except command.CommandFailed as error:
        if not same:
            raise _no_index(root, error) from error
        tried.touch()
        made = time.strftime("%Y-%m-%d %H:%M", time.localtime(stamp.stat().st_mtime))
        notice(f"index of {root.what} cannot be renewed; using that of {made}")
        _configure(root, archives.without(own, root.dropped()))
        return
    _configure(root, _of_origin(root, left))
    (root.directory / "dropped").unlink(missing_ok=True)
    for old in (root.directory / "answers").glob("*"):
        old.unlink()
    _write(known, text)
    _write(stamp, str(time.time()))


def _update(root: AptRoot, own: list[archives.Archive], notice: Notice) -> list[archives.Archive]:
    """Fetch the index of ``own``; return the archives that answered.

    One that does not answer is left out if others have all of its suites: a third party may use
    the distribution's names.  Raises CommandFailed if it cannot be missed.
    """
    _configure(root, own)
    try:
        root.apt("apt-get", "update", timeout=UPDATE_SECONDS)
    except command.CommandFailed as error:
        dead = [archive for archive in own if _failed(archive, error.output)]
        left = [archive for archive in own if archive not in dead]
        has = {(suite, part) for one in left for suite in one.suites for part in one.components}
        needs = {(suite, part) for one in dead for suite in one.suites for part in one.components}
        if not dead or not needs <= has:
            raise
        for archive in dead:
            notice(f"left out, it does not answer: {archive.uris[0]} {archive.suites[0]}")
        _configure(root, left)
        root.apt("apt-get", "update", timeout=UPDATE_SECONDS)
        return left
    return own


def _failed(archive: archives.Archive, said: str) -> bool:
    """Return whether apt-get said of ``archive`` that it gave no (In)Release, or an unsigned one.

    Its other files do not count: apt gives them up as well when another archive at the same host
    does not answer.
    """
    uri, suite = archive.uris[0].rstrip("/"), archive.suites[0]
    complaints = [line for line in said.splitlines() if line.startswith(("E: ", "W: ", "Err:"))]
    wanted = re.compile(rf"{re.escape(uri)}/?(/dists/| ){re.escape(suite)}[/ ](In)?Release\b")
    return any(wanted.search(line) for line in complaints)


def _age(path: Path, now: float) -> float:
    """Return the age of ``path`` in seconds; endless if it is not there, or is of the future."""
    age = now - path.stat().st_mtime if path.is_file() else float("inf")
    return age if age >= 0 else float("inf")


def _configure(root: AptRoot, own: Iterable[archives.Archive]) -> None:
    _write(root.directory / "apt.conf", _configuration(root))
    _write(root.directory / "sources/own.sources", archives.render(own, types=root.types))


def _configuration(root: AptRoot) -> str:
    return _CONFIGURATION.format(root=root.directory.absolute(), arch=root.debian_arch)


def _is_configured(root: AptRoot) -> bool:
    """Return whether apt.conf is the one that we would write now."""
    path = root.directory / "apt.conf"
    return path.is_file() and path.read_text() == _configuration(root)


def _of_origin(root: AptRoot, own: list[archives.Archive]) -> list[archives.Archive]:
    """Drop archives of third parties that use the distribution's suite and component names.

    Where "stable" and the like are listed, also drop what is of another release by now.
    """
    line = "$(REPO_URI) $(RELEASE) $(ORIGIN) $(CODENAME)"
    said = root.apt("apt-get", "indextargets", "--format", line)
    wanted = _ORIGINS[root.release.distribution]
    rows = [words for words in map(str.split, said.splitlines()) if words[2:3] == [wanted]]
    named = [row for row in rows if re.split("[-/]", row[-1])[0] == root.release.codename]
    good = {tuple(words[:2]) for words in named or rows}

    def is_good(archive: archives.Archive) -> bool:
        return (archive.uris[0].rstrip("/") + "/", archive.suites[0]) in good

    return [archive for archive in own if is_good(archive)] or own


def _no_index(root: AptRoot, error: command.CommandFailed) -> LabError:
    complaints = re.findall(r"^(?:E|W): (.*)$", error.output, re.MULTILINE)
    what = complaints[0] if complaints else error.what
    hint = "check the network and apt's proxy, and that `apt-get update` works"
    if "404" in error.output and root.release.distribution == "ubuntu":
        hint = (
            f"the archive has no {root.debian_arch} packages: give apt Ubuntu's ports "
            f"archive in an entry with Architectures: {root.debian_arch}"
        )
    return LabError(f"no index of {root.what}: {what}", where="apt-get update", hint=hint)


def _write(path: Path, text: str) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)
