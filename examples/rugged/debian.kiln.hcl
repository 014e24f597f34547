# The parent of all images where no Docker engine is at hand: Debian from its own archive, under the name that the templates look
# for. Needs mmdebstrap.

source "oci" "debian" {
  from = { mmdebstrap = { suite = "bookworm", variant = "minbase" } }
  tags = ["debian:bookworm"]
}

build {
  sources = ["source.oci.debian"]
}
