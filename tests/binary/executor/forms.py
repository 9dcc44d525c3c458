# SPDX-License-Identifier: GPL-2.0-or-later
"""How each instruction of the tables is written: what is in braces is chosen by dice.

A form may be of several instructions, with ";" between them: those before the last prepare it.
"""

from __future__ import annotations

from harness.arch import Arch

_ORDERS = tuple((a, r) for a in ("", "a") for r in ("", "l"))

_ARM64: tuple[str, ...] = (
    *(f"{name} {{{r}}}, {{memory}}" for name in ("ldr", "str") for r in "xw"),
    *(f"{name} {{{r}}}, {{unscaled}}" for name in ("ldur", "stur") for r in "xw"),
    *(f"{name}r{s} {{w}}, {{memory}}" for name in ("ld", "st") for s in "bh"),
    *(f"{name}ur{s} {{w}}, {{unscaled}}" for name in ("ld", "st") for s in "bh"),
    *(f"ldrs{s} {{{r}}}, {{memory}}" for s in "bh" for r in "xw"),
    *(f"ldurs{s} {{{r}}}, {{unscaled}}" for s in "bh" for r in "xw"),
    "ldrsw {x}, {memory}",
    "ldursw {x}, {unscaled}",
    *(f"{name} {{{r}}}, [x20]" for name in ("ldar", "ldapr", "stlr") for r in "xw"),
    *(f"{name}{s} {{w}}, [x20]" for name in ("ldar", "ldapr", "stlr") for s in "bh"),
    *(f"ldp {{{r}_low}}, {{{r}_high}}, {{pair}}" for r in "xw"),
    *(f"stp {{{r}}}, {{{r}}}, {{pair}}" for r in "xw"),
    *(f"ld{a}xr{s} {{w}}, [x20]" for a in ("", "a") for s in ("", "b", "h")),
    *(f"ld{a}xr {{x}}, [x20]" for a in ("", "a")),
    *(f"ldxr{s} w9, [x20]; st{r}xr{s} w8, {{w}}, [x20]" for r in ("", "l") for s in ("", "b", "h")),
    *(f"ldaxr x9, [x20]; st{r}xr w8, {{x}}, [x20]" for r in ("", "l")),
    "ldxr w9, [x20]; clrex",
    *(
        f"{name}{a}{r}{s} {{w}}, {{w}}, [x20]"
        for name in ("ldadd", "ldclr", "ldset", "ldeor", "swp")
        for a, r in _ORDERS
        for s in ("", "b", "h")
    ),
    *(
        f"{name}{a}{r} {{x}}, {{x}}, [x20]"
        for name in ("ldadd", "ldclr", "ldset", "ldeor", "swp", "cas")
        for a, r in _ORDERS
    ),
    *(
        f"{first}cas{a}{r}{s} w6, {{w}}, [x20]"
        for a, r in _ORDERS
        for s in ("", "b", "h")
        for first in ("", f"ldr{s} w6, [x20]; ")
    ),
    *(
        f"{name}{r}{s} {{w}}, [x20]"
        for name in ("stadd", "stclr", "stset")
        for r in ("", "l")
        for s in ("", "b", "h")
    ),
    *(f"mov {{{r}}}, {{{r}}}" for r in "xw"),
    "mov {x}, sp",
    "mov {w}, #{half}",
    "mov {x}, #-{half}",
    "movz {x}, #0, lsl #16",
    "movk {x}, #{half}, lsl #{16s}",
    "movk {w}, #{half}, lsl #16",
    "adr {x}, .+{branch}",
    "adrp {x}, .",
    *(f"{name} {{{r}}}, {{{r}}}{{shift}}" for name in ("mvn", "neg", "cmp", "tst") for r in "xw"),
    *(
        f"{name} {{{r}}}, {{{r}}}, {{{r}}}{{shift}}"
        for name in (*("add", "adds", "sub", "subs", "and"), *("ands", "bic", "bics", "orr", "eor"))
        for r in "xw"
    ),
    *(
        f"{name} {{{r}}}, {{{r}}}, #{{twelve}}"
        for name in ("add", "adds", "sub", "subs")
        for r in "xw"
    ),
    *(
        f"{name} {{x}}, {{x}}, {{w}}, {how}"
        for name in ("add", "subs")
        for how in ("uxtb", "uxth #1", "uxtw #2", "sxtb", "sxth #3", "sxtw")
    ),
    "add {x}, {x}, #{twelve}, lsl #12",
    *(
        f"{name} {{{r}}}, {{{r}}}, #{{mask}}"
        for name in ("and", "ands", "orr", "eor")
        for r in "xw"
    ),
    *(f"{name} {{{r}}}, #{{twelve}}" for name in ("cmp", "cmn") for r in "xw"),
    *(f"cmn {{{r}}}, {{{r}}}" for r in "xw"),
    *(f"tst {{{r}}}, #{{mask}}" for r in "xw"),
    "cmp {x}, {w}, uxtw",
    *(f"{name} {{{r}}}, {{{r}}}, #{{bit}}" for name in ("lsl", "lsr", "asr", "ror") for r in "xw"),
    *(f"{name} {{{r}}}, {{{r}}}, {{{r}}}" for name in ("lsl", "lsr", "asr", "ror") for r in "xw"),
    *(
        f"{name} {{{r}}}, {{{r}}}, #{{few}}, #{{some}}"
        for name in ("ubfx", "sbfx", "ubfiz", "sbfiz", "bfi", "bfxil")
        for r in "xw"
    ),
    *(f"{name} {{w}}, {{w}}" for name in ("uxtb", "uxth")),
    *(f"{name} {{{r}}}, {{w}}" for name in ("sxtb", "sxth") for r in "xw"),
    "sxtw {x}, {w}",
    *(
        f"{name} {{{r}}}, {{{r}}}, {{{r}}}"
        for name in ("mul", "udiv", "sdiv", "orn", "eon")
        for r in "xw"
    ),
    *(f"{name} {{{r}}}, {{{r}}}, {{{r}}}, {{{r}}}" for name in ("madd", "msub") for r in "xw"),
    *(f"{name} {{x}}, {{w}}, {{w}}" for name in ("smull", "umull")),
    *(f"{name} {{{r}}}, {{{r}}}" for name in ("ngc", "clz", "rbit") for r in "xw"),
    *(f"{name} {{{r}}}, {{{r}}}, {{condition}}" for name in ("cinc",) for r in "xw"),
    *(
        f"{name} {{{r}}}, {{{r}}}, {{{r}}}, {{condition}}"
        for name in ("csel", "csinc", "csinv", "csneg")
        for r in "xw"
    ),
    *(f"{name} {{{r}}}, {{condition}}" for name in ("cset", "csetm") for r in "xw"),
    *(f"ccmp {{{r}}}, {{{r}}}, #{{flags}}, {{condition}}" for r in "xw"),
    "ccmp {x}, #{few}, #{flags}, {condition}",
    *(f"dmb {kind}" for kind in ("ish", "ishld", "ishst", "sy", "nshst")),
    "dsb sy",
    *("nop", "yield", "sev", "sevl", "isb", "bti", "paciasp", "autiasp", "csdb", "hint #40"),
    "prfm pldl1keep, [x20]",
    "mrs {x}, tpidr_el1",
    "msr daifset, #2",
    "b .+{branch}",
    "bl .+{branch}",
    "ret",
    "brk #{few}",
    "udf #{few}",
    *(f"{name} {{{r}}}, .+{{branch}}" for name in ("cbz", "cbnz") for r in "xw"),
    *(f"{name} {{w}}, #{{bit}}, .+{{branch}}" for name in ("tbz", "tbnz")),
    *(f"{name} {{x}}, #{{high}}, .+{{branch}}" for name in ("tbz", "tbnz")),
    *(
        f"b.{name} .+{{branch}}"
        for name in ("eq", "ne", "mi", "pl", "vs", "vc", "lo", "hs", "ls", "hi")
    ),
    *(f"b.{name} .+{{branch}}" for name in ("lt", "ge", "le", "gt")),
)

