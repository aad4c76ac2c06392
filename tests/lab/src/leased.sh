#!/bin/busybox sh
# What udhcpc has a card put up and its lease in place by.
case "$1" in
deconfig) busybox ifconfig "$interface" up ;;
bound) busybox ifconfig "$interface" "$ip" netmask "$subnet" ;;
esac
