//! WHAT IS SAID WITH OBJECTS? What the configuration asks for, and nothing else: servers refuse headers that they do not know.

use aws_sdk_s3::types::{ObjectCannedAcl, RequestPayer, ServerSideEncryption, StorageClass};

use super::Attributes;
use crate::config;

/// The settings as the SDK's types; `None`: nothing is said.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) owner: Option<String>,
    pub(super) payer: Option<RequestPayer>,
    encryption: Option<ServerSideEncryption>,
    kms_key_id: Option<String>,
    page: PageSaid,
}

/// What is said with pages only.
#[derive(Clone, Debug, Default)]
pub(super) struct PageSaid {
    pub(super) acl: Option<ObjectCannedAcl>,
    pub(super) storage_class: Option<StorageClass>,
    pub(super) cache_control: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) tagging: Option<String>,
}

/// What is said with one object.
#[derive(Clone, Debug)]
pub(super) struct ObjectSaid {
    pub(super) page: PageSaid,
    pub(super) encryption: Option<ServerSideEncryption>,
    pub(super) kms_key_id: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) payer: Option<RequestPayer>,
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) metadata: Option<std::collections::HashMap<String, String>>,
}

impl Said {
    pub(super) fn new(settings: &config::S3Store) -> Self {
        let parameters = &settings.object_parameters;
        Said {
            owner: unless_empty(&settings.expected_bucket_owner),
            payer: unless_empty(&parameters.request_payer).map(|payer| RequestPayer::from(payer.as_str())),
            encryption: unless_empty(&settings.encryption).map(|kind| ServerSideEncryption::from(kind.as_str())),
            kms_key_id: unless_empty(&settings.kms_key_id),
            page: PageSaid {
                acl: unless_empty(&settings.default_acl).map(|acl| ObjectCannedAcl::from(acl.as_str())),
                storage_class: unless_empty(&settings.storage_class).map(|class| StorageClass::from(class.as_str())),
                cache_control: unless_empty(&parameters.cache_control),
                content_disposition: unless_empty(&parameters.content_disposition),
                content_language: unless_empty(&parameters.content_language),
                tagging: unless_empty(&parameters.tagging),
            },
        }
    }

    pub(super) fn with(&self, attributes: &Attributes) -> ObjectSaid {
        let mut page = if attributes.is_page { self.page.clone() } else { PageSaid::default() };
        page.cache_control = attributes.cache_control.clone().or(page.cache_control);
        let metadata = attributes.metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        ObjectSaid {
            page,
            encryption: self.encryption.clone(),
            kms_key_id: self.kms_key_id.clone(),
            owner: self.owner.clone(),
            payer: self.payer.clone(),
            content_type: attributes.content_type.clone(),
            content_encoding: attributes.content_encoding.clone(),
            metadata: (!attributes.metadata.is_empty()).then(|| metadata.collect()),
        }
    }
}

fn unless_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Says it with a request: `PutObject` and `CreateMultipartUpload` have the same words, and no type in common.
macro_rules! say {
    ($said:expr, $request:expr) => {{
        let said: $crate::store::s3::bucket::said::ObjectSaid = $said;
        $request
            .set_acl(said.page.acl)
            .set_storage_class(said.page.storage_class)
            .set_cache_control(said.page.cache_control)
            .set_content_disposition(said.page.content_disposition)
            .set_content_language(said.page.content_language)
            .set_tagging(said.page.tagging)
            .set_server_side_encryption(said.encryption)
            .set_ssekms_key_id(said.kms_key_id)
            .set_expected_bucket_owner(said.owner)
            .set_request_payer(said.payer)
            .set_content_type(said.content_type)
            .set_content_encoding(said.content_encoding)
            .set_metadata(said.metadata)
    }};
}
pub(super) use say;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> config::S3Store {
        config::S3Store {
            default_acl: "private".to_owned(),
            storage_class: "REDUCED_REDUNDANCY".to_owned(),
            encryption: "AES256".to_owned(),
            object_parameters: config::ObjectParameters {
                cache_control: "max-age=60".to_owned(),
                ..config::ObjectParameters::default()
            },
            ..config::S3Store::default()
        }
    }

    #[test]
    fn nothing_is_said_that_is_not_configured() {
        let said = Said::new(&config::S3Store::default()).with(&Attributes { is_page: true, ..Attributes::default() });
        assert!(said.page.acl.is_none() && said.page.storage_class.is_none() && said.page.cache_control.is_none());
        assert!(said.encryption.is_none() && said.owner.is_none() && said.payer.is_none() && said.metadata.is_none());
    }

    #[test]
    fn the_journal_takes_encryption_alone() {
        let said = Said::new(&settings());
        let journal = said.with(&Attributes::default());
        assert!(journal.page.acl.is_none() && journal.page.storage_class.is_none());
        assert!(journal.page.cache_control.is_none());
        assert_eq!(journal.encryption, Some(ServerSideEncryption::Aes256));
        let page = said.with(&Attributes { is_page: true, ..Attributes::default() });
        assert_eq!(page.page.acl, Some(ObjectCannedAcl::Private));
        assert_eq!(page.page.storage_class, Some(StorageClass::ReducedRedundancy));
    }

    #[test]
    fn the_caller_s_cache_control_goes_before_the_configured_one() {
        let said = Said::new(&settings());
        let own = Attributes { cache_control: Some("no-cache".to_owned()), is_page: true, ..Attributes::default() };
        assert_eq!(said.with(&own).page.cache_control.as_deref(), Some("no-cache"));
        let none = Attributes { is_page: true, ..Attributes::default() };
        assert_eq!(said.with(&none).page.cache_control.as_deref(), Some("max-age=60"));
    }
}
