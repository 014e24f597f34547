# A tool that is run as a task now and then: no Dockerfile, and a tag that says when it was made.

variable "network" {
  default     = "bridge"
  description = "The network of the build container of db-backup; apt needs one."
}

locals {
  backup_version = trimspace(file("db-backup/VERSION"))
}

source "docker" "db-backup" {
  image   = var.base_image
  pull    = "missing"
  commit  = true
  network = var.network
  changes = ["WORKDIR /app", "USER backup", "CMD [\"sleep\", \"infinity\"]"]
}

build {
  sources = ["docker.db-backup"]

  # Packages of one release in an image of the next would go unnoticed for long.
  provisioner "shell" {
    name   = "suite"
    inline = [". /etc/os-release", "test \"$VERSION_CODENAME\" = ${var.suite} || { echo \"this is $VERSION_CODENAME, not ${var.suite}\" >&2; exit 1; }"]
  }

  provisioner "shell" {
    script = "${path.root}/db-backup/install.sh"
  }

  provisioner "file" {
    source      = "${path.root}/db-backup/dump.sh"
    destination = "/app/dump.sh"
  }

  test "user" {
    inline        = ["gpg --version >/dev/null", "test -x /app/dump.sh", "id -un"]
    expect_output = "^backup$"
  }

  # Once a day at most: what was published today is there, and nothing is built.
  post-processors {
    post-processor "docker-tag" {
      repository = "${local.registry}/db-backup"
      tags       = compact(["${local.backup_version}-${formatdate("YYYYMMDD", local.built)}", local.latest])
    }
    post-processor "docker-push" {
      skip_if_exists = true
    }
    post-processor "manifest" {
      output  = "${var.out}/manifest.json"
      details = true
    }
  }
}
