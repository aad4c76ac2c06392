if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    # Another version has come: it takes over where the old one ran.
    [ "$1" -eq 0 ] || systemctl try-restart netbootd.service || :
fi
