# SPDX-License-Identifier: GPL-2.0-or-later
"""Default systems as servers have them, made by their own programs on a Debian under QEMU.

GRUB's folder on ext4, XFS, btrfs, LVM and md RAID: refused where GRUB could not forget our entry.
A bond, a VLAN and bridges: what dom0 is told, and what dom0's own script makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.arch import Arch
from harness.config.physical import Booting
from harness.data import GUESTS
from harness.machine import grub
from harness.verdict import LabError
from tests.real.linux.machine import Serial, blank, linux

pytestmark = [pytest.mark.real, pytest.mark.rack, pytest.mark.timeout(900)]
_MIB = 400


class Layout(NamedTuple):
    """How GRUB's folder lies on disks; ``{0}``, ``{1}`` in the script are their partitions."""

    make: str  # prints the device with the file system
    disks: int
    refused: str  # what the error names; "": GRUB can write there


LAYOUTS = {
    "ext4": Layout("mkfs.ext4 -q -F {0}; echo {0}", 1, ""),
    "xfs": Layout("mkfs.xfs -q -f {0}; echo {0}", 1, ""),
    "btrfs": Layout("mkfs.btrfs -q -f {0}; echo {0}", 1, "btrfs"),
    "lvm": Layout(
        "vgcreate -q -q -y vg {0} >/dev/null; lvcreate -q -q -y -Zn -Wn -L 300m -n boot vg "
        ">/dev/null; vgmknodes >/dev/null; mkfs.ext4 -q -F /dev/vg/boot; echo /dev/vg/boot",
        1,
        "lvm",
    ),
    "md-raid1": Layout(
        "mdadm --create /dev/md0 --quiet --run --level=1 --raid-devices=2 --metadata=1.2 "
        "--assume-clean {0} {1} >/dev/null; mkfs.ext4 -q -F /dev/md0; echo /dev/md0",
        2,
        "diskfilter, mdraid1x",
    ),
}
# The folder of the first layout, where GRUB may write; made once.
_EXT4 = (
    "mkdir -p /mnt/ext4; grep -q ' /mnt/ext4 ' /proc/mounts || "
    "{ mkfs.ext4 -q -F /dev/vda1; mount /dev/vda1 /mnt/ext4; }"
)
# What of grub-mkconfig's is looked for.
_CFG = """\
if [ -s $prefix/grubenv ]; then
    load_env
fi
if [ "${next_entry}" ]; then
    set default="${next_entry}"
    set next_entry=
    save_env next_entry
    set boot_once=true
else
    set default="default"
fi
source $prefix/custom.cfg
"""


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    folder = tmp_path_factory.mktemp("disks")
    return {
        name: [blank(folder / f"{name}-{number}", _MIB) for number in range(layout.disks)]
        for name, layout in LAYOUTS.items()
    }


