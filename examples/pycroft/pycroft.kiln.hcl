# A web application's images: base and dev, prod that needs both, and the database that its tests run against.

variable "registry" {
  default     = "localhost:5000/pycroft"
  description = "Where the images belong."
}

variable "tag" {
  default     = env("TAG")
  description = "The tag of all images; `latest` where it is empty."
}

variable "base_image" {
  default     = "debian:bookworm"
  description = "The distribution's image."
}

variable "uid" {
  type        = number
  default     = null
  description = "Id of the user pycroft; that of whoever builds, where it is not given, so that mounted sources are writable."
}

variable "gid" {
  type        = number
  default     = null
  description = "The same of its group."
}

variable "network" {
  default     = "bridge"
  description = "The network of the build containers; apt needs one."
}

locals {
  tag = var.tag != "" ? var.tag : "latest"
  uid = coalesce(var.uid, host.uid)
  gid = coalesce(var.gid, host.gid)
}

source "docker" "base" {
  image   = var.base_image
  pull    = false
  commit  = true
  network = var.network
  changes = ["USER pycroft", "WORKDIR /opt/pycroft", "ENTRYPOINT [\"/entry.sh\"]", "CMD [\"version\"]"]
}

# The database has no place in the tree of the application's images; it is built beside them.
source "docker" "db" {
  image   = var.base_image
  pull    = false
  commit  = true
  network = var.network
  changes = ["EXPOSE 5432", "CMD [\"/db-entry.sh\"]"]
}

source "docker" "dev" {
  image     = artifact.base.image
  commit    = true
  network   = var.network
  exec_user = "root"

  # Starts when the first step is about to run, and is gone with the build. Nothing of it touches a disk.
  service "db" {
    image   = artifact.db.image
    tmpfs   = ["/var/lib/pycroft"]
    aliases = ["database"]
    health_check {
      command  = ["pg_isready", "--host=127.0.0.1", "--username=postgres"]
      interval = "1s"
      retries  = 120
    }
  }
}

# The second parent: what was made and tested in dev, and is fetched from it over the build's own network.
source "docker" "prod" {
  image     = artifact.base.image
  commit    = true
  network   = var.network
  exec_user = "root"
  changes   = ["CMD [\"http\"]", "EXPOSE 5000"]

  service "dev" {
    image      = artifact.dev.image
    entrypoint = ["python3", "-m", "http.server", "8000", "--directory", "/opt/pycroft/dist"]
    health_check {
      command  = ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/')"]
      interval = "1s"
      retries  = 60
    }
  }
}

build {
  sources = ["source.docker.base"]

  provisioner "shell" {
    env    = { PYCROFT_UID = local.uid, PYCROFT_GID = local.gid }
    script = "${path.root}/scripts/base.sh"
  }

  provisioner "file" {
    source      = "${path.root}/files/entry.sh"
    destination = "/entry.sh"
  }
}

build {
  sources = ["source.docker.db"]

  provisioner "shell" {
    script = "${path.root}/scripts/db.sh"
  }

  provisioner "file" {
    source      = "${path.root}/files/db-entry.sh"
    destination = "/db-entry.sh"
  }

  post-processor "docker-tag" {
    repository = "${var.registry}/db"
    tags       = [local.tag]
  }
}

build {
  sources = ["source.docker.dev"]

  provisioner "file" {
    source      = "${path.root}/app/"
    destination = "/opt/pycroft/app"
  }

  # The tests, against a real database; what they left of a failed run is in the log that kiln names.
  provisioner "shell" {
    name   = "tests"
    env    = { PYCROFT_DB = "host=database user=postgres dbname=postgres" }
    inline = ["cd /opt/pycroft/app && python3 -m unittest discover --start-directory tests --verbose"]
  }

  provisioner "shell" {
    env    = { PYCROFT_VERSION = local.tag }
    script = "${path.root}/scripts/bundle.sh"
  }

  post-processor "docker-tag" {
    repository = "${var.registry}/dev"
    tags       = [local.tag]
  }
}

build {
  sources = ["source.docker.prod"]

  provisioner "shell" {
    inline = [
      "python3 -c \"import urllib.request; urllib.request.urlretrieve('http://dev:8000/pycroft.pyz', '/opt/pycroft/pycroft.pyz')\"",
      "chmod 755 /opt/pycroft/pycroft.pyz",
    ]
  }

  # What was sealed, started as it will be: where it does not answer, nothing gets a name and nothing is pushed.
  test "answers" {
    health {
      command  = ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/')"]
      interval = "1s"
      retries  = 60
    }
    command       = ["/entry.sh", "version"]
    expect_output = "^pycroft ${local.tag}$"
  }

  post-processors {
    post-processor "docker-tag" {
      repository = "${var.registry}/prod"
      tags       = [local.tag]
    }
    post-processor "docker-push" {}
  }
}
