# An image without a daemon: Debian from its archive, three steps, out to a directory and to a registry.

variable "release" {
  default = "bookworm"
}

variable "registry" {
  description = "Where the image is pushed to (registry.example.org/group/project); nowhere if it is empty."
  default     = env("CI_REGISTRY_IMAGE")
}

source "oci" "worker" {
  from       = { mmdebstrap = { suite = var.release } }
  changes    = ["USER worker", "CMD [\"worker\"]"]
  tags       = ["example/worker:1.0"]
  oci_layout = "images"
  push       = var.registry == "" ? [] : ["${var.registry}/worker:1.0"]
}

build {
  sources = ["source.oci.worker"]

  provisioner "shell" {
    name   = "user"
    script = "scripts/user.sh"
  }

  provisioner "file" {
    source      = "files/worker"
    destination = "/usr/local/bin/worker"
  }

  provisioner "file" {
    source      = "files/motd"
    destination = "/etc/motd"
  }
}
