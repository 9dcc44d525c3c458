# SPDX-License-Identifier: GPL-2.0-or-later
"""The classic litmus tests, as the guest runs them and as herd writes them.

Names are those of the literature: the shape, then what is between the two accesses of each thread.
A thread has x1 = &x, x3 = &y, w5 = 1 and w6 = 2; what it reads is in w0 and w2.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.binary.litmus.herd import HerdTest, read_test
from harness.binary.litmus.run import run

# What is read into w0 and w2 by each of the two threads, then x and y.
Outcome = tuple[int, ...]

Thread = tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    name: str
    threads: tuple[Thread, Thread]

    def model(self, folder: Path) -> set[Outcome]:
        """Return every outcome that the Armv8 model has; ``folder`` is for a file."""
        made = set()
        for final in run(self.herd(folder)).finals:
            words = {place.base[1:]: value for place, value in final.memory.items()}
            read = [thread[name].low(32) for thread in final.registers for name in ("x0", "x2")]
            assert None not in read
            made.add((*(value or 0 for value in read), words["x"], words["y"]))
        return made

    def herd(self, folder: Path) -> HerdTest:
        """Return the test as the model takes it."""
        rows = max(map(len, self.threads))
        columns = [[*thread, *[""] * (rows - len(thread))] for thread in self.threads]
        given = "".join(f"{n}:X1=x; {n}:X3=y; {n}:X5=1; {n}:X6=2; " for n in (0, 1))
        lines = [f"AArch64 {self.name}", "{ " + given + "}", " P0 | P1 ;"]
        lines += [f" {first} | {second} ;" for first, second in zip(*columns, strict=True)]
        path = folder / "test.litmus"
        path.write_text("\n".join([*lines, "exists (x=1)"]) + "\n")
        return read_test(path)


X1, Y1, X2, Y2 = "str w5, [x1]", "str w5, [x3]", "str w6, [x1]", "str w6, [x3]"
READ_X, READ_Y, THEN_X, THEN_Y = "ldr w0, [x1]", "ldr w0, [x3]", "ldr w2, [x1]", "ldr w2, [x3]"
RELEASE_X, RELEASE_Y = "stlr w5, [x1]", "stlr w5, [x3]"
ACQUIRE_X, ACQUIRE_Y = "ldar w0, [x1]", "ldar w0, [x3]"
FULL, READS, WRITES = "dmb ish", "dmb ishld", "dmb ishst"
ZERO = "eor w4, w0, w0"  # 0, and depends on what was read
DATA = (ZERO, "add w7, w4, #1")  # 1
BRANCH = ("cbnz w0, L", "L:")


def two(name: str, first: Thread, second: Thread) -> Shape:
    return Shape(name, (first, second))


SHAPES = (
    two("MP", (X1, Y1), (READ_Y, THEN_X)),
    two("MP+dmb+po", (X1, FULL, Y1), (READ_Y, THEN_X)),
    two("MP+po+dmb", (X1, Y1), (READ_Y, FULL, THEN_X)),
    two("MP+dmb.st+dmb.ld", (X1, WRITES, Y1), (READ_Y, READS, THEN_X)),
    two("MP+dmb.st+dmb.st", (X1, WRITES, Y1), (READ_Y, WRITES, THEN_X)),
    two("MP+rel+acq", (X1, RELEASE_Y), (ACQUIRE_Y, THEN_X)),
    two("MP+dmb+addr", (X1, FULL, Y1), (READ_Y, ZERO, "ldr w2, [x1, x4]")),
    two("MP+dmb+ctrl", (X1, FULL, Y1), (READ_Y, *BRANCH, THEN_X)),
    two("MP+dmb+ctrlisb", (X1, FULL, Y1), (READ_Y, *BRANCH, "isb", THEN_X)),
    two("SB", (X1, THEN_Y), (Y1, THEN_X)),
    two("SB+dmb+po", (X1, FULL, THEN_Y), (Y1, THEN_X)),
    two("SB+dmbs", (X1, FULL, THEN_Y), (Y1, FULL, THEN_X)),
    two("SB+dmb.lds", (X1, READS, THEN_Y), (Y1, READS, THEN_X)),
    two("SB+rel-acqs", (RELEASE_X, "ldar w2, [x3]"), (RELEASE_Y, "ldar w2, [x1]")),
    two("SB+rel-acqpcs", (RELEASE_X, "ldapr w2, [x3]"), (RELEASE_Y, "ldapr w2, [x1]")),
    two("LB", (READ_X, Y1), (READ_Y, X1)),
    two("LB+datas", (READ_X, *DATA, "str w7, [x3]"), (READ_Y, *DATA, "str w7, [x1]")),
    two("LB+ctrls", (READ_X, *BRANCH, Y1), (READ_Y, *BRANCH, X1)),
    two("LB+data+po", (READ_X, *DATA, "str w7, [x3]"), (READ_Y, X1)),
    two("LB+acqs", (ACQUIRE_X, Y1), (ACQUIRE_Y, X1)),
    two("S", (X2, Y1), (READ_Y, X1)),
    two("S+dmb+data", (X2, FULL, Y1), (READ_Y, *DATA, "str w7, [x1]")),
    two("R", (X1, Y1), (Y2, THEN_X)),
    two("R+dmb+po", (X1, FULL, Y1), (Y2, THEN_X)),
    two("R+dmbs", (X1, FULL, Y1), (Y2, FULL, THEN_X)),
    two("2+2W", (X1, Y2), (Y1, X2)),
    two("2+2W+dmb.st+po", (X1, WRITES, Y2), (Y1, X2)),
    two("2+2W+dmb.sts", (X1, WRITES, Y2), (Y1, WRITES, X2)),
    two("CoRR", (X1,), (READ_X, THEN_X)),
)  # fmt: skip
