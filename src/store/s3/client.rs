//! WHO ASKS, AND WHERE? The SDK's client from the settings: keys, region, address. Its own retries and time limits are off; `call` has ours.

mod transport;

use std::time::Duration;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use super::bucket::{S3Error, S3ErrorKind};
use super::failure::advice::Place;
use super::failure::chain;
use crate::config::{self, AddressingStyle};

/// Keys and region may come from the metadata service of a machine it may not run on: so long may either take.
const SOURCES_TIMEOUT: Duration = Duration::from_secs(15);

/// Servers other than Amazon's take any region; this is what their documentation names.
const ANY_REGION: Region = Region::from_static("us-east-1");

/// The client, and its place for messages.
///
/// # Errors
/// A setting is missing or wrong, or there are no keys.
pub(super) async fn connect(settings: &config::S3Store) -> Result<(Client, Place), S3Error> {
    let http = transport::client(settings)?;
    let Ok(shared) = tokio::time::timeout(SOURCES_TIMEOUT, shared(settings, http)).await else {
        let seconds = SOURCES_TIMEOUT.as_secs();
        let advice = format!("S3 store: no region was found within {seconds} s: set store.s3.region");
        return Err(S3Error { advice, kind: S3ErrorKind::WrongRegion });
    };
    let region = region(settings, &shared)?;
    let place = Place {
        bucket: settings.bucket.clone(),
        endpoint: shared.endpoint_url().map(shown),
        region: region.to_string(),
        keys_from: keys_from(settings),
    };
    find_keys(&shared, &place).await?;
    let by_path = match settings.addressing_style {
        AddressingStyle::Auto => shared.endpoint_url().is_some(),
        AddressingStyle::Path => true,
        AddressingStyle::Virtual => false,
    };
    let config = aws_sdk_s3::config::Builder::from(&shared)
        .region(region)
        .force_path_style(by_path)
        // The second try of a conditional write that had landed would say 412.
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        // The default checksums turn bodies into signed chunks that several servers cannot read over plain HTTP; stored objects have their own.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Ok((Client::from_conf(config), place))
}

/// The address as it may be printed: without a password before the host.
fn shown(url: &str) -> String {
    let url = url.trim_end_matches('/');
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

async fn shared(settings: &config::S3Store, http: SharedHttpClient) -> SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
    if let Some(url) = &settings.endpoint_url {
        // An S3 server of one's own is not asked for by machines of Amazon, whose metadata would name a region.
        loader = loader.endpoint_url(url.to_string()).region(region_without_metadata(settings));
    } else if !settings.region.is_empty() {
        loader = loader.region(Region::new(settings.region.clone()));
    }
    if !settings.profile.is_empty() {
        loader = loader.profile_name(&settings.profile);
    }
    if let Some(keys) = named_keys(settings) {
        loader = loader.credentials_provider(keys);
    }
    let shared = loader.load().await;
    if !settings.access_key.reveal().is_empty() || settings.profile.is_empty() {
        return shared;
    }
    // A profile that is named goes before the environment; in the default chain it would come after it.
    let surroundings = ProviderConfig::without_region().with_http_client(http).with_region(shared.region().cloned());
    let profile = ProfileFileCredentialsProvider::builder().configure(&surroundings).profile_name(&settings.profile);
    shared.into_builder().credentials_provider(SharedCredentialsProvider::new(profile.build())).build()
}

fn region_without_metadata(settings: &config::S3Store) -> RegionProviderChain {
    let named = (!settings.region.is_empty()).then(|| Region::new(settings.region.clone()));
    let mut profile = ProfileFileRegionProvider::builder();
    if !settings.profile.is_empty() {
        profile = profile.profile_name(&settings.profile);
    }
    RegionProviderChain::first_try(named)
        .or_else(EnvironmentVariableRegionProvider::new())
        .or_else(profile.build())
        .or_else(ANY_REGION)
}

/// Keys that the configuration holds itself.
fn named_keys(settings: &config::S3Store) -> Option<SharedCredentialsProvider> {
    let (access, token) = (settings.access_key.reveal(), settings.session_token.reveal());
    let token = (!token.is_empty()).then(|| token.to_owned());
    let keys = || Credentials::new(access, settings.secret_key.reveal(), token, None, "store.s3.access_key");
    (!access.is_empty()).then(|| SharedCredentialsProvider::new(keys()))
}

fn keys_from(settings: &config::S3Store) -> String {
    if !settings.access_key.reveal().is_empty() {
        "store.s3.access_key".to_owned()
    } else if !settings.profile.is_empty() {
        format!("the profile {}", settings.profile)
    } else {
        "the environment, the AWS files, SSO, the container or the instance".to_owned()
    }
}

fn region(settings: &config::S3Store, shared: &SdkConfig) -> Result<Region, S3Error> {
    if let Some(region) = shared.region() {
        return Ok(region.clone());
    }
    if shared.endpoint_url().is_some() {
        return Ok(ANY_REGION);
    }
    Err(S3Error {
        advice: format!(
            "S3 store: no region is set for the bucket {}: set store.s3.region, AWS_REGION, or region in the AWS profile",
            settings.bucket
        ),
        kind: S3ErrorKind::WrongRegion,
    })
}

/// Asks for the keys once, so that their absence is told as that.
async fn find_keys(shared: &SdkConfig, place: &Place) -> Result<(), S3Error> {
    let why = match shared.credentials_provider() {
        None => "no source".to_owned(),
        Some(provider) => match tokio::time::timeout(SOURCES_TIMEOUT, provider.provide_credentials()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} s", SOURCES_TIMEOUT.as_secs()),
        },
    };
    let advice = format!(
        "S3 store: no keys for the bucket {}: looked in {} ({why}); set store.s3.access_key and secret_key, store.s3.profile, \
         or one of the sources of AWS tools",
        place.bucket, place.keys_from
    );
    Err(S3Error { advice, kind: S3ErrorKind::Credentials })
}
