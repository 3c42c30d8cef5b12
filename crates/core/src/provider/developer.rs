//! Code, tickets and platforms for developers.

use super::row::hmac;
use super::{Acknowledgement, Profile, Scheme, SecretOrigin};
use crate::handshake::Handshake;
use crate::signature::encoding::Encoding::Hex;
use crate::signature::request::Place;
use crate::signature::request::Place::{Header, Json};
use crate::signature::rule::Algorithm::Sha256;
use crate::signature::rule::{Form, Rule};
use crate::signature::standard_webhooks;
use crate::signature::template::Part;
use crate::signature::timestamp::Timestamp;
use crate::signature::timestamp::TimestampFormat::Milliseconds;

pub(super) static BITBUCKET: Profile = Profile {
    slug: "bitbucket",
    name: "Bitbucket Cloud",
    source: "Bitbucket Cloud documentation, \"Manage webhooks\" (secure webhooks) and \"Event payloads\"",
    setup: "Paste the endpoint's URL and secret into the repository's or workspace's webhook settings (\"Secret\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("X-Hub-Signature", Sha256, Hex, Form::prefixed("sha256="))]),
    event_id: &[Header("X-Request-UUID")],
    event_type: &[Header("X-Event-Key")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static CLERK: Profile = Profile {
    slug: "clerk",
    name: "Clerk",
    source: "Clerk documentation, \"Sync Clerk data to your app with webhooks\"; Svix, \"Verifying Webhooks Manually\"",
    setup: "Add the endpoint's URL under Webhooks in Clerk's dashboard and paste the signing secret that it shows (`whsec_…`) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: SVIX_SCHEME,
    event_id: SVIX_ID,
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static GITHUB: Profile = Profile {
    slug: "github",
    name: "GitHub",
    source: "GitHub documentation, \"Validating webhook deliveries\"",
    setup: "Paste the endpoint's URL and secret into the webhook settings of the repository, organization or app (\"Secret\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("X-Hub-Signature-256", Sha256, Hex, Form::prefixed("sha256="))]),
    event_id: &[Header("X-GitHub-Delivery")],
    event_type: &[Header("X-GitHub-Event")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static GITLAB: Profile = Profile {
    slug: "gitlab",
    name: "GitLab",
    source: "GitLab documentation, \"Webhooks\" (secret token, delivery headers)",
    setup: "Paste the endpoint's URL and secret into the project's or group's webhook settings (\"Secret token\"), or paste the signing token that GitLab shows (`whsec_…`) as the endpoint's secret.",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Any(&[
        Scheme::Rules(standard_webhooks::RULES),
        Scheme::Token { place: Header("X-Gitlab-Token"), prefix: "" },
    ]),
    // The first is signed where there is a signing token.
    event_id: &[Header("webhook-id"), Header("Idempotency-Key")],
    event_type: &[Header("X-Gitlab-Event")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static JIRA: Profile = Profile {
    slug: "jira",
    name: "Jira Cloud",
    source: "Jira Cloud platform documentation, \"Webhooks\" (secure admin webhooks)",
    setup: "Paste the endpoint's URL and secret into Jira's WebHooks administration (\"Secret\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("X-Hub-Signature", Sha256, Hex, Form::prefixed("sha256="))]),
    event_id: &[Header("X-Atlassian-Webhook-Identifier")],
    event_type: &[Json("/webhookEvent")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static LINEAR: Profile = Profile {
    slug: "linear",
    name: "Linear",
    source: "Linear documentation, \"Webhooks\"; @linear/sdk, webhooks/client",
    setup: "Add the endpoint's URL as a webhook in Linear's API settings and paste the signing secret that it shows as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(Timestamp {
            place: Json("/webhookTimestamp"),
            format: Milliseconds,
            tolerance: Some(60),
        }),
        ..hmac("Linear-Signature", Sha256, Hex, Form::BARE)
    }]),
    event_id: &[Header("Linear-Delivery")],
    event_type: &[Header("Linear-Event")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::None,
};

pub(super) static OPENAI: Profile = Profile {
    slug: "openai",
    name: "OpenAI",
    source: "OpenAI documentation, \"Webhooks\"; openai-python, resources/webhooks",
    setup: "Add the endpoint's URL under Webhooks in the project's settings and paste the signing secret that it shows (`whsec_…`) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(standard_webhooks::RULES),
    event_id: &[Header("webhook-id")],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static SVIX: Profile = Profile {
    slug: "svix",
    name: "Svix",
    source: "Svix documentation, \"Verifying Webhooks Manually\"",
    setup: "For any sender that delivers through Svix: paste the endpoint's signing secret that its portal shows (`whsec_…`) as the secret.",
    secret: SecretOrigin::Theirs,
    scheme: SVIX_SCHEME,
    event_id: SVIX_ID,
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

const SVIX_HEADERS: [Rule<'static>; 2] = standard_webhooks::rules(
    &[Part::Header("svix-id"), Part::Literal("."), Part::Timestamp, Part::Literal("."), Part::Body],
    "svix-timestamp",
    "svix-signature",
);
/// Svix' own headers, or Standard Webhooks' where a sender has chosen those.
pub(super) const SVIX_SCHEME: Scheme =
    Scheme::ByHeader { header: "svix-id", with: &SVIX_HEADERS, without: standard_webhooks::RULES };
/// The id that is signed: in the order in which the scheme decides.
pub(super) const SVIX_ID: &[Place<'static>] = &[Header("svix-id"), Header("webhook-id")];
