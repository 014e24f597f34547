# What kiln builds in addition. Packer does not read files of this name; both share all variables, locals and sources.

variable "releases" {
  type = map(object({ version = string, end_of_life = bool }))
  default = {
    bookworm = { version = "12", end_of_life = false }
    bullseye = { version = "11", end_of_life = false }
    buster   = { version = "10", end_of_life = true }
  }
  description = "The releases that there is an image of."
}

locals {
  # In a checkout the tag or branch of it, elsewhere `dev`.
  version = try(coalesce(git.tag, git.branch_slug), "dev")
  commit  = try(git.dirty ? "${git.commit}-dirty" : git.commit, "none")
}

# docker.debian-bookworm and docker.debian-bullseye: one source for each release that still lives.
source "docker" "debian" {
  for_each = var.releases
  enabled  = !each.value.end_of_life

  image   = "debian:${each.key}"
  commit  = true
  changes = ["LABEL org.opencontainers.image.revision=${local.commit}"]
}

# small-docker.debian-..., large-docker.debian-...: all releases in two sizes.
build {
  for_each = {
    small = []
    large = ["python3", "git"]
  }

  name    = each.key
  sources = ["source.docker.debian"]

  provisioner "shell" {
    environment_vars = ["RELEASE=${source.value.version}", "SIZE=${each.key}"]
    script           = "scripts/hello.sh"
  }

  # One step for each package, none in the small images.
  provisioner "shell" {
    for_each = each.value
    inline   = ["echo 'would install ${each.value}, as ${host.uid} on ${host.arch}'"]
  }

  # For one of the family only.
  provisioner "shell" {
    only   = ["docker.debian-bullseye"]
    inline = ["echo 'the older one'"]
  }

  post-processors {
    post-processor "docker-tag" {
      repository = "${var.registry}/debian-${each.key}"
      tags       = ["${source.key}-${local.version}"]
    }

    post-processor "docker-push" {
      enabled = var.push
    }
  }
}
