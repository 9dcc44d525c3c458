# SPDX-License-Identifier: GPL-2.0-or-later
"""What a toolstack and a hypervisor must agree on, and the proof that they do.

A small program that includes Xen's public headers, as a toolstack sees them, is compiled for the
target.  Its debug information has the size of every type and the offset of every field, and the
preprocessor tells every constant.  A toolstack built from one tree's headers fits another tree's
hypervisor if all that its headers say is there, too, the same.  That proves that both mean the
same by every number that passes between them; it says nothing of what Xen does with them.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.dwarf.die import DIE
from elftools.elf.elffile import ELFFile

from harness import cache, command
from harness.arch import Arch
from harness.toolstack.recipe import Compiler

# Every header that libxl, what it calls of libxenctrl and libxenguest, xenstored and xenconsoled
# use.  Left out are those of kexec, tracing, profiling and machine checks.
_HEADERS = (
    "xen domctl sysctl platform physdev memory event_channel grant_table sched version vcpu "
    "features callback hypfs errno nmi device_tree_defs elfnote argo vm_event hvm/params "
    "hvm/hvm_op hvm/dm_op hvm/save hvm/e820 hvm/hvm_info_table hvm/hvm_xs_strings hvm/ioreq "
    "hvm/hvm_vcpu xsm/flask_op io/xs_wire io/console"
)
_HEADERS_OF = {
    Arch.X86_64: "arch-x86/cpuid arch-x86/cpufeatureset arch-x86/hvm/start_info",
    Arch.ARM64: "",
}
_VIEW = (
    "-std=gnu99",
    "-D__XEN_TOOLS__",
    "-D__XEN_INTERFACE_VERSION__=__XEN_LATEST_INTERFACE_VERSION__",
)
_WORDS = {f"XEN_{name}_INTERFACE_VERSION" for name in ("DOMCTL", "SYSCTL")}
_FEATURE = "XEN_X86_FEATURE_"  # the name of a bit of CPUID; Xen ignores those that it does not know
_MARKER = re.compile(r'^# \d+ "(?P<file>[^"]*)"')
_MACRO = re.compile(r"^#define (?P<name>\w+)(?: (?P<body>.*))?$")
_UNDEFINED = re.compile(r"^#undef (?P<name>\w+)")
_MARK = "constant "
_SUFFIX = re.compile(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]*\b")
_ARITHMETIC = re.compile(r"[0-9a-fA-FxXo()|&~<>+* -]+")
_NAMED = {
    "DW_TAG_structure_type": "struct",
    "DW_TAG_union_type": "union",
    "DW_TAG_enumeration_type": "enum",
    "DW_TAG_typedef": "typedef",
}


@dataclass(frozen=True)
class Interface:
    """All that the public headers of a tree say to its toolstack, as JSON values by name."""

    types: dict[str, Any]
    constants: dict[str, str]

    def lacks(self, other: Interface) -> list[str]:
        """Return the names that are not here as ``other`` has them, sorted; none: it fits.

        Unions may have further members here, such as new operations, if their size stays.  The
        two version words are not compared, and a CPU feature may be unknown here.
        """
        types = (
            name
            for name, text in other.types.items()
            if not _same(text, self.types.get(name))
            and not (name.startswith(_FEATURE) and name not in self.types)
        )
        constants = (
            name
            for name, text in other.constants.items()
            if name not in _WORDS and self.constants.get(name) != text
        )
        return sorted([*types, *constants])


def interface(public: Path, compiler: Compiler) -> Interface:
    """Return the interface that the headers in ``public`` (xen/include/public) describe.

    CommandFailed when they do not compile.
    """
    headers = [*public.rglob("*.h")]
    digest = cache.key(
        cache.digest_files(headers, base=public),
        compiler.arch,
        compiler.version(),
        Path(__file__).read_bytes(),
    )

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            found = _compiled(public.resolve(), compiler, Path(scratch))
        (folder / "interface.json").write_text(json.dumps([found.types, found.constants]))

    entry = cache.entry("xen-interface", digest, make)
    types, constants = json.loads((entry / "interface.json").read_text())
    return Interface(types, constants)


def _compiled(public: Path, compiler: Compiler, work: Path) -> Interface:
    (work / "xen").symlink_to(public)
    names = f"{_HEADERS} {_HEADERS_OF[compiler.arch]}".split()
    lines = ["#include <stdint.h>", "#include <stddef.h>"]
    for name in names:
        if (public / f"{name}.h").is_file():
            lines.append(f"#include <xen/{name}.h>")
    probe = work / "probe.c"
    probe.write_text("\n".join(lines) + "\n")
    words = [compiler.tool("gcc"), f"--sysroot={compiler.sysroot}", *_VIEW, f"-I{work}"]
    everything = ("-g", "-fno-eliminate-unused-debug-types", "-c", "-o", work / "probe.o")
    command.run([*words, *everything, probe])
    names = _macros(command.run([*words, "-E", "-dD", probe]), f"{work}/xen/")
    with probe.open("a") as file:
        file.writelines(f'"{_MARK}{name}" {name}\n' for name in names)
    expanded = command.run([*words, "-E", "-P", probe])
    return Interface(_types(work / "probe.o"), _constants(expanded))


def _macros(text: str, folder: str) -> list[str]:
    """Return the macros without arguments that files below ``folder`` define with a value."""
    ours, found = False, {}
    for line in text.splitlines():
        if marker := _MARKER.match(line):
            ours = marker["file"].startswith(folder)
        elif ours and (macro := _MACRO.match(line)):
            found[macro["name"]] = macro["body"]
        elif gone := _UNDEFINED.match(line):
            found.pop(gone["name"], None)
    return [name for name, body in found.items() if body]


def _constants(expanded: str) -> dict[str, str]:
    """Return the value of every macro: a number where it is one, else what it expands to."""
    found = (
        line.removeprefix(f'"{_MARK}').partition('" ')
        for line in expanded.splitlines()
        if line.startswith(f'"{_MARK}')
    )
    return {name: _value(text) for name, _, text in found}


def _value(text: str) -> str:
    plain = _SUFFIX.sub(r"\1", text)
    plain = re.sub(r"\b0+(?=[0-7]+\b)", "0o", plain)
    if not _ARITHMETIC.fullmatch(plain):
        return text
    try:
        return str(eval(plain, {"__builtins__": {}}))
    except (SyntaxError, TypeError, ValueError):  # not C's arithmetic alone
        return text


def _types(elf: Path) -> dict[str, Any]:
    """Return every named type of ``elf``, and its enumerators."""
    found: dict[str, Any] = {}
    with elf.open("rb") as file:
        for unit in ELFFile(file).get_dwarf_info().iter_CUs():
            for die in unit.get_top_DIE().iter_children():
                if die.tag not in _NAMED:
                    continue
                if "DW_AT_declaration" not in die.attributes and (name := _name(die)):
                    target = _described(die) if die.tag != "DW_TAG_typedef" else _type(die)
                    found[f"{_NAMED[die.tag]} {name}"] = target
                if die.tag == "DW_TAG_enumeration_type":
                    found |= {
                        _name(one): one.attributes["DW_AT_const_value"].value
                        for one in die.iter_children()
                    }
    return found


def _type(die: DIE) -> Any:
    """Return what ``die`` is of: a name, or for what has none its description."""
    if "DW_AT_type" not in die.attributes:
        return "void"
    target = die.get_DIE_from_attribute("DW_AT_type")
    if target.tag in _NAMED and (name := _name(target)):
        return f"{_NAMED[target.tag]} {name}"
    return _described(target)


def _described(die: DIE) -> Any:
    size = die.attributes["DW_AT_byte_size"].value if "DW_AT_byte_size" in die.attributes else 0
    match die.tag:
        case "DW_TAG_structure_type" | "DW_TAG_union_type":
            members = [_member(one) for one in die.iter_children() if one.tag == "DW_TAG_member"]
            return [_NAMED[die.tag], size, members]
        case "DW_TAG_enumeration_type":
            return ["enum", size]
        case "DW_TAG_array_type":
            return ["array", _type(die), [_bound(one) for one in die.iter_children()]]
        case "DW_TAG_pointer_type" | "DW_TAG_const_type" | "DW_TAG_volatile_type":
            return [die.tag, _type(die)]
        case "DW_TAG_base_type":
            return ["base", size, die.attributes["DW_AT_encoding"].value]
        case _:
            return [die.tag]


def _member(die: DIE) -> Any:
    places = ("DW_AT_data_member_location", "DW_AT_data_bit_offset", "DW_AT_bit_size")
    where = [die.attributes[name].value if name in die.attributes else None for name in places]
    return [_name(die), where, _type(die)]


def _bound(die: DIE) -> int:
    for name in ("DW_AT_count", "DW_AT_upper_bound"):
        if name in die.attributes:
            return int(die.attributes[name].value) + (name == "DW_AT_upper_bound")
    return -1


def _name(die: DIE) -> str:
    found = die.attributes.get("DW_AT_name")
    return found.value.decode() if found else ""


def _same(one: Any, here: Any) -> bool:
    """Say whether a type ``here`` serves whoever knows it as ``one``."""
    if one == here:
        return True
    if not (isinstance(one, list) and isinstance(here, list) and len(one) == len(here)):
        return False
    if one[:2] == here[:2] and one[0] == "union":
        return all(any(_same(member, other) for other in here[2]) for member in one[2])
    return all(_same(*pair) for pair in zip(one, here, strict=True))
