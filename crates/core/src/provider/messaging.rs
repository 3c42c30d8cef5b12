//! Mail, chat, calls and social networks.

use super::developer::{SVIX_ID, SVIX_SCHEME};
use super::row::{hmac, timestamp, tries};
use super::{Acknowledgement, Profile, Scheme, SecretOrigin};
use crate::handshake::{Handshake, Is};
use crate::signature::Odd;
use crate::signature::encoding::Encoding::{Base64, Hex};
use crate::signature::public_key::PublicKey;
use crate::signature::request::Place::{Header, Json};
use crate::signature::rule::Algorithm::{Sha1, Sha256};
use crate::signature::rule::{Form, KeyForm, Primitive, Rule};
use crate::signature::template::Part;
use crate::signature::timestamp::Timestamp;
use crate::signature::timestamp::TimestampFormat::{Milliseconds, Rfc3339, Seconds};

pub(super) static MAILGUN: Profile = Profile {
    slug: "mailgun",
    name: "Mailgun",
    source: "Mailgun documentation, \"Securing Webhooks\"",
    setup: "Add the endpoint's URL under Webhooks and paste the account's HTTP webhook signing key as the endpoint's secret. Mailgun signs a token, not the event itself.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        signature: Json("/signature/signature"),
        timestamp: Some(Timestamp {
            place: Json("/signature/timestamp"),
            format: Seconds,
            tolerance: Some(tries::MAILGUN),
        }),
        signed: &[Part::Timestamp, Part::Json("/signature/token")],
        ..hmac("", Sha256, Hex, Form::BARE)
    }]),
    event_id: &[Json("/event-data/id")],
    event_type: &[Json("/event-data/event")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::None,
};

pub(super) static SLACK: Profile = Profile {
    slug: "slack",
    name: "Slack",
    source: "Slack documentation, \"Verifying requests from Slack\"",
    setup: "Paste the app's signing secret (Basic Information) as the endpoint's secret, then the endpoint's URL as the app's request URL.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(timestamp("X-Slack-Request-Timestamp", Seconds, Some(300))),
        signed: &[Part::Literal("v0:"), Part::Timestamp, Part::Literal(":"), Part::Body],
        ..hmac("X-Slack-Signature", Sha256, Hex, Form::prefixed("v0="))
    }]),
    event_id: &[Json("/event_id")],
    event_type: &[Json("/event/type")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::EchoChallenge {
        when: Is::Json("/type", "url_verification"),
        challenge: "/challenge",
    },
};

pub(super) static TWILIO: Profile = Profile {
    slug: "twilio",
    name: "Twilio",
    source: "Twilio documentation, \"Secure webhooks\" (validating signatures)",
    setup: "Paste the endpoint's URL into the number's or service's webhook settings, exactly as it is shown here, and the account's auth token as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Odd(Odd::Twilio),
    event_id: &[Header("I-Twilio-Idempotency-Token")],
    event_type: &[],
    acknowledgement: Acknowledgement::NoContent,
    handshake: Handshake::None,
};

pub(super) static ZOOM: Profile = Profile {
    slug: "zoom",
    name: "Zoom",
    source: "Zoom documentation, \"Using webhooks\" (verify webhook events, validate your webhook endpoint)",
    setup: "Paste the app's secret token (Feature, Access) as the endpoint's secret, then the endpoint's URL as the event notification endpoint URL, and validate it.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(timestamp("x-zm-request-timestamp", Seconds, Some(tries::ZOOM))),
        signed: &[Part::Literal("v0:"), Part::Timestamp, Part::Literal(":"), Part::Body],
        ..hmac("x-zm-signature", Sha256, Hex, Form::prefixed("v0="))
    }]),
    event_id: &[],
    event_type: &[Json("/event")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::ZoomValidation,
};

