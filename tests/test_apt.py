# SPDX-License-Identifier: GPL-2.0-or-later
"""apt: reading source lists (any machine), and real questions to the machine's own apt."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import apt, cache
from harness.apt import archives
from harness.apt.archives import Archive, Release
from harness.apt.deb import files
from harness.apt.root import machine_archives, machine_release
from harness.arch import Arch
from harness.verdict import LabError
from tests.served import serve

SUITE = machine_release().codename
SECURITY = f"{SUITE}-security"
BOOKWORM = Release("debian", "bookworm")
NOBLE = Release("ubuntu", "noble")

DEB822 = """\
# a comment
Types: deb
# another, inside a stanza
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQINBF
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.example/off
Suites: bookworm
Components: main
Enabled: no

types: deb-src
uris: http://mirror.example/security
suites: bookworm-security
components: main
"""

ONE_LINE = """\
# deb http://commented.example/debian bookworm main
deb [arch=amd64,arm64 signed-by=/a.gpg] http://mirror.example/debian bookworm main contrib # x
deb-src http://mirror.example/debian bookworm main
deb cdrom:[Debian GNU/Linux 12 _Bookworm_]/ bookworm main
deb http://flat.example/ ./
"""


def test_deb822() -> None:
    first, second = archives.parse_deb822(DEB822)
    assert first.suites == ("bookworm", "bookworm-updates")
    assert first.components == ("main", "contrib")
    assert "mQINBF" in dict(first.fields)["Signed-By"]
    assert second == Archive(("http://mirror.example/security",), ("bookworm-security",), ("main",))


def test_one_line() -> None:
    binary, source, flat = archives.parse_one_line(ONE_LINE)
    assert binary.architectures == {"amd64", "arm64"}
    assert dict(binary.fields)["Signed-By"] == "/a.gpg"
    assert binary.components == ("main", "contrib")
    assert (source.uris, source.fields) == (binary.uris, ())
    assert archives.own([flat], BOOKWORM, "amd64") == []


def test_rendered_deb822_reads_back_the_same() -> None:
    parsed = archives.parse_deb822(DEB822)
    assert archives.parse_deb822(archives.render(parsed, types="deb")) == parsed


def test_own_keeps_the_release_only() -> None:
    third_party = Archive(("http://third.example",), ("bookworm",), ("stable",))
    backports = Archive(("http://mirror.example",), ("bookworm", "bookworm-backports"), ("main",))
    newer = Archive(("http://mirror.example",), ("trixie",), ("main",))
    kept = archives.own([third_party, backports, newer], BOOKWORM, "arm64")
    assert kept == [Archive(("http://mirror.example",), ("bookworm",), ("main",))]


@pytest.mark.parametrize("word", ["no", "False", "without", "OFF", "disable", "0"])
def test_every_no_of_apt_switches_an_entry_off(word: str) -> None:
    stanza = "Types: deb\nURIs: http://a\nSuites: bookworm\nComponents: main\nEnabled: {}\n"
    assert archives.parse_deb822(stanza.format(word)) == []
    assert len(archives.parse_deb822(stanza.format("yes"))) == 1


@pytest.mark.parametrize(
    ("listed", "used"),
    [
        ("bookworm sid", "bookworm"),
        ("bookworm bookworm-security testing testing-security", "bookworm bookworm-security"),
        ("bookworm stable", "bookworm"),  # stable is trixie by now
        ("stable stable-security unstable", "stable stable-security"),
        ("testing sid", "testing"),
        ("sid", "sid"),
    ],
)
def test_no_other_release_is_listed_beside_the_machines_own(listed: str, used: str) -> None:
    """Seen: the private root has no preferences, so sid's packages won."""
    entry = Archive(("http://a",), tuple(listed.split()), ("main",))
    assert [one.suites[0] for one in archives.own([entry], BOOKWORM, "amd64")] == used.split()
    over = [one.suites[0] for one in archives.passed_over([entry], BOOKWORM)]
    assert over == [suite for suite in listed.split() if suite not in used.split()]


def test_own_lists_nothing_twice() -> None:
    one = Archive(("http://mirror.example",), ("bookworm",), ("main",))
    assert archives.own([one, one], BOOKWORM, "amd64") == [one]


