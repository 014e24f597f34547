# The images that all apps are built upon. Their version is in the file VERSION, and nowhere else.

source "dockerfile" "base" {
  dockerfile = "docker/base.Dockerfile"
  build_args = {
    BASE_IMAGE    = var.base_image
    BUILD_DATE    = formatdate("YYYYMMDD'T'hhmmss'Z'", local.built)
    BUILD_VERSION = local.version
  }
}

# `FROM base` is what the build above made, pushed or not.
source "dockerfile" "base-api" {
  dockerfile = "docker/api.Dockerfile"
  contexts   = { base = artifact.base.image }
  labels     = { BASE = artifact.base.image }
}

source "dockerfile" "base-frontend" {
  dockerfile = "docker/frontend.Dockerfile"
  contexts   = { base = artifact.base.image }
  labels     = { BASE = artifact.base.image }
  # What the program for stylesheets must be; any other stops the build.
  build_args = { MINIFY_SHA256 = trimspace(file("files/minify.sha256")) }
}

build {
  sources = ["dockerfile.base", "dockerfile.base-api", "dockerfile.base-frontend"]

  # What the scan finds is a warning, and a file for whoever reads it.
  post-processors {
    post-processor "shell-local" {
      name     = "scan"
      env      = { REPORT = "${var.out}/scan-${source.name}.json" }
      script   = "${path.root}/scripts/scan.sh"
      on_error = "continue"
    }
    post-processor "artifice" {
      files    = ["${var.out}/scan-${source.name}.json"]
      on_error = "continue"
    }
  }

  post-processors {
    post-processor "docker-tag" {
      repository = "${local.registry}/${source.name}"
      tags       = compact([local.version, local.latest])
    }
    post-processor "docker-push" {
      skip_if_exists = true
      # A version is for everybody: from elsewhere than main somebody has to want it.
      confirm = local.branch == "main" ? false : "Push ${source.name} ${local.version} from ${local.branch}?"
    }
    post-processor "manifest" {
      output  = "${var.out}/manifest.json"
      details = true
    }
  }

  always {
    env    = { FACTS = "${var.out}/facts.jsonl" }
    script = "${path.root}/scripts/facts.sh"
  }
  on_failure {
    inline = ["echo \"$KILN_BUILD failed: $KILN_ERROR\" >&2"]
  }
}
