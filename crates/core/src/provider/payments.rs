//! Payments and shops.

use super::row::{hmac, item, timestamp};
use super::{Acknowledgement, Profile, Scheme, SecretOrigin};
use crate::handshake::Handshake;
use crate::signature::Odd;
use crate::signature::encoding::Encoding::{Base64, Hex};
use crate::signature::public_key::PublicKey;
use crate::signature::request::Place::{Header, Json};
use crate::signature::rule::Algorithm::Sha256;
use crate::signature::rule::{Form, KeyForm, Primitive, Rule};
use crate::signature::standard_webhooks;
use crate::signature::template::Part;
use crate::signature::timestamp::TimestampFormat::{Milliseconds, Seconds};

pub(super) static ADYEN: Profile = Profile {
    slug: "adyen",
    name: "Adyen",
    source: "Adyen documentation, \"Verify HMAC signatures\" (standard webhooks)",
    setup: "Add the endpoint's URL as a standard webhook in the Customer Area, generate an HMAC key there and paste it (64 hexadecimal digits) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Odd(Odd::Adyen),
    event_id: &[],
    event_type: &[Json("/notificationItems/0/NotificationRequestItem/eventCode")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static PADDLE: Profile = Profile {
    slug: "paddle",
    name: "Paddle",
    source: "Paddle documentation, \"Verify webhook signatures\"",
    setup: "Add the endpoint's URL as a notification destination and paste the secret key that Paddle shows (`pdl_ntf…`) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(item("Paddle-Signature", &[';'], "ts=", Seconds, Some(300))),
        signed: &[Part::Timestamp, Part::Literal(":"), Part::Body],
        ..hmac("Paddle-Signature", Sha256, Hex, Form::list(&[';'], "h1="))
    }]),
    event_id: &[Json("/event_id")],
    event_type: &[Json("/event_type")],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::None,
};

