//! Looking into the payload store, as no service would: list, get, put, count.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use aws_credential_types::Credentials;
pub use aws_sdk_s3::Client;
use aws_sdk_s3::{
    config::{BehaviorVersion, Config, Region, retry::RetryConfig, timeout::TimeoutConfig},
    operation::{get_object::GetObjectError, head_bucket::HeadBucketError},
    primitives::ByteStream,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Where an S3 is, and how to get in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct S3Address {
    pub endpoint: String,
    pub bucket: String,
    pub region: String,
    pub access_key_id: String,
    pub secret_access_key: String,
}

/// A client that tries once and briefly: a test wants to know, not to be helped.
pub fn client(address: &S3Address) -> Client {
    let credentials =
        Credentials::new(&address.access_key_id, &address.secret_access_key, None, None, "local-stack");
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(&address.endpoint)
        .region(Region::new(address.region.clone()))
        .credentials_provider(credentials)
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::builder().operation_timeout(Duration::from_secs(10)).build())
        .build();
    Client::from_conf(config)
}

/// Makes the bucket when it isn't there.
pub async fn ensure_bucket(client: &Client, bucket: &str) -> Result<()> {
    match client.head_bucket().bucket(bucket).send().await {
        Ok(_there) => Ok(()),
        Err(error) if error.as_service_error().is_some_and(HeadBucketError::is_not_found) => {
            client.create_bucket().bucket(bucket).send().await.context("creating the bucket")?;
            Ok(())
        }
        Err(error) => Err(error).context("asking for the bucket"),
    }
}

/// Stores an object.
pub async fn put(client: &Client, bucket: &str, key: &str, body: &'static [u8]) -> Result<()> {
    let body = ByteStream::from_static(body);
    client.put_object().bucket(bucket).key(key).body(body).send().await.context("putting an object")?;
    Ok(())
}

/// Removes an object, if it is there.
pub async fn remove(client: &Client, bucket: &str, key: &str) -> Result<()> {
    client.delete_object().bucket(bucket).key(key).send().await.context("removing an object")?;
    Ok(())
}

/// All keys that start with `prefix`, in order.
pub async fn keys(address: &S3Address, prefix: &str) -> Result<Vec<String>> {
    Ok(sizes(address, prefix).await?.into_keys().collect())
}

/// The size in bytes of every object whose key starts with `prefix`.
pub async fn sizes(address: &S3Address, prefix: &str) -> Result<BTreeMap<String, i64>> {
    let client = client(address);
    let mut pages = client.list_objects_v2().bucket(&address.bucket).prefix(prefix).into_paginator().send();
    let mut sizes = BTreeMap::new();
    while let Some(page) = pages.next().await {
        for object in page?.contents() {
            sizes.extend(object.key().map(|key| (key.to_owned(), object.size().unwrap_or_default())));
        }
    }
    Ok(sizes)
}

/// The bytes of an object.
pub async fn get(address: &S3Address, key: &str) -> Result<Bytes> {
    read(&client(address), &address.bucket, key).await?.with_context(|| format!("there is no object {key}"))
}

/// The bytes of an object; `None` when it isn't there.
pub async fn read(client: &Client, bucket: &str, key: &str) -> Result<Option<Bytes>> {
    match client.get_object().bucket(bucket).key(key).send().await {
        Ok(answer) => Ok(Some(answer.body.collect().await?.into_bytes())),
        Err(error) if error.as_service_error().is_some_and(GetObjectError::is_no_such_key) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
