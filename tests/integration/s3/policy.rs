//! May everpage do what it does in the bucket, and nothing else? The policy of `deploy/` against the calls in the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

/// Operations of the SDK and the action that each needs: "Actions, resources, and condition keys for Amazon S3", table
/// "API operations", in AWS's Service Authorization Reference. S3 has no action of its own for the parts of an upload.
const ACTIONS: &[(&str, &str)] = &[
    ("get_object", "s3:GetObject"),
    ("head_object", "s3:GetObject"),
    ("put_object", "s3:PutObject"),
    ("create_multipart_upload", "s3:PutObject"),
    ("upload_part", "s3:PutObject"),
    ("complete_multipart_upload", "s3:PutObject"),
    ("abort_multipart_upload", "s3:AbortMultipartUpload"),
    ("delete_object", "s3:DeleteObject"),
    ("delete_objects", "s3:DeleteObject"),
    ("list_objects_v2", "s3:ListBucket"),
    ("list_multipart_uploads", "s3:ListBucketMultipartUploads"),
];

/// Operations that only a setting brings about, which is off by default: who switches it on grants more.
const ON_REQUEST: &[(&str, &str)] = &[("create_bucket", "store.s3.create_bucket")];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The statements of the policy, by their names.
fn statements() -> BTreeMap<String, Json> {
    let text = fs::read_to_string(package().join("deploy/iam-policy.json")).unwrap();
    let policy: Json = serde_json::from_str(&text).unwrap();
    assert_eq!(policy["Version"], "2012-10-17");
    let statements = policy["Statement"].as_array().unwrap().iter();
    statements.map(|statement| (statement["Sid"].as_str().unwrap().to_owned(), statement.clone())).collect()
}

fn actions(statement: &Json) -> Vec<&str> {
    match &statement["Action"] {
        Json::Array(actions) => actions.iter().map(|action| action.as_str().unwrap()).collect(),
        action => vec![action.as_str().unwrap()],
    }
}

/// Operations that the sources call: `client.name()`, also over two lines.
fn operations(text: &str) -> BTreeSet<String> {
    let calls = text.match_indices("client").filter_map(|(at, found)| {
        let name = text[at + found.len()..].trim_start().strip_prefix('.')?.trim_start();
        let (name, _) = name.split_once("()")?;
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_').then_some(name)
    });
    // A clone of the client asks nobody.
    calls.filter(|name| *name != "clone").map(str::to_owned).collect()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_policy_allows_each_call_in_the_code_and_nothing_else() {
    let sources = files(&package().join("src/store/s3"), "rs");
    let called: BTreeSet<String> =
        sources.iter().flat_map(|path| operations(&fs::read_to_string(path).unwrap())).collect();
    let on_request = |name: &str| ON_REQUEST.iter().any(|(operation, _)| *operation == name);
    let action = |name: &String| ACTIONS.iter().find(|(operation, _)| operation == name).map(|(_, action)| *action);
    let unknown: Vec<&String> = called.iter().filter(|name| action(name).is_none() && !on_request(name)).collect();
    assert!(unknown.is_empty(), "nobody has said which action these calls need: {unknown:?}");

    let needed: BTreeSet<&str> = called.iter().filter_map(action).collect();
    let statements = statements();
    let allowed: BTreeSet<&str> = statements.values().flat_map(actions).collect();
    assert_eq!(allowed, needed, "left: deploy/iam-policy.json; right: what the code calls");
}

#[test]
fn the_policy_ends_at_the_location() {
    let statements = statements();
    for (name, statement) in &statements {
        assert_eq!(statement["Effect"], "Allow", "{name}");
        for action in actions(statement) {
            let resource =
                if action.contains("Bucket") { "arn:aws:s3:::BUCKET" } else { "arn:aws:s3:::BUCKET/LOCATION/*" };
            assert_eq!(statement["Resource"], resource, "{name}: {action}");
        }
    }
    // A key that is absent is 404 to who may list it, else 403: so the prefix of keys, and not more, may be listed.
    assert_eq!(statements["NamesOfObjects"]["Condition"]["StringLike"]["s3:prefix"], "LOCATION/*");
}

#[test]
fn calls_are_found_however_they_are_written() {
    let text =
        "inner.client.get_object().bucket(x); self.client\n    .put_object()\n .key(y); client.clone(); upload.key()";
    assert_eq!(operations(text), ["get_object", "put_object"].map(str::to_owned).into());
}

#[test]
fn the_terraform_can_be_read_and_makes_a_private_bucket() {
    let mut resources = BTreeMap::new();
    for path in files(&package().join("deploy/terraform"), "tf") {
        let body = hcl::parse(&fs::read_to_string(&path).unwrap()).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        for block in body.into_blocks().filter(|block| block.identifier() == "resource") {
            let kind = block.labels()[0].as_str().to_owned();
            let json: Json = hcl::from_body(block.body().clone()).unwrap();
            resources.insert(kind, json);
        }
    }
    let block = &resources["aws_s3_bucket_public_access_block"];
    for switch in ["block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets"] {
        assert_eq!(block[switch], true, "{switch}");
    }
    let at = |kind: &str, pointer: &str| resources[kind].pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(at("aws_s3_bucket_ownership_controls", "/rule/object_ownership"), "BucketOwnerEnforced");
    assert_eq!(at("aws_s3_bucket_versioning", "/versioning_configuration/status"), "Disabled");
    let abort = "/rule/0/abort_incomplete_multipart_upload/days_after_initiation";
    assert_eq!(at("aws_s3_bucket_lifecycle_configuration", abort), 1);
    assert_eq!(at("aws_iam_policy", "/policy"), "${module.policy.json}");
}
