# Starts from the image that worker.pkr.hcl pushed and looks whether it is what it should be. Makes no image.

variable "registry" {
  default = env("CI_REGISTRY_IMAGE")
}

source "oci" "check" {
  from    = "${var.registry}/worker:1.0"
  discard = true
  network = "none"
}

build {
  sources = ["source.oci.check"]

  # Always: what is looked at is the image, not what was found the last time.
  provisioner "shell" {
    cache  = false
    inline = ["test \"$(id --user --name)\" = worker", "worker"]
  }
}
