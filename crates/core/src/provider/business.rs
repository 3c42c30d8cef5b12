//! Work, customers and documents.

use super::row::{hmac, item, timestamp, tries};
use super::{Acknowledgement, Profile, Scheme, SecretOrigin};
use crate::handshake::Handshake;
use crate::signature::Odd;
use crate::signature::encoding::Encoding::{Base64, Hex};
use crate::signature::request::Place::{Header, Json};
use crate::signature::rule::Algorithm::{Sha1, Sha256};
use crate::signature::rule::{Form, KeyForm, Rule};
use crate::signature::template::Part;
use crate::signature::timestamp::TimestampFormat::{Milliseconds, Rfc3339, Seconds};

pub(super) static ASANA: Profile = Profile {
    slug: "asana",
    name: "Asana",
    source: "Asana documentation, \"Webhooks\"",
    setup: "Create a webhook with the endpoint's URL as `target`. The secret comes with Asana's handshake and is kept by itself; an endpoint takes it while it has none.",
    secret: SecretOrigin::Handshake,
    scheme: Scheme::Rules(&[hmac("X-Hook-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::SecretInHeader { header: "X-Hook-Secret" },
};

const HUBSPOT_V3: Rule<'static> = Rule {
    timestamp: Some(timestamp("X-HubSpot-Request-Timestamp", Milliseconds, Some(300))),
    signed: &[Part::Method, Part::Url, Part::Body, Part::Timestamp],
    ..hmac("X-HubSpot-Signature-v3", Sha256, Base64, Form::BARE)
};

pub(super) static HUBSPOT: Profile = Profile {
    slug: "hubspot",
    name: "HubSpot",
    source: "HubSpot documentation, \"Validating requests\" (v3 request signature)",
    setup: "Paste the endpoint's URL into the app's webhook settings, exactly as it is shown here, and the app's client secret as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[
        HUBSPOT_V3,
        Rule { signed: &[Part::Method, Part::UrlUnescaped, Part::Body, Part::Timestamp], ..HUBSPOT_V3 },
    ]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static INTERCOM: Profile = Profile {
    slug: "intercom",
    name: "Intercom",
    source: "Intercom documentation, \"Setting up webhooks\" (signed notifications)",
    setup: "Paste the app's client secret (Basic information) as the endpoint's secret, then the endpoint's URL into the app's webhook settings.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-Hub-Signature", Sha1, Hex, Form::prefixed("sha1="))]),
    event_id: &[Json("/id")],
    event_type: &[Json("/topic")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::Head,
};

pub(super) static NOTION: Profile = Profile {
    slug: "notion",
    name: "Notion",
    source: "Notion documentation, \"Webhooks\"",
    setup: "Add the endpoint's URL as a webhook subscription. Notion's verification token is kept as the endpoint's secret and comes as an event, too: copy it from there into Notion's form. An endpoint takes it while it has no secret.",
    secret: SecretOrigin::Handshake,
    scheme: Scheme::Rules(&[hmac("X-Notion-Signature", Sha256, Hex, Form::prefixed("sha256="))]),
    event_id: &[Json("/id")],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::SecretInBody { field: "/verification_token" },
};

pub(super) static TRELLO: Profile = Profile {
    slug: "trello",
    name: "Trello",
    source: "Trello documentation, \"Webhooks\" (webhook signatures)",
    setup: "Create a webhook by Trello's API with the endpoint's URL as `callbackURL`, exactly as it is shown here, and paste the application's secret as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        signed: &[Part::Body, Part::Url],
        ..hmac("X-Trello-Webhook", Sha1, Base64, Form::BARE)
    }]),
    event_id: &[Json("/action/id")],
    event_type: &[Json("/action/type")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::Head,
};

