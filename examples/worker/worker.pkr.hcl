# One worker, three kinds of image: the same steps bake a Docker image, an image without a daemon, and an AMI.

variable "release" {
  description = "What the images are tagged with."
  default     = "1.0.0"
}

variable "repository" {
  default = "example/worker"
}

variable "region" {
  default = "eu-central-1"
}

source "docker" "worker" {
  image   = "debian:bookworm"
  pull    = false
  commit  = true
  changes = ["USER rugged", "WORKDIR /opt/rugged", "CMD [\"supervisord\", \"--nodaemon\", \"--configuration\", \"/etc/supervisor/supervisord.conf\"]"]
}

source "oci" "worker" {
  from    = { mmdebstrap = { suite = "bookworm" } }
  changes = ["USER rugged", "WORKDIR /opt/rugged", "CMD [\"supervisord\", \"--nodaemon\", \"--configuration\", \"/etc/supervisor/supervisord.conf\"]"]
}

source "amazon-ebs" "worker" {
  region        = var.region
  ami_name      = "rugged-worker-${var.release}"
  instance_type = "t3.small"
  ssh_username  = "admin"

  source_ami_filter {
    filters = {
      name                = "debian-12-amd64-*"
      root-device-type    = "ebs"
      virtualization-type = "hvm"
    }
    owners      = ["136693071363"]
    most_recent = true
  }

  tags = { role = "worker", release = var.release }
}

build {
  sources = ["source.docker.worker", "source.oci.worker", "source.amazon-ebs.worker"]

  # Debian's images of machines have Python, those of containers do not.
  provisioner "shell" {
    except = ["amazon-ebs.worker"]
    inline = ["apt-get update", "apt-get install -y --no-install-recommends python3 python3-apt"]
  }

  provisioner "ansible" {
    playbook_file   = "ansible/worker.yml"
    groups          = ["workers"]
    extra_arguments = ["-e", "worker_release=${var.release}"]

    # An instance is logged in to as `admin`, who may become root.
    override = {
      "amazon-ebs.worker" = {
        extra_arguments = ["--become", "-e", "worker_release=${var.release}"]
      }
    }
  }

  # What the role promises, looked at in each image; on an instance as root, too.
  provisioner "shell" {
    script          = "scripts/check.sh"
    execute_command = "chmod +x {{.Path}}; {{.Vars}} {{.Path}}"

    override = {
      "amazon-ebs.worker" = { execute_command = "chmod +x {{.Path}}; sudo {{.Vars}} {{.Path}}" }
    }
  }

  provisioner "shell" {
    except = ["amazon-ebs.worker"]
    inline = ["apt-get clean", "rm -rf /var/lib/apt/lists/*"]
  }

  post-processors {
    post-processor "docker-tag" {
      except     = ["amazon-ebs.worker"]
      repository = var.repository
      tags       = [var.release, "latest"]
    }
  }

  post-processor "manifest" {
    output = "manifest.json"
  }
}
