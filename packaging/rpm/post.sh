# $1: how many versions are there now.
systemd-tmpfiles --create netbootd.conf > /dev/null 2>&1 || :
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
if [ "$1" -eq 1 ]; then
    cat <<'TEXT'
netbootd is installed and does not run: it would answer every machine that network-boots.
  1. say what it serves:  /etc/netbootd/netbootd.toml
  2. see what is wrong:   netbootd check
  3. start it:            systemctl enable --now netbootd
TEXT
fi
