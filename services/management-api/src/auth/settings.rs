//! Which issuer's people may come in.

use std::time::Duration;

use ravenpost_core::duration;
use url::Url;

/// How people log in.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct OidcSettings {
    /// The OpenID Connect issuer whose access tokens people come with, exactly as its tokens name it in `iss`, such as `https://login.example.com/realms/ravenpost`. Its discovery document is fetched below it: by a complete name, without a proxy, also from an address that is not public. `https` in production. Without an issuer there are API keys alone.
    #[arg(long, env = "RAVENPOST_OIDC_ISSUER", value_name = "URL", value_parser = issuer)]
    pub oidc_issuer: Option<String>,
    /// What has to be in the `aud` of an access token.
    #[arg(
        long,
        env = "RAVENPOST_OIDC_AUDIENCE",
        value_name = "NAME",
        default_value = "ravenpost-api",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub oidc_audience: String,
    /// How far the issuer's clock may be off ours when it is looked at when an access token begins and ends, `0s` to `2m`.
    #[arg(long, env = "RAVENPOST_OIDC_SKEW", value_name = "DURATION", default_value = "30s", value_parser = skew)]
    pub oidc_skew: Duration,
}

fn issuer(text: &str) -> Result<String, &'static str> {
    let wrong = "write it as in https://login.example.com/realms/ravenpost, without a query or credentials";
    let url: Url = text.parse().map_err(|_| wrong)?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    let web = matches!(url.scheme(), "http" | "https") && url.has_host() && url.password().is_none();
    if plain && web { Ok(text.to_owned()) } else { Err(wrong) }
}

fn skew(text: &str) -> Result<Duration, String> {
    let skew = duration::parse(text).map_err(|error| error.to_string())?;
    if skew <= Duration::from_mins(2) { Ok(skew) } else { Err("from 0s to 2m".to_owned()) }
}