pub(super) static RAZORPAY: Profile = Profile {
    slug: "razorpay",
    name: "Razorpay",
    source: "Razorpay documentation, \"Validate and Test Webhooks\"",
    setup: "Paste the endpoint's URL and secret into the dashboard's webhook settings (\"Secret\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("X-Razorpay-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[Header("x-razorpay-event-id")],
    event_type: &[Json("/event")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static SHOPIFY: Profile = Profile {
    slug: "shopify",
    name: "Shopify",
    source: "Shopify documentation, \"Verify webhook deliveries\"",
    setup: "Subscribe to topics with the endpoint's URL and paste the app's client secret (for webhooks made in the admin: the secret that its notification settings show) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-Shopify-Hmac-SHA256", Sha256, Base64, Form::BARE)]),
    event_id: &[Header("X-Shopify-Webhook-Id")],
    event_type: &[Header("X-Shopify-Topic")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static SQUARE: Profile = Profile {
    slug: "square",
    name: "Square",
    source: "Square documentation, \"Verify and validate an event notification\"",
    setup: "Add the endpoint's URL as a webhook subscription in the Developer Console, exactly as it is shown here, and paste the subscription's signature key as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        signed: &[Part::Url, Part::Body],
        ..hmac("x-square-hmacsha256-signature", Sha256, Base64, Form::BARE)
    }]),
    event_id: &[Json("/event_id")],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static STRIPE: Profile = Profile {
    slug: "stripe",
    name: "Stripe",
    source: "Stripe documentation, \"Receive Stripe events in your webhook endpoint\" (verify webhook signatures manually)",
    setup: "Add the endpoint's URL as an event destination in Workbench and paste its signing secret (`whsec_…`) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(item("Stripe-Signature", &[','], "t=", Seconds, Some(300))),
        signed: &[Part::Timestamp, Part::Literal("."), Part::Body],
        ..hmac("Stripe-Signature", Sha256, Hex, Form::list(&[','], "v1="))
    }]),
    event_id: &[Json("/id")],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static CHECKOUT_COM: Profile = Profile {
    slug: "checkout_com",
    name: "Checkout.com",
    source: "Checkout.com documentation, \"Receive webhooks\" (Cko-Signature)",
    setup: "Paste the endpoint's URL and secret into a workflow's webhook action (\"Signature key\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("Cko-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[Json("/id")],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static COINBASE_COMMERCE: Profile = Profile {
    slug: "coinbase_commerce",
    name: "Coinbase Commerce",
    source: "Coinbase Commerce documentation, \"Webhooks Security\"",
    setup: "Add the endpoint's URL under webhook subscriptions and paste the shared secret that it shows as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-CC-Webhook-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[Json("/event/id")],
    event_type: &[Json("/event/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static GOCARDLESS: Profile = Profile {
    slug: "gocardless",
    name: "GoCardless",
    source: "GoCardless developer documentation, \"Webhooks\"",
    setup: "Paste the endpoint's URL and secret into a webhook endpoint of the dashboard (\"Secret\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("Webhook-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[Json("/meta/webhook_id")],
    event_type: &[],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static LEMON_SQUEEZY: Profile = Profile {
    slug: "lemon_squeezy",
    name: "Lemon Squeezy",
    source: "Lemon Squeezy documentation, \"Signing requests\" and \"Webhook requests\"",
    setup: "Paste the endpoint's URL and secret into the store's webhook settings (\"Signing secret\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("X-Signature", Sha256, Hex, Form::BARE)]),
    event_id: &[],
    event_type: &[Header("X-Event-Name")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static MOLLIE: Profile = Profile {
    slug: "mollie",
    name: "Mollie",
    source: "Mollie documentation, next-gen webhooks; mollie-api-php, \"SignatureValidator\"",
    setup: "Add the endpoint's URL as a next-gen webhook and paste its signing secret as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("X-Mollie-Signature", Sha256, Hex, Form::prefixed("sha256="))]),
    event_id: &[Json("/id")],
    event_type: &[Json("/type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static PAYPAL: Profile = Profile {
    slug: "paypal",
    name: "PayPal",
    source: "PayPal documentation, \"Integrate webhooks\" (self verification method)",
    setup: "Add the endpoint's URL under the app's webhooks and paste the webhook id that it shows as the endpoint's secret. PayPal's signature covers the body by its CRC-32 only.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Odd(Odd::PayPal),
    event_id: &[Json("/id")],
    event_type: &[Json("/event_type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static QUICKBOOKS: Profile = Profile {
    slug: "quickbooks",
    name: "QuickBooks",
    source: "Intuit developer documentation, \"Webhooks, Validating the notification\"",
    setup: "Add the endpoint's URL under the app's webhooks and paste the verifier token that it shows as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("intuit-signature", Sha256, Base64, Form::BARE)]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::None,
};

pub(super) static REVOLUT: Profile = Profile {
    slug: "revolut",
    name: "Revolut",
    source: "Revolut developer documentation, \"Verify the payload signature\"",
    setup: "Create a webhook by Revolut's API with the endpoint's URL and paste its signing secret (`wsk_…`) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        timestamp: Some(timestamp("Revolut-Request-Timestamp", Milliseconds, Some(300))),
        signed: &[Part::Literal("v1."), Part::Timestamp, Part::Literal("."), Part::Body],
        ..hmac("Revolut-Signature", Sha256, Hex, Form::list(&[','], "v1="))
    }]),
    event_id: &[],
    event_type: &[Json("/event")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static WISE: Profile = Profile {
    slug: "wise",
    name: "Wise",
    source: "Wise Platform documentation, \"Webhook event handling, Signature header\"",
    setup: "Create a webhook with the endpoint's URL and paste Wise's public key (PEM; production and sandbox have one each) as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule {
        primitive: Primitive::PublicKey(PublicKey::RsaSha256),
        key: KeyForm::Spki,
        ..hmac("X-Signature-SHA256", Sha256, Base64, Form::BARE)
    }]),
    event_id: &[],
    event_type: &[Json("/event_type")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static XERO: Profile = Profile {
    slug: "xero",
    name: "Xero",
    source: "Xero developer documentation, \"Webhooks, Configuring your server\"",
    setup: "Add the endpoint's URL under the app's webhooks and paste the webhooks key that it shows as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[hmac("x-xero-signature", Sha256, Base64, Form::BARE)]),
    event_id: &[],
    event_type: &[],
    acknowledgement: Acknowledgement::Ok,
    handshake: Handshake::IntentToReceive,
};

pub(super) static BIGCOMMERCE: Profile = Profile {
    slug: "bigcommerce",
    name: "BigCommerce",
    source: "BigCommerce documentation, \"HTTPS Webhooks Overview, Security\"",
    setup: "Create a webhook by BigCommerce's API with the endpoint's URL and paste the client secret of the API account as the endpoint's secret.",
    secret: SecretOrigin::Theirs,
    scheme: Scheme::Rules(&[Rule { key: KeyForm::Text, ..standard_webhooks::RULES[0] }]),
    event_id: &[Header("webhook-id")],
    event_type: &[Json("/scope")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::None,
};

pub(super) static WOOCOMMERCE: Profile = Profile {
    slug: "woocommerce",
    name: "WooCommerce",
    source: "WooCommerce REST API documentation, \"Webhooks\"",
    setup: "Paste the endpoint's URL and secret into WooCommerce's webhook settings (\"Secret\").",
    secret: SecretOrigin::Ours,
    scheme: Scheme::Rules(&[hmac("X-WC-Webhook-Signature", Sha256, Base64, Form::BARE)]),
    // `X-WC-Webhook-Delivery-ID` is made of the webhook and the second: two events in one second have the same.
    event_id: &[],
    event_type: &[Header("X-WC-Webhook-Topic")],
    acknowledgement: Acknowledgement::AnySuccess,
    handshake: Handshake::FormPing { field: "webhook_id" },
};
