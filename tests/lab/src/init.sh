#!/bin/busybox sh
# The first and only program of a lab machine. Its last words tell whoever reads the console what was booted.
export PATH=/bin
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
# The kernel's own messages would cut into the lines below.
echo 1 > /proc/sys/kernel/printk
for module in /modules/*; do
    busybox insmod "$module"
done
mac=unknown
for card in /sys/class/net/*; do
    [ "${card##*/}" = lo ] || mac=$(busybox cat "$card/address")
done
echo
echo "LAB-BOOT ok mac=$mac kernel=$(busybox uname -r)"
echo "LAB-CMDLINE $(busybox cat /proc/cmdline)"
# Both files are of the second initrd.
if (cd / && busybox sha256sum -c -s payload.sha256); then
    echo "LAB-PAYLOAD ok"
else
    echo "LAB-PAYLOAD bad"
fi
# Returns when the console has sent everything.
busybox stty sane < /dev/console
busybox poweroff -f
