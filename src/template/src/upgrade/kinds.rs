//! What is known of kinds that kiln does not have: which of their arguments are blocks, and which plug-in has them.

use kiln_core::FieldType;

/// Arguments that are written as an object in JSON and as a block in HCL2, whatever the kind. Lists of objects are blocks
/// anyway; other objects are maps.
const BLOCKS: [&str; 49] = [
    "Statement",
    "accelerator",
    "ami_root_device",
    "assume_role",
    "aws_polling",
    "azure_tag",
    "base_image_filter",
    "boot_iso",
    "build",
    "communicator",
    "content_library_destination",
    "create_vnic_details",
    "customer_encryption_key",
    "customize",
    "deregistration_protection",
    "disk_encryption_key",
    "efi_config",
    "export",
    "fast_launch",
    "filter",
    "image_encryption_key",
    "image_target_disk",
    "keyvault",
    "linux_options",
    "metadata_options",
    "network_interface",
    "placement",
    "plan_info",
    "rng0",
    "security_group_filter",
    "shared_gallery_image_version",
    "shared_image_destination",
    "shared_image_gallery",
    "shared_image_gallery_destination",
    "shape_config",
    "source_ami_filter",
    "source_image_filter",
    "spot",
    "spot_tag",
    "subnet_filter",
    "tag",
    "target",
    "temporary_iam_instance_profile_policy_document",
    "tpm_config",
    "vault_aws_engine",
    "vga",
    "vpc_filter",
    "vtpm",
    "windows_options",
];

/// Objects inside of such blocks that are blocks in one place and maps in another.
pub(super) fn is_block(parent: Option<&str>, name: &str) -> bool {
    match (parent, name) {
        // OpenStack's filter holds a block, Amazon's a map.
        (Some("source_image_filter"), "filters") => true,
        _ => BLOCKS.contains(&name),
    }
}

/// Arguments that are lists of texts, whatever the kind: JSON takes a text with commas for one.
const LISTS: [&str; 37] = [
    "ami_groups",
    "ami_org_arns",
    "ami_ou_arns",
    "ami_product_codes",
    "ami_regions",
    "ami_users",
    "ansible_env_vars",
    "ansible_ssh_extra_args",
    "boot_command",
    "cd_files",
    "collection_paths",
    "cookbook_paths",
    "empty_groups",
    "environment_vars",
    "extra_arguments",
    "floppy_dirs",
    "floppy_files",
    "groups",
    "image_licenses",
    "inline",
    "inventory_groups",
    "iso_paths",
    "iso_urls",
    "module_paths",
    "networks",
    "owners",
    "playbook_files",
    "playbook_paths",
    "role_paths",
    "run_list",
    "scopes",
    "scripts",
    "security_group_ids",
    "security_groups",
    "snapshot_groups",
    "snapshot_users",
    "temporary_security_group_source_cidrs",
];

/// Arguments that are bools, whatever the kind: JSON takes `"1"` and `""` for such.
const BOOLS: [&str; 28] = [
    "associate_public_ip_address",
    "delete_on_termination",
    "disable_stop_instance",
    "disk_discard",
    "ebs_optimized",
    "ena_support",
    "enable_secure_boot",
    "enable_virtualization_extensions",
    "encrypt_boot",
    "encrypted",
    "force_delete_snapshot",
    "force_deregister",
    "format_qemu",
    "headless",
    "insecure_connection",
    "keep_registered",
    "linked_clone",
    "most_recent",
    "skip_clean",
    "skip_compaction",
    "skip_create_ami",
    "skip_export",
    "skip_profile_validation",
    "skip_region_validation",
    "ssh_agent_auth",
    "ssh_pty",
    "use_proxy",
    "use_sudo",
];

/// The type of an argument that is the same for all kinds, where it is known.
pub(super) fn argument_type(name: &str) -> Option<FieldType> {
    if LISTS.contains(&name) {
        return Some(FieldType::StringList);
    }
    BOOLS.contains(&name).then_some(FieldType::Bool)
}