@pytest.fixture(scope="module")
def server(
    disks: dict[str, list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serial]:
    """The machine, with our folder at /mnt/ext4/ours; its disks in the order of LAYOUTS."""
    everything = [disk for each in disks.values() for disk in each]
    with linux(tmp_path_factory.mktemp("linux") / "machine", everything, 2) as shell:
        shell.run("ip link del bond0; mkdir -p /etc/lvm")
        shell.run("echo 'activation { udev_sync=0 udev_rules=0 }' >/etc/lvm/lvm.conf")
        yield shell


def _disks(name: str) -> list[str]:
    """Return the disks of a layout, as the machine calls them."""
    names = list(LAYOUTS)
    first = sum(LAYOUTS[each].disks for each in names[: names.index(name)])
    return [f"/dev/vd{'abcdef'[first + number]}" for number in range(LAYOUTS[name].disks)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_grubs_folder_is_refused_where_grub_cannot_write(server: Serial, name: str) -> None:
    layout = LAYOUTS[name]
    partitions = [f"{disk}1" for disk in _disks(name)]
    server.run(_EXT4)
    if name != "ext4":
        made = server.run(layout.make.format(*partitions), timeout=120).split()[-1]
        server.run(f"mkdir -p /mnt/{name}; mount {made} /mnt/{name}")
    server.run(f"mkdir -p /mnt/{name}/grub")
    server.put(_CFG.encode(), f"/mnt/{name}/grub/grub.cfg")
    _address(server, "ip link set eth0 up", "eth0")
    section = Booting(folder="/mnt/ext4/ours", grub=f"/mnt/{name}/grub")
    if layout.refused:
        told = f"GRUB cannot write /mnt/{name}/grub/grubenv ({layout.refused}"
        with pytest.raises(LabError, match=re.escape(told)):
            grub.inspect(server, section, Arch.X86_64)
    else:
        assert grub.inspect(server, section, Arch.X86_64).driver == "virtio_net"


# -- The network --------------------------------------------------------------------------------

_BOND = """
ip link add bond0 type bond mode active-backup miimon 100
ip link set eth0 master bond0; ip link set eth1 master bond0; ip link set bond0 up
ip link set bond0 type bond active_slave eth1
"""
_VLAN = "ip link add link {0} name {0}.7 type vlan id 7; ip link set {0} up; ip link set {0}.7 up\n"
_BRIDGE = "ip link add br0 type bridge; ip link set {0} master br0; ip link set br0 up\n"
_FORGET = """
for name in br0 bond0.7.9 bond0.7 eth0.7 bond0 vlan7; do
    [ ! -e /sys/class/net/$name ] || ip link del $name
done
for name in eth0 eth1; do ip addr flush dev $name; ip link set $name nomaster down; done
"""


def _address(server: Serial, make: str, interface: str) -> None:
    """Give ``interface``, which ``make`` makes, the address at which SSH reaches the server."""
    server.ssh_to = "192.0.2.9"
    server.run(
        f"{_FORGET}{make}\nip addr add 192.0.2.9/24 dev {interface}; ip link set {interface} up\n"
        f"ip route add default via 192.0.2.1 dev {interface}; sleep 0.5"
    )


@pytest.fixture
def section(server: Serial) -> Booting:
    """GRUB's folder where it may lie."""
    server.run(f"{_EXT4}; mkdir -p /mnt/ext4/grub")
    server.put(_CFG.encode(), "/mnt/ext4/grub/grub.cfg")
    return Booting(folder="/mnt/ext4/ours", grub="/mnt/ext4/grub")


@pytest.mark.parametrize(
    ("make", "interface", "card", "vlan"),
    [
        ("ip link set eth1 up", "eth1", "eth1", 0),
        (_BOND, "bond0", "eth1", 0),
        (_VLAN.format("eth0"), "eth0.7", "eth0", 7),
        (_BOND + _VLAN.format("bond0"), "bond0.7", "eth1", 7),
        (_BRIDGE.format("eth0"), "br0", "eth0", 0),
        (_BOND + _BRIDGE.format("bond0"), "br0", "eth1", 0),
        (_BOND + _VLAN.format("bond0") + _BRIDGE.format("bond0.7"), "br0", "eth1", 7),
    ],
    ids=["card", "bond", "vlan", "vlan-bond", "bridge", "bridge-bond", "bridge-vlan-bond"],
)
def test_dom0_takes_the_place_of_the_card(
    server: Serial, section: Booting, make: str, interface: str, card: str, vlan: int
) -> None:
    server.run(_FORGET)
    macs = {name: server.run(f"cat /sys/class/net/{name}/address").strip() for name in _CARDS}
    _address(server, make, interface)
    system = grub.inspect(server, section, Arch.X86_64)
    assert (system.mac, system.vlan) == (macs[card], vlan)
    assert (system.driver, system.address) == ("virtio_net", "192.0.2.9/24")
    assert system.gateway == "192.0.2.1"
    server.run(_FORGET)
    server.run("mkdir -p /tmp/here; cat >/tmp/here/network", stdin=system.network.encode())
    assert "FAILED" not in server.run(f"here=/tmp/here\n{_dom0s_part()}")
    name = f"vlan{vlan}" if vlan else card
    assert f"{name}    inet 192.0.2.9/24" in server.run("ip -4 -o addr show scope global")
    assert f"default via 192.0.2.1 dev {name} onlink" in server.run("ip route show default")
    link = server.run(f"ip -d -o link show dev {name}")
    assert macs[card] in link and ("vlan protocol 802.1Q id 7" in link) == bool(vlan)


_CARDS = ("eth0", "eth1")


@pytest.mark.parametrize(
    ("make", "interface", "told"),
    [
        (_BOND.replace("active-backup", "802.3ad").replace("ip link set bond0 type", ": "),
         "bond0", "a bond with LACP"),
        (_BRIDGE.format("eth0") + "ip link set eth1 master br0", "br0", "bridge of several cards"),
        (_BOND + _VLAN.format("bond0") + _VLAN.format("bond0.7").replace("7.7", "7.9")
         .replace("id 7", "id 9"), "bond0.7.9", "VLAN 9 is inside of it"),
        ("ip link add link eth0 name eth0.7 type vlan proto 802.1ad id 7; ip link set eth0 up",
         "eth0.7", "its tags are 802.1ad"),
        ("ip link add br0 type bridge", "br0", "br0 is bridge"),
    ],
    ids=["lacp", "bridge-of-two", "vlan-in-vlan", "802.1ad", "bridge-of-none"],
)  # fmt: skip
def test_what_dom0_cannot_do_is_refused(
    server: Serial, section: Booting, make: str, interface: str, told: str
) -> None:
    _address(server, make, interface)
    with pytest.raises(LabError, match=re.escape(told)):
        grub.inspect(server, section, Arch.X86_64)


def _dom0s_part() -> str:
    """Return the part of dom0's init that sets up its network."""
    text = (GUESTS / "dom0/init").read_text()
    begin = text.index("# On a server, the file")
    end = text.index("\n", text.index('fail network "no $nic with'))
    return f'fail() {{ echo "FAILED $*"; }}\n{text[begin:end]}\n'