pub(super) static ZENDESK: Profile = Profile {
    slug: "zendesk",
    name: "Zendesk",
    source: "Zendesk documentation, \"Verifying webhook authenticity\"",
    setup: "Add the endpoint's URL as a webhook in the Admin Center and paste the signing secret that it shows as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(timestamp("X-Zendesk-Webhook-Signature-Timestamp", Rfc3339, Some(tries::ZENDESK))),
        signed: &[Part::Timestamp, Part::Body],
        ..hmac("X-Zendesk-Webhook-Signature", Sha256, Base64, Form::BARE)
    }]),
    // The body of a trigger is the customer's: its `id` can be a ticket's.
    event_id: &[],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static AIRTABLE: Profile = Profile {
    slug: "airtable",
    name: "Airtable",
    source: "Airtable Web API, \"Webhooks overview\"",
    setup: "Create a webhook by Airtable's API with the endpoint's URL and paste the `macSecretBase64` that it answers as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        key: KeyForm::Base64,
        ..hmac("X-Airtable-Content-MAC", Sha256, Hex, Form::prefixed("hmac-sha256="))
    }]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static BOX: Profile = Profile {
    slug: "box",
    name: "Box",
    source: "Box developer documentation, \"Signature Verification\" (V2 webhooks)",
    setup: "Create a webhook with the endpoint's URL and paste the app's primary signature key as the endpoint's secret; its secondary key can be added as another secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[box_rule("BOX-SIGNATURE-PRIMARY"), box_rule("BOX-SIGNATURE-SECONDARY")]),
    event_id: &[Json("/id")],
    event_type: &[Json("/trigger")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

/// Each of the app's two keys signs in a header of its own.
const fn box_rule(header: &'static str) -> Rule<'static> {
    Rule {
        timestamp: Some(timestamp("BOX-DELIVERY-TIMESTAMP", Rfc3339, Some(600))),
        signed: &[Part::Body, Part::Timestamp],
        ..hmac(header, Sha256, Base64, Form::BARE)
    }
}

pub(super) static CAL_COM: Profile = Profile {
    slug: "cal_com",
    name: "Cal.com",
    source: "Cal.com documentation, \"Webhooks\"",
    setup: "Paste the endpoint's URL and secret into a webhook's settings (\"Secret\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("x-cal-signature-256", Sha256, Hex, Form::BARE)]),
    event_id: &[],
    event_type: &[Json("/triggerEvent")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static CALENDLY: Profile = Profile {
    slug: "calendly",
    name: "Calendly",
    source: "Calendly developer documentation, \"Webhook signatures\"",
    setup: "Create a webhook subscription by Calendly's API with the endpoint's URL and its secret as `signing_key`.",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(item("Calendly-Webhook-Signature", &[','], "t=", Seconds, Some(180))),
        signed: &[Part::Timestamp, Part::Literal("."), Part::Body],
        ..hmac("Calendly-Webhook-Signature", Sha256, Hex, Form::list(&[','], "v1="))
    }]),
    event_id: &[],
    event_type: &[Json("/event")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static CHECKR: Profile = Profile {
    slug: "checkr",
    name: "Checkr",
    source: "Checkr API documentation, \"Webhooks, Responding to and securing webhooks\"",
    setup: "Add the endpoint's URL as a webhook and paste the account's API key as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-Checkr-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[Json("/id")],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static CONTENTFUL: Profile = Profile {
    slug: "contentful",
    name: "Contentful",
    source: "Contentful documentation, \"Webhook request verification\"",
    setup: "Add the endpoint's URL as a webhook, enable request verification and paste the signing secret that it shows as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Odd(Odd::Contentful),
    event_id: &[Header("X-Contentful-Idempotency-Key")],
    event_type: &[Header("X-Contentful-Topic")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static DOCUSIGN: Profile = Profile {
    slug: "docusign",
    name: "Docusign",
    source: "Docusign developer documentation, \"How to validate an HMAC signature\" (Connect)",
    setup: "Add the endpoint's URL as a Connect configuration, include the HMAC signature and paste a Connect key of the account as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(DOCUSIGN_RULES),
    event_id: &[],
    event_type: &[Json("/event")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

const fn docusign(header: &'static str) -> Rule<'static> {
    hmac(header, Sha256, Base64, Form::BARE)
}

/// Each active key of the account signs in a header of its own.
const DOCUSIGN_RULES: &[Rule<'static>] = &[
    docusign("X-DocuSign-Signature-1"),
    docusign("X-DocuSign-Signature-2"),
    docusign("X-DocuSign-Signature-3"),
    docusign("X-DocuSign-Signature-4"),
    docusign("X-DocuSign-Signature-5"),
    docusign("X-DocuSign-Signature-6"),
    docusign("X-DocuSign-Signature-7"),
    docusign("X-DocuSign-Signature-8"),
    docusign("X-DocuSign-Signature-9"),
    docusign("X-DocuSign-Signature-10"),
];

pub(super) static DROPBOX: Profile = Profile {
    slug: "dropbox",
    name: "Dropbox",
    source: "Dropbox developers, \"Webhooks\"",
    setup: "Paste the app secret (App Console) as the endpoint's secret, then the endpoint's URL as a webhook URI.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-Dropbox-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::EchoQuery { parameter: "challenge" },
};

pub(super) static FIGMA: Profile = Profile {
    slug: "figma",
    name: "Figma",
    source: "Figma REST API documentation, \"Webhooks security\"",
    setup: "Create a webhook by Figma's API with the endpoint's URL and its secret as `passcode`. Figma signs nothing: the passcode comes in each body, and is delivered with it.",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Token { place: Json("/passcode"), prefix: "" },
    event_id: &[],
    event_type: &[Json("/event_type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static PERSONA: Profile = Profile {
    slug: "persona",
    name: "Persona",
    source: "Persona documentation, \"Webhook Best Practices, Checking signatures\"",
    setup: "Add the endpoint's URL as a webhook and paste its secret (`wbhsec_…`) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(item("Persona-Signature", &[',', ' '], "t=", Seconds, Some(tries::PERSONA))),
        signed: &[Part::Timestamp, Part::Literal("."), Part::Body],
        ..hmac("Persona-Signature", Sha256, Hex, Form::list(&[',', ' '], "v1="))
    }]),
    event_id: &[Json("/data/id")],
    event_type: &[Json("/data/attributes/name")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static TYPEFORM: Profile = Profile {
    slug: "typeform",
    name: "Typeform",
    source: "Typeform developers, \"Secure your webhooks\"",
    setup: "Paste the endpoint's URL and secret into the form's webhook settings (\"Secret\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("Typeform-Signature", Sha256, Base64, Form::prefixed("sha256="))]),
    event_id: &[Json("/event_id")],
    event_type: &[Json("/event_type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static WEBFLOW: Profile = Profile {
    slug: "webflow",
    name: "Webflow",
    source: "Webflow developer documentation, \"Webhooks, Validating request signatures\"",
    setup: "Create a webhook with the endpoint's URL and paste the app's client secret (for webhooks made with a site token or in the dashboard: the webhook's own secret) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(timestamp("x-webflow-timestamp", Milliseconds, Some(300))),
        signed: &[Part::Timestamp, Part::Literal(":"), Part::Body],
        ..hmac("x-webflow-signature", Sha256, Hex, Form::BARE)
    }]),
    event_id: &[],
    event_type: &[Json("/triggerType")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};
