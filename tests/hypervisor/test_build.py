# SPDX-License-Identifier: GPL-2.0-or-later
"""Building: what is built once, what a broken tree says, what is left when we are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness import cache
from harness.arch import Arch
from harness.hypervisor import source
from harness.hypervisor.build import SHIM_CONFIG, Build, build
from harness.hypervisor.flavour import Flavour
from harness.hypervisor.make import first_error
from harness.hypervisor.recipe import How, recipe
from harness.hypervisor.symbols import build_id, symbols
from harness.verdict import BuildError, ConfigError, LabError

from .tree import MAIN_C, MAKEFILE, make_tree

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "xen-tree")


def make(tree: Path, flavour: str | Flavour = "rwlock", arch: Arch = Arch.X86_64) -> Build:
    return build(source.from_dir(tree), flavour, arch)


def config(built: Build) -> str:
    assert built.config is not None
    return built.config.read_text()


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.glob("**/.*.new-*")]


@pytest.mark.parametrize("arch", Arch)
def test_built_once_with_symbols_and_build_id(tree: Path, arch: Arch, own_cache: Path) -> None:
    first, second = make(tree, arch=arch), make(tree, arch=arch)
    assert (first.cached, second.cached) == (False, True)
    assert first.build_id == second.build_id == build_id(first.syms)
    assert "evtchn_write_lock" in symbols(first.syms)
    assert "CONFIG_DEBUG=y" in config(first)
    assert "CONFIG_DEBUG_INFO=y" in config(first)
    assert sorted(path.name for path in first.directory.iterdir()) == [
        "build.json", "build.log", "config", "xen", "xen-syms",
    ]  # fmt: skip
    assert not leftovers(own_cache)
    assert not list((own_cache / "xen-logs").iterdir())


def test_the_same_input_gives_the_same_build_id_anywhere(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = make(tree)
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "another" / "place"))
    monkeypatch.setenv("USER", "somebody-else")
    there = make(make_tree(tmp_path / "elsewhere"))
    assert there.image != here.image
    assert (there.build_id, there.digest) == (here.build_id, here.digest)


def test_the_callers_flags_do_not_reach_the_build(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = make(tree)
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "again"))
    for name, value in {
        "CFLAGS": "-DNDEBUG -Wrong",
        "MAKEFLAGS": " -j1 --jobserver-auth=98,99",
        "XEN_TARGET_ARCH": "arm32",
        "CROSS_COMPILE": "nowhere-",
        "KCONFIG_CONFIG": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    assert make(tree).build_id == clean.build_id


def test_what_goes_in_decides(tree: Path) -> None:
    first = make(tree)
    (tree / "xen/main.c").write_text(MAIN_C + "int more;\n")
    other = make(tree)
    assert other.digest != first.digest
    assert other.build_id != first.build_id
    plain = build(source.from_dir(tree), "rwlock", Arch.X86_64, How(debug=False))
    assert plain.digest != other.digest
    assert "# CONFIG_DEBUG is not set" in config(plain)


_THUMBEE = {"-DTEECR32_EL1=S2_2_C0_C0_0", "-DTEEHBR32_EL1=S2_2_C1_C0_0"}


@pytest.mark.parametrize(
    ("arch", "release", "compiler", "flags"),
    [
        (Arch.ARM64, (4, 14), "gcc", {"-Wno-error", "-mno-outline-atomics", *_THUMBEE}),
        (Arch.X86_64, (4, 14), "gcc", {"-Wno-error"}),
        (Arch.X86_64, (4, 16), "gcc", {"-Wno-error"}),  # of 4.16.0: dpci's address
        (Arch.ARM64, (4, 17), "gcc-13", {"-Wno-error", *_THUMBEE}),
        (Arch.X86_64, (4, 18), "gcc", set()),
        (Arch.ARM64, (4, 22), "gcc", set()),
        (Arch.ARM64, (4, 23), "clang-16", {"-no-integrated-as"}),
        (Arch.X86_64, (4, 23), "clang", set()),
    ],
)
def test_a_tree_gets_what_its_era_needs(
    arch: Arch, release: tuple[int, int], compiler: str, flags: set[str]
) -> None:
    assert set(recipe(arch, release, How(compiler=compiler)).cflags) == flags


@pytest.mark.parametrize(
    ("arch", "release", "asked"),
    [
        (Arch.X86_64, (4, 21), False),
        (Arch.X86_64, (4, 22), True),
        (Arch.ARM64, (4, 22), False),
    ],
)
def test_shadow_paging_is_asked_for_where_xen_no_longer_has_it_by_itself(
    arch: Arch, release: tuple[int, int], asked: bool
) -> None:
    """Without it a CPU that has no nested paging, such as TCG's, runs no PVH and no HVM guest."""
    assert ("CONFIG_SHADOW_PAGING=y\n" in recipe(arch, release, How()).config) is asked


