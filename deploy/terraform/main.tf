# The bucket of everpage, private and without versions, and the policy of the nodes that use it.
#
#   terraform init && terraform apply -var bucket=shop-pages
#
# Attach the policy (output policy_arn) to the role of the nodes. No keys are made: a role needs none.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

data "aws_partition" "current" {}

resource "aws_s3_bucket" "pages" {
  bucket = var.bucket
  # Every page can be rendered again; the journal only says which may not be served.
  force_destroy = var.force_destroy
}

resource "aws_s3_bucket_public_access_block" "pages" {
  bucket                  = aws_s3_bucket.pages.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# No ACLs: what is in the bucket belongs to its owner, and policies alone say who may read it.
resource "aws_s3_bucket_ownership_controls" "pages" {
  bucket = aws_s3_bucket.pages.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

# A page that was replaced is of no use to anybody, and an old journal would be a lie.
resource "aws_s3_bucket_versioning" "pages" {
  bucket = aws_s3_bucket.pages.id
  versioning_configuration {
    status = "Disabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "pages" {
  bucket = aws_s3_bucket.pages.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
    # Without it, each page that is read or written is a request to KMS as well.
    bucket_key_enabled = var.kms_key_arn != null
  }
}

# What a crash leaves behind. everpage removes its own leftovers; this is for the day when it never starts again.
resource "aws_s3_bucket_lifecycle_configuration" "pages" {
  bucket = aws_s3_bucket.pages.id
  rule {
    id     = "unfinished-uploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }
  # For buckets that had versions once.
  rule {
    id     = "old-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = 1
    }
    expiration {
      expired_object_delete_marker = true
    }
  }
  depends_on = [aws_s3_bucket_versioning.pages]
}

# Nobody reads or writes without TLS.
resource "aws_s3_bucket_policy" "pages" {
  bucket = aws_s3_bucket.pages.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyWithTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "s3:*"
      Resource  = [aws_s3_bucket.pages.arn, "${aws_s3_bucket.pages.arn}/*"]
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
  depends_on = [aws_s3_bucket_public_access_block.pages]
}

module "policy" {
  source         = "./policy"
  bucket         = var.bucket
  location       = var.location
  partition      = data.aws_partition.current.partition
  kms_key_arn    = var.kms_key_arn
  object_actions = var.object_actions
}

resource "aws_iam_policy" "pages" {
  name        = "everpage-${var.bucket}"
  description = "What everpage does in its bucket, and nothing else."
  policy      = module.policy.json
}
