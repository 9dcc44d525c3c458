# SPDX-License-Identifier: GPL-2.0-or-later
"""Power and serial lines: programs and a BMC that answer as a transcript says.

After a power command that the transcript says succeeded, the state is what it asked for.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.physical import IpmiPower, LabgridPower, RedfishPower, Secret, SolConsole
from harness.machine.power import Chain, driver
from harness.machine.power.labgrid import Labgrid
from harness.machine.wires import Lasting, opener
from harness.verdict import LabError
from tests.field.case import Case
from tests.machine.toy_bmc import Answer, Bmc, serve

_SECONDS = 4.0
_PLAYER = """\
#!{python} -S
# Plays {name}: argv ends with the words of one of the commands.
import json, sys
state_file, played = {state!r}, {played!r}
state = json.load(open(state_file))
said = " ".join(sys.argv[1:])
words = next((each for each in played if said.endswith(" " + each)), None)
state["calls"].append(words or said)
code, text = 0, ""
answers = played.get(words, [])
done = state["answered"].get(words, 0)
fails = done < len(answers) and answers[done][1]
known = not fails and (state["power"] or not answers)
if said.endswith(("power status", "power get")) and known:
    text = "Chassis Power is " + (state["power"] or "off")
elif answers:
    text, code = answers[min(done, len(answers) - 1)]
    state["answered"][words] = done + 1
elif words is None and "raw 0x06" in said:
    code = 1
if code == 0 and said.split()[-1] in ("on", "off") and "power" in said:
    state["power"] = said.split()[-1]
json.dump(state, open(state_file, "w"))
print(text)
sys.exit(code)
"""


def judge_transcript(case: Case, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Judge what ipmitool or labgrid-client said, by a program of that name that says it again."""
    program, played = _transcript(case.text)
    state = folder / "state"
    state.write_text(json.dumps({"power": "", "answered": {}, "calls": []}))
    script = folder / "bin" / program
    script.parent.mkdir()
    text = _PLAYER.format(python=sys.executable, name=program, state=str(state), played=played)
    script.write_text(text)
    script.chmod(0o755)
    patch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    if program == "labgrid-client":
        section = LabgridPower(driver="labgrid", coordinator="lab:20408", place="altra")
        with Labgrid(section).held(lambda: None):
            assert json.loads(state.read_text())["calls"] == ["acquire"]
        assert " release-from " in json.loads(state.read_text())["calls"][-1]
        return
    patch.setenv("BMC_PASSWORD", "secret")
    bmc = {"address": "bmc-1", "user": "admin", "password": Secret(env="BMC_PASSWORD")}
    if any(words.startswith("sol ") for words in played):
        _judge_sol(SolConsole(driver="ipmi-sol", **bmc), state)  # type: ignore[arg-type]
        return
    switch = driver(IpmiPower(driver="ipmi", **bmc))  # type: ignore[arg-type]
    _judge_chain(case.wanted, Chain([switch], seconds=_SECONDS, where="host x: power"))


def judge_redfish(case: Case, _folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Judge a BMC's answers to Redfish's requests, by a BMC that gives them again."""
    pytest.importorskip("sushy", reason="needs the extra redfish")
    patch.setenv("BMC_PASSWORD", "secret")
    answers = [_answer(json.loads(line)) for line in case.text.splitlines() if line.strip()]
    bmc = Bmc(answers)
    with serve(bmc) as url:
        section = RedfishPower(
            driver="redfish", url=url, user="u", password=Secret(env="BMC_PASSWORD")
        )
        chain = Chain([driver(section)], seconds=_SECONDS, where="host x: power")
        _judge_chain(case.wanted, chain, lambda: bmc.told[-1:])


def _answer(line: dict[str, object]) -> Answer:
    if "allowed" in line:
        return Answer("RESETS", body={"allowed": line["allowed"]})
    if "GET" in line:
        return Answer("GET", body={"PowerState": line["PowerState"]})
    body = {"error": line["error"]} if "error" in line else {}
    return Answer("POST", str(line["ResetType"]), int(str(line["status"])), body)


def _judge_chain(wanted: str, chain: Chain, told: Callable[[], list[object]] = lambda: []) -> None:
    """``told`` returns the last state that the switch was told."""
    acts: dict[str, tuple[Callable[[], object], str]] = {
        "off()": (chain.off, "off"),
        "on()": (chain.on, "on"),
        "cycle()": (chain.cycle, "on"),
        "Chain.cycle": (chain.cycle, "on"),
    }
    if wanted.startswith("LabError"):
        with pytest.raises(LabError) as caught:
            chain.state()
        said = str(caught.value)
        for never in re.findall(r"not '([^']+)'", wanted):
            assert never not in said, said
        wanted = re.sub(r"not '[^']+'|\(.*\)", "", wanted)
        words = [word for word in ("session left", "administrator", "privilege") if word in wanted]
        words += re.findall(r'"([^"]+)"', wanted)
        assert words and all(word in said for word in words), said
        return
    if raises := re.search(r'Chain\.(\w+\(\)) raises "(.*)"', wanted):
        with pytest.raises(LabError, match=raises[2]):
            acts[raises[1]][0]()
        return
    act, state = next(act for name, act in acts.items() if f"Chain.{name}" in wanted)
    act()
    assert told() in ([], [state.title()])  # it waited for the state, and did not believe another
    assert chain.state() == state


def _judge_sol(section: SolConsole, state: Path) -> None:
    """A line that cannot be opened is an error that says why, after one or two tries."""
    gaps: list[str] = []
    with pytest.raises(LabError, match=r"no Serial over LAN: .*SOL payload"):
        wire = Lasting(opener(section), gaps.append)
        time.sleep(3)
        wire.close()
    assert json.loads(state.read_text())["calls"].count("sol activate") <= 2


def _transcript(text: str) -> tuple[str, dict[str, list[tuple[str, int]]]]:
    """Return (program, {last words of a command: its (output, exit code) in turn})."""
    program, words = "", ""
    played: dict[str, list[tuple[str, int]]] = {}
    for line in text.splitlines():
        if line.startswith("$ "):
            program, *rest = line[2:].split("#")[0].split()
            words = re.sub(r"^((-v|-p \S+) )+", "", " ".join(rest))
            played.setdefault(words, []).append(("", 0))
        elif words and not line.startswith("#"):
            said, code = played[words][-1]
            if found := re.fullmatch(r"rc=(\d+)", line):
                code = int(found[1])
            else:
                said = f"{said}\n{line}".strip()
            played[words][-1] = said, code
    return program, played