pub(super) static CUSTOMER_IO: Profile = Profile {
    slug: "customer_io",
    name: "Customer.io",
    source: "Customer.io documentation, \"Reporting webhooks, Securely verify requests\"",
    setup: "Add the endpoint's URL as a reporting webhook and paste the webhook signing key that it shows as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        // For how long the same time comes again is not published; the event's id tells a repetition.
        timestamp: Some(timestamp("X-CIO-Timestamp", Seconds, None)),
        signed: &[Part::Literal("v0:"), Part::Timestamp, Part::Literal(":"), Part::Body],
        ..hmac("X-CIO-Signature", Sha256, Hex, Form::BARE)
    }]),
    event_id: &[Json("/event_id")],
    event_type: &[Json("/metric")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static DISCORD: Profile = Profile {
    slug: "discord",
    name: "Discord",
    source: "Discord developer documentation, \"Webhook Events\" and \"Validating Security Request Headers\"",
    setup: "Paste the application's public key (General Information) as the endpoint's secret, then the endpoint's URL as the webhook events URL.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        primitive: Primitive::PublicKey(PublicKey::Ed25519),
        key: KeyForm::Hex,
        timestamp: Some(timestamp("X-Signature-Timestamp", Seconds, Some(tries::DISCORD))),
        signed: &[Part::Timestamp, Part::Body],
        ..hmac("X-Signature-Ed25519", Sha256, Hex, Form::BARE)
    }]),
    event_id: &[],
    event_type: &[Json("/event/type")],
    acknowledgement: Acknowledgement::NoContent,
    handshake: Handshake::DiscordPing,
};

pub(super) static FRONT: Profile = Profile {
    slug: "front",
    name: "Front",
    source: "Front developer documentation, \"Application webhooks, Verifying integrity\"",
    setup: "Add the endpoint's URL as an application webhook and paste the app's signing key as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        // As at Customer.io.
        timestamp: Some(timestamp("X-Front-Request-Timestamp", Milliseconds, None)),
        signed: &[Part::Timestamp, Part::Literal(":"), Part::Body],
        ..hmac("X-Front-Signature", Sha256, Base64, Form::BARE)
    }]),
    event_id: &[Json("/payload/id")],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::EchoSignedHeader { header: "x-front-challenge", field: "challenge" },
};

pub(super) static KLAVIYO: Profile = Profile {
    slug: "klaviyo",
    name: "Klaviyo",
    source: "Klaviyo developer documentation, \"Working with system webhooks\"",
    setup: "Create a webhook with the endpoint's URL and secret (`secret_key`).",
    secret: SecretOrigin::Ours,
    // How the time is written is not published, so that nothing can be asked of it.
    scheme: Scheme::Rules(&[Rule {
        signed: &[Part::Body, Part::Header("Klaviyo-Timestamp")],
        ..hmac("Klaviyo-Signature", Sha256, Hex, Form::BARE)
    }]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static LINE: Profile = Profile {
    slug: "line",
    name: "LINE",
    source: "LINE Developers, Messaging API, \"Verify webhook signature\"",
    setup: "Add the endpoint's URL as the channel's webhook URL and paste the channel secret as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("x-line-signature", Sha256, Base64, Form::BARE)]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::None,
};

pub(super) static MAILCHIMP_TRANSACTIONAL: Profile = Profile {
    slug: "mailchimp_transactional",
    name: "Mailchimp Transactional",
    source: "Mailchimp Transactional help, \"How to Authenticate Webhook Requests\"",
    setup: "Add the endpoint's URL as a webhook, exactly as it is shown here, and paste the webhook's key as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        signed: &[Part::Url, Part::SortedForm],
        ..hmac("X-Mandrill-Signature", Sha1, Base64, Form::BARE)
    }]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::Head,
};

pub(super) static META: Profile = Profile {
    slug: "meta",
    name: "Meta (Facebook, Instagram)",
    source: "Meta for Developers, \"Webhooks, Getting Started\" (validating payloads, verification requests)",
    setup: "Paste the app secret (App settings, Basic) as the endpoint's secret, then the endpoint's URL as the callback URL and the last part of that URL, behind `/h/`, as the verify token.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-Hub-Signature-256", Sha256, Hex, Form::prefixed("sha256="))]),
    event_id: &[],
    event_type: &[Json("/object")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::MetaSubscription,
};

