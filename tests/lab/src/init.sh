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
    [ "${card##*/}" = lo ] && continue
    mac=$(busybox cat "$card/address")
    name=${card##*/}
done
echo
echo "LAB-BOOT ok mac=$mac kernel=$(busybox uname -r)"
echo "LAB-CMDLINE $(busybox cat /proc/cmdline)"
# What an installer does with a seed of cloud-init's NoCloud, and with the address of a report: a lease of its own, the
# seed's files, and the report.
for word in $(busybox cat /proc/cmdline); do
    case "$word" in
        "ds=nocloud-net;s="*) seed=${word#*;s=} ;;
        "report="*) report=${word#report=} ;;
        lab.lease) lease=yes ;;
    esac
done
if [ -n "$seed$report$lease" ]; then
    busybox udhcpc -i "$name" -n -q -s /leased > /dev/null 2>&1 || echo "LAB-ANSWER no lease"
fi
if [ -n "$lease" ]; then
    echo "LAB-LEASE $(busybox ifconfig "$name" | busybox sed -n 's/.*inet addr:\([0-9.]*\).*/\1/p')"
fi
if [ -n "$seed" ]; then
    for file in user-data meta-data; do
        busybox wget -q -O - "$seed$file" | while read -r line; do echo "LAB-ANSWER $file $line"; done
    done
fi
if [ -n "$report" ]; then
    busybox wget -q -O - "$report" | while read -r line; do echo "LAB-REPORT $line"; done
fi
# Both files are of the second initrd.
if (cd / && busybox sha256sum -c -s payload.sha256); then
    echo "LAB-PAYLOAD ok"
else
    echo "LAB-PAYLOAD bad"
fi
# Returns when the console has sent everything.
busybox stty sane < /dev/console
busybox poweroff -f
