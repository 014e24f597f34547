# What Packer can build, too: one image, for who has nothing else.

variable "registry" {
  default     = "localhost:5000/families"
  description = "Where the images belong."
}

variable "push" {
  type        = bool
  default     = false
  description = "Whether the images are pushed. Only families.kiln.hcl asks."
}

source "docker" "plain" {
  image  = "debian:bookworm"
  commit = true
}

build {
  name    = "plain"
  sources = ["source.docker.plain"]

  provisioner "shell" {
    script = "scripts/hello.sh"
  }

  post-processor "docker-tag" {
    repository = "${var.registry}/plain"
    tags       = ["dev"]
  }
}
