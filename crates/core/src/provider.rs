//! Providers as data: how each one signs, what identifies its events, and which handshake it demands.
//!
//! A provider is one row. Verification, the API's list and `docs/providers.md` all read it; code exists only for schemes that no
//! row can describe ([`Odd`]). A provider whose specification is uncertain has no row.

mod business;
mod describe;
mod developer;
mod messaging;
mod operations;
mod payments;
mod row;

use std::fmt;

pub use describe::place;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};

use crate::endpoint::Verification;
use crate::handshake::Handshake;
use crate::signature::Odd;
use crate::signature::public_key::PublicKey;
use crate::signature::request::Place;
use crate::signature::rule::{KeyForm, Primitive, Rule};

/// What is known of a provider.
#[derive(Debug)]
pub struct Profile {
    /// Its name in the API.
    pub slug: &'static str,
    /// Its name.
    pub name: &'static str,
    /// The page of its documentation that is followed.
    pub source: &'static str,
    /// What its dashboard shows and what belongs where, in a sentence or two.
    pub setup: &'static str,
    /// Who makes the secret.
    pub secret: SecretOrigin,
    /// How it proves that a request is its own.
    pub scheme: Scheme,
    /// Where the id of an event is, the first one that is there: the same on each of the provider's attempts. Empty where
    /// there is none.
    pub event_id: &'static [Place<'static>],
    /// Where the kind of an event is, the first one that is there.
    pub event_type: &'static [Place<'static>],
    /// What it wants to be answered when an event is taken.
    pub acknowledgement: Acknowledgement,
    /// What it asks of a URL before it sends events there.
    pub handshake: Handshake,
}

/// What a provider wants to be answered when an event is taken. One that hears something else sends it again, or stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// Any success.
    AnySuccess,
    /// `200`: its documentation names this one as the answer, and all take it. With nothing in it, since some read what is.
    Ok,
    /// `204`, or nothing that could be read as an instruction: Discord ("Webhook Events, Responding to events"), Twilio (error
    /// 12300, "Invalid Content-Type").
    NoContent,
}

impl Acknowledgement {
    /// What an endpoint's producer wants.
    pub fn of(verification: &Verification) -> Self {
        match verification {
            Verification::Provider { provider } => provider.profile().acknowledgement,
            Verification::All { of: members } => {
                let mut wanted = members.iter().map(Self::of);
                wanted.find(|wanted| *wanted != Self::AnySuccess).unwrap_or(Self::AnySuccess)
            }
            _ => Self::AnySuccess,
        }
    }
}

/// How a provider proves that a request is its own.
#[derive(Debug)]
pub enum Scheme {
    /// By a signature; any of the rules suffices.
    Rules(&'static [Rule<'static>]),
    /// By showing the secret.
    Token {
        /// Where.
        place: Place<'static>,
        /// What stands before the secret.
        prefix: &'static str,
    },
    /// By basic auth; the secret is `user:password`.
    BasicAuth,
    /// By a scheme with code of its own.
    Odd(Odd),
    /// By a signature in one of two families of headers: where both are there, only one is signed, so this header decides
    /// which counts.
    ByHeader {
        /// The header.
        header: &'static str,
        /// Any of these suffices where it is there.
        with: &'static [Rule<'static>],
        /// Any of these suffices where it is not.
        without: &'static [Rule<'static>],
    },
    /// By any of these, whichever the customer has chosen at the provider.
    Any(&'static [Scheme]),
}

/// Who makes the secret of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretOrigin {
    /// We do, or the customer: the provider is given it.
    Ours,
    /// The provider: its dashboard or API shows it, often only once it has the endpoint's URL.
    Theirs,
    /// The provider's handshake brings it.
    Handshake,
}

/// What the "secret" of a provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretKind {
    /// A text that both sides know.
    Shared,
    /// Bytes in hexadecimal or base64, or `whsec_…`.
    Key(KeyForm),
    /// The provider's public key.
    PublicKey(PublicKey, KeyForm),
    /// `user:password`.
    UserAndPassword,
}

/// Declares every provider once: its variant and its row.
macro_rules! providers {
    ($($variant:ident: $row:path,)+) => {
        /// Providers that are known by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Provider {
            $(#[doc = concat!("See [`", stringify!($row), "`].")] $variant,)+
        }

        impl Provider {
            /// Every provider, by slug.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// What is known of it.
            pub const fn profile(self) -> &'static Profile {
                match self { $(Self::$variant => &$row,)+ }
            }
        }
    };
}

