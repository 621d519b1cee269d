//! May everpage do what it does in the bucket, and nothing else? The policy of `deploy/` against the calls in the code.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use everpage::clock::UnixMillis;
use everpage::config::S3Store;
use everpage::page::large::{LargeBody, Pieces};
use everpage::store::s3::bucket::{Attributes, Bucket, Condition, Look, S3ErrorKind, Swap};
use futures_util::stream;
use serde_json::{Value as Json, json};

use crate::support::{Server, TestBucket};

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

/// More of what S3 can do: whatever of it and of [`ACTIONS`] the policy does not allow, is denied below. Not the policy of
/// the bucket: the test takes it away again.
const OTHERS: &[&str] = &[
    "s3:CreateBucket",
    "s3:DeleteBucket",
    "s3:DeleteObjectVersion",
    "s3:GetBucketAcl",
    "s3:GetBucketLocation",
    "s3:GetBucketVersioning",
    "s3:GetLifecycleConfiguration",
    "s3:GetObjectAcl",
    "s3:GetObjectTagging",
    "s3:GetObjectVersion",
    "s3:ListBucketVersions",
    "s3:ListMultipartUploadParts",
    "s3:PutBucketAcl",
    "s3:PutLifecycleConfiguration",
    "s3:PutObjectAcl",
    "s3:PutObjectTagging",
];

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
    // These ask nobody.
    calls.filter(|name| !matches!(*name, "clone" | "config")).map(str::to_owned).collect()
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

/// A policy of the bucket that denies its owner what the policy of `deploy/` does not allow.
fn complement(bucket: &str, location: &str) -> Json {
    let named =
        |text: &Json| Json::from(text.as_str().unwrap().replace("BUCKET", bucket).replace("LOCATION", location));
    let (whole, all) = (format!("arn:aws:s3:::{bucket}"), format!("arn:aws:s3:::{bucket}/*"));
    let statements = statements();
    let allowed: BTreeSet<&str> = statements.values().flat_map(actions).collect();
    let known = ACTIONS.iter().map(|(_, action)| *action).chain(OTHERS.iter().copied()).collect::<BTreeSet<&str>>();
    let denied: Vec<&&str> = known.difference(&allowed).collect();
    let mut denials = vec![json!({"Action": denied, "Resource": [&whole, &all]})];
    for statement in statements.values() {
        denials.push(json!({"Action": statement["Action"], "NotResource": [named(&statement["Resource"]), &whole]}));
        if let Some(prefix) = statement.pointer("/Condition/StringLike/s3:prefix") {
            for condition in
                [json!({"StringNotLike": {"s3:prefix": named(prefix)}}), json!({"Null": {"s3:prefix": "true"}})]
            {
                denials.push(json!({"Action": statement["Action"], "Resource": &whole, "Condition": condition}));
            }
        }
    }
    for denial in &mut denials {
        denial["Effect"] = "Deny".into();
        denial["Principal"] = "*".into();
    }
    json!({"Version": "2012-10-17", "Statement": denials})
}

/// Two parts of zeros.
#[derive(Debug)]
struct Zeros;

#[async_trait]
impl LargeBody for Zeros {
    fn bytes(&self) -> u64 {
        9 << 20
    }

    async fn read(&self, range: Range<u64>) -> io::Result<Pieces> {
        let length = usize::try_from(range.end - range.start).unwrap();
        Ok(Box::pin(stream::iter(
            vec![0; length].chunks(1 << 20).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>(),
        )))
    }
}

/// All that the bucket does for everpage.
async fn everything(bucket: &Bucket) {
    let attributes = Attributes::default();
    bucket.check().await.unwrap();
    let version = bucket.put("pages/a", vec![Bytes::from("one")], &attributes).await.unwrap();
    assert!(matches!(bucket.look("pages/a", &version, 10).await, Ok(Look::Unchanged)));
    assert!(bucket.get("pages/absent", 10).await.unwrap().is_none(), "absent, and not forbidden");
    assert!(bucket.open_range("pages/a", 1..2, None).await.unwrap().is_some());
    let Swap::Done(head) = bucket.swap("journal/head", Bytes::from("1"), &Condition::Absent).await.unwrap() else {
        panic!("nobody else is there");
    };
    assert!(matches!(bucket.swap("journal/head", Bytes::from("2"), &Condition::Is(head)).await, Ok(Swap::Done(_))));
    bucket.upload("pages/large", Bytes::from("head"), Arc::new(Zeros), &attributes).await.unwrap();
    assert_eq!(bucket.list("pages/", None, 10).await.unwrap().keys.len(), 2);
    assert_eq!(bucket.delete_many(&["pages/a".to_owned(), "pages/large".to_owned()]).await.unwrap(), [""; 0]);
    bucket.delete("journal/head").await.unwrap();
}

/// Ceph's gateway carries out the policy of a bucket against its owner as well; the emulator looks at no policy.
#[tokio::test]
async fn everything_works_under_the_least_policy_and_nothing_beyond_it() {
    let bucket: TestBucket = Server::Rgw.fresh_bucket().await;
    bucket.plant("other/secret", "x").await;
    let unfinished = bucket.client.create_multipart_upload().bucket(&bucket.name).key("shop/left").send();
    unfinished.await.expect("an upload begins");
    let policy = complement(&bucket.name, "shop").to_string();
    bucket.client.put_bucket_policy().bucket(&bucket.name).policy(policy).send().await.expect("a policy is taken");

    let at = |location: &str| S3Store { location: location.to_owned(), part_size: 5 << 20, ..bucket.settings() };
    let opened = Bucket::open(&at("shop")).await.unwrap();
    everything(&opened).await;
    assert_eq!(opened.abort_uploads(UnixMillis(u64::MAX / 2)).await.unwrap(), 1);

    let outside = Bucket::open(&at("other")).await.expect_err("another location");
    assert_eq!(outside.kind, S3ErrorKind::Forbidden, "{outside}");
    bucket.client.list_objects_v2().bucket(&bucket.name).send().await.expect_err("the whole bucket");
    bucket.client.head_bucket().bucket(&bucket.name).send().await.expect_err("it is a listing without a prefix");

    bucket.client.delete_bucket_policy().bucket(&bucket.name).send().await.expect("a policy is taken away");
    bucket.destroy().await;
}
