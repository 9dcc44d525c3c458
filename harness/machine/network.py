# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of a server's network cards dom0 takes over, and how it is set up there.

dom0 brings one card up, or one VLAN on it, with one IPv4 address and a default route.  A default
system may have a bridge, a bond or a VLAN above its cards, several routes or none.  From the
interface that has the address which we reached by SSH, the way goes down to the card; what dom0
cannot do is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.verdict import LabError

# A shell script that prints the facts, for ``read``; it needs sysfs, iproute2 and sed.
LOOK = r"""
ip route show default | sed 's/^/route=/'
ip route show table all default 2>/dev/null | sed 's/^/other=/' # of a VRF, or by rules
client=${SSH_CONNECTION%% *}
[ -z "$client" ] || ip route get "$client" 2>/dev/null | sed 's/^/answer=/'
echo "ssh=$(set -- $SSH_CONNECTION; echo "$3")"
for nic in /sys/class/net/*; do
    [ -d "$nic" ] || continue # bonding_masters is a file
    name=${nic##*/}
    echo "nic=$name"
    # Its own, also where a bond or NetworkManager has given it another one.
    mac=$(ip -o link show dev "$name" 2>/dev/null | sed -n 's/.* permaddr \([0-9a-f:]*\).*/\1/p')
    [ -n "$mac" ] || mac=$(cat "$nic/bonding_slave/perm_hwaddr" 2>/dev/null || cat "$nic/address")
    echo "mac=$mac"
    echo "used=$(cat "$nic/address")"
    driver=$(readlink "$nic/device/driver/module" || readlink "$nic/device/driver")
    echo "driver=${driver##*/}"
    for lower in "$nic"/lower_*; do [ ! -e "$lower" ] || echo "lower=${lower##*/lower_}"; done
    for upper in "$nic"/upper_*; do [ ! -e "$upper" ] || echo "upper=${upper##*/upper_}"; done
    [ ! -d "$nic/bridge" ] || echo kind=bridge
    [ ! -d "$nic/bonding" ] || echo kind=bond
    [ ! -e "/proc/net/vlan/$name" ] || echo kind=VLAN
    ip -d -o link show dev "$name" 2>/dev/null |
        sed -n 's/.* vlan protocol \([0-9.A-Za-z]*\) id \([0-9]*\).*/vlan=\2 \1/p'
    [ ! -r "$nic/bonding/mode" ] || echo "mode=$(cat "$nic/bonding/mode")"
    [ ! -r "$nic/bonding/active_slave" ] || echo "active=$(cat "$nic/bonding/active_slave")"
    echo "state=$(cat "$nic/operstate" 2>/dev/null)"
    # With a peer the prefix is the peer's; the address stands alone then.
    ip -4 -o addr show dev "$name" 2>/dev/null |
        sed -n -e 's/ peer [0-9./]*/\/32/' -e 's/.* inet \([0-9./]*\).*/address=\1/p'
done
"""
_VLAN = re.compile(r".+\.\d{1,4}|vlan\d{1,4}", re.IGNORECASE)  # the names that everybody uses
_NOTHING_ELSE = "give the address of a card without it as ssh.address in lab.yaml"


@dataclass(frozen=True)
class Interface:
    """One of a server's network interfaces; ``driver`` is "" unless it is a card."""

    name: str
    mac: str  # that it has when nobody has changed it
    used: str = ""  # MAC that it has now
    driver: str = ""
    addresses: tuple[str, ...] = ()  # IPv4, with the prefix's length
    lowers: tuple[str, ...] = ()  # names of those below it
    kind: str = ""  # bridge, bond, VLAN; "": it is none, or not known
    mode: str = ""  # of a bond: "active-backup 1"
    active: str = ""  # of a bond: which of those below it carries its traffic
    is_up: bool = False
    vlan: str = ""  # of a VLAN: its number and its sort of tags: "7 802.1Q"


@dataclass(frozen=True)
class Network:
    """What dom0 is told: its card by ``mac``, ``address`` with the prefix's length, ``gateway``."""

    mac: str
    driver: str
    address: str
    gateway: str  # "": dom0 has no route beyond its network
    vlan: int = 0  # number of the VLAN on that card; 0: its frames have no tags


def read(said: Iterable[str], where: str) -> Network:
    """Return dom0's network from the lines that LOOK printed; LabError when there is none."""
    interfaces, routes, answer, others, ssh = _facts(said)
    carrier, address = _carrier(interfaces, routes, ssh, where)
    card, vlan = _card(carrier, interfaces, where)
    gateways = (_via(each, carrier.name) for each in (answer, routes, others))
    gateway = next(filter(None, gateways), "")
    if not gateway and "via inet6" in answer + routes:
        raise LabError(
            f"the gateway of the server's network {carrier.name} is an IPv6 address, and dom0 uses "
            "no IPv6",
            where=where,
            hint=_NOTHING_ELSE,
        )
    return Network(card.mac, card.driver, address, gateway, vlan)


def _facts(said: Iterable[str]) -> tuple[dict[str, Interface], str, str, str, str]:
    """Return (interfaces by name, default routes, route to our side, routes of all tables, address
    of SSH)."""
    told: dict[str, list[str]] = {"route": [], "answer": [], "other": []}
    ssh = ""
    found: list[dict[str, list[str]]] = []
    for line in said:
        name, equals, value = line.strip().partition("=")
        if name in told:
            told[name].append(value)
        elif name == "ssh":
            ssh = value.removeprefix("::ffff:")
        elif name == "nic":
            found.append({"nic": [value]})
        elif equals and found:
            found[-1].setdefault(name, []).append(value)
    above: dict[str, list[str]] = {}
    for one in found:
        for upper in one.get("upper", ()):
            above.setdefault(upper, []).append(one["nic"][0])
    interfaces = {
        name: _interface(one, above.get(name, [])) for one in found for name in one["nic"]
    }
    routes, answer, others = ("\n".join(told[name]) for name in ("route", "answer", "other"))
    return interfaces, routes, answer, others, ssh


