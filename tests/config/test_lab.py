# SPDX-License-Identifier: GPL-2.0-or-later
"""lab.yaml: what is found, what is read, and one exact line per mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.arch import Arch
from harness.config.host import BUILT_IN, QemuHost
from harness.config.lab import ENVIRONMENT, host, load_lab
from harness.config.physical import Host
from harness.verdict import EXIT_USAGE, ConfigError


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def _write(text: str, name: str = "lab.yaml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


def _problems(text: str) -> list[str]:
    """Return the lines of the error that lab file ``text`` gives, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load_lab(_write(text))
    assert caught.value.exit_code == EXIT_USAGE
    lines = str(caught.value).splitlines()
    assert all(line.startswith("lab.yaml:") for line in lines)
    return [line.removeprefix("lab.yaml:") for line in lines]


def test_without_a_file_there_are_the_built_in_hosts() -> None:
    assert load_lab(None) == BUILT_IN
    assert set(BUILT_IN) == {"qemu-x86_64", "qemu-arm64"}


def test_a_full_entry_gives_a_typed_host() -> None:
    lab = load_lab(
        _write(
            """
            hosts:
              big-arm:
                kind: qemu
                arch: arm64
                accel: tcg
                cpus: 4
                memory_mib: 4096
                dom0_memory_mib: 1536
                domus: 3
                domu_memory_mib: 256
                domu_vcpus: 1
                ssh_port: 2222
                libvirt_uri: qemu:///session
            """
        )
    )
    assert lab["big-arm"] == QemuHost(
        name="big-arm",
        arch=Arch.ARM64,
        accel="tcg",
        cpus=4,
        memory_mib=4096,
        dom0_memory_mib=1536,
        domus=3,
        domu_memory_mib=256,
        domu_vcpus=1,
        ssh_port=2222,
        libvirt_uri="qemu:///session",
    )
    assert lab["qemu-arm64"] == BUILT_IN["qemu-arm64"]


def test_the_file_is_the_option_else_the_variable_else_the_one_that_lies_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("lab.yaml", "variable.yaml", "option.yaml"):
        _write(f"hosts: {{from-{name.removesuffix('.yaml')}: {{arch: arm64}}}}", name)
    assert "from-lab" in load_lab(None)
    monkeypatch.setenv(ENVIRONMENT, "variable.yaml")
    assert "from-variable" in load_lab(None)
    lab = load_lab(Path("option.yaml"))
    assert "from-option" in lab
    assert "from-variable" not in lab


@pytest.mark.parametrize("text", ["", "# hosts:\n", "hosts:\n", "hosts: {}\n"])
def test_an_empty_file_adds_nothing(text: str) -> None:
    assert load_lab(_write(text)) == BUILT_IN


def test_an_entry_replaces_the_built_in_host_of_its_name() -> None:
    lab = load_lab(_write("hosts: {qemu-x86_64: {arch: x86_64, cpus: 8}}"))
    replaced = lab["qemu-x86_64"]
    assert isinstance(replaced, QemuHost) and replaced.cpus == 8


def test_anchors_and_merges_work() -> None:
    text = "hosts:\n  a: &a {arch: arm64, cpus: 4}\n  b: {<<: *a, cpus: 8}\n"
    lab = load_lab(_write(text))
    a, b = lab["a"], lab["b"]
    assert isinstance(a, QemuHost) and isinstance(b, QemuHost)
    assert (a.cpus, b.cpus, b.arch) == (4, 8, Arch.ARM64)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "hosts:\n  a:\n    arch: x86_64\n    cpuss: 3\n",
            "4: hosts.a.cpuss: unknown field; did you mean cpus? known: kind, arch,"
            " dom0_memory_mib, domus, domu_memory_mib, domu_vcpus, abi, accel, cpus, memory_mib,"
            " ssh_port, libvirt_uri",
        ),
        ("hosts:\n  a: {}\n", "2: hosts.a.arch: missing; add it, for example `arch: x86_64`"),
        (
            "hosts:\n  a:\n    arch: amd64\n",
            "3: hosts.a.arch: cannot be 'amd64'; use 'x86_64' or 'arm64'",
        ),
        (
            "hosts:\n  a: {arch: arm64, accel: hvf}\n",
            "2: hosts.a.accel: cannot be 'hvf'; use 'auto', 'kvm' or 'tcg'",
        ),
        (
            "hosts:\n  a:\n    arch: arm64\n    cpus: '4'\n",
            "4: hosts.a.cpus: must be a whole number, not '4'; write digits only, without quotes",
        ),
        (
            "hosts:\n  a:\n    arch: arm64\n    domus: yes\n",
            "4: hosts.a.domus: must be a whole number, not true; write digits only, without quotes",
        ),
        (
            "hosts:\n  a:\n    arch: arm64\n    cpus: 1\n",
            "4: hosts.a.cpus: 1 is too small; use 2 or more",
        ),
        (
            "hosts:\n  a:\n    arch: arm64\n    ssh_port: 70000\n",
            "4: hosts.a.ssh_port: 70000 is too big; use 65535 or less",
        ),
        (
            "hosts:\n  a:\n    arch: arm64\n    libvirt_uri: 5\n",
            "4: hosts.a.libvirt_uri: must be text, not 5; put it in quotes",
        ),
        (
            "hosts:\n\n  a:\n    arch: arm64\n    domu_memory_mib: 1000\n",
            "3: hosts.a: dom0 and 2 domUs take 3024 MiB of memory_mib 2560 and leave less than"
            " 128 for Xen; set memory_mib to 3152 or more",
        ),
        (
            "hosts:\n  a:\n    arch: arm64\n    cpus: 4\n    cpus: 8\n",
            "5: hosts.a.cpus: given twice; keep one of the two",
        ),
        (
            "hosts:\n  a: {arch: arm64}\n  b: {arch: arm64}\n  a: {arch: x86_64}\n",
            "4: hosts.a: given twice; keep one of the two",
        ),
        (
            "hosts:\n  rack:\n    kind: [physical]\n    arch: arm64\n",
            "3: hosts.rack.kind: unknown kind ['physical']; kinds known: qemu, physical",
        ),
        (
            "hosts:\n  a:\n    kind: xen\n",
            "3: hosts.a.kind: unknown kind 'xen'; kinds known: qemu, physical",
        ),
        (
            "hosts:\n  a:\n    name: b\n    arch: arm64\n",
            "3: hosts.a.name: unknown field; the host's name is its key under hosts",
        ),
        (
            "hosts:\n  ../a: {arch: arm64}\n",
            "2: hosts.../a: '../a' cannot be a host's name;"
            " use letters, digits, '.', '_' and '-' (quote a number)",
        ),
        (
            "hosts:\n  17: {arch: arm64}\n",
            "2: hosts.17: 17 cannot be a host's name;"
            " use letters, digits, '.', '_' and '-' (quote a number)",
        ),
        (
            "hosts:\n  a: arm64\n",
            "2: hosts.a: must be a mapping of fields, not 'arm64';"
            " write at least `arch: x86_64` below it",
        ),
        (
            "hosts:\n  - arch: arm64\n",
            "1: hosts: must map host names to fields, not [{'arch': 'arm64'}];"
            " write for example `hosts: {my-host: {arch: x86_64}}`",
        ),
        (
            "- a\n",
            "1: must be a mapping, not ['a']; write for example `hosts: {my-host: {arch: x86_64}}`",
        ),
        ("host: {}\n", "1: host: unknown section; did you mean hosts? known: hosts"),
        (
            "\n\nhosts: &a\n  x: *a\n",
            "4: hosts.x: contains itself; write the values out instead of the alias",
        ),
    ],
)
def test_one_line_says_file_line_field_what_and_what_to_do(text: str, line: str) -> None:
    assert _problems(text) == [line]


