# Before the files come, one of which is for this group to read: the sysusers.d file is among them.
echo 'u netbootd - "Network boot server" /var/lib/netbootd' | systemd-sysusers - > /dev/null || :