/// The plug-in of a kind: its name and its source. `None` for what Packer has by itself, and for what nobody knows.
pub(super) fn plugin(kind: &str) -> Option<(&'static str, &'static str)> {
    const EXACT: [(&str, &str, &str); 29] = [
        ("alicloud-ecs", "alicloud", "github.com/hashicorp/alicloud"),
        ("alicloud-import", "alicloud", "github.com/hashicorp/alicloud"),
        ("ansible", "ansible", "github.com/hashicorp/ansible"),
        ("ansible-local", "ansible", "github.com/hashicorp/ansible"),
        ("cloudstack", "cloudstack", "github.com/hashicorp/cloudstack"),
        ("converge", "converge", "github.com/hashicorp/converge"),
        ("digitalocean", "digitalocean", "github.com/digitalocean/digitalocean"),
        ("digitalocean-import", "digitalocean", "github.com/digitalocean/digitalocean"),
        ("docker", "docker", "github.com/hashicorp/docker"),
        ("hcloud", "hcloud", "github.com/hetznercloud/hcloud"),
        ("inspec", "inspec", "github.com/hashicorp/inspec"),
        ("linode", "linode", "github.com/linode/linode"),
        ("lxc", "lxc", "github.com/hashicorp/lxc"),
        ("lxd", "lxd", "github.com/hashicorp/lxd"),
        ("openstack", "openstack", "github.com/hashicorp/openstack"),
        ("oracle-classic", "oracle", "github.com/hashicorp/oracle"),
        ("oracle-oci", "oracle", "github.com/hashicorp/oracle"),
        ("outscale-bsu", "outscale", "github.com/outscale/outscale"),
        ("qemu", "qemu", "github.com/hashicorp/qemu"),
        ("salt-masterless", "salt", "github.com/hashicorp/salt"),
        ("scaleway", "scaleway", "github.com/scaleway/scaleway"),
        ("tencentcloud-cvm", "tencentcloud", "github.com/hashicorp/tencentcloud"),
        ("triton", "triton", "github.com/hashicorp/triton"),
        ("vagrant", "vagrant", "github.com/hashicorp/vagrant"),
        ("vagrant-cloud", "vagrant", "github.com/hashicorp/vagrant"),
        ("vsphere", "vsphere", "github.com/hashicorp/vsphere"),
        ("vsphere-template", "vsphere", "github.com/hashicorp/vsphere"),
        ("windows-update", "windows-update", "github.com/rgl/windows-update"),
        ("yandex", "yandex", "github.com/hashicorp/yandex"),
    ];
    const STARTING: [(&str, &str, &str); 14] = [
        ("amazon-", "amazon", "github.com/hashicorp/amazon"),
        ("azure-", "azure", "github.com/hashicorp/azure"),
        ("chef-", "chef", "github.com/hashicorp/chef"),
        ("docker-", "docker", "github.com/hashicorp/docker"),
        ("googlecompute", "googlecompute", "github.com/hashicorp/googlecompute"),
        ("hyperv-", "hyperv", "github.com/hashicorp/hyperv"),
        ("parallels-", "parallels", "github.com/Parallels/parallels"),
        ("proxmox", "proxmox", "github.com/hashicorp/proxmox"),
        ("puppet-", "puppet", "github.com/hashicorp/puppet"),
        ("ucloud-", "ucloud", "github.com/ucloud/ucloud"),
        ("virtualbox-", "virtualbox", "github.com/hashicorp/virtualbox"),
        ("vmware-", "vmware", "github.com/hashicorp/vmware"),
        ("vsphere-", "vsphere", "github.com/hashicorp/vsphere"),
        ("yandex-", "yandex", "github.com/hashicorp/yandex"),
    ];
    let exact = EXACT.iter().find(|(exact, ..)| *exact == kind);
    exact
        .or_else(|| STARTING.iter().find(|(start, ..)| kind.starts_with(start)))
        .map(|(_, name, source)| (*name, *source))
}
