#!/bin/sh
# prepare.sh ROOT OUT: a bootable disk of a root file system with a kernel: OUT/vmlinuz, OUT/initrd and OUT/base.qcow2.
. "$(dirname "$0")/../../../scripts/lib.sh"

root=$1 out=$2 here=$(cd "$(dirname "$0")" && pwd)
as_root sh -es "$root" "$here" <<'AS_ROOT'
root=$1 here=$2
printf '[Match]\nName=en* eth*\n[Network]\nDHCP=ipv4\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' >"$root/etc/systemd/network/10-dhcp.network"
install -m 755 "$here/instance-data" "$root/usr/local/sbin/instance-data"
install -D -m 644 "$here/../cloudinit.py" "$root/usr/local/lib/instance-data/cloudinit.py"
cat >"$root/etc/systemd/system/instance-data.service" <<'UNIT'
[Unit]
After=systemd-networkd.service
Wants=systemd-networkd.service
Before=ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/instance-data
[Install]
WantedBy=multi-user.target
UNIT
echo '/dev/vda / ext4 defaults 0 1' >"$root/etc/fstab"
chroot "$root" sh -ec '
    systemctl --quiet enable systemd-networkd ssh instance-data
    systemctl --quiet mask systemd-networkd-wait-online getty@tty1 serial-getty@ttyS0 apt-daily.timer apt-daily-upgrade.timer \
        e2scrub_all.timer e2scrub_reap dpkg-db-backup.timer systemd-pstore fstrim.timer networking' 2>/dev/null
AS_ROOT
as_root sh -c 'cat "$0"/boot/vmlinuz-*' "$root" >"$out/vmlinuz"

# No loop device is needed: the first root is a few modules and busybox, and mke2fs fills the disk.
modules="virtio virtio_ring virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk"
first=$(mktemp -d)
mkdir -p "$first/bin" "$first/modules" "$first/proc" "$first/dev" "$first/root"
cp /bin/busybox "$first/bin/busybox"
for module in $modules; do
    file=$(as_root find "$root/usr/lib/modules" -name "$module.ko")
    [ -z "$file" ] || as_root cat "$file" >"$first/modules/$module.ko"
done
cat >"$first/init" <<INIT
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
# Which module needs which differs between kernels: those that come too early are tried again.
for round in 1 2 3 4; do
    for module in /modules/*; do /bin/busybox insmod \$module 2>/dev/null; done
done
tries=0
while [ ! -b /dev/vda ] && [ \$tries -lt 100 ]; do /bin/busybox sleep 0.05; tries=\$((tries + 1)); done
/bin/busybox mount -t ext4 -o rw /dev/vda /root
exec /bin/busybox switch_root /root /sbin/init
INIT
chmod +x "$first/init"
/usr/bin/python3 "$here/initrd.py" "$first" "$out/initrd"
rm -rf "$first"
truncate -s 3G "$out/disk.raw"
as_root mke2fs -q -F -t ext4 -L root -d "$root" "$out/disk.raw"
qemu-img convert -O qcow2 "$out/disk.raw" "$out/base.qcow2"
as_root rm -f "$out/disk.raw"
