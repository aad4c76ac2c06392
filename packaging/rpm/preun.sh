# Removed, and not replaced by another version.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl disable --now netbootd.service || :
fi
