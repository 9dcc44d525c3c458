#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs make targets of this checkout on a bare Debian: host.sh SUITE TARGET...
#
#   SUITE    bookworm, trixie, testing...: what debootstrap knows
#   TARGET   of the Makefile, one after the other: run, test
#
# The root of that Debian is made by debootstrap from the mirror that this machine's apt uses, in
# $HOSTS_DIR (default: /var/tmp), and thrown away at the end: 8 GB for `run`, 15 GB for `test`.
# It runs in a mount and process namespace of its own, so that whatever becomes of it, no mount
# and no daemon is left.  Needs root, debootstrap, and nothing that a container does not have.
# The last line says, for each target, the exit code and the wall time.
set -eu
suite=$1
shift
checkout=$(cd "$(dirname "$0")/../../.." && pwd)

if [ "${IN_NAMESPACE:-}" != yes ]; then
    [ "$(id -u)" = 0 ] || { echo "host.sh: needs root: run it by sudo" >&2; exit 2; }
    command -v debootstrap >/dev/null || {
        echo "host.sh: debootstrap is not installed; run: apt-get install debootstrap" >&2
        exit 2
    }
    root=$(mktemp -d "${HOSTS_DIR:-/var/tmp}/xen-evtchn-host.XXXXXX")
    trap 'rm -rf --one-file-system "$root"' EXIT
    trap 'exit 130' INT TERM
    IN_NAMESPACE=yes HOST_ROOT=$root unshare --mount --pid --fork --kill-child \
        --propagation private "$0" "$suite" "$@"
    exit
fi

root=$HOST_ROOT
# The first archive of Debian's own that apt-get update asks; not the security archive.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' |
    awk '$2 == "Debian" && $3 == "Debian" {print $1; exit}')
[ -n "$mirror" ] || { echo "host.sh: this machine's apt has no archive of Debian's" >&2; exit 2; }

echo "== $suite: debootstrap"
debootstrap --variant=minbase \
    --include=make,git,python3,python3-venv,ca-certificates,procps "$suite" "$root" "$mirror" \
    >"$root.log" 2>&1 || { tail -n 5 "$root.log" >&2; echo "see $root.log" >&2; exit 3; }
rm "$root.log"
mount --bind "$root" "$root" # libvirt wants a root that is a mount point
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
# Its emulated machines wait for their turn with all others of this computer.
slots=${EVTCHN_HARNESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xen-evtchn-harness}/slots
theirs=$root/root/.cache/xen-evtchn-harness/slots
mkdir -p "$slots" "$theirs"
mount --bind "$slots" "$theirs"
# As this machine reaches the network.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/" 2>/dev/null || true
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
cp -a /etc/apt/apt.conf.d/. "$root/etc/apt/apt.conf.d/"
rm -f "$root"/etc/apt/apt.conf.d/*packagekit* "$root"/etc/apt/apt.conf.d/*appstream*
rm -f "$root/etc/apt/sources.list"
cat >"$root/etc/apt/sources.list.d/debian.sources" <<END
Types: deb
URIs: $mirror
Suites: $suite
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
git -c safe.directory="$checkout" clone -q --no-hardlinks "$checkout" "$root/root/checkout"

worst=0
report=""
for target in "$@"; do
    echo "== $suite: make $target"
    began=$(date +%s)
    code=0
    chroot "$root" env HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        make -C /root/checkout "$target" || code=$?
    report="$report $target: exit $code, $(($(date +%s) - began)) s;"
    [ "$code" -le "$worst" ] || worst=$code
done
. "$root/etc/os-release"
echo "== $PRETTY_NAME ($(chroot "$root" libvirtd --version)," \
    "$(chroot "$root" qemu-system-x86_64 --version | head -n 1)," \
    "$(chroot "$root" python3 --version), gcc $(chroot "$root" gcc -dumpfullversion)):$report"
exit "$worst"
