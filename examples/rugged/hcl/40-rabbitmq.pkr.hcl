# The message broker between the workers, with the user they log in as.

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

variable "rabbitmq_password" {
  default     = env("RABBITMQ_PASSWORD")
  sensitive   = true
  description = "The password that the workers log in with."
}

locals {
  registry = var.registry != "" ? var.registry : "localhost:5000/rugged"
  version  = var.version != "" ? var.version : "dev"
  password = var.rabbitmq_password != "" ? var.rabbitmq_password : "development-only"
}

source "docker" "rabbitmq" {
  image       = "${local.registry}/base:${local.version}"
  pull        = var.pull
  commit      = true
  run_command = ["-d", "-i", "-t", "--network=${var.network}", "--entrypoint=/bin/sh", "--", "{{.Image}}"]
  changes = [
    "USER rabbitmq",
    "EXPOSE 5672 15672",
    "CMD [\"/usr/sbin/rabbitmq-server\"]",
  ]
}

build {
  sources = ["source.docker.rabbitmq"]

  provisioner "shell" {
    inline = ["mkdir -p /opt/rabbitmq"]
  }

  provisioner "file" {
    source      = "files/rabbitmq/"
    destination = "/opt/rabbitmq"
  }

  provisioner "shell" {
    env = {
      DEBIAN_FRONTEND   = "noninteractive"
      RABBITMQ_PASSWORD = local.password
    }
    scripts = ["scripts/apt.sh", "scripts/rabbitmq.sh", "scripts/clean.sh"]
  }

  post-processors {
    post-processor "docker-tag" {
      repository = "${local.registry}/rabbitmq"
      tags       = [local.version]
    }

    post-processor "docker-tag" {
      repository = "${local.registry}/rabbitmq"
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
