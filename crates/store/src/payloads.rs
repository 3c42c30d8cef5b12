//! The payload store: raw bodies in S3, one object each or many in a segment.

pub mod settings;

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::types::ServerSideEncryption;
use aws_smithy_http_client::tls::{self, TlsContext, TrustStore, rustls_provider::CryptoMode};
use bytes::Bytes;
use futures::{StreamExt, stream};
use ravenpost_core::event::PayloadLocation;
use ravenpost_core::ids::EventId;

use crate::{Error, Result};
pub use settings::Settings;

const STORE: &str = "the payload store";
/// No operation takes longer, retries included; ingress answers 503 then.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(8);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// Objects that are deleted at once.
const DELETIONS: usize = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The payload store. Cheap to clone.
#[derive(Clone)]
pub struct Payloads {
    client: Client,
    bucket: String,
    prefix: String,
    kms_key_id: Option<String>,
}

/// What a page of deletions came to.
#[derive(Debug)]
pub struct Deleted {
    /// How many objects are gone.
    pub count: usize,
    /// Why the first of those that are not could not be deleted.
    pub failed: Option<Error>,
    /// After which key the next page begins; `None`: nothing older is left.
    pub after: Option<String>,
}

/// A certificate authority's file that does not read.
#[derive(Debug, thiserror::Error)]
#[error("RAVENPOST_S3_CA_FILE can't be read")]
pub struct CaFileError(#[source] std::io::Error);

impl Payloads {
    /// Prepares the client; nothing is sent yet.
    pub async fn new(settings: &Settings) -> std::result::Result<Self, CaFileError> {
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .region(Region::new(settings.s3_region.clone()))
            .http_client(http_client(settings)?);
        if let (Some(id), Some(secret)) = (&settings.s3_access_key_id, &settings.s3_secret_access_key) {
            loader = loader.credentials_provider(Credentials::new(id, secret, None, None, "settings"));
        }
        let shared = loader.load().await;
        let mut config = aws_sdk_s3::config::Builder::from(&shared)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_timeout(OPERATION_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .connect_timeout(CONNECT_TIMEOUT)
                    .build(),
            )
            // Whole bodies within deadlines: a stalled stream is an expired deadline.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        if settings.s3_endpoint != settings::AMAZON {
            config = config.endpoint_url(&settings.s3_endpoint).force_path_style(true);
        }
        Ok(Self {
            client: Client::from_conf(config.build()),
            bucket: settings.s3_bucket.clone(),
            prefix: settings.s3_key_prefix.clone(),
            kms_key_id: settings.s3_kms_key_id.clone(),
        })
    }

    /// Stores an object durably under `key`.
    pub async fn put(&self, key: &str, body: Bytes) -> Result<()> {
        Box::pin(self.put_object(key, body).send()).await.map(drop).map_err(|failure| error(&failure))
    }

    fn put_object(&self, key: &str, body: Bytes) -> PutObjectFluentBuilder {
        let put = self.client.put_object().bucket(&self.bucket).key(self.key(key)).body(body.into());
        let Some(key_id) = &self.kms_key_id else { return put };
        let put = put.server_side_encryption(ServerSideEncryption::AwsKms);
        if key_id == "default" { put } else { put.ssekms_key_id(key_id) }
    }

    /// Reads a payload: a ranged read where it stands in a segment. `None` when its object is gone, or ends before it does.
    pub async fn get(&self, location: &PayloadLocation) -> Result<Option<Bytes>> {
        if location.s3_length == 0 {
            return Ok(Some(Bytes::new()));
        }
        // The SDK's own deadlines end with the head of the answer.
        tokio::time::timeout(OPERATION_TIMEOUT, self.read(location)).await.map_err(unavailable)?
    }

    async fn read(&self, location: &PayloadLocation) -> Result<Option<Bytes>> {
        let last = location.s3_offset + location.s3_length - 1;
        let request = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(self.key(&location.s3_key))
            .range(format!("bytes={}-{last}", location.s3_offset));
        let object = match Box::pin(request.send()).await {
            Ok(object) => object,
            Err(failure) if matches!(failure.code(), Some("NoSuchKey" | "InvalidRange")) => return Ok(None),
            Err(failure) => return Err(error(&failure)),
        };
        let body = object.body.collect().await.map_err(unavailable)?.into_bytes();
        Ok(Some(body).filter(|body| i64::try_from(body.len()) == Ok(location.s3_length)))
    }

    /// Reads so many bytes of an object from `offset` on, fewer where it ends before. `None` when it is gone.
    pub async fn get_range(&self, key: &str, offset: i64, length: i64) -> Result<Option<Bytes>> {
        if length <= 0 || offset < 0 {
            return Ok(Some(Bytes::new()));
        }
        let range = format!("bytes={offset}-{}", offset.saturating_add(length) - 1);
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(key)).range(range);
        let read = async {
            match Box::pin(request.send()).await {
                Ok(object) => Ok(Some(object.body.collect().await.map_err(unavailable)?.into_bytes())),
                Err(failure) if failure.code() == Some("NoSuchKey") => Ok(None),
                // It ends before the range begins.
                Err(failure) if failure.code() == Some("InvalidRange") => Ok(Some(Bytes::new())),
                Err(failure) => Err(error(&failure)),
            }
        };
        tokio::time::timeout(OPERATION_TIMEOUT, read).await.map_err(unavailable)?
    }

    /// Overwrites a payload with zeros; its neighbours in a segment stay as they are. One that is gone is as good as
    /// overwritten. Whoever calls it has made sure that nobody else overwrites a part of the same object meanwhile; a store
    /// that knows conditional writes refuses when somebody has.
    pub async fn erase(&self, location: &PayloadLocation) -> Result<()> {
        let request = self.client.get_object().bucket(&self.bucket).key(self.key(&location.s3_key));
        let read = async {
            let object = match Box::pin(request.send()).await {
                Ok(object) => object,
                Err(failure) if failure.code() == Some("NoSuchKey") => return Ok(None),
                Err(failure) => return Err(error(&failure)),
            };
            let tag = object.e_tag.clone();
            let body = object.body.collect().await.map_err(unavailable)?.into_bytes();
            Ok(Some((body.to_vec(), tag)))
        };
        let read = tokio::time::timeout(OPERATION_TIMEOUT, read).await.map_err(unavailable)?;
        let Some((mut body, tag)) = read? else { return Ok(()) };
        let (offset, length) = (usize::try_from(location.s3_offset), usize::try_from(location.s3_length));
        let begin = offset.unwrap_or(usize::MAX).min(body.len());
        let end = begin.saturating_add(length.unwrap_or(0)).min(body.len());
        if body[begin..end].iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        body[begin..end].fill(0);
        let put = self.put_object(&location.s3_key, body.into()).set_if_match(tag);
        Box::pin(put.send()).await.map(drop).map_err(|failure| error(&failure))
    }

    /// Deletes an object; one that is not there is as good as deleted.
    pub async fn delete(&self, key: &str) -> Result<()> {
        let request = self.client.delete_object().bucket(&self.bucket).key(self.key(key));
        match Box::pin(request.send()).await {
            Ok(_) => Ok(()),
            Err(failure) if failure.code() == Some("NoSuchKey") => Ok(()),
            Err(failure) => Err(error(&failure)),
        }
    }

    /// Deletes a page of the oldest objects with payloads of events below `bound`: of those with this prefix and a key after
    /// `after`. They come in the order of their events.
    pub async fn delete_below(&self, prefix: &str, bound: EventId, after: Option<&str>) -> Result<Deleted> {
        let request =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(self.key(prefix)).delimiter("/");
        let request = request.set_start_after(after.map(|after| self.key(after)));
        let listed = Box::pin(request.send()).await.map_err(|failure| error(&failure))?;
        let (mut old, mut last, mut is_over) = (Vec::new(), None, listed.is_truncated() != Some(true));
        for object in listed.contents() {
            let Some(key) = object.key().and_then(|key| key.strip_prefix(&self.prefix)) else { continue };
            last = Some(key.to_owned());
            match PayloadLocation::event_of_key(key) {
                Some(event) if event < bound => old.push(key.to_owned()),
                Some(_) => is_over = true,
                None => {}
            }
        }
        let deletions = stream::iter(old).map(|key| async move { self.delete(&key).await });
        let outcomes: Vec<Result<()>> = deletions.buffer_unordered(DELETIONS).collect().await;
        Ok(Deleted {
            count: outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
            failed: outcomes.into_iter().find_map(Result::err),
            after: last.filter(|_| !is_over),
        })
    }

    /// Answers when the bucket is there and ours.
    pub async fn check(&self) -> Result<()> {
        let request = self.client.head_bucket().bucket(&self.bucket);
        Box::pin(request.send()).await.map(drop).map_err(|failure| error(&failure))
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

fn http_client(
    settings: &Settings,
) -> std::result::Result<aws_sdk_s3::config::SharedHttpClient, CaFileError> {
    let builder =
        aws_smithy_http_client::Builder::new().tls_provider(tls::Provider::Rustls(CryptoMode::Ring));
    let Some(file) = &settings.s3_ca_file else { return Ok(builder.build_https()) };
    let pem = std::fs::read(file).map_err(CaFileError)?;
    let trust = TrustStore::empty().with_native_roots(true).with_pem_certificate(pem);
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|cause| CaFileError(std::io::Error::other(cause)))?;
    Ok(builder.tls_context(context).build_https())
}

fn unavailable(cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Unavailable { store: STORE, cause: Box::new(cause) }
}

/// Whatever the payload store says no to, be it down or be our credentials wrong: nothing can be stored until an
/// operator mends it, and the same call goes through then.
fn error<E, R>(failure: &SdkError<E, R>) -> Error
where
    E: std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    // The SDK's errors say what happened only in their chain.
    let message = DisplayErrorContext(failure).to_string();
    Error::Unavailable { store: STORE, cause: message.into() }
}