def test_the_shim_is_another_build_of_the_same_tree(tree: Path) -> None:
    """Its answers are the tree's, and what a diagnosis needs."""
    theirs = tree / SHIM_CONFIG
    theirs.parent.mkdir(parents=True)
    theirs.write_text("CONFIG_PV_SHIM=y\n# CONFIG_DEBUG is not set\n# CONFIG_XSM is not set\n")
    xen = make(tree)
    shim = build(source.from_dir(tree), "rwlock", Arch.X86_64, shim=True)
    assert shim.digest != xen.digest and "PV_SHIM" not in config(xen)
    said = config(shim).splitlines()
    assert said[:3] == theirs.read_text().splitlines()
    assert said.index("CONFIG_DEBUG=y") > said.index("# CONFIG_DEBUG is not set")
    assert {"CONFIG_DEBUG_INFO=y", "CONFIG_FRAME_POINTER=y"} <= set(said)
    assert build(source.from_dir(tree), "rwlock", Arch.X86_64, shim=True).cached
    assert make(tree).build_id == xen.build_id


def test_the_compiler_is_the_users_choice(tree: Path) -> None:
    words = recipe(Arch.ARM64, (4, 17), How(compiler="clang-16")).make(tree, [])
    (compiler,) = (word for word in words if word.startswith("CC="))
    assert compiler.endswith(" clang-16 --target=aarch64-linux-gnu") and "clang=y" in words
    with pytest.raises(LabError, match=r"gcc-7.*apt-get install.* gcc-7"):
        build(source.from_dir(tree), "rwlock", Arch.X86_64, How(compiler="gcc-7"))
    with pytest.raises(ConfigError, match=r"'tcc; reboot' is no compiler .*name gcc or clang"):
        How(compiler="tcc; reboot")


def test_the_users_tree_is_not_touched(tree: Path) -> None:
    (tree / "xen/.config").write_text("CONFIG_MINE=y\n")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tree.rglob("*") if p.is_file()}
    built = make(tree)
    assert "MINE" not in config(built)
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tree.rglob("*") if p.is_file()}
    assert after == before


def test_patches_are_applied(tree: Path, tmp_path: Path) -> None:
    patch = tmp_path / "w.patch"
    patch.write_text(
        "--- a/xen/main.c\n+++ b/xen/main.c\n@@ -2,3 +2,3 @@\n {\n-    *lock += 8192;\n"
        "+    *lock += 4096;\n }\n"
    )
    patched = make(tree, Flavour("mine", (patch,)))
    assert patched.flavour == "mine"
    assert patched.build_id != make(tree).build_id
    patch.write_text(patch.read_text().replace("8192", "8191"))
    with pytest.raises(ConfigError, match=r"does not fit this tree: Hunk #1 FAILED.*main\.c"):
        make(tree, Flavour("mine", (patch,)))


def test_the_first_error_of_the_compiler_and_the_log(tree: Path, own_cache: Path) -> None:
    (tree / "xen/main.c").write_text("int a;\nint b = nothing;\nint c = nothing_either;\n")
    with pytest.raises(BuildError) as error:
        make(tree)
    assert error.value.where == "xen/main.c:2"
    assert "nothing" in error.value.what and "either" not in error.value.what
    log = Path(error.value.hint.removeprefix("see "))
    assert "nothing_either" in log.read_text()
    assert "\n" not in str(error.value)
    assert not leftovers(own_cache)
    (tree / "xen/main.c").write_text(MAIN_C)  # mended, it builds
    assert not make(tree).cached


