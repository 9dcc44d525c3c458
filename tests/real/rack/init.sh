#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# PID 1 of a rack server's default system: enough of a Debian server to log in and reboot.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
mount -t devpts -o mode=620,gid=5 devpts /dev/pts
mount -t tmpfs tmp /tmp
mount -o remount,rw /
hostname server
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up && ip route add default via 10.0.2.2
mkdir -p /run/sshd
/usr/sbin/sshd -f /etc/ssh/rack_sshd_config && echo "server: default system up"
while :; do
    sleep 86400 &
    wait
done
