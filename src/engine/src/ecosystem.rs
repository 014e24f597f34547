//! Kinds that Packer's plug-ins have and kiln does not: a message that says so is better than "did you mean".

use kiln_core::{Diagnostic, Kinds, Severity, Span, suggest};

/// What sort of component an unknown kind was meant to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Builder,
    Provisioner,
    PostProcessor,
}

impl Sort {
    fn title(self) -> &'static str {
        match self {
            Sort::Builder => "builder",
            Sort::Provisioner => "provisioner",
            Sort::PostProcessor => "post-processor",
        }
    }

    /// Kinds that kiln has.
    fn known(self, kinds: &Kinds) -> Vec<&'static str> {
        match self {
            Sort::Builder => kinds.builder_names(),
            Sort::Provisioner => kinds.provisioner_names(),
            Sort::PostProcessor => kinds.post_processor_names(),
        }
    }

    /// Whether a plug-in of Packer's has this kind.
    pub(crate) fn is_packers(self, kind: &str) -> bool {
        self.packers().contains(&kind)
    }

    /// Kinds of HashiCorp's and the best known other plug-ins (developer.hashicorp.com/packer/integrations).
    fn packers(self) -> &'static [&'static str] {
        match self {
            Sort::Builder => BUILDERS,
            Sort::Provisioner => PROVISIONERS,
            Sort::PostProcessor => POST_PROCESSORS,
        }
    }
}

const BUILDERS: &[&str] = &[
    "alicloud-ecs",
    "amazon-chroot",
    "amazon-ebs",
    "amazon-ebssurrogate",
    "amazon-ebsvolume",
    "amazon-instance",
    "anka-vm",
    "anka-vm-clone",
    "arm",
    "arm-image",
    "azure-arm",
    "azure-chroot",
    "azure-dtl",
    "bizflycloud",
    "civo",
    "cloudsigma",
    "cloudstack",
    "cross",
    "digitalocean",
    "docker",
    "equinix-metal",
    "exoscale",
    "external",
    "file",
    "googlecompute",
    "googlecompute-image",
    "gridscale",
    "hcloud",
    "huaweicloud-ecs",
    "hyperone",
    "hyperv-iso",
    "hyperv-vmcx",
    "ibmcloud-vpc",
    "incus",
    "jdcloud",
    "kubevirt-iso",
    "libvirt",
    "linode",
    "lxc",
    "lxd",
    "naver",
    "ncloud",
    "null",
    "nutanix",
    "oneandone",
    "opennebula",
    "openstack",
    "oracle-classic",
    "oracle-oci",
    "outscale-bsu",
    "outscale-bsusurrogate",
    "outscale-bsuvolume",
    "outscale-chroot",
    "ovirt",
    "ovirt-img",
    "parallels-ipsw",
    "parallels-iso",
    "parallels-macvm",
    "parallels-pvm",
    "podman",
    "profitbricks",
    "proxmox",
    "proxmox-clone",
    "proxmox-iso",
    "proxmox-lxc",
    "qemu",
    "scaleway",
    "tart-cli",
    "tencentcloud-cvm",
    "triton",
    "ucloud-uhost",
    "upcloud",
    "utm-cloud",
    "utm-iso",
    "utm-utm",
    "vagrant",
    "veertu-anka",
    "virtualbox-iso",
    "virtualbox-ovf",
    "virtualbox-vm",
    "vmware-iso",
    "vmware-vmx",
    "volcengine-ecs",
    "vsphere-clone",
    "vsphere-iso",
    "vsphere-supervisor",
    "vultr",
    "xcp-iso",
    "xenserver-iso",
    "xenserver-xva",
    "yandex",
];

const PROVISIONERS: &[&str] = &[
    "ansible",
    "ansible-local",
    "ansible-navigator",
    "chef-client",
    "chef-solo",
    "cnspec",
    "comment",
    "converge",
    "dsc",
    "goss",
    "hcp-sbom",
    "inspec",
    "itamae-local",
    "mondoo",
    "powershell",
    "puppet-masterless",
    "puppet-server",
    "pyinfra",
    "rsync",
    "ruby",
    "salt",
    "salt-masterless",
    "serverspec",
    "terraform-local",
    "testinfra",
    "wait-for",
    "windows-defender-update",
    "windows-restart",
    "windows-shell",
    "windows-update",
];

const POST_PROCESSORS: &[&str] = &[
    "alicloud-import",
    "amazon-ami-management",
    "amazon-import",
    "artifact-registry",
    "artifice",
    "atlas",
    "azure-sig",
    "checksum",
    "compress",
    "digitalocean-import",
    "docker-dockerfile",
    "docker-import",
    "docker-push",
    "docker-save",
    "docker-tag",
    "exoscale-import",
    "glance",
    "googlecompute-export",
    "googlecompute-import",
    "hcp-packer-registry",
    "manifest",
    "ovftool",
    "provenance",
    "proxmox",
    "shell-local",
    "ucloud-import",
    "vagrant",
    "vagrant-cloud",
    "vagrant-registry",
    "vagrant-s3",
    "vhd",
    "vsphere",
    "vsphere-template",
    "yandex-export",
    "yandex-import",
];

/// The finding for a kind that is not among `kinds`; a warning where the caller puts up with unknown kinds.
pub(crate) fn unknown_kind(sort: Sort, kind: &str, span: Span, kinds: &Kinds, accepted: bool) -> Diagnostic {
    let severity = if accepted { Severity::Warning } else { Severity::Error };
    let title = sort.title();
    let known = sort.known(kinds);
    let list = if known.is_empty() {
        format!("this kiln has no {title}s at all")
    } else {
        format!("{title}s that kiln has: {}", suggest::enumerate(known.iter().copied()))
    };
    if sort.is_packers(kind) {
        let missing = format!("kiln has no {title} `{kind}` yet");
        let diagnostic = Diagnostic::new(severity, "kind-not-supported", Some(span), missing)
            .label(format!("Packer's plug-ins have this {title}, kiln does not"))
            .note(list);
        return if accepted { diagnostic } else { diagnostic.help(ACCEPT) };
    }
    let diagnostic =
        Diagnostic::new(severity, "unknown-kind", Some(span), format!("there is no {title} `{kind}`")).note(list);
    let other = [Sort::Builder, Sort::Provisioner, Sort::PostProcessor]
        .into_iter()
        .find(|other| *other != sort && other.known(kinds).contains(&kind));
    match (suggest::nearest(kind, known), other) {
        (_, Some(other)) => diagnostic.label(format!("this is the name of a {}", other.title())),
        (Some(nearest), None) => diagnostic.rename(span, nearest, format!("did you mean `{nearest}`?")),
        (None, None) => match suggest::nearest(kind, sort.packers().iter().copied()) {
            Some(nearest) => diagnostic.help(format!("Packer's plug-ins have `{nearest}`, kiln does not")),
            None => diagnostic,
        },
    }
}

/// What one can do about a kind that kiln does not have.
const ACCEPT: &str = "`kiln validate --allow-unknown-kinds` checks the template without complaining of this";
