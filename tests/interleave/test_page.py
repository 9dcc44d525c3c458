"""The page of a scenario."""

from __future__ import annotations

from html.parser import HTMLParser

from harness.arch import Arch
from harness.interleave.loop import Tried
from harness.interleave.page import About, render
from harness.interleave.scenarios import SCENARIOS
from harness.interleave.walk import Outcome, Row, Walked
from harness.model.explore.interleavings import interleavings

SCENARIO = SCENARIOS["send-close"]
ORDERS = list(interleavings(SCENARIO.system("counter", Arch.ARM64)))
ABOUT = About(
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


def parsed(*tried: Tried) -> tuple[Text, str]:
    page = render(ABOUT, tried, {2: "schedule-2.json"})
    text = Text()
    text.feed(page)
    return text, page


def row(lane: int, step: str, model: int, machine: int) -> Row:
    return Row(
        lane, step, False, "evtchn_send", {"L": model}, {"L": machine}, "evtchn_send+0x1/0x2"
    )


def test_model_and_machine_are_side_by_side() -> None:
    good = Tried(1, ORDERS[0], Walked(Outcome.WALKED, "", (row(0, "read", 0, 0),), (0, 0), 0.1, 9))
    bad = Tried(
        2,
        ORDERS[1],
        Walked(Outcome.MISMATCH, "L is 1, not <0>", (row(1, "claim", 0, 1),), (0, None), 0.1, 9),
    )
    text, page = parsed(good, bad)
    assert text.opened == [True, False], "what went wrong comes first, unfolded"
    cells = [cells for cells in text.rows if cells and cells[0][1] == "1"]
    assert cells[0][2] == ("turn", "claim") and cells[1][1] == ("turn", "read")
    assert ("n", "L=0") in cells[0] and ("n off", "L=1") in cells[0]
    assert ("n off", "L=0") not in cells[1]
    assert "L is 1, not &lt;0&gt;" in page and "evtchn-harness &lt;x&gt;" in page
    assert "never came back" in page
    assert "interleave replay schedule-2.json" in page
    assert "http" not in page, "loads nothing"


def test_turns_that_were_not_reached_are_shown_as_the_model_has_them() -> None:
    stuck = Tried(1, ORDERS[0], Walked(Outcome.INFEASIBLE, "CPU0 waits", (), (0, 0), 0.1, 9))
    _, page = parsed(stuck)
    assert page.count("not reached") == len(ORDERS[0])
    assert "1 infeasible" in page