def _interface(one: Mapping[str, list[str]], below: Iterable[str]) -> Interface:
    """Return the interface with the facts ``one``; ``below`` are those that call it theirs."""

    def first(name: str) -> str:
        return one.get(name, [""])[0].strip()

    return Interface(
        name=first("nic"),
        mac=first("mac"),
        used=first("used"),
        driver=first("driver"),
        addresses=tuple(one.get("address", ())),
        lowers=tuple(dict.fromkeys([*one.get("lower", ()), *below])),
        kind=first("kind") or ("VLAN" if _VLAN.fullmatch(first("nic")) else ""),
        mode=first("mode"),
        active=first("active"),
        is_up=first("state") == "up",
        vlan=first("vlan"),
    )


def _carrier(
    interfaces: Mapping[str, Interface], routes: str, ssh: str, where: str
) -> tuple[Interface, str]:
    """Return the interface that dom0 stands in for, and its address.

    That is the one with the address that SSH reached, else that of the default route, else the
    first card with an address.
    """
    for interface in interfaces.values():
        for address in interface.addresses:
            if address.partition("/")[0] == ssh:
                return interface, address
    default = re.search(r"\bdev (\S+)", routes)
    if default and default[1] in interfaces:
        chosen = interfaces[default[1]]
    else:
        cards = [
            one for one in interfaces.values() if one.name != "lo" and (one.driver or one.lowers)
        ]
        if not cards:
            raise LabError("the default system has no network card", where=where)
        # A BMC's network over USB has a link-local address.
        chosen = min(cards, key=lambda one: all(_is_local(each) for each in one.addresses))
    if not chosen.addresses:
        v6 = f"; SSH reached it at {ssh}" if ":" in ssh else ""
        raise LabError(
            f"the default system has no IPv4 address at {chosen.name}{v6}, and dom0 uses no IPv6",
            where=where,
            hint="give the server an IPv4 address, and set it as ssh.address in lab.yaml",
        )
    return chosen, chosen.addresses[0]


def _card(
    interface: Interface, interfaces: Mapping[str, Interface], where: str, vlan: int = 0
) -> tuple[Interface, int]:
    """Return the card below ``interface``, and the number of the VLAN on it that leads there.

    ``vlan`` is that of a VLAN above ``interface``.  LabError if dom0 cannot take the card's place.
    """
    if interface.driver:
        return interface, vlan
    name = interface.name
    if interface.kind == "VLAN":
        vlan = _tag(interface, vlan, where)
    if interface.mode.startswith("802.3ad"):
        raise LabError(
            f"the server's network {name} is a bond with LACP (802.3ad): a switch does not talk to "
            "one card alone",
            where=where,
            hint=_NOTHING_ELSE,
        )
    below = [interfaces[lower] for lower in interface.lowers if lower in interfaces]
    below = below or _switched(interface, interfaces)
    below = [one for one in below if one.driver or one.lowers]  # not the taps of virtual machines
    if not below:
        what = interface.kind or "no network card"
        raise LabError(f"the server's network {name} is {what}", where=where, hint=_NOTHING_ELSE)
    if interface.kind == "bridge" and len(below) > 1:
        cards = ", ".join(one.name for one in below)
        raise LabError(
            f"the server's network {name} is a bridge of several cards ({cards}): dom0 has one",
            where=where,
            hint=_NOTHING_ELSE,
        )
    chosen = min(below, key=lambda one: (one.name != interface.active, not one.is_up))
    return _card(chosen, interfaces, where, vlan)


def _tag(interface: Interface, above: int, where: str) -> int:
    """Return the number of the VLAN ``interface``; LabError if dom0 cannot send its frames."""
    number, _, protocol = interface.vlan.partition(" ")
    why = (
        "its number is not told (`ip -d link`)"
        if not number
        else f"its tags are {protocol}, and dom0 has 802.1Q only"
        if protocol != "802.1Q"
        else f"VLAN {above} is inside of it, and dom0 sends one tag"
        if above
        else ""
    )
    if why:
        raise LabError(
            f"the server's network {interface.name} is a VLAN: {why}",
            where=where,
            hint=f"make it the switch port's untagged VLAN, or {_NOTHING_ELSE}",
        )
    return int(number)


def _switched(interface: Interface, interfaces: Mapping[str, Interface]) -> list[Interface]:
    """Return the cards of Open vSwitch's port ``interface``, which has the MAC of one of them."""
    switch = interfaces.get("ovs-system")
    names = switch.lowers if switch else ()
    cards = [interfaces[name] for name in names if name in interfaces and name != interface.name]
    return [one for one in cards if one.used == interface.used]


def _is_local(address: str) -> bool:
    return address.startswith("169.254.")


def _via(routes: str, device: str) -> str:
    """Return the first gateway of IPv4 at ``device`` in what ``ip route`` printed, "" if none."""
    found = re.search(rf"\bvia (\d+\.\d+\.\d+\.\d+)\s+dev {re.escape(device)}(?!\S)", routes)
    return found[1] if found else ""
