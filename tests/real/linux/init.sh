#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# PID 1: load the modules, then run what comes over the second serial port, a line each time:
# a command and its input in base64.  The answer: its output in base64, its exit status.
export PATH=/usr/sbin:/usr/bin:/usr/lib/busybox HOME=/root LC_ALL=C
busybox mount -t proc proc /proc
/bin/busybox --install -s /usr/lib/busybox
ln -sf dash /bin/sh # busybox's own shell takes its ip for the real one
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
ln -s /proc/self/mounts /etc/mtab
while read -r module; do
    insmod "/modules/$module.ko" || echo "no module $module"
done </modules/order
stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
echo ready >&3
while read -r command input <&3; do
    echo "$command" | base64 -d >/tmp/command
    echo "$input" | base64 -d >/tmp/input
    /bin/sh /tmp/command </tmp/input >/tmp/output 2>&1 3<&-
    status=$?
    echo "$(base64 /tmp/output | tr -d '\n') $status" >&3
done