pub(super) static WHATSAPP: Profile = Profile {
    slug: "whatsapp",
    name: "WhatsApp",
    source: "Meta for Developers, WhatsApp Business Platform, \"Webhooks\"",
    setup: "Paste the app secret (App settings, Basic) as the endpoint's secret, then the endpoint's URL as the callback URL and the last part of that URL, behind `/h/`, as the verify token.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-Hub-Signature-256", Sha256, Hex, Form::prefixed("sha256="))]),
    event_id: &[],
    event_type: &[Json("/entry/0/changes/0/field")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::MetaSubscription,
};

pub(super) static POSTMARK: Profile = Profile {
    slug: "postmark",
    name: "Postmark",
    source: "Postmark documentation, \"Webhooks overview\" (protecting your webhook)",
    setup: "Put a user and a password into the endpoint's URL at Postmark (`https://user:password@…`, or its basic auth fields) and `user:password` as the endpoint's secret.",
    secret: SecretOrigin::Ours,
    scheme: Scheme::BasicAuth,
    event_id: &[],
    event_type: &[Json("/RecordType")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::None,
};

pub(super) static RESEND: Profile = Profile {
    slug: "resend",
    name: "Resend",
    source: "Resend documentation, \"Verify webhooks requests\"",
    setup: "Add the endpoint's URL as a webhook and paste the signing secret that it shows (`whsec_…`) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: SVIX_SCHEME,
    event_id: SVIX_ID,
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static SENDGRID: Profile = Profile {
    slug: "sendgrid",
    name: "SendGrid",
    source: "Twilio SendGrid documentation, \"Getting Started with the Event Webhook Security Features\"",
    setup: "Add the endpoint's URL under Event Webhooks, enable the signed event webhook and paste its verification key as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        primitive: Primitive::PublicKey(PublicKey::EcdsaP256Sha256),
        key: KeyForm::Spki,
        timestamp: Some(timestamp("X-Twilio-Email-Event-Webhook-Timestamp", Seconds, Some(tries::SENDGRID))),
        signed: &[Part::Timestamp, Part::Body],
        ..hmac("X-Twilio-Email-Event-Webhook-Signature", Sha256, Base64, Form::BARE)
    }]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static TELEGRAM: Profile = Profile {
    slug: "telegram",
    name: "Telegram",
    source: "Telegram Bot API, \"setWebhook\" (secret_token)",
    setup: "Call `setWebhook` with the endpoint's URL and its secret as `secret_token`.",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Token { place: Header("X-Telegram-Bot-Api-Secret-Token"), prefix: "" },
    event_id: &[Json("/update_id")],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static TWITCH: Profile = Profile {
    slug: "twitch",
    name: "Twitch",
    source: "Twitch developers, EventSub, \"Getting Events Using Webhook Callbacks\"",
    setup: "Create a subscription with the endpoint's URL as callback and the endpoint's secret.",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(timestamp("Twitch-Eventsub-Message-Timestamp", Rfc3339, Some(600))),
        signed: &[Part::Header("Twitch-Eventsub-Message-Id"), Part::Timestamp, Part::Body],
        ..hmac("Twitch-Eventsub-Message-Signature", Sha256, Hex, Form::prefixed("sha256="))
    }]),
    event_id: &[Header("Twitch-Eventsub-Message-Id")],
    event_type: &[Header("Twitch-Eventsub-Subscription-Type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::EchoChallenge {
        when: Is::Header("twitch-eventsub-message-type", "webhook_callback_verification"),
        challenge: "/challenge",
    },
};

pub(super) static VIBER: Profile = Profile {
    slug: "viber",
    name: "Viber",
    source: "Viber REST API documentation, \"Callbacks\"",
    setup: "Call `set_webhook` with the endpoint's URL and paste the account's authentication token as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-Viber-Content-Signature", Sha256, Hex, Form::BARE)]),
    // `message_token` is a message's: what happens to it later has the same.
    event_id: &[],
    event_type: &[Json("/event")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::None,
};

pub(super) static X: Profile = Profile {
    slug: "x",
    name: "X",
    source: "X developer platform, \"V2 Webhooks API, Quickstart\" (signature header, CRC)",
    setup: "Paste the app's consumer secret (API secret key) as the endpoint's secret, then register the endpoint's URL.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("x-twitter-webhooks-signature", Sha256, Base64, Form::prefixed("sha256="))]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::Crc,
};
