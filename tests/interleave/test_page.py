# SPDX-License-Identifier: GPL-2.0-or-later
"""The page of a scenario."""

from __future__ import annotations

from html.parser import HTMLParser

from harness.arch import Arch
from harness.interleave.force_orders import TriedOrder
from harness.interleave.order_runner import OrderOutcome, OrderResult, StepResult
from harness.interleave.page import PageHeader, render
from harness.interleave.scenarios import SCENARIOS
from harness.model.explore.interleavings import interleavings

SCENARIO = SCENARIOS["send-close"]
ORDERS = list(interleavings(SCENARIO.system("counter", Arch.ARM64)))
HEADER = PageHeader(
    SCENARIO,
    "qemu-arm64",
    "arm64",
    "tcg",
    "my-bug",
    "counter",
    "4.17",
    "evtchn-harness <x>",
    12,
    2.0,
)


class Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[tuple[str, str]]] = []
        self.opened: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append((dict(attrs).get("class") or "", ""))
        if tag == "details":
            self.opened.append(("open", None) in attrs)

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1]:
            kind, text = self.rows[-1][-1]
            self.rows[-1][-1] = (kind, (text + data).strip())


def parsed(*tried: TriedOrder) -> tuple[Text, str]:
    page = render(HEADER, tried, {2: "schedule-2.json"})
    text = Text()
    text.feed(page)
    return text, page


def row(thread: int, step: str, model: int, machine: int) -> StepResult:
    return StepResult(
        thread, step, False, "evtchn_send", {"L": model}, {"L": machine}, "evtchn_send+0x1/0x2"
    )


def test_model_and_machine_are_side_by_side() -> None:
    good = TriedOrder(
        1, ORDERS[0], OrderResult(OrderOutcome.WALKED, "", (row(0, "read", 0, 0),), (0, 0), 0.1, 9)
    )
    bad = TriedOrder(
        2,
        ORDERS[1],
        OrderResult(
            OrderOutcome.MISMATCH, "L is 1, not <0>", (row(1, "claim", 0, 1),), (0, None), 0.1, 9
        ),
    )
    text, page = parsed(good, bad)
    assert text.opened == [True, False], "the mismatch comes first, with its steps shown"
    cells = [cells for cells in text.rows if cells and cells[0][1] == "1"]
    assert cells[0][2] == ("step", "claim") and cells[1][1] == ("step", "read")
    assert ("n", "L=0") in cells[0] and ("n off", "L=1") in cells[0]
    assert ("n off", "L=0") not in cells[1]
    assert "L is 1, not &lt;0&gt;" in page and "evtchn-harness &lt;x&gt;" in page
    assert "did not return" in page
    assert "interleave replay schedule-2.json" in page
    assert "http" not in page.replace("http-equiv", ""), "loads nothing"


def test_steps_that_were_not_reached_are_shown_as_the_model_has_them() -> None:
    stuck = TriedOrder(
        1, ORDERS[0], OrderResult(OrderOutcome.INFEASIBLE, "CPU0 waits", (), (0, 0), 0.1, 9)
    )
    _, page = parsed(stuck)
    assert page.count("not reached") == len(ORDERS[0])
    assert "1 infeasible" in page