@pytest.mark.parametrize(
    ("output", "where", "what"),
    [
        ("  CC a.o\ncommon/a.c: In function 'f':\ncommon/a.c:7:3: error: x undeclared\n"
         "make: *** [r] Error 1", "common/a.c:7", "x undeclared"),
        ("make[2]: Entering directory 'T/xen/common'\na.c:7:3: fatal error: y.h: No such file\n",
         "xen/common/a.c:7", "y.h: No such file"),
        ("arch/x86/e.S:12: Error: no such instruction: `x'\n", "arch/x86/e.S:12",
         "no such instruction: `x'"),
        ("{standard input}: Assembler messages:\n{standard input}:670: Error: unknown or missing "
         "system register name at operand 1 -- `msr TEECR32_EL1,x0'\n"
         "make[2]: *** [Rules.mk:249: arch/arm/domain.o] Error 1\n", "{standard input}:670",
         "unknown or missing system register name at operand 1 -- `msr TEECR32_EL1,x0'"),
        ("ld: prelink.o: in function `f':\nT/xen/common/a.c:9: undefined reference to `g'\n"
         "make: *** [r] Error 1\n", "xen/common/a.c:9", "undefined reference to `g'"),
        ("ld: ./xen/common/a.c:9: undefined reference to `g'\n", "xen/common/a.c:9",
         "undefined reference to `g'"),
        ("ld: b.o:(.text+0x5): undefined reference to `g'\n", "b.o", "undefined reference to `g'"),
        ("common/Kconfig:3: syntax error\nmake: *** [r] Error 1\n", "common/Kconfig:3",
         "syntax error"),
        ("make: *** No rule to make target 'q'.  Stop.\n", "make",
         "No rule to make target 'q'.  Stop."),
        ("Killed\n", "", ""),
    ],
)  # fmt: skip
def test_the_first_error_of_every_tool(tmp_path: Path, output: str, where: str, what: str) -> None:
    (tmp_path / "xen/common").mkdir(parents=True)
    (tmp_path / "xen/common/a.c").touch()
    found = first_error(output.replace("T/", f"{tmp_path}/"), tmp_path, tmp_path / "xen")
    known = where.replace("common/a.c", "xen/common/a.c") if where.startswith("common/a") else where
    assert found == (known, what)


def test_a_missing_compiler_names_its_package(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = source.from_dir(tree)
    with pytest.raises(LabError, match="gcc-aarch64-linux-gnu"):
        build(found, "rwlock", Arch.ARM64)


def test_a_full_disk_is_the_labs_fault(tree: Path, own_cache: Path) -> None:
    """gcc's words for a full disk make a LabError, whatever the first error line says."""
    (tree / "xen/Makefile").write_text(
        MAKEFILE.replace("$(CC)", "echo 'a.c:1:1: error: a.o: No space left on device'; false #")
    )
    with pytest.raises(LabError, match="no space left on device") as error:
        make(tree)
    assert not isinstance(error.value, BuildError)
    assert cache.ENVIRONMENT in error.value.hint
    assert not leftovers(own_cache)


@pytest.mark.skipif(os.getuid() != 0, reason="mounts a small disk")
@pytest.mark.parametrize("size", ["8k", "100k"])
def test_a_disk_that_fills_up(tree: Path, tmp_path: Path, size: str) -> None:
    """Full while copying the tree, and full while compiling."""
    (tree / "xen/big.c").write_text("char big[1 << 20] = {1};\n")
    makefile = MAKEFILE.replace("xen-syms: main.o\n", "xen-syms: main.o big.o\n")
    (tree / "xen/Makefile").write_text(makefile)
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size={size},mode=700 tmpfs {small} || exit 77; exec {sys.executable} "
        f"-m harness.cli build --arch x86_64 --flavour rwlock --xen-src {tree}"
    )
    done = subprocess.run(  # the mount goes with its name space
        ["unshare", "-m", "sh", "-c", script],
        env={**os.environ, cache.ENVIRONMENT: str(small)},
        capture_output=True,
        text=True,
    )
    if done.returncode == 77:
        pytest.skip("may not mount")
    assert done.returncode == 3, done.stderr
    assert "no space left on device" in done.stderr.lower()
    assert len(done.stderr.splitlines()) == 1


def slow_tree(tree: Path, go: Path, tag: str) -> None:
    """Make the compiler hang, two makes deep, until ``go`` exists."""
    (tree / "xen/Makefile").write_text(
        MAKEFILE.replace("all: xen\n", "all:\n\t+$(MAKE) xen\n").replace(
            "\t$(CC)", f"\t[ -e {go} ] || python3 -c 'import time; time.sleep(60)' {tag}\n\t$(CC)"
        )
    )


