//! Builds, clouds, incidents and identities.

use super::row::{hmac, item};
use super::{Acknowledgement, Profile, Scheme, SecretOrigin};
use crate::handshake::Handshake;
use crate::signature::Odd;
use crate::signature::encoding::Encoding::{Base64, Hex};
use crate::signature::public_key::PublicKey;
use crate::signature::request::Place::{Header, Json};
use crate::signature::rule::Algorithm::{Sha1, Sha256};
use crate::signature::rule::{Form, KeyForm, Primitive, Rule};
use crate::signature::template::Part;
use crate::signature::timestamp::TimestampFormat::{Milliseconds, Seconds};

pub(super) static ABLY: Profile = Profile {
    slug: "ably",
    name: "Ably",
    source: "Ably documentation, \"Outbound webhooks, Webhook security\"",
    setup: "Add the endpoint's URL in an integration rule, choose a key to sign with, and paste that whole API key (`name:secret`) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        key: KeyForm::AfterColon,
        ..hmac("X-Ably-Signature", Sha256, Base64, Form::BARE)
    }]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static AUTH0: Profile = Profile {
    slug: "auth0",
    name: "Auth0",
    source: "Auth0 documentation, \"Custom log streams using webhooks\"",
    setup: "Paste the endpoint's URL into a custom webhook log stream and the endpoint's secret into its \"Authorization Token\".",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Token { place: Header("Authorization"), prefix: "" },
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static AWS_SNS: Profile = Profile {
    slug: "aws_sns",
    name: "AWS SNS",
    source: "Amazon SNS developer guide, \"Verifying the signatures of Amazon SNS messages\"",
    setup: "Paste the topic's ARN as the endpoint's secret, then subscribe the endpoint's URL to the topic (HTTPS); the subscription is confirmed by itself.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Odd(Odd::Sns),
    event_id: &[Json("/MessageId")],
    event_type: &[Json("/Type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::SnsConfirmation,
};

pub(super) static BUILDKITE: Profile = Profile {
    slug: "buildkite",
    name: "Buildkite",
    source: "Buildkite documentation, \"Pipelines webhooks, Webhook signature\"",
    setup: "Add the endpoint's URL as a notification service and paste the token that it shows, sent as a token or as a signature, as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Any(&[
        Scheme::Rules(&[Rule {
            timestamp: Some(item("X-Buildkite-Signature", &[','], "timestamp=", Seconds, Some(300))),
            signed: &[Part::Timestamp, Part::Literal("."), Part::Body],
            ..hmac("X-Buildkite-Signature", Sha256, Hex, Form::list(&[','], "signature="))
        }]),
        Scheme::Token { place: Header("X-Buildkite-Token"), prefix: "" },
    ]),
    event_id: &[],
    event_type: &[Header("X-Buildkite-Event")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static CIRCLECI: Profile = Profile {
    slug: "circleci",
    name: "CircleCI",
    source: "CircleCI documentation, \"Outbound webhooks, Validate outbound webhooks\"",
    setup: "Paste the endpoint's URL and secret into the project's webhook settings (\"Secret token\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("circleci-signature", Sha256, Hex, Form::list(&[','], "v1="))]),
    event_id: &[Json("/id")],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static LAUNCHDARKLY: Profile = Profile {
    slug: "launchdarkly",
    name: "LaunchDarkly",
    source: "LaunchDarkly documentation, \"Webhooks, Sign a webhook\"",
    setup: "Paste the endpoint's URL and secret into the webhook integration (\"Sign this webhook\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("X-LD-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[Json("/_id")],
    event_type: &[Json("/kind")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static OKTA: Profile = Profile {
    slug: "okta",
    name: "Okta",
    source: "Okta developer documentation, \"Event hooks\"",
    setup: "Paste the endpoint's URL into an event hook, `Authorization` as its authentication field and the endpoint's secret as its authentication secret, then verify it.",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Token { place: Header("Authorization"), prefix: "" },
    event_id: &[Json("/eventId")],
    event_type: &[Json("/data/events/0/eventType")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::EchoHeader { header: "x-okta-verification-challenge", field: "verification" },
};

pub(super) static PAGERDUTY: Profile = Profile {
    slug: "pagerduty",
    name: "PagerDuty",
    source: "PagerDuty developer documentation, \"Webhooks v3, Verifying Signatures\"",
    setup: "Add the endpoint's URL as a generic webhook (v3) and paste the secret that it shows as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-PagerDuty-Signature", Sha256, Hex, Form::list(&[','], "v1="))]),
    event_id: &[Header("X-Webhook-Id")],
    event_type: &[Json("/event/event_type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static PUSHER: Profile = Profile {
    slug: "pusher",
    name: "Pusher Channels",
    source: "Pusher Channels documentation, \"Webhooks, Security\"",
    setup: "Add the endpoint's URL under the app's webhooks and paste the app's secret as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-Pusher-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static SENTRY: Profile = Profile {
    slug: "sentry",
    name: "Sentry",
    source: "Sentry documentation, \"Integration platform webhooks\"",
    setup: "Add the endpoint's URL as the webhook URL of an internal or public integration and paste its client secret as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("Sentry-Hook-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[],
    event_type: &[Header("Sentry-Hook-Resource")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static SNYK: Profile = Profile {
    slug: "snyk",
    name: "Snyk",
    source: "Snyk documentation, \"Validation and versioning of payloads\"",
    setup: "Create a webhook by Snyk's API with the endpoint's URL and secret.",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("X-Hub-Signature", Sha256, Hex, Form::prefixed("sha256="))]),
    event_id: &[],
    event_type: &[Header("X-Snyk-Event")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static TRAVIS_CI: Profile = Profile {
    slug: "travis_ci",
    name: "Travis CI",
    source: "Travis CI documentation, \"Configuring build notifications, Verifying Webhook requests\"",
    setup: "Name the endpoint's URL in `.travis.yml` and paste the public key that Travis' API shows (`/config`, `webhook.public_key`, PEM) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        primitive: Primitive::PublicKey(PublicKey::RsaSha1),
        key: KeyForm::Spki,
        signed: &[Part::OnlyField("payload")],
        ..hmac("Signature", Sha1, Base64, Form::BARE)
    }]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static VERCEL: Profile = Profile {
    slug: "vercel",
    name: "Vercel",
    source: "Vercel documentation, \"Webhooks, Securing webhooks\"",
    setup: "Add the endpoint's URL as a webhook in the team's settings and paste the secret that it shows (for integrations: the client secret) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("x-vercel-signature", Sha1, Hex, Form::BARE)]),
    event_id: &[Json("/id")],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static WORKOS: Profile = Profile {
    slug: "workos",
    name: "WorkOS",
    source: "WorkOS documentation, \"Webhooks, Validating events\"",
    setup: "Add the endpoint's URL as a webhook and paste the secret that the dashboard shows as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(item("WorkOS-Signature", &[','], "t=", Milliseconds, Some(180))),
        signed: &[Part::Timestamp, Part::Literal("."), Part::Body],
        ..hmac("WorkOS-Signature", Sha256, Hex, Form::list(&[','], "v1="))
    }]),
    event_id: &[Json("/id")],
    event_type: &[Json("/event")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};
