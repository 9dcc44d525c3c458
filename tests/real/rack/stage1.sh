#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The default system's initramfs: modules, then the root file system of the server's disk.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mkdir -p /dev && $bb mount -t devtmpfs dev /dev
while read -r module parameters; do
    $bb insmod "/modules/$module" $parameters
done </modules/order
until root=$($bb findfs LABEL=server 2>/dev/null); do
    $bb usleep 50000
done
$bb mount -t ext4 -o ro "$root" /root
$bb mount -t tmpfs -o mode=755 run /root/run
$bb mount -o move /proc /root/proc
$bb mount -o move /sys /root/sys
$bb mkdir -p /dev/pts && $bb mount -o move /dev /root/dev
exec $bb switch_root /root /usr/sbin/rack-init
