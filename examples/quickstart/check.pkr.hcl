# Starts from the image that worker.pkr.hcl pushed and looks whether it is what it should be. Makes no image.

variable "registry" {
  default = env("CI_REGISTRY_IMAGE")
}

locals {
  registry = var.registry == "" ? "localhost:5000" : var.registry
}

source "oci" "check" {
  from    = "${local.registry}/worker:1.0"
  discard = true
}

build {
  sources = ["source.oci.check"]

  # Always: what is looked at is the image, not what was found the last time.
  provisioner "shell" {
    cache  = false
    inline = ["test \"$(id --user --name)\" = worker", "worker"]
  }
}