def test_debian_restricted_to_another_architecture_still_serves() -> None:
    only = Archive(
        ("http://mirror.example",), ("bookworm",), ("main",), (("Architectures", "amd64"),)
    )
    assert archives.own([only], BOOKWORM, "arm64") == [only]
    assert "amd64" not in archives.render([only], types="deb")


def test_ubuntu_ports_are_another_archive() -> None:
    fields = (("Architectures", "amd64"),)
    main = Archive(("http://main.example",), ("noble",), ("main", "universe"), fields)
    ports = Archive(("http://ports.example",), ("noble",), ("main",), (("Architectures", "arm64"),))
    assert archives.own([main], NOBLE, "arm64") == []
    assert archives.own([main, ports], NOBLE, "arm64") == [ports]
    assert archives.own([main, ports], NOBLE, "amd64") == [main]


def test_without_a_suite() -> None:
    both = Archive(("http://m.example",), ("bookworm", "bookworm-security"), ("main",))
    gone = Archive(("http://m.example",), ("bookworm-security",), ("main",))
    left = archives.without([both, gone], ["bookworm-security"])
    assert [archive.suites for archive in left] == [("bookworm",)]


def test_foreign_distribution_is_the_labs_fault(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=fedora\nPRETTY_NAME="Fedora Linux 40"\n')
    with pytest.raises(LabError, match="Fedora Linux 40"):
        machine_release(release)


# From here on: real apt and a real web server on loopback, with an archive made here.


def _control(name: str, version: str, arch: str, depends: str = "") -> str:
    lines = [f"Package: {name}", f"Version: {version}", f"Architecture: {arch}"]
    lines += ["Maintainer: nobody <nobody@example.org>", "Description: made by a test"]
    return "\n".join(lines + ([f"Depends: {depends}"] if depends else [])) + "\n"


class Mirror:
    """A Debian archive below ``root``: add packages, index(), serve it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.pool = root / "pool"
        self.pool.mkdir(parents=True)
        self.indexed: dict[tuple[str, str], str] = {}
        self.time = time.time() - 3600  # of the index: apt asks for what is newer, in seconds

    def binary(self, suite: str, name: str, version: str, arch: str, depends: str = "") -> Path:
        tree = self.root / "build"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(_control(name, version, arch, depends))
        deb = self.pool / f"{name}_{version}_{arch}.deb"
        subprocess.run(
            ["dpkg-deb", "-Znone", "-b", tree, deb], check=True, stdout=subprocess.DEVNULL
        )
        shutil.rmtree(tree)
        where = f"Filename: pool/{deb.name}\nSize: {deb.stat().st_size}\nSHA256: {_sha256(deb)}\n"
        for native in ("amd64", "arm64") if arch == "all" else (arch,):
            stanza = _control(name, version, arch, depends) + where
            self._add(suite, f"main/binary-{native}/Packages", stanza)
        return deb

    def source(self, suite: str, name: str, version: str) -> Path:
        tree = self.root / f"{name}-{version}"
        (tree / "debian/source").mkdir(parents=True)
        (tree / "debian/source/format").write_text("1.0\n")
        (tree / "marker").write_text(version)
        (tree / "debian/control").write_text(
            f"Source: {name}\nMaintainer: n <n@example.org>\n\nPackage: {name}\n"
            "Architecture: any\nDescription: x\n"
        )
        (tree / "debian/changelog").write_text(
            f"{name} ({version}) x; urgency=low\n\n  * x\n\n"
            " -- n <n@example.org>  Thu, 01 Jan 2026 00:00:00 +0000\n"
        )
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["dpkg-source", "-b", tree], cwd=self.pool, check=True, **quiet)  # type: ignore[call-overload]
        dsc = self.pool / f"{name}_{version}.dsc"
        files = [dsc, self.pool / f"{name}_{version}.tar.gz"]
        sums = "".join(f" {_sha256(f)} {f.stat().st_size} {f.name}\n" for f in files)
        stanza = f"Package: {name}\nFormat: 1.0\nBinary: {name}\nArchitecture: any\n"
        stanza += f"Version: {version}\nDirectory: pool\nChecksums-Sha256:\n{sums}"
        self._add(suite, "main/source/Sources", stanza)
        return dsc

    def index(self) -> None:
        self.time += 60
        for suite in (SUITE, SECURITY):
            lines = [f"Origin: Debian\nSuite: {suite}\nCodename: {suite}\nComponents: main"]
            lines += ["Architectures: amd64 arm64", "Date: Thu, 01 Jan 2026 00:00:00 +0000"]
            lines += ["SHA256:"]
            for part in (
                "main/binary-amd64/Packages",
                "main/binary-arm64/Packages",
                "main/source/Sources",
            ):
                path = self.root / "dists" / suite / part
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self.indexed.get((suite, part), ""))
                lines.append(f" {_sha256(path)} {path.stat().st_size} {part}")
            release = self.root / "dists" / suite / "Release"
            release.write_text("\n".join(lines) + "\n")
            for path in [release, *release.parent.rglob("main/*/*")]:
                os.utime(path, (self.time, self.time))

    def _add(self, suite: str, part: str, stanza: str) -> None:
        self.indexed[suite, part] = self.indexed.get((suite, part), "") + stanza + "\n"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep requests out of the test's output."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """An archive served on loopback that the machine's apt is configured for, and a cache."""
    made = Mirror(tmp_path / "mirror")
    handler = functools.partial(_Quiet, directory=str(made.root))
    with serve(handler) as uri:
        sources = tmp_path / "sources"
        sources.mkdir()
        line = f"deb [trusted=yes] {uri} {{}} main\n"
        (sources / "test.list").write_text(line.format(SUITE) + line.format(SECURITY))
        conf = tmp_path / "apt.conf"
        conf.write_text(
            f'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "{sources}";\n'
            'Acquire::http::Proxy::127.0.0.1 "DIRECT";\nAcquire::http::Timeout "5";\n'
            'Acquire::http::Proxy::127.0.0.2 "DIRECT";\n'  # where nobody is
        )
        monkeypatch.setenv("APT_CONFIG", str(conf))
        monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
        yield made


def _age_index(folder: Path, seconds: float) -> None:
    for stamp in folder.glob("cache/apt/*/stamp"):
        os.utime(stamp, (time.time() - seconds,) * 2)


def test_resolves_for_both_architectures_and_downloads_each_once(mirror: Mirror) -> None:
    for arch in ("amd64", "arm64"):
        mirror.binary(SUITE, "tool", "1:1.0-1", arch, depends="data (>= 2)")
    mirror.binary(SUITE, "data", "2.0", "all")
    mirror.binary(SECURITY, "data", "2.1", "all")
    mirror.index()
    for arch in Arch:
        files = apt.fetch(arch, ["tool"])
        assert sorted((deb.name, deb.version) for deb in files) == [
            ("data", "2.1"),
            ("tool", "1:1.0-1"),
        ]
        for deb, path in files.items():
            assert _sha256(path) == deb.sha256
    shutil.rmtree(mirror.root)  # warm: nothing is asked for again
    assert apt.fetch(Arch.ARM64, ["tool"])


def test_a_package_that_is_gone_from_security_comes_from_the_release(mirror: Mirror) -> None:
    mirror.binary(SUITE, "tool", "1.0", "amd64")
    mirror.binary(SECURITY, "tool", "1.1", "amd64").unlink()
    mirror.index()
    notices: list[str] = []
    (deb,) = apt.fetch(Arch.X86_64, ["tool"], notice=notices.append)
    assert deb.version == "1.0"
    assert any(SECURITY in notice and "not used" in notice for notice in notices)


def test_a_package_that_is_gone_everywhere_is_the_labs_fault(mirror: Mirror) -> None:
    mirror.binary(SUITE, "tool", "1.0", "amd64").unlink()
    mirror.index()
    with pytest.raises(LabError, match=r"tool_1\.0_amd64\.deb but does not have it"):
        apt.fetch(Arch.X86_64, ["tool"])


def test_a_stale_index_is_fetched_again(mirror: Mirror) -> None:
    old = mirror.binary(SUITE, "tool", "1.0", "amd64")
    mirror.index()
    assert [deb.version for deb in apt.resolve(Arch.X86_64, ["tool"])] == ["1.0"]
    old.unlink()  # a point release: another file in the pool, another index
    mirror.indexed.clear()
    mirror.binary(SUITE, "tool", "1.2", "amd64")
    mirror.index()
    assert [deb.version for deb in apt.fetch(Arch.X86_64, ["tool"])] == ["1.2"]


def test_a_day_old_index_is_renewed_or_used_with_a_notice(mirror: Mirror, tmp_path: Path) -> None:
    mirror.binary(SUITE, "tool", "1.0", "amd64")
    mirror.index()
    apt.fetch(Arch.X86_64, ["tool"])
    mirror.binary(SUITE, "tool", "1.2", "amd64")
    mirror.index()
    assert [deb.version for deb in apt.resolve(Arch.X86_64, ["tool"])] == ["1.0"]
    _age_index(tmp_path, 2 * 24 * 3600)
    assert [deb.version for deb in apt.resolve(Arch.X86_64, ["tool"])] == ["1.2"]
    _age_index(tmp_path, 2 * 24 * 3600)
    shutil.rmtree(mirror.root)
    notices: list[str] = []
    assert apt.resolve(Arch.X86_64, ["tool"], notice=notices.append)
    assert any("cannot be renewed" in notice for notice in notices)
    notices.clear()
    assert apt.resolve(Arch.X86_64, ["tool"], notice=notices.append)
    assert notices == []  # the network is not asked again at once


def test_of_alternatives_the_first_that_the_release_has(mirror: Mirror) -> None:
    mirror.binary(SUITE, "new-name", "1.0", "amd64")
    mirror.binary(SUITE, "old-name", "1.0", "amd64")
    mirror.index()
    assert [deb.name for deb in apt.resolve(Arch.X86_64, ["new-name|old-name"])] == ["new-name"]
    assert [deb.name for deb in apt.resolve(Arch.X86_64, ["newer|old-name"])] == ["old-name"]
    with pytest.raises(LabError, match="Unable to locate package older"):
        apt.resolve(Arch.X86_64, ["newer|older"])


def test_no_such_package(mirror: Mirror) -> None:
    mirror.binary(SUITE, "tool", "1.0", "amd64", depends="missing")
    mirror.index()
    with pytest.raises(LabError, match="Unable to locate package nosuch"):
        apt.resolve(Arch.X86_64, ["nosuch"])
    with pytest.raises(LabError, match="tool : Depends: missing"):
        apt.resolve(Arch.X86_64, ["tool"])


def test_no_index_at_all(mirror: Mirror) -> None:
    with pytest.raises(LabError, match=r"no index of .*404"):  # nothing was put there
        apt.resolve(Arch.X86_64, ["tool"])


def test_newest_source_with_the_prefix(mirror: Mirror) -> None:
    for version in ("4.17.1-1", "4.17.2-1", "4.170-1", "4.20-1"):
        mirror.source(SUITE, "xen", version)
    mirror.index()
    version, tree = apt.source_package("xen", "4.17")
    assert version == "4.17.2-1"
    marker = tree / "marker"
    assert marker.read_text() == "4.17.2-1"
    assert marker.stat().st_mode & 0o222 == 0
    assert apt.source_package("xen").version == "4.170-1"
    with pytest.raises(LabError, match=r"no source package xen 4\.14"):
        apt.source_package("xen", "4.14")


def test_a_source_that_is_gone_is_passed_over_for_an_older_one(mirror: Mirror) -> None:
    mirror.source(SUITE, "xen", "4.17.5-1")
    mirror.source(SECURITY, "xen", "4.17.7-1").unlink()
    mirror.index()
    for _ in range(2):  # also from the cache, and said again
        notices: list[str] = []
        assert apt.source_package("xen", "4.17", notice=notices.append).version == "4.17.5-1"
        assert any("4.17.7-1 is in the index but not in the archive" in n for n in notices)


def test_upstreams_tarball_will_do_where_no_version_is_whole(mirror: Mirror) -> None:
    for version in ("4.14.5-1", "4.14.6-1"):
        mirror.source(SUITE, "xen", version).unlink()
    mirror.index()
    version, tree = apt.source_package("xen", "4.14")
    assert version.startswith("4.14.6 (upstream's")
    assert (tree / "marker").read_text() == "4.14.6-1"
    assert (tree / "marker").stat().st_mode & 0o222 == 0


def test_other_releases_of_the_distribution_are_at_the_same_address(mirror: Mirror) -> None:
    mirror.source(SUITE, "xen", "4.17.5-1")
    mirror.index()
    for suite in (SUITE, SECURITY):
        shutil.copytree(
            mirror.root / "dists" / suite,
            mirror.root / "dists" / suite.replace(SUITE, "other"),
        )
    assert apt.source_package("xen", codename="other").version == "4.17.5-1"
    with pytest.raises(LabError, match="nowhere"):
        apt.source_package("xen", codename="nowhere")


def test_suites_of_another_release() -> None:
    both = Archive(("http://a",), ("bookworm", "bookworm-security", "stable"), ("main",))
    (there,) = archives.of_release([both], BOOKWORM, Release("debian", "trixie"))
    assert there.suites == ("trixie", "trixie-security")


def test_an_alias_is_the_machines_release_somewhere_else() -> None:
    lists = [Archive(("http://a",), ("stable", "stable-security"), ("main",))]
    (there,) = archives.of_release(lists, Release("debian", "trixie"), BOOKWORM)
    assert there.suites == ("bookworm", "bookworm-security")


def _list_also(folder: Path, *lines: str) -> None:
    path = next((folder / "sources").iterdir())
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))


