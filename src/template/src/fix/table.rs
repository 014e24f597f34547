//! All fixers, in the order that Packer runs them.

use super::Fixing;
use super::edits;
use crate::legacy::json::{JsonObject, JsonValue};

/// Where a fixer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Builders,
    Provisioners,
    PostProcessors,
}

/// Which types of component a fixer looks at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kinds {
    All,
    These(&'static [&'static str]),
    Starting(&'static str),
}

impl Kinds {
    pub(super) fn include(self, kind: &str) -> bool {
        match self {
            Kinds::All => true,
            Kinds::These(kinds) => kinds.contains(&kind),
            Kinds::Starting(start) => kind.starts_with(start),
        }
    }
}

/// Which values a renaming moves; others stay as they are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Takes {
    Anything,
    Strings,
    Bools,
}

impl Takes {
    fn include(self, value: &JsonValue) -> bool {
        match self {
            Takes::Anything => true,
            Takes::Strings => matches!(value, JsonValue::String(_)),
            Takes::Bools => matches!(value, JsonValue::Bool(_)),
        }
    }
}

/// Which value counts where the new name is set already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wins {
    Old,
    New,
    /// The new one, also where the old one is of a type that is not moved.
    NewWhateverTheOld,
}

/// One edit of a component.
pub(super) enum Action {
    Rename { from: &'static str, to: &'static str, takes: Takes, wins: Wins },
    Remove { name: &'static str, takes: Takes },
    With(fn(&mut Fixing<'_>, &mut JsonObject)),
}

impl Action {
    pub(super) fn apply(&self, fixing: &mut Fixing<'_>, component: &mut JsonObject) {
        match *self {
            Action::Rename { from, to, takes, wins } => {
                let is_beaten = wins == Wins::NewWhateverTheOld && component.contains_key(to);
                if component.get(from).is_some_and(|member| is_beaten || takes.include(&member.node.value)) {
                    edits::rename(fixing, component, from, to, wins);
                }
            }
            Action::Remove { name, takes } => {
                if component.get(name).is_some_and(|member| takes.include(&member.node.value)) {
                    edits::remove(fixing, component, name);
                }
            }
            Action::With(edit) => edit(fixing, component),
        }
    }
}

/// A fixer.
pub(super) struct Fixer {
    /// As Packer calls it.
    pub(super) name: &'static str,
    /// What it does, for the guide.
    pub(super) does: &'static str,
    pub(super) part: Part,
    pub(super) kinds: Kinds,
    pub(super) actions: &'static [Action],
}

const fn rename(from: &'static str, to: &'static str, takes: Takes, wins: Wins) -> Action {
    Action::Rename { from, to, takes, wins }
}

const fn remove(name: &'static str) -> Action {
    Action::Remove { name, takes: Takes::Anything }
}

const fn builders(name: &'static str, does: &'static str, kinds: Kinds, actions: &'static [Action]) -> Fixer {
    Fixer { name, does, part: Part::Builders, kinds, actions }
}

const fn provisioners(name: &'static str, does: &'static str, kinds: Kinds, actions: &'static [Action]) -> Fixer {
    Fixer { name, does, part: Part::Provisioners, kinds, actions }
}

const fn post_processors(name: &'static str, does: &'static str, kinds: Kinds, actions: &'static [Action]) -> Fixer {
    Fixer { name, does, part: Part::PostProcessors, kinds, actions }
}

const AMAZON: Kinds = Kinds::Starting("amazon-");
const PARALLELS: Kinds = Kinds::These(&["parallels-iso", "parallels-pvm"]);

pub(super) const FIXERS: &[Fixer] = &[
    builders("iso-md5", "`iso_md5` becomes `iso_checksum`", Kinds::All, &[Action::With(edits::iso_md5)]),
    builders(
        "createtime",
        "`{{.CreateTime}}` in names becomes `{{timestamp}}`",
        Kinds::All,
        &[Action::With(edits::create_time)],
    ),
    builders(
        "virtualbox-gaattach",
        "`guest_additions_attach` becomes `guest_additions_mode`",
        Kinds::These(&["virtualbox"]),
        &[Action::With(edits::guest_additions)],
    ),
    post_processors(
        "pp-vagrant-override",
        "arguments for one provider move into `override`",
        Kinds::These(&["vagrant"]),
        &[Action::With(edits::vagrant_override)],
    ),
    builders(
        "virtualbox-rename",
        "the builder `virtualbox` becomes `virtualbox-iso`",
        Kinds::These(&["virtualbox"]),
        &[Action::With(|fixing, builder| edits::kind(fixing, builder, "virtualbox-iso"))],
    ),
    provisioners(
        "virtualbox-rename",
        "the override for `virtualbox` becomes the one for `virtualbox-iso`",
        Kinds::All,
        &[Action::With(edits::virtualbox_override)],
    ),
    builders(
        "vmware-rename",
        "the builder `vmware` becomes `vmware-iso`",
        Kinds::These(&["vmware"]),
        &[Action::With(|fixing, builder| edits::kind(fixing, builder, "vmware-iso"))],
    ),
    builders("parallels-headless", "`headless` goes", PARALLELS, &[remove("headless")]),
    builders(
        "parallels-deprecations",
        "`parallels_tools_host_path` goes, `guest_os_distribution` becomes `guest_os_type`",
        PARALLELS,
        &[
            remove("parallels_tools_host_path"),
            rename("guest_os_distribution", "guest_os_type", Takes::Anything, Wins::Old),
        ],
    ),
    builders(
        "sshkeypath",
        "`ssh_key_path` becomes `ssh_private_key_file`",
        Kinds::All,
        &[rename("ssh_key_path", "ssh_private_key_file", Takes::Strings, Wins::New)],
    ),
    builders(
        "sshdisableagent",
        "`ssh_disable_agent` becomes `ssh_disable_agent_forwarding`",
        Kinds::All,
        &[rename("ssh_disable_agent", "ssh_disable_agent_forwarding", Takes::Bools, Wins::New)],
    ),
    builders(
        "scaleway-access-key",
        "`access_key` becomes `organization_id`",
        Kinds::These(&["scaleway"]),
        &[rename("access_key", "organization_id", Takes::Strings, Wins::New)],
    ),
    post_processors(
        "manifest-filename",
        "`filename` becomes `output`",
        Kinds::These(&["manifest"]),
        &[rename("filename", "output", Takes::Strings, Wins::Old)],
    ),
    builders(
        "amazon-shutdown_behavior",
        "`shutdown_behaviour` becomes `shutdown_behavior`",
        AMAZON,
        &[rename("shutdown_behaviour", "shutdown_behavior", Takes::Anything, Wins::Old)],
    ),
    builders(
        "amazon-enhanced-networking",
        "`enhanced_networking` becomes `ena_support`",
        AMAZON,
        &[rename("enhanced_networking", "ena_support", Takes::Bools, Wins::Old)],
    ),
    builders(
        "amazon-private-ip",
        "`ssh_private_ip` becomes `ssh_interface`",
        AMAZON,
        &[Action::With(edits::private_ip)],
    ),
    builders(
        "amazon-temp-sec-cidrs",
        "`temporary_security_group_source_cidr` becomes the list `temporary_security_group_source_cidrs`",
        AMAZON,
        &[Action::With(edits::source_cidrs)],
    ),
    // Packer heeds the builders only where there are post-processors.
    builders("docker-email", "`login_email` goes", Kinds::All, &[remove("login_email")]),
    post_processors("docker-email", "`login_email` goes", Kinds::All, &[remove("login_email")]),
    post_processors(
        "docker-tag-tags",
        "`tag` becomes the list `tags`",
        Kinds::These(&["docker-tag"]),
        &[Action::With(edits::docker_tags)],
    ),
    provisioners(
        "powershell-escapes",
        "escapes go from the environment, the elevated user and its password",
        Kinds::These(&["powershell"]),
        &[Action::With(edits::powershell_escapes)],
    ),
    builders(
        "vmware-compaction",
        "`skip_compaction = true` on ESXi, unless disks are thin",
        Kinds::These(&["vmware-iso"]),
        &[Action::With(edits::compaction)],
    ),
    builders("hyperv-deprecations", "`vhd_temp_path` goes", Kinds::These(&["hyperv-iso"]), &[remove("vhd_temp_path")]),
    builders(
        "hyperv-vmxc-typo",
        "`clone_from_vmxc_path` becomes `clone_from_vmcx_path`",
        Kinds::These(&["hyperv-vmcx"]),
        &[rename("clone_from_vmxc_path", "clone_from_vmcx_path", Takes::Anything, Wins::Old)],
    ),
    builders(
        "hyperv-cpu-and-ram",
        "`cpu` becomes `cpus`, `ram_size` becomes `memory`",
        Kinds::These(&["hyperv-iso", "hyperv-vmcx"]),
        &[rename("cpu", "cpus", Takes::Anything, Wins::Old), rename("ram_size", "memory", Takes::Anything, Wins::Old)],
    ),
    builders(
        "clean-image-name",
        "`clean_image_name` and `clean_ami_name` become `clean_resource_name`",
        Kinds::All,
        &[Action::With(edits::clean_names)],
    ),
    builders(
        "spot-price-auto-product",
        "`spot_price_auto_product` goes",
        Kinds::These(&["amazon-ebs", "amazon-ebssurrogate", "amazon-ebsvolume", "amazon-instance"]),
        &[remove("spot_price_auto_product")],
    ),
    builders(
        "qemu-disk-size",
        "`disk_size` as a number becomes a text with its unit",
        Kinds::These(&["qemu"]),
        &[Action::With(edits::disk_size)],
    ),
    provisioners(
        "galaxy-command",
        "`galaxycommand` becomes `galaxy_command`",
        Kinds::These(&["ansible-local"]),
        &[rename("galaxycommand", "galaxy_command", Takes::Strings, Wins::NewWhateverTheOld)],
    ),
    builders(
        "comm-config",
        "`ssh_` goes from `host_port_min`, `host_port_max` and `skip_nat_mapping`",
        Kinds::Starting("virtualbox"),
        &[
            rename("ssh_host_port_min", "host_port_min", Takes::Anything, Wins::New),
            rename("ssh_host_port_max", "host_port_max", Takes::Anything, Wins::New),
            rename("ssh_skip_nat_mapping", "skip_nat_mapping", Takes::Bools, Wins::NewWhateverTheOld),
        ],
    ),
    builders(
        "ssh-wait-timeout",
        "`ssh_wait_timeout` becomes `ssh_timeout`",
        Kinds::All,
        &[rename("ssh_wait_timeout", "ssh_timeout", Takes::Strings, Wins::NewWhateverTheOld)],
    ),
    builders(
        "vsphere-iso-net-disk",
        "arguments of the network and the disk move into `network_adapters` and `storage`",
        Kinds::These(&["vsphere-iso"]),
        &[Action::With(edits::vsphere_lists)],
    ),
    builders(
        "iso-checksum-type-and-url",
        "`iso_checksum_type` and `iso_checksum_url` move into `iso_checksum`",
        Kinds::All,
        &[Action::With(edits::checksum)],
    ),
    builders(
        "qemu-host-port",
        "`ssh_host_port_min` and `ssh_host_port_max` become `host_port_min` and `host_port_max`",
        Kinds::These(&["qemu"]),
        &[
            rename("ssh_host_port_min", "host_port_min", Takes::Anything, Wins::Old),
            rename("ssh_host_port_max", "host_port_max", Takes::Anything, Wins::Old),
        ],
    ),
    builders(
        "azure-exclude_from_latest",
        "`exlude_from_latest` in `shared_image_destination` becomes `exclude_from_latest`",
        Kinds::These(&["azure-chroot"]),
        &[Action::With(edits::exclude_from_latest)],
    ),
    builders(
        "proxmox-type",
        "the builder `proxmox` becomes `proxmox-iso`",
        Kinds::These(&["proxmox"]),
        &[Action::With(|fixing, builder| edits::kind(fixing, builder, "proxmox-iso"))],
    ),
];
