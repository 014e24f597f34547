# The start of a machine, run in name spaces of its own: mounts, then cloud-init's part, then sshd as process 1.
set -e
root=$MACHINE/merged
mount -t overlay overlay -o "lowerdir=$LAYERS,upperdir=$MACHINE/upper,workdir=$MACHINE/work" "$root"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs -o mode=755 dev "$root/dev"
mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/run/sshd" "$root/run/seed"
for node in null zero full random urandom tty; do
    : >"$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount --bind "$MACHINE/seed" "$root/run/seed"
hostname "$(cat "$MACHINE/seed/id")"
# Packages may be installed in machines, through the host's network.
[ ! -e /etc/resolv.conf ] || cat /etc/resolv.conf >"$root/etc/resolv.conf"
exec chroot "$root" /bin/sh -c '
seed=/run/seed id=$(cat /run/seed/id)
for user in root admin; do
    home=$(getent passwd "$user" | cut -d: -f6)
    mkdir -p -m 700 "$home/.ssh"
    cat "$seed/authorized_keys" >>"$home/.ssh/authorized_keys"
    sort -u -o "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys"
    chmod 600 "$home/.ssh/authorized_keys"
    chown -R "$user:" "$home/.ssh"
done
if [ "$id" != "$(cat /var/lib/cloud-instance-id 2>/dev/null)" ]; then
    rm -f /etc/ssh/ssh_host_*
    if [ -d "$seed/hostkeys" ]; then cp -p "$seed/hostkeys/"* /etc/ssh/; else ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key; fi
    [ ! -d "$seed/files" ] || cp -rp "$seed/files/." /
    echo "$id" >/var/lib/cloud-instance-id
    # As cloud-init does it, scripts run last, while one can log in already.
    (for script in "$seed"/scripts/*; do [ ! -x "$script" ] || "$script"; done >/var/log/cloud-init-output.log 2>&1) &
fi
for hook in "$seed"/hooks/*; do [ ! -x "$hook" ] || "$hook"; done
echo "<14>Jan  1 00:00:00 ec2: -----BEGIN SSH HOST KEY FINGERPRINTS-----"
for key in /etc/ssh/ssh_host_*_key.pub; do echo "<14>Jan  1 00:00:00 ec2: $(ssh-keygen -lf "$key")"; done
echo "<14>Jan  1 00:00:00 ec2: -----END SSH HOST KEY FINGERPRINTS-----"
echo "-----BEGIN SSH HOST KEY KEYS-----"
cat /etc/ssh/ssh_host_*_key.pub
echo "-----END SSH HOST KEY KEYS-----"
cat "$seed/problems" 2>/dev/null
sleep "$(cat "$seed/ssh-delay")"
[ -e "$seed/reachable" ] || exec sleep infinity
set -- -o "Port='"$PORT"'" -o "ListenAddress='"$ADDRESS"'" -o UsePAM=no -o PermitRootLogin=prohibit-password -o PasswordAuthentication=no
for key in /etc/ssh/ssh_host_*_key; do set -- "$@" -o "HostKey=$key"; done
exec /usr/sbin/sshd -D -e "$@" -o StrictModes=no -o MaxStartups=100 -o MaxSessions=100 -o UseDNS=no -o PidFile=none
'
