# Changes a machine that is there already, over SSH. Nothing is started, and nothing comes out of it.

packer {
  required_version = ">= 1.7.0"
}

variable "host" {
  description = "Name or address of the machine."
  type        = string
  default     = "127.0.0.1"
}

variable "port" {
  type    = number
  default = 22
}

variable "user" {
  type    = string
  default = "root"
}

variable "key" {
  description = "A private key that the machine lets in; without one, the keys of the SSH agent are tried."
  type        = string
  default     = ""
}

variable "host_keys" {
  description = "Keys that the machine may show, as ssh-keyscan prints them or as fingerprints. Without any, ~/.ssh/known_hosts knows them."
  type        = list(string)
  default     = []
}

variable "root" {
  description = "Where the files go: / on a real machine."
  type        = string
  default     = "/"
}

source "null" "machine" {
  ssh_host             = var.host
  ssh_port             = var.port
  ssh_username         = var.user
  ssh_private_key_file = var.key
  ssh_agent_auth       = var.key == ""
  ssh_host_key         = var.host_keys
}

build {
  sources = ["null.machine"]

  # A directory travels as one stream.
  provisioner "file" {
    source      = "files/"
    destination = "${var.root}/opt/greeter"
  }

  # One command on the machine; the environment does not stand on its command line.
  provisioner "shell" {
    environment_vars = ["ROOT=${var.root}", "BAKED_BY=${build.User}@${build.Host}"]
    script           = "scripts/install.sh"
  }

  provisioner "file" {
    direction   = "download"
    source      = "${var.root}/opt/greeter/installed"
    destination = "installed"
  }
}
