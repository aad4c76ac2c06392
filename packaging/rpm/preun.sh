# Removed, and not replaced by another version. Where systemd does not run (an image that is made), what enabled it goes too.
if [ "$1" -eq 0 ]; then
    systemctl disable netbootd.service > /dev/null 2>&1 || :
    if [ -d /run/systemd/system ]; then
        systemctl stop netbootd.service || :
    fi
fi
