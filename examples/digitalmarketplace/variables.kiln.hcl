# What the three other files share.

variable "registry" {
  default     = env("DM_REGISTRY")
  description = "Where the images belong; `localhost:5000/digitalmarketplace` where it is empty."
}

variable "mark_latest" {
  type        = bool
  default     = false
  description = "Whether what is pushed becomes `latest`, too."
}

variable "release_name" {
  default     = env("RELEASE_NAME")
  description = "What is released, for example a branch; `release-COMMIT` where it is empty."
}

variable "source_date_epoch" {
  default     = env("SOURCE_DATE_EPOCH")
  description = "Seconds since 1970 that count as the time of the build; that of the run where it is empty."
}

variable "base_image" {
  default     = "debian:bookworm"
  description = "The distribution's image."
}

variable "suite" {
  default     = "bookworm"
  description = "The release that `base_image` has to be; a tag that has moved on fails the build."
}

variable "out" {
  default     = "out"
  description = "Where the manifest, the reports and the facts of builds are written."
}

locals {
  registry = coalesce(var.registry, "localhost:5000/digitalmarketplace")
  # The file ends with a line end, the tag does not.
  version = trimspace(file("VERSION"))
  # feature/new-search is no tag.
  release = slug(coalesce(var.release_name, "release-${git.short}"))
  latest  = var.mark_latest ? "latest" : null
  built   = var.source_date_epoch != "" ? unix_timestamp_parse(var.source_date_epoch).rfc3339 : timestamp()
  # A commit without a branch is none of main.
  branch = try(coalesce(git.branch), "no branch")
}
