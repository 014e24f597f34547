# The workers that sign one role each: one source, three images, built side by side.

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

source "docker" "worker" {
  image       = "${local.registry}/worker:${local.version}"
  pull        = var.pull
  commit      = true
  run_command = ["-d", "-i", "-t", "--network=${var.network}", "--entrypoint=/bin/sh", "--", "{{.Image}}"]
}

build {
  source "docker.worker" {
    name    = "root-worker"
    changes = ["LABEL org.rugged.role=root"]
  }

  source "docker.worker" {
    name    = "targets-worker"
    changes = ["LABEL org.rugged.role=targets"]
  }

  source "docker.worker" {
    name    = "snapshot-worker"
    changes = ["LABEL org.rugged.role=snapshot"]
  }

  provisioner "shell" {
    env = {
      ROLE = trimsuffix(source.name, "-worker")
    }
    scripts = ["scripts/signing-worker.sh", "scripts/clean.sh"]
  }

  post-processors {
    post-processor "docker-tag" {
      repository = "${local.registry}/${source.name}"
      tags       = [local.version]
    }

    post-processor "docker-tag" {
      repository = "${local.registry}/${source.name}"
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