def test_a_third_party_that_does_not_answer_stops_nothing(mirror: Mirror, tmp_path: Path) -> None:
    mirror.binary(SUITE, "tool", "1.0", "amd64")
    mirror.index()
    _list_also(tmp_path, f"deb [trusted=yes] http://127.0.0.2:1/repo {SUITE} main")
    said: list[str] = []
    for _ in range(2):  # also when the index is there
        assert [deb.name for deb in apt.resolve(Arch.X86_64, ["tool"], notice=said.append)]
    left = [text for text in said if "left out" in text]
    assert left == [f"left out, it does not answer: http://127.0.0.2:1/repo {SUITE}"]


def test_the_distributions_own_archive_is_not_left_out(mirror: Mirror, tmp_path: Path) -> None:
    mirror.binary(SUITE, "tool", "1.0", "amd64")
    mirror.index()
    _list_also(tmp_path, f"deb [trusted=yes] http://127.0.0.2:1 {SUITE}-updates main")
    with pytest.raises(LabError, match=r"no index of .*127\.0\.0\.2:1"):  # nobody else has it
        apt.resolve(Arch.X86_64, ["tool"])


def test_an_alias_that_became_another_release_is_left_out(mirror: Mirror, tmp_path: Path) -> None:
    """A list with "stable" and "oldstable" on a machine that is one of the two."""
    mirror.binary(SUITE, "tool", "1.0", "amd64")
    mirror.index()
    dists = mirror.root / "dists"
    for alias, codename, version in (("oldstable", SUITE, "1.0"), ("stable", "later", "9.0")):
        shutil.copytree(dists / SUITE, dists / alias)
        packages = dists / alias / "main/binary-amd64/Packages"
        old = packages.read_text()
        packages.write_text(old.replace("Version: 1.0", f"Version: {version}"))
        release = dists / alias / "Release"
        text = release.read_text().replace(f"Codename: {SUITE}", f"Codename: {codename}")
        text = text.replace(hashlib.sha256(old.encode()).hexdigest(), _sha256(packages))
        release.write_text(text)
    path = next((tmp_path / "sources").iterdir())
    first, second = path.read_text().splitlines()
    both = [first.replace(f" {SUITE} ", " oldstable "), second.replace(f" {SECURITY} ", " stable ")]
    path.write_text("\n".join([*both, ""]))
    assert [deb.version for deb in apt.resolve(Arch.X86_64, ["tool"])] == ["1.0"]


