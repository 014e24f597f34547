//! Kinds that Packer's plug-ins have and kiln does not: a message that says so is better than "did you mean".

use kiln_core::{Diagnostic, Severity, SourceMap, Span, suggest};

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
    "arm-image",
    "azure-arm",
    "azure-chroot",
    "azure-dtl",
    "cloudstack",
    "cross",
    "digitalocean",
    "docker",
    "exoscale",
    "external",
    "file",
    "googlecompute",
    "hcloud",
    "hyperone",
    "hyperv-iso",
    "hyperv-vmcx",
    "ibmcloud-vpc",
    "incus",
    "jdcloud",
    "libvirt",
    "linode",
    "lxc",
    "lxd",
    "ncloud",
    "null",
    "nutanix",
    "oneandone",
    "openstack",
    "oracle-classic",
    "oracle-oci",
    "outscale-bsu",
    "parallels-ipsw",
    "parallels-iso",
    "parallels-macvm",
    "parallels-pvm",
    "podman",
    "profitbricks",
    "proxmox",
    "proxmox-clone",
    "proxmox-iso",
    "qemu",
    "scaleway",
    "tart-cli",
    "tencentcloud-cvm",
    "triton",
    "ucloud-uhost",
    "upcloud",
    "vagrant",
    "virtualbox-iso",
    "virtualbox-ovf",
    "virtualbox-vm",
    "vmware-iso",
    "vmware-vmx",
    "vsphere-clone",
    "vsphere-iso",
    "vsphere-supervisor",
    "vultr",
    "yandex",
];

const PROVISIONERS: &[&str] = &[
    "ansible",
    "ansible-local",
    "ansible-navigator",
    "chef-client",
    "chef-solo",
    "cnspec",
    "converge",
    "goss",
    "hcp-sbom",
    "inspec",
    "mondoo",
    "powershell",
    "puppet-masterless",
    "puppet-server",
    "salt",
    "salt-masterless",
    "windows-restart",
    "windows-shell",
    "windows-update",
];

const POST_PROCESSORS: &[&str] = &[
    "alicloud-import",
    "amazon-ami-management",
    "amazon-import",
    "artifice",
    "checksum",
    "compress",
    "digitalocean-import",
    "docker-import",
    "docker-push",
    "docker-save",
    "docker-tag",
    "exoscale-import",
    "googlecompute-export",
    "googlecompute-import",
    "manifest",
    "provenance",
    "shell-local",
    "ucloud-import",
    "vagrant",
    "vagrant-cloud",
    "vagrant-registry",
    "vsphere",
    "vsphere-template",
    "yandex-export",
    "yandex-import",
];

/// The finding for a kind that is not among `known`; a warning where the caller puts up with unknown kinds.
pub(crate) fn unknown_kind(
    sort: Sort,
    kind: &str,
    span: Span,
    known: &[&'static str],
    accepted: bool,
    sources: &SourceMap,
) -> Diagnostic {
    let severity = if accepted { Severity::Warning } else { Severity::Error };
    let title = sort.title();
    let list = if known.is_empty() {
        format!("this kiln has no {title}s at all")
    } else {
        format!("{title}s that kiln has: {}", suggest::enumerate(known.iter().copied()))
    };
    if sort.packers().contains(&kind) {
        return Diagnostic::new(
            severity,
            "kind-not-supported",
            Some(span),
            format!("kiln has no {title} `{kind}` yet"),
        )
        .label(format!("Packer's plug-ins have this {title}, kiln does not"))
        .note(list);
    }
    let diagnostic =
        Diagnostic::new(severity, "unknown-kind", Some(span), format!("there is no {title} `{kind}`")).note(list);
    match suggest::nearest(kind, known.iter().copied()) {
        Some(nearest) => diagnostic.fix(inside_quotes(span, sources), nearest, format!("did you mean `{nearest}`?")),
        None => diagnostic,
    }
}

/// The edit replaces the name alone; the place of a kind may or may not include its quotes.
fn inside_quotes(span: Span, sources: &SourceMap) -> Span {
    let text = sources.text(span);
    if text.len() >= 2 && text.starts_with('"') && text.ends_with('"') {
        return Span { start: span.start + 1, end: span.end - 1, ..span };
    }
    span
}
