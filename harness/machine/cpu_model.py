"""The emulated CPU of an x86-64 machine under TCG: chosen from what QEMU and libvirt say they have.

Libvirt 11 refuses to start a machine whose CPU model it was told and whose CPU has a feature that
TCG does not know, such as the invariant TSC: "both enabled and disabled at the same time"
(virCPUx86UpdateLive).  It does not look where its own mode is "maximum"; the model then goes to
QEMU in a second -cpu, of which the last one counts.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from harness.verdict import LabError

# Conservative models with SVM and without AVX, in which programs of a PV dom0 now and then died;
# a later model also has SMAP, with which dom0's kernel dies.  The best one first.
MODELS = ("Opteron_G3", "Opteron_G2")
# Of these models, what TCG does not know.  Libvirt before 10 does not name the blockers.
_UNKNOWN_TO_TCG = {"misalignsse"}
# TCG's TSC is as invariant as the host's, but TCG has no word for it: it has to be forced.
_FORCED = "invtsc"
ARGUMENTS = ("-global", "x86_64-cpu.x-force-features=on")


def tcg_cpu(capabilities: str) -> str:
    """Return what ``-cpu`` of QEMU is told, from libvirt's domain capabilities (an XML document).

    LabError where QEMU has none of the models that are known to run Xen.
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
