# SPDX-License-Identifier: GPL-2.0-or-later
"""apt's source lists: read both formats, and select the entries of the distribution."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

# Names of suites that mean another release every few years; sid is never released.
_ALIASES = ("oldoldstable", "oldstable", "stable", "testing", "unstable", "sid")
_NO = ("no", "false", "without", "off", "disable", "0")  # apt's StringToBool
COMPONENTS = ("main", "universe")  # Ubuntu keeps Xen in universe
_ONE_LINE = re.compile(r"^(deb|deb-src)\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<rest>\S.*)$")
_OPTION = re.compile(r"([\w-]+)([+-]?)=(\S+)")
# Options of the one-line format whose deb822 field is not just the capitalised name.
_FIELDS = {"arch": "Architectures", "lang": "Languages", "target": "Targets", "pdiffs": "PDiffs"}
# Fields that we set ourselves for the private root.
_OURS = {"architectures", "languages", "targets", "enabled", "x-repolib-name"}


@dataclass(frozen=True)
class Archive:
    """One entry of apt's source lists; ``fields`` are its remaining deb822 fields."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def architectures(self) -> frozenset[str]:
        """dpkg architectures that the entry is restricted to; empty means all."""
        return frozenset(_field(dict(self.fields), "architectures").split())


@dataclass(frozen=True)
class Release:
    """The distribution release of this machine (os-release's ID and VERSION_CODENAME)."""

    distribution: str
    codename: str

    @property
    def suites(self) -> frozenset[str]:
        """Names of this release's suites in the distribution's archives."""
        names = [self.codename]
        if self.distribution == "debian":
            names += _ALIASES
        tails = ("", "-updates", "-security", "/updates")
        return frozenset(name + tail for name in names for tail in tails)


def parse_deb822(text: str) -> list[Archive]:
    """Return the enabled entries of a ``.sources`` file, in its order."""
    found = []
    for stanza in _stanzas(text):
        uris = tuple(_field(stanza, "uris").split())
        suites = tuple(_field(stanza, "suites").split())
        if _field(stanza, "enabled").lower() in _NO or not (uris and suites):
            continue
        known = {"types", "uris", "suites", "components"}
        rest = tuple((name, text) for name, text in stanza.items() if name.lower() not in known)
        found.append(Archive(uris, suites, tuple(_field(stanza, "components").split()), rest))
    return found


def parse_one_line(text: str) -> list[Archive]:
    """Return the entries of a ``.list`` file, in its order."""
    found = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.split("#", 1)[0].strip())
        if match is None or match["rest"].startswith("cdrom:"):
            continue
        uri, *words = match["rest"].split()
        fields = []
        for name, sign, value in _OPTION.findall(match["options"] or ""):
            field = _FIELDS.get(name, name.title()) + {"+": "-Add", "-": "-Remove", "": ""}[sign]
            fields.append((field, value.replace(",", " ")))
        if words:
            found.append(Archive((uri,), (words[0],), tuple(words[1:]), tuple(fields)))
    return found


def own(archives: Iterable[Archive], release: Release, debian_arch: str) -> list[Archive]:
    """Return the entries that carry ``release`` itself for ``debian_arch``.

    Left out are archives of third parties, flat repositories, backports and other releases;
    each entry keeps only the suites and components that we use.  An entry that is restricted to
    other architectures is used only if there is no other and the distribution is Debian: its
    archives have all architectures at one address (Ubuntu's do not).
    """
    kept = _candidates(archives, release)
    best = without(kept, _other_releases(kept, release))
    fitting = [a for a in best if not a.architectures or debian_arch in a.architectures]
    if not fitting and release.distribution == "debian":
        fitting = best
    return _once(fitting)


def passed_over(archives: Iterable[Archive], release: Release) -> list[Archive]:
    """Return the entries that ``own`` leaves out because their suites may be another release's."""
    kept = _candidates(archives, release)
    others = _other_releases(kept, release)
    return _once(replace(a, suites=tuple(s for s in a.suites if s in others)) for a in kept)