def test_an_impostor_with_the_releases_names_is_left_out(mirror: Mirror, tmp_path: Path) -> None:
    mirror.binary(SUITE, "tool", "1.0", "amd64")
    mirror.index()
    impostor = Mirror(mirror.root / "third")
    impostor.binary(SUITE, "tool", "9.0", "amd64")
    impostor.index()
    release = impostor.root / "dists" / SUITE / "Release"
    release.write_text(release.read_text().replace("Origin: Debian", "Origin: Third"))
    path = next((tmp_path / "sources").iterdir())
    line = path.read_text().splitlines()[0].replace(f" {SUITE} ", f"/third {SUITE} ")
    path.write_text(f"{path.read_text()}{line}\n")
    assert len(machine_archives()) == 3
    assert [deb.version for deb in apt.resolve(Arch.X86_64, ["tool"])] == ["1.0"]


# What another user, or an accident, could have put into the private root and the pool.

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def used(mirror: Mirror, tmp_path: Path) -> Path:
    """The apt root after a first run, and a package in the pool."""
    mirror.binary(SUITE, "tool", "1.0", "amd64")
    mirror.index()
    apt.fetch(Arch.X86_64, ["tool"])
    (root,) = (tmp_path / "cache/apt").iterdir()
    return root


@AS_ROOT
@pytest.mark.parametrize("what", ["", "apt.conf", "sources/own.sources", "answers", "stamp"])
def test_an_apt_root_that_somebody_else_could_write_is_refused(used: Path, what: str) -> None:
    os.chown(used / what, 4242, 4242)
    with pytest.raises(LabError, match=r"belongs to user 4242.*delete it"):
        apt.fetch(Arch.X86_64, ["tool"])