def running(tag: str) -> list[int]:
    """The hanging "compilers" of this test: ``tag`` is a whole word of theirs, and ours alone."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if tag in (process.info["cmdline"] or [])
    ]


def end(tag: str, how: signal.Signals) -> None:
    """End those of them that we started: nobody else's process, whatever it is called."""
    ours = {process.pid for process in psutil.Process().children(recursive=True)}
    for pid in ours.intersection(running(tag)):
        os.kill(pid, how)


def wait(condition: str, tag: str, seconds: float = 10) -> list[int]:
    deadline = time.monotonic() + seconds
    while bool(found := running(tag)) is not (condition == "running"):
        assert time.monotonic() < deadline, f"not {condition}: {found}"
        time.sleep(0.05)
    return found


def test_nobody_elses_process_is_ended(tmp_path: Path) -> None:
    """A bystander with the tag inside a word, and one that is not our child."""
    tag = f"tag-{os.getpid()}-by"
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    similar = subprocess.Popen([*sleep, f"--{tag}s"])
    script = '"$@" > /dev/null & echo $!'  # orphaned at once: not a descendant of ours any more
    argv = ["setsid", "sh", "-c", script, "sh", *sleep, tag]
    orphan = int(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)
    try:
        assert running(tag) == [orphan]
        end(tag, signal.SIGKILL)
        end(f"--{tag}", signal.SIGKILL)
        time.sleep(0.2)
        assert psutil.pid_exists(orphan) and similar.poll() is None
    finally:
        os.kill(orphan, signal.SIGKILL)
        similar.kill()
        similar.wait()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle(tree: Path, tmp_path: Path, own_cache: Path, how: int) -> None:
    """No compiler is left, and the next build of the same tree succeeds and sweeps."""
    go, tag = tmp_path / "go", f"tag-{os.getpid()}-{how}"
    slow_tree(tree, go, tag)
    code = (
        "from pathlib import Path; from harness.arch import Arch; from harness.hypervisor import "
        "source; from harness.hypervisor.build import build; "
        f"build(source.from_dir(Path({str(tree)!r})), 'rwlock', Arch.X86_64)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    wait("running", tag)
    child.send_signal(how)
    assert child.wait(10) != 0
    wait("gone", tag)
    go.touch()
    assert not make(tree).cached
    assert not leftovers(own_cache)


def test_two_at_the_same_time_build_once(tree: Path, tmp_path: Path) -> None:
    go, tag = tmp_path / "go", f"tag-{os.getpid()}-twice"
    slow_tree(tree, go, tag)
    code = (
        "from pathlib import Path; from harness.arch import Arch; from harness.hypervisor import "
        "source; from harness.hypervisor.build import build; "
        f"print(build(source.from_dir(Path({str(tree)!r})), 'rwlock', Arch.X86_64).cached)"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    wait("running", tag)
    go.touch()
    end(tag, signal.SIGTERM)
    # The one that held the lock saw its compiler fail; the other one built, or read.
    said = [child.communicate(timeout=30)[0].strip() for child in children]
    assert said.count("False") == 1


def test_progress_counts_objects_also_of_a_silent_make(tree: Path, tmp_path: Path) -> None:
    """Xen's makefiles of before 2023 take make 4.4's own options for -s, and say nothing."""
    go, tag = tmp_path / "go", f"tag-{os.getpid()}-progress"
    slow_tree(tree, go, tag)
    makefile = tree / "xen/Makefile"
    hang = f"[ $@ = early.o ] || [ -e {go} ]"
    makefile.write_text(
        makefile.read_text()
        .replace("xen-syms: main.o", "xen-syms: early.o main.o")
        .replace(f"[ -e {go} ]", hang)
        .replace('\t@echo "  CC      $@"\n', "")
        .replace("\t$(CC)", "\t@$(CC)")
    )
    (tree / "xen/early.c").write_text("int early;\n")
    seen: list[int] = []

    def progress(compiled: int) -> None:
        seen.append(compiled)
        if compiled:
            go.touch()
            end(tag, signal.SIGKILL)

    with pytest.raises(BuildError):  # we killed its "compiler"
        build(source.from_dir(tree), "rwlock", Arch.X86_64, progress=progress)
    assert seen[-1] == 1
