//! The little XML of S3 that is needed.

use std::fmt::Write;
use std::sync::Arc;

use quick_xml::escape::{escape, unescape};

use super::buckets::{Bucket, Object, Refused};

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

pub(super) fn error(refused: Refused) -> String {
    let Refused(_, code, message) = refused;
    format!("{HEAD}<Error><Code>{code}</Code><Message>{message}</Message><RequestId>LIAR</RequestId></Error>")
}

pub(super) fn listing(bucket: &str, prefix: &str, found: &[(&String, &Arc<Object>)], is_truncated: bool) -> String {
    let mut xml = format!(
        "{HEAD}<ListBucketResult><Name>{bucket}</Name><Prefix>{}</Prefix><KeyCount>{}</KeyCount>\
         <IsTruncated>{is_truncated}</IsTruncated>",
        escape(prefix),
        found.len()
    );
    if let (true, Some((last, _))) = (is_truncated, found.last()) {
        // Any text will do: the last key itself, in hexadecimal digits.
        let _ = write!(xml, "<NextContinuationToken>{}</NextContinuationToken>", hex::encode(last.as_bytes()));
    }
    for (key, object) in found {
        let _ = write!(
            xml,
            "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
            escape(key.as_str()),
            object.modified.to_rfc3339(),
            escape(object.etag.as_str()),
            object.bytes.len()
        );
    }
    xml + "</ListBucketResult>"
}

pub(super) fn uploads(bucket: &str, prefix: &str, content: &Bucket) -> String {
    let mut xml =
        format!("{HEAD}<ListMultipartUploadsResult><Bucket>{bucket}</Bucket><IsTruncated>false</IsTruncated>");
    for (id, upload) in content.uploads.iter().filter(|(_, upload)| upload.key.starts_with(prefix)) {
        let key = escape(upload.key.as_str());
        let begun = upload.begun.to_rfc3339();
        let _ = write!(xml, "<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{begun}</Initiated></Upload>");
    }
    xml + "</ListMultipartUploadsResult>"
}

pub(super) fn upload_begun(bucket: &str, key: &str, id: &str) -> String {
    let key = escape(key);
    format!(
        "{HEAD}<InitiateMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
         </InitiateMultipartUploadResult>"
    )
}

pub(super) fn upload_completed(bucket: &str, key: &str, etag: &str) -> String {
    let (key, etag) = (escape(key), escape(etag));
    format!(
        "{HEAD}<CompleteMultipartUploadResult><Bucket>{bucket}</Bucket><Key>{key}</Key><ETag>{etag}</ETag>\
         </CompleteMultipartUploadResult>"
    )
}

pub(super) fn deleted(keys: &[String]) -> String {
    let mut xml = format!("{HEAD}<DeleteResult>");
    for key in keys {
        let _ = write!(xml, "<Deleted><Key>{}</Key></Deleted>", escape(key.as_str()));
    }
    xml + "</DeleteResult>"
}

/// The texts of all elements of this name.
pub(super) fn texts(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let after = xml.split(&open).skip(1);
    let texts = after.filter_map(|rest| rest.split(&close).next());
    texts.filter_map(|text| Some(unescape(text).ok()?.into_owned())).collect()
}
