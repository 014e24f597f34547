# Debian with Python, Supervisor and the user rugged: the parent of all others.

variable "base_image" {
  default     = "debian:bookworm"
  description = "The distribution's image."
}

variable "registry" {
  default     = env("CI_REGISTRY_IMAGE")
  description = "Where the images belong, for example registry.example.org/group/project."
}

variable "version" {
  default     = env("VERSION")
  description = "The tag of this image and of its parent."
}

variable "pull" {
  type        = bool
  default     = false
  description = "Whether to fetch the parent from its registry; off, the one at hand is used."
}

variable "network" {
  default     = "bridge"
  description = "The network of the build container; apt needs one."
}

variable "registry_server" {
  default = env("CI_REGISTRY")
}

variable "registry_user" {
  default = env("CI_REGISTRY_USER")
}

variable "registry_password" {
  default   = env("CI_REGISTRY_PASSWORD")
  sensitive = true
}

locals {
  registry = var.registry != "" ? var.registry : "localhost:5000/rugged"
  version  = var.version != "" ? var.version : "dev"
}

source "docker" "base" {
  image       = var.base_image
  pull        = var.pull
  commit      = true
  run_command = ["-d", "-i", "-t", "--network=${var.network}", "--entrypoint=/bin/sh", "--", "{{.Image}}"]
}

build {
  sources = ["source.docker.base"]

  provisioner "shell" {
    env = {
      DEBIAN_FRONTEND = "noninteractive"
    }
    scripts = ["scripts/apt.sh", "scripts/python.sh", "scripts/user.sh", "scripts/clean.sh"]
  }

  post-processors {
    post-processor "docker-tag" {
      repository = "${local.registry}/base"
      tags       = [local.version]
    }

    post-processor "docker-tag" {
      repository = "${local.registry}/base"
      tags       = ["latest"]
    }

    post-processor "docker-push" {
      login          = true
      login_server   = var.registry_server
      login_username = var.registry_user
      login_password = var.registry_password
    }
  }
}
