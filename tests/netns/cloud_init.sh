# A machine that has booted an image with cloud-init in it, as far as cloud-init can tell: the first stage that has a
# network, on a copy of this host's files that ends with this script. $ROOT: an empty folder; $CLOUD_INIT: where its
# package was unpacked. Kernel command line: $DEBUG_PROC_CMDLINE, which cloud-init reads instead of /proc/cmdline.
set -e
mount -t tmpfs cloud "$ROOT"
mkdir "$ROOT/upper" "$ROOT/work" "$ROOT/root"
mount -t overlay -o "lowerdir=/,upperdir=$ROOT/upper,workdir=$ROOT/work" cloud "$ROOT/root"
cd "$ROOT/root"
mount -t tmpfs cloud run
mount -t tmpfs cloud dev
mknod dev/null c 1 3
mknod dev/urandom c 1 9
mount -t proc proc proc
mkdir -p etc/cloud
# Of what it can do with an answer, that which stays within its files.
cat > etc/cloud/cloud.cfg <<CONFIG
datasource_list: [NoCloud]
network: { config: disabled }
system_info: { distro: debian }
cloud_init_modules: [write-files, users-groups]
CONFIG
export PYTHONPATH="$CLOUD_INIT/usr/lib/python3/dist-packages"
status=0
chroot . /usr/bin/python3 -c '
import sys
from cloudinit.cmd.main import main
sys.argv = ["cloud-init", "init"]
sys.exit(main())' || status=$?
echo "status $status"
echo "profile $(cat etc/netbootd-profile || true)"
echo "user $(grep ^admin: etc/passwd || true)"
echo "keys $(grep ^ssh- home/admin/.ssh/authorized_keys || true)"
echo "instance $(cat run/cloud-init/.instance-id || true)"