def test_every_problem_gets_its_line_in_the_files_order() -> None:
    text = "hosts:\n  a: {arch: arm64, cpus: 1}\n  b:\n    arch: arm\n    cpu: 3\n"
    assert [problem.split(":")[0] for problem in _problems(text)] == ["2", "4", "5"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("hosts:\n  a: {arch: arm64\n  b: {}\n", "3"),
        ("hosts:\n\ta: 1\n", "2"),
        ("hosts:\n  a: *nowhere\n", "2"),
        ("hosts:\n  a: !!python/object:os.system {}\n", "2"),
        ("hosts:\n  ? [a, b]\n  : {}\n", "2"),
        ("a: 1\n---\nb: 2\n", "2"),
    ],
)
def test_broken_yaml_is_one_line_with_its_place(text: str, line: str) -> None:
    (problem,) = _problems(text)
    assert problem.startswith(f"{line}: broken YAML: ")


def test_a_date_that_is_none_is_broken_too() -> None:
    """PyYAML raises a bare ValueError for it, without a place."""
    with pytest.raises(ConfigError, match=r"^lab\.yaml: broken YAML: month must be in"):
        load_lab(_write("hosts: {a: 2020-13-77}\n"))


def test_bytes_that_are_no_text_are_located() -> None:
    Path("lab.yaml").write_bytes(b"hosts:\n  a: \xff\n")
    with pytest.raises(ConfigError, match=r"^lab\.yaml:2: not UTF-8 text; save it as UTF-8$"):
        load_lab(None)


def test_a_file_that_was_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^nope\.yaml: cannot read .*: No such file"):
        load_lab(Path("nope.yaml"))
    monkeypatch.setenv(ENVIRONMENT, "nope.yaml")
    with pytest.raises(ConfigError, match=r"^nope\.yaml: "):
        load_lab(None)


def test_deep_nesting_is_an_error_not_a_crash() -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_lab(_write("[" * 5000))


def test_an_unknown_host_lists_the_known_ones() -> None:
    lab = load_lab(_write("hosts: {rack7: {arch: arm64}}"))
    assert host(lab, "rack7").name == "rack7"
    with pytest.raises(ConfigError) as caught:
        host(lab, "rack8")
    assert str(caught.value) == (
        "unknown host 'rack8'; did you mean rack7? known hosts: qemu-arm64, qemu-x86_64, rack7"
    )


def test_a_host_is_a_value() -> None:
    with pytest.raises(ValueError, match="frozen"):
        BUILT_IN["qemu-arm64"].cpus = 4


_scalars = st.sampled_from(
    ["", "~", "1", "-5", "1e9", ".nan", "yes", "'x'", "arm64", "2020-01-01", "0x10", "!!set {a}"]
)
_keys = st.sampled_from(
    [
        "hosts",
        "a",
        "arch",
        "cpus",
        "kind",
        "name",
        "memory_mib",
        "1",
        "~",
        "[x]",
        "<<",
        "&a b",
        "*a",
    ]
)
_yaml = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(_keys, inner), max_size=4).map(
            lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(_yaml, _yaml.map(lambda text: f"hosts: {{a: {text}}}"), st.text(max_size=60)))
def test_no_file_whatsoever_gives_anything_but_hosts_or_a_config_error(text: str) -> None:
    path = Path("lab.yaml")
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        lab = load_lab(path)
    except ConfigError as error:
        assert all(line.startswith("lab.yaml") for line in str(error).splitlines())
    else:
        assert all(isinstance(value, Host) for value in lab.values())
