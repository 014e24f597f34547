variable "token" {
  default   = "hunter2"
  sensitive = true
}

locals {
  ports = { http = 80, https = 443 }
  image = "debian:${upper("bookworm")}"
}

source "docker" "base" {
  image       = local.image
  commit      = true
  changes     = ["ENV A=${var.token}", ("USER root")]
  volumes     = { "/a" = "/b", (local.image) = path.root }
  run_command = ["{{ .Image }}", "${source.name}"]

  dynamic "port" {
    for_each = local.ports
    content {
      name   = port.key
      number = port.value
    }
  }
}

build {
  name = "images"
  source "docker.base" {
    name    = "worker"
    message = "${source.type} ${source.name} ${build.name} ${packer.version}"
    build {
      path    = "Dockerfile"
      command = "{{ .Path }}"
    }
  }

  provisioner "shell" {
    only            = ["docker.worker"]
    image           = build.ID
    message         = "on ${build.Host} as ${build.User}"
    inline          = ["echo ${build.name}", "echo ${var.token}"]
    execute_command = "{{ .Vars }} {{ .Path }}"
    override = {
      worker = {
        message = "for the worker"
        build   = { path = "here" }
      }
      other = { message = "never" }
    }
  }

  post-processor "docker-tag" {
    image = "x"
    env   = { KEY = build.Password }
  }
}
