# Apps: their Dockerfiles are one line, all else is in the ONBUILD instructions of their base.

source "dockerfile" "api" {
  context    = "apps/api"
  dockerfile = "apps/api/Dockerfile"
  contexts   = { base-api = artifact.base-api.image }
  build_args = { release_name = local.release }
}

source "dockerfile" "user-frontend" {
  context    = "apps/user-frontend"
  dockerfile = "apps/user-frontend/Dockerfile"
  contexts   = { base-frontend = artifact.base-frontend.image }
  build_args = { release_name = local.release }
}

build {
  sources = ["dockerfile.api", "dockerfile.user-frontend"]

  # It has to answer, as the release that it is, before it gets a name.
  test "answers" {
    command       = ["serve", "--once", "/_status"]
    expect_output = "\"version\": \"${local.release}\""
    network       = "none"
  }

  post-processors {
    post-processor "docker-tag" {
      repository = "${local.registry}/${source.name}"
      tags       = compact([local.release, local.latest])
    }
    post-processor "docker-push" {
      skip_if_exists = true
      # Any branch may be tried out, but `latest` is main's.
      confirm = var.mark_latest && local.branch != "main" ? "Make ${local.branch} the latest ${source.name}?" : false
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
}
