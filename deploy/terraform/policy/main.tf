# The least policy of everpage, made from ../../iam-policy.json: the file that its tests hold against the calls it makes.
# It needs no provider, so that it can be read without an account.

variable "bucket" {
  description = "The name of the bucket."
  type        = string
}

variable "location" {
  description = "store.s3.location: the prefix of all keys, without slashes at its ends. Empty: the whole bucket."
  type        = string
  default     = ""
}

variable "partition" {
  description = "aws, aws-cn or aws-us-gov."
  type        = string
  default     = "aws"
}

variable "kms_key_arn" {
  description = "The key of store.s3.encryption = \"aws:kms\", if it is one of your own."
  type        = string
  default     = null
}

variable "object_actions" {
  description = "What further settings need: s3:PutObjectAcl for default_acl, s3:PutObjectTagging for object_parameters.tagging."
  type        = list(string)
  default     = []
}

locals {
  prefix = var.location == "" ? "" : "${var.location}/"
  source = file("${path.module}/../../iam-policy.json")
  # The location last: it may hold any word.
  named = replace(replace(local.source, "arn:aws:", "arn:${var.partition}:"), "BUCKET", var.bucket)
  least = jsondecode(replace(local.named, "LOCATION/", local.prefix))

  further = length(var.object_actions) == 0 ? [] : [{
    Sid      = "FurtherSettings"
    Effect   = "Allow"
    Action   = var.object_actions
    Resource = "arn:${var.partition}:s3:::${var.bucket}/${local.prefix}*"
  }]
  # To read, and to put the parts of a large page together; to write.
  kms = var.kms_key_arn == null ? [] : [{
    Sid      = "Key"
    Effect   = "Allow"
    Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
    Resource = var.kms_key_arn
  }]
}

output "json" {
  description = "The policy."
  value = jsonencode({
    Version   = local.least.Version
    Statement = concat(local.least.Statement, local.further, local.kms)
  })
}
