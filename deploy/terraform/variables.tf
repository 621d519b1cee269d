variable "bucket" {
  description = "The name of the bucket to make."
  type        = string
}

variable "location" {
  description = "store.s3.location: a prefix of all keys, without slashes at its ends. Empty: the whole bucket."
  type        = string
  default     = ""
  validation {
    condition     = can(regex("^([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)?$", var.location))
    error_message = "Letters, digits, \".\", \"_\" and \"-\", with \"/\" between, and none at the ends."
  }
}

variable "kms_key_arn" {
  description = "A key of your own for encryption. Null: Amazon's (AES256), which costs nothing."
  type        = string
  default     = null
}

variable "object_actions" {
  description = "What further settings need: s3:PutObjectTagging for object_parameters.tagging."
  type        = list(string)
  default     = []
}

variable "force_destroy" {
  description = "Let `terraform destroy` remove the bucket with all that is in it."
  type        = bool
  default     = false
}
