# SPDX-License-Identifier: GPL-2.0-or-later
"""A BMC of the rack: OpenIPMI's simulator, with Serial over LAN, for one power button."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from harness import command

_ROOT = Path(__file__).resolve().parents[3]
_LAN = """\
name "rack"
set_working_mc 0x20
startlan 1
  addr 127.0.0.1 {lan}
  priv_limit admin
  allowed_auths_callback none md2 md5 straight
  allowed_auths_user none md2 md5 straight
  allowed_auths_operator none md2 md5 straight
  allowed_auths_admin none md2 md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
chassis_control "{folder}/chassis"
sol "tcp:127.0.0.1:{serial}" 115200
user 1 true "" "" user 10 none md2 md5 straight
user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
"""
_BMC = """\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02
sel_enable 0x20 1000 0x0a
mc_enable 0x20
"""
_CHASSIS = """\
#!/bin/sh
# ipmi_sim calls this for the chassis: get|set|check PARAMETER [VALUE].
press() {{ cd {root} && {python} -m tests.real.rack.server --press {folder} "$1"; }}
case "$1 $2" in
"get power") [ "$(press state)" = on ] && echo power:1 || echo power:0 ;;
"set power") [ "$3" = 1 ] && press on >/dev/null || press off >/dev/null ;;
"set reset") press reset >/dev/null ;;
"set shutdown") press soft >/dev/null ;;
"check power" | "check reset" | "check shutdown") ;;
*) exit 1 ;;
esac
"""


@contextmanager
def ipmi_sim(
    folder: Path, ports: Mapping[str, int], user: str, password: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run the BMC at port ``ports["lan"]``; what is to be heard over it is at ``["serial"]``."""
    lan = _LAN.format(folder=folder, user=user, password=password, **ports)
    (folder / "lan.conf").write_text(lan)
    (folder / "bmc.emu").write_text(_BMC)
    script = _CHASSIS.format(root=_ROOT, python=sys.executable, folder=folder)
    (folder / "chassis").write_text(script)
    (folder / "chassis").chmod(0o755)
    (folder / "state").mkdir(exist_ok=True)
    words: list[str | Path] = [command.which("ipmi_sim", "openipmi"), "-c", folder / "lan.conf"]
    words += ["-f", folder / "bmc.emu", "-s", folder / "state", "-n"]
    with (folder / "ipmi_sim.log").open("wb") as log:
        child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