providers! {
    Ably: operations::ABLY,
    Adyen: payments::ADYEN,
    Airtable: business::AIRTABLE,
    Asana: business::ASANA,
    Auth0: operations::AUTH0,
    AwsSns: operations::AWS_SNS,
    Bigcommerce: payments::BIGCOMMERCE,
    Bitbucket: developer::BITBUCKET,
    Box: business::BOX,
    Buildkite: operations::BUILDKITE,
    CalCom: business::CAL_COM,
    Calendly: business::CALENDLY,
    CheckoutCom: payments::CHECKOUT_COM,
    Checkr: business::CHECKR,
    Circleci: operations::CIRCLECI,
    Clerk: developer::CLERK,
    CoinbaseCommerce: payments::COINBASE_COMMERCE,
    Contentful: business::CONTENTFUL,
    CustomerIo: messaging::CUSTOMER_IO,
    Discord: messaging::DISCORD,
    Docusign: business::DOCUSIGN,
    Dropbox: business::DROPBOX,
    Figma: business::FIGMA,
    Front: messaging::FRONT,
    Github: developer::GITHUB,
    Gitlab: developer::GITLAB,
    Gocardless: payments::GOCARDLESS,
    Hubspot: business::HUBSPOT,
    Intercom: business::INTERCOM,
    Jira: developer::JIRA,
    Klaviyo: messaging::KLAVIYO,
    Launchdarkly: operations::LAUNCHDARKLY,
    LemonSqueezy: payments::LEMON_SQUEEZY,
    Line: messaging::LINE,
    Linear: developer::LINEAR,
    MailchimpTransactional: messaging::MAILCHIMP_TRANSACTIONAL,
    Mailgun: messaging::MAILGUN,
    Meta: messaging::META,
    Mollie: payments::MOLLIE,
    Notion: business::NOTION,
    Okta: operations::OKTA,
    Openai: developer::OPENAI,
    Paddle: payments::PADDLE,
    Pagerduty: operations::PAGERDUTY,
    Paypal: payments::PAYPAL,
    Persona: business::PERSONA,
    Postmark: messaging::POSTMARK,
    Pusher: operations::PUSHER,
    Quickbooks: payments::QUICKBOOKS,
    Razorpay: payments::RAZORPAY,
    Resend: messaging::RESEND,
    Revolut: payments::REVOLUT,
    Sendgrid: messaging::SENDGRID,
    Sentry: operations::SENTRY,
    Shopify: payments::SHOPIFY,
    Slack: messaging::SLACK,
    Snyk: operations::SNYK,
    Square: payments::SQUARE,
    Stripe: payments::STRIPE,
    Svix: developer::SVIX,
    Telegram: messaging::TELEGRAM,
    TravisCi: operations::TRAVIS_CI,
    Trello: business::TRELLO,
    Twilio: messaging::TWILIO,
    Twitch: messaging::TWITCH,
    Typeform: business::TYPEFORM,
    Vercel: operations::VERCEL,
    Viber: messaging::VIBER,
    Webflow: business::WEBFLOW,
    Whatsapp: messaging::WHATSAPP,
    Wise: payments::WISE,
    Woocommerce: payments::WOOCOMMERCE,
    Workos: operations::WORKOS,
    X: messaging::X,
    Xero: payments::XERO,
    Zendesk: business::ZENDESK,
    Zoom: messaging::ZOOM,
}

impl Provider {
    /// Its name in the API.
    pub fn slug(self) -> &'static str {
        self.profile().slug
    }

    /// The inverse of [`Provider::slug`].
    pub fn parse(slug: &str) -> Result<Self, UnknownProvider> {
        let found = Self::ALL.iter().copied().find(|provider| provider.slug() == slug);
        found.ok_or_else(|| UnknownProvider::new(slug))
    }

    /// What its "secret" is.
    pub fn secret_kind(self) -> SecretKind {
        secret_kind(&self.profile().scheme)
    }

    /// The header that shows its secret, if one does.
    pub fn credential_header(self) -> Option<&'static str> {
        credential_header(&self.profile().scheme)
    }
}

fn secret_kind(scheme: &Scheme) -> SecretKind {
    match scheme {
        Scheme::BasicAuth => SecretKind::UserAndPassword,
        Scheme::Odd(Odd::Adyen) => SecretKind::Key(KeyForm::Hex),
        // Two schemes may want two kinds of secret: nothing can be asked of it.
        Scheme::Token { .. } | Scheme::Odd(_) | Scheme::Any(_) => SecretKind::Shared,
        Scheme::Rules(rules) | Scheme::ByHeader { with: rules, .. } => {
            match rules.first().map(|rule| (rule.primitive, rule.key)) {
                Some((Primitive::PublicKey(kind), form)) => SecretKind::PublicKey(kind, form),
                Some((Primitive::Hmac(_), KeyForm::Text)) | None => SecretKind::Shared,
                Some((Primitive::Hmac(_), form)) => SecretKind::Key(form),
            }
        }
    }
}

fn credential_header(scheme: &Scheme) -> Option<&'static str> {
    match scheme {
        Scheme::Token { place, .. } => place.header(),
        Scheme::BasicAuth => Some("authorization"),
        Scheme::Rules(_) | Scheme::ByHeader { .. } | Scheme::Odd(_) => None,
        Scheme::Any(schemes) => schemes.iter().find_map(credential_header),
    }
}

/// A name that no provider has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct UnknownProvider {
    slug: String,
    suggestion: Option<&'static str>,
}

impl UnknownProvider {
    fn new(slug: &str) -> Self {
        let distance = |known: &&str| strsim::damerau_levenshtein(known, slug);
        let near = Provider::ALL.iter().map(|provider| provider.slug()).min_by_key(distance);
        Self {
            slug: slug.chars().take(60).collect(),
            suggestion: near.filter(|known| distance(known) <= (slug.len() / 3).max(1)),
        }
    }
}

impl fmt::Display for UnknownProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown provider `{}`", self.slug)?;
        match self.suggestion {
            Some(known) => write!(f, "; did you mean `{known}`?"),
            None => f.write_str("; GET /api/v1/providers lists those that are known"),
        }
    }
}

impl Serialize for Provider {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.slug())
    }
}

impl<'de> Deserialize<'de> for Provider {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let slug = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&slug).map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Provider {
    fn schema() -> RefOr<Schema> {
        let slugs = Self::ALL.iter().map(|provider| provider.slug());
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Providers that are known by name."))
            .enum_values(Some(slugs))
            .into()
    }
}

impl utoipa::ToSchema for Provider {}

#[cfg(test)]
mod tests;