_SIZES = {"q": "qword", "d": "dword", "w": "word", "b": "byte"}
_CONDITIONS = ("e", "ne", "s", "ns", "b", "ae", "o", "no", "be", "a", "l", "ge", "le", "g")
_TWO = ("add", "sub", "and", "or", "xor", "cmp", "test", "mov", "adc", "sbb")
_ONE = ("inc", "dec", "not", "neg")
_LOCKED = ("add", "sub", "and", "or")
_BIT = ("bt", "bts", "btr", "btc")
_LOCKED_BIT = tuple(f"lock {name}" for name in _BIT[1:])

_X86_64: tuple[str, ...] = (
    *(f"{name} {{{r}}}, {{{r}}}" for name in (*_TWO, "xchg") for r in _SIZES),
    *(f"{name} {{q}}, {{small}}" for name in _TWO),
    *(f"{name} {{{r}}}, {{byte}}" for name in _TWO for r in _SIZES),
    *(f"{name} {word} ptr {{memory}}, {{{r}}}" for name in _TWO for r, word in _SIZES.items()),
    *(f"{name} {word} ptr {{memory}}, {{byte}}" for name in _TWO for word in _SIZES.values()),
    *(
        f"{name} {{{r}}}, {word} ptr {{memory}}"
        for name in _TWO
        if name != "test"
        for r, word in _SIZES.items()
    ),
    *(f"{name} {{{r}}}" for name in _ONE for r in _SIZES),
    *(f"{name} {word} ptr {{memory}}" for name in _ONE for word in _SIZES.values()),
    *("mov ah, {b_old}", "mov {b_old}, bh", "add ch, dl", "test ah, {byte}", "movzx eax, bh"),
    *("xor eax, eax", "sub rcx, rcx", "movabs {q}, {long}"),
    *(f"{name} {{{to}}}, {{{r}}}" for name in ("movzx", "movsx") for to in "qd" for r in "wb"),
    *(
        f"{name} {{{to}}}, {_SIZES[r]} ptr {{memory}}"
        for name in ("movzx", "movsx")
        for to in "qd"
        for r in "wb"
    ),
    *("movsxd {q}, {d}", "movsxd {q}, dword ptr {memory}", "cdqe"),
    *("lea {q}, {memory}", "lea {d}, {memory}", "lea {q}, [rip + {byte}]"),
    *(f"{name} {{{r}}}, {{count}}" for name in ("shl", "shr", "sar", "rol", "ror") for r in _SIZES),
    *(f"{name} {{{r}}}, cl" for name in ("shl", "shr", "sar") for r in _SIZES),
    *(f"{name} {{{r}}}, 1" for name in ("shl", "shr") for r in _SIZES),
    *("imul {q}, {q}", "imul {d}, {d}, {byte}", "imul {d}", "imul {b}"),
    *(f"{name} {{{r}}}, {{{r}}}" for name in ("bsr", "bsf") for r in "qd"),
    *("push {q}", "push {byte}", "pop {q}", "pushfq", "popfq", "leave"),
    *("nop", "pause", "endbr64", "cli", "sti", "lfence", "mfence", "sfence"),
    *(
        f"lock {name} {word} ptr {{memory}}, {{{r}}}"
        for name in (*_LOCKED, "xadd")
        for r, word in _SIZES.items()
    ),
    *(f"lock {name} {word} ptr {{memory}}, {{byte}}" for name in _LOCKED for word in ("dword",)),
    *(f"lock {name} {word} ptr {{memory}}" for name in ("inc", "dec") for word in _SIZES.values()),
    *(
        f"{first}lock cmpxchg {word} ptr {{memory}}, {{{r}_other}}"
        for r, word in _SIZES.items()
        for first in ("", "mov rax, qword ptr {memory}; ")
    ),
    *(f"xchg {word} ptr {{memory}}, {{{r}}}" for r, word in _SIZES.items()),
    *(f"{name} {{{r}}}, {{{r}}}" for name in _BIT for r in "qdw"),
    *(f"{name} {{d}}, {{count}}" for name in _BIT),
    *(f"{name} dword ptr {{memory}}, {{count}}" for name in (*_BIT, *_LOCKED_BIT)),
    *(f"{name} dword ptr {{memory}}, r13d" for name in (*_BIT, *_LOCKED_BIT)),
    *("jmp .+{branch}", "call .+{branch}", "ret", "ud2", "int3"),
    *(f"j{name} .+{{branch}}" for name in _CONDITIONS),
    *(f"set{name} {{b}}" for name in _CONDITIONS),
    *(f"cmov{name} {{{r}}}, {{{r}}}" for name in _CONDITIONS for r in "qdw"),
)

FORMS = {Arch.ARM64: _ARM64, Arch.X86_64: _X86_64}

# They are run before the last of a form, or behind it: what they set and what they look at are the
# condition flags.
SET_FLAGS = {
    Arch.ARM64: ("cmp {x}, {x}", "cmp {w}, {w}", "tst {w}, {w}", "cmn {x}, {x}"),
    Arch.X86_64: ("cmp {q}, {q}", "cmp {d}, {d}", "test {d}, {d}", "cmp {b}, {b}"),
}
LOOK_AT_FLAGS = {
    Arch.ARM64: ("cset x22, {condition}",),
    Arch.X86_64: tuple(f"set{name} r14b" for name in _CONDITIONS),
}

# Of the table, and not run here, with the reason.
SKIPPED = {
    Arch.ARM64: {"wfe": "Unicorn waits for an event that never comes"},
    Arch.X86_64: {
        "clac": "the CPU that Unicorn is has no SMAP",
        "stac": "the CPU that Unicorn is has no SMAP",
    },
}
