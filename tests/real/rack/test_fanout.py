# SPDX-License-Identifier: GPL-2.0-or-later
"""Nights of more than one controller: jobs side by side, and a place of labgrid between them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import command
from tests.real.conftest import harness, machines, start
from tests.real.rack.labgrid import place
from tests.real.rack.rack import free_port

pytestmark = [pytest.mark.real, pytest.mark.rack, pytest.mark.timeout(1800)]

HOSTS = ("left", "right")
LAB = """\
hosts:
  left: {arch: arm64, domus: 0}
  right: {arch: arm64, domus: 0}
"""
# As in docs/nightly.md, and a line in a log, by which the test sees who had the place when.
PLAN = """\
hosts:
  left: {{acquire: "{acquire}", release: "{release}"}}
  right: {{acquire: "{acquire}", release: "{release}"}}
xens:
  counter: {{flavour: counter}}
suites:
  quick: {{tests: [test_hypercalls.py], duration: 1}}
"""


@pytest.fixture
def client(tmp_path: Path) -> Iterator[str]:
    """The client of a coordinator that has one place, free."""
    address = f"127.0.0.1:{free_port()}"
    with place(tmp_path, name="bench", coordinator=address) as words:
        yield shlex.join(words)


def nightly(folder: Path, acquire: str, release: str) -> list[str]:
    """Return the words of ``nightly`` for a plan and a lab in ``folder``."""
    (folder / "lab.yaml").write_text(LAB)
    (folder / "plan.yaml").write_text(PLAN.format(acquire=acquire, release=release))
    return ["nightly", str(folder / "plan.yaml"), "--lab", str(folder / "lab.yaml"), "--json"]


def test_a_place_that_someone_works_at_is_left_alone(client: str, tmp_path: Path) -> None:
    command.run(["env", "LG_USERNAME=ann", "LG_HOSTNAME=desk", *client.split(), "acquire"])
    words = nightly(tmp_path, f"{client} acquire", f"{client} release")
    ran = harness(*words, "--host", "left", "--store", str(tmp_path / "store"))
    assert ran.code == 3, ran.stderr
    (cell,) = ran.document["cells"]
    assert cell["attempts"] == 2 and "already acquired by desk/ann" in cell["message"]
    assert "ann" in command.run([*client.split(), "show"])  # hers still


def test_two_jobs_share_a_place_and_make_one_night(client: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = nightly(
        tmp_path,
        f"{client} reserve --wait --shell name=bench > token && . ./token && "
        f"{client} -p + acquire && echo took $LG_TOKEN >> {log}",
        f". ./token; echo gave $LG_TOKEN >> {log}; {client} release; "
        f"{client} cancel-reservation $LG_TOKEN",
    )
    jobs = {}
    for host in HOSTS:
        (tmp_path / host).mkdir()
        store = str(tmp_path / host / "store")
        jobs[host] = start(*words, "--host", host, "--store", store, cwd=tmp_path / host)
    said = [child.communicate(timeout=900) for child in jobs.values()]
    assert [child.returncode for child in jobs.values()] == [0, 0], said

    first, second = (line.split()[1] for line in log.read_text().splitlines()[::2])
    assert log.read_text() == "".join(
        f"{did} {token}\n" for token in (first, second) for did in ("took", "gave")
    )
    assert first != second

    shards = [word for host in HOSTS for word in ("--collect", str(tmp_path / host / "store"))]
    ran = harness(*words, *shards, "--store", str(tmp_path / "all"))
    assert ran.code == 0, ran.stderr
    night = ran.document
    assert night["verdict"] == "PASS" and night["state"] == "finished"
    assert [(cell["host"], cell["verdict"]) for cell in night["cells"]] == [
        (host, "PASS") for host in HOSTS
    ]
    assert all(Path(cell["run"], "report.html").is_file() for cell in night["cells"])
    assert not [pid for host in HOSTS for pid in machines(host)]
