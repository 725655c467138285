#!/bin/bash
# A machine of its own with systemd as its process 1, made of this one's /usr: a copy of /etc, empty
# /var, /run and /tmp, this machine's network. Nothing of it outlives the process that runs this.
#
#   systemd.sh FOLDER PYTHON PACKAGES CHECKOUT    an empty folder, and what mesh is made of
#
# ProtectHome hides home folders, so Python, its packages and the checkout are mounted below /opt.
set -eu
folder=$1 python=$2 packages=$3 checkout=$4

if [ "${5:-}" != inside ]; then
    # A control group of its own: what process 1 makes of them stays below.
    at=/sys/fs/cgroup
    if grep -q name=systemd: /proc/self/cgroup; then at=$at/systemd; fi
    mkdir "$at/mesh-test-$$"
    echo $$ >"$at/mesh-test-$$/cgroup.procs"
    exec unshare --mount --pid --fork --kill-child=KILL --ipc --uts --cgroup "$0" "$@" inside
fi

mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$folder"
cd "$folder"
mkdir -p usr etc var/lib var/log/journal var/tmp run tmp proc sys dev root home old
mkdir -p opt/python opt/packages opt/checkout
for name in bin sbin lib lib64; do ln -s usr/$name $name; done
mount --rbind /usr usr
mount -t tmpfs -o mode=755 tmpfs usr/local/bin
mount --bind "$python" opt/python
mount --bind "$packages" opt/packages
mount --bind "$checkout" opt/checkout
mount --rbind /dev dev
mount -t proc proc proc
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t sysfs -o ro sysfs sys
if grep -q name=systemd: /proc/self/cgroup; then
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
else
    mount -t cgroup2 cgroup2 sys/fs/cgroup
fi
cp -a /etc/. etc/
rm -rf etc/systemd/system/* etc/machine-id
echo 0123456789abcdef0123456789abcdef >etc/machine-id
cat >etc/systemd/system/mesh-test.target <<END
[Unit]
Requires=systemd-journald.service
After=systemd-journald.service
END
pivot_root . old
umount -l /old

export LD_LIBRARY_PATH=/opt/python/lib
/opt/python/bin/python3 -m venv --without-pip /opt/mesh
for site in /opt/mesh/lib/python3.*/site-packages; do
    printf '/opt/packages\n/opt/checkout\n' >"$site/mesh.pth"
done
cat >/usr/local/bin/mesh <<END
#!/bin/sh
LD_LIBRARY_PATH=$LD_LIBRARY_PATH exec /opt/mesh/bin/python3 -m mesh "\$@"
END
chmod 755 /usr/local/bin/mesh
exec env -i container=mesh-test PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /usr/lib/systemd/systemd --system --unit=mesh-test.target --log-target=console --show-status=no