def test_a_planted_link_in_the_place_of_apt_conf_is_refused(used: Path, tmp_path: Path) -> None:
    (tmp_path / "evil").write_text(f'DPkg::Pre-Invoke "touch {tmp_path}/hacked";')
    (used / "apt.conf").unlink()
    (used / "apt.conf").symlink_to(tmp_path / "evil")
    with pytest.raises(LabError, match="it is a symbolic link"):
        apt.fetch(Arch.X86_64, ["tool"])


def test_an_apt_conf_that_we_did_not_write_is_written_again(used: Path, tmp_path: Path) -> None:
    evil = f'APT::Update::Pre-Invoke {{"touch {tmp_path}/hacked";}};\n'
    good = (used / "apt.conf").read_text()
    (used / "apt.conf").write_text(good + evil)
    _age_index(tmp_path, 2 * 24 * 3600)
    apt.fetch(Arch.X86_64, ["tool"])
    assert (used / "apt.conf").read_text() == good
    assert not (tmp_path / "hacked").exists()


def test_a_stamp_of_the_future_is_not_believed(used: Path, mirror: Mirror, tmp_path: Path) -> None:
    mirror.binary(SUITE, "tool", "1.2", "amd64")
    mirror.index()
    _age_index(tmp_path, -365 * 24 * 3600)
    assert [deb.version for deb in apt.resolve(Arch.X86_64, ["tool"])] == ["1.2"]
    (used / "tried").touch()
    os.utime(used / "tried", (time.time() + 1e6,) * 2)
    _age_index(tmp_path, 2 * 24 * 3600)
    mirror.binary(SUITE, "tool", "1.3", "amd64")
    mirror.index()
    assert [deb.version for deb in apt.resolve(Arch.X86_64, ["tool"])] == ["1.3"]


def test_a_link_in_the_pool_is_refused(used: Path, tmp_path: Path) -> None:
    (package,) = (tmp_path / "cache/deb").iterdir()
    package.rename(tmp_path / "evil.deb")
    package.symlink_to(tmp_path / "evil.deb")
    with pytest.raises(LabError, match="it is a symbolic link"):
        apt.fetch(Arch.X86_64, ["tool"])


def test_a_package_that_was_changed_is_found_deleted_and_downloaded_again(
    used: Path, tmp_path: Path
) -> None:
    (package,) = (tmp_path / "cache/deb").iterdir()
    good = package.read_bytes()
    package.write_bytes(good.replace(b"made by a test", b"made by nobody"))
    (path,) = apt.fetch(Arch.X86_64, ["tool"]).values()
    with pytest.raises(LabError, match="not what the archive's signed index names"), files(path):
        pass
    (path,) = apt.fetch(Arch.X86_64, ["tool"]).values()
    with files(path):
        assert path.read_bytes() == good
