output "bucket" {
  description = "The name of the bucket."
  value       = aws_s3_bucket.pages.id
}

output "policy_arn" {
  description = "The policy to attach to the role of the nodes."
  value       = aws_iam_policy.pages.arn
}

output "policy_json" {
  description = "The same as text, for roles that are made elsewhere."
  value       = module.policy.json
}

output "environment" {
  description = "What to give to everpage; the keys come from the role."
  value = {
    EVERPAGE_STORE__KIND         = "s3"
    EVERPAGE_STORE__S3__BUCKET   = aws_s3_bucket.pages.id
    EVERPAGE_STORE__S3__LOCATION = var.location
    EVERPAGE_STORE__S3__REGION   = aws_s3_bucket.pages.region
  }
}
