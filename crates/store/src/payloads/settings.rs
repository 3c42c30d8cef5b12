//! Settings of the payload store.

/// How the payload store (S3 or what speaks its protocol) is reached.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Settings {
    /// The payload store's URL, `https` in production; `aws` for Amazon S3 in `RAVENPOST_S3_REGION`.
    #[arg(long, env = "RAVENPOST_S3_ENDPOINT", default_value = "http://127.0.0.1:8333", value_parser = endpoint)]
    pub s3_endpoint: String,
    /// The bucket; it must exist.
    #[arg(long, env = "RAVENPOST_S3_BUCKET", default_value = "ravenpost")]
    pub s3_bucket: String,
    /// The region that requests are signed for.
    #[arg(long, env = "RAVENPOST_S3_REGION", default_value = "us-east-1")]
    pub s3_region: String,
    /// Access key id; without one the credentials come from the environment as AWS documents it (role of the pod,
    /// instance profile, profile file).
    #[arg(long, env = "RAVENPOST_S3_ACCESS_KEY_ID", requires = "s3_secret_access_key")]
    pub s3_access_key_id: Option<String>,
    /// Secret of the access key id.
    #[arg(
        long,
        env = "RAVENPOST_S3_SECRET_ACCESS_KEY",
        hide_env_values = true,
        requires = "s3_access_key_id"
    )]
    pub s3_secret_access_key: Option<String>,
    /// What every key begins with, such as `production/`.
    #[arg(long, env = "RAVENPOST_S3_KEY_PREFIX", default_value = "")]
    pub s3_key_prefix: String,
    /// Encrypt payloads at rest with this KMS key (`aws:kms`); `default` takes the bucket's own KMS key.
    #[arg(long, env = "RAVENPOST_S3_KMS_KEY_ID")]
    pub s3_kms_key_id: Option<String>,
    /// A PEM file with the certificate authority that signed the payload store's certificate, if no public one did.
    #[arg(long, env = "RAVENPOST_S3_CA_FILE")]
    pub s3_ca_file: Option<std::path::PathBuf>,
}

/// Names Amazon's own endpoint of the region.
pub(super) const AMAZON: &str = "aws";

fn endpoint(text: &str) -> Result<String, &'static str> {
    let is_usable = |url: &url::Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    let usable = text == AMAZON || url::Url::parse(text).is_ok_and(|url| is_usable(&url));
    if usable {
        Ok(text.to_owned())
    } else {
        Err("write an http or https URL, such as https://s3.example.com, or aws")
    }
}