def of_release(archives: Iterable[Archive], here: Release, there: Release) -> list[Archive]:
    """Return ``archives``, those of release ``here``, changed to release ``there``."""
    found = []
    names = "|".join(map(re.escape, (here.codename, *_ALIASES)))
    for archive in archives:
        same = re.compile(rf"({names})(?=$|[-/])")
        suites = [same.sub(there.codename, s) for s in archive.suites if same.match(s)]
        if suites:
            found.append(replace(archive, suites=tuple(dict.fromkeys(suites))))
    return list(dict.fromkeys(found))


def _candidates(archives: Iterable[Archive], release: Release) -> list[Archive]:
    """Return the entries whose suites have names of ``release``, with these suites only."""
    kept = []
    for archive in archives:
        suites = tuple(suite for suite in archive.suites if suite in release.suites)
        parts = tuple(part for part in archive.components if part in COMPONENTS)
        cdrom = all(uri.startswith("cdrom:") for uri in archive.uris)
        if suites and parts and not cdrom:
            kept.append(replace(archive, suites=suites, components=parts))
    return kept


def _other_releases(kept: Iterable[Archive], release: Release) -> set[str]:
    """Return the suites that are, or may be, of another release than ``release``.

    The private root has no preferences, so the newest package would win: sid's.  Where the release
    is named, nothing but its name is trusted; else a stable or testing one is meant, not sid.
    """
    suites = {suite for archive in kept for suite in archive.suites}
    names = {re.split("[-/]", suite)[0] for suite in suites}
    if release.codename in names:
        others = names - {release.codename}
    else:
        others = {"unstable", "sid"} if names & (set(_ALIASES) - {"unstable", "sid"}) else set()
    return {suite for suite in suites if re.split("[-/]", suite)[0] in others}


def without(archives: Iterable[Archive], suites: Iterable[str]) -> list[Archive]:
    """Return ``archives`` without ``suites``."""
    gone = set(suites)
    left = [replace(a, suites=tuple(s for s in a.suites if s not in gone)) for a in archives]
    return [archive for archive in left if archive.suites]


def render(archives: Iterable[Archive], *, types: str) -> str:
    """Return a ``.sources`` file; ``types`` is "deb" or "deb-src"."""
    stanzas = []
    for archive in archives:
        lines = [
            f"Types: {types}",
            f"URIs: {' '.join(archive.uris)}",
            f"Suites: {' '.join(archive.suites)}",
            f"Components: {' '.join(archive.components)}",
        ]
        for name, value in archive.fields:
            if name.lower().removesuffix("-add").removesuffix("-remove") not in _OURS:
                lines.append(f"{name}: {value}")
        stanzas.append("\n".join(lines) + "\n")
    return "\n".join(stanzas)


def _once(archives: Iterable[Archive]) -> list[Archive]:
    """Drop duplicates: a deb and a deb-src line may give the same archive."""
    seen: set[tuple[str, str, str]] = set()
    kept = []
    for archive in archives:
        for uri in archive.uris:
            for suite in archive.suites:
                place = uri.rstrip("/")
                parts = tuple(p for p in archive.components if (place, suite, p) not in seen)
                seen.update((place, suite, part) for part in parts)
                if parts:
                    kept.append(Archive((uri,), (suite,), parts, archive.fields))
    return kept


def _stanzas(text: str) -> list[dict[str, str]]:
    stanzas: list[dict[str, str]] = [{}]
    name = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            stanzas.append({})
        elif line[0] in " \t" and name in stanzas[-1]:
            stanzas[-1][name] += "\n" + line  # an inline key: kept as it is
        elif ":" in line:
            name, value = line.split(":", 1)
            stanzas[-1][name] = value.strip()
    return [stanza for stanza in stanzas if stanza]


def _field(stanza: Mapping[str, str], name: str) -> str:
    return next((value for key, value in stanza.items() if key.lower() == name), "")
