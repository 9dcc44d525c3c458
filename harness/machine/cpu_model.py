# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated CPU of an x86-64 machine under TCG: one of the models that QEMU and libvirt have.

If the machine's XML names a CPU model, and a feature that TCG does not know (such as the invariant
TSC) is forced on, libvirt 11 refuses to start it: "both enabled and disabled at the same time"
(virCPUx86UpdateLive).  It makes no such check if the XML has the CPU mode "maximum".  So we use
that mode and give QEMU the model in a second -cpu option; QEMU takes the last one.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from harness.verdict import LabError

# Conservative models with SVM and without AVX, in which programs of a PV dom0 now and then died;
# a later model also has SMAP, with which dom0's kernel dies.  The best one first.
MODELS = ("Opteron_G3", "Opteron_G2")
# Features of these models that TCG does not have.  libvirt before 10 does not name them.
_UNKNOWN_TO_TCG = {"misalignsse"}
# TCG's TSC is as invariant as the host's, but TCG has no word for it: it has to be forced.
_FORCED = "invtsc"
ARGUMENTS = ("-global", "x86_64-cpu.x-force-features=on")


def tcg_cpu(capabilities: str) -> str:
    """Return the value of QEMU's ``-cpu`` for libvirt's domain ``capabilities`` (an XML document).

    LabError if QEMU has none of the models that are known to run Xen.
    """
    custom = ElementTree.fromstring(capabilities).find("./cpu/mode[@name='custom']")
    rows = [] if custom is None else custom.findall("model")
    known = {(row.text or "").strip() for row in rows}
    model = next((name for name in MODELS if name in known), None)
    if custom is None or model is None:
        raise LabError(
            f"QEMU has none of the CPU models {', '.join(MODELS)}",
            where="virsh domcapabilities --virttype qemu",
            hint="install another QEMU, or use a host with KVM",
        )
    blockers = custom.findall(f"blockers[@model='{model}']/feature")
    unknown = _UNKNOWN_TO_TCG | {row.get("name", "") for row in blockers}
    return ",".join([model, *(f"{name}=off" for name in sorted(unknown)), f"{_FORCED}=on"])
