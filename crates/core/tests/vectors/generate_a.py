#!/usr/bin/env python3
"""Writes webhook signature vectors, one JSON file per provider.

Usage: generate_a.py OUTPUT_FOLDER [slug ...]

Every value is fixed, so two runs write the same bytes. The signing code here
follows the providers' published descriptions and uses only hmac, hashlib, zlib
and (for the asymmetric schemes) the `cryptography` package.
"""

import base64
import hashlib
import hmac
import json
import sys
import zlib
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import parse_qsl

NOW = 1700000000
HOUR = 3600
HOST = "https://hooks.example.com/h/"
JSON_TYPE = ["Content-Type", "application/json"]
FORM_TYPE = ["Content-Type", "application/x-www-form-urlencoded"]

PROVIDERS = {}


def provider(slug, source):
    """Registers a function that returns vectors, optionally followed by handshakes and optional vectors.

    Handshakes are requests with the answer that the provider wants (null: none
    may be given). Optional vectors belong to a variant of the provider's scheme
    that a verifier may leave out.
    """

    def register(function):
        PROVIDERS[slug] = (source, function)
        return function

    return register


def raw(text):
    return text.encode("utf-8") if isinstance(text, str) else text


def mac(key, message, algorithm="sha256"):
    return hmac.new(raw(key), raw(message), algorithm).digest()


def hexmac(key, message, algorithm="sha256"):
    return mac(key, message, algorithm).hex()


def b64(data):
    return base64.b64encode(data).decode("ascii")


def b64mac(key, message, algorithm="sha256"):
    return b64(mac(key, message, algorithm))


def iso(seconds):
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def tamper(body, old, new):
    """Changes one place of the body and nothing else."""
    assert body.count(old) == 1 and old != new and len(old) == len(new)
    return body.replace(old, new)


class Case:
    """The parts that all vectors of one provider share."""

    def __init__(self, slug, body, event_id, event_type, content_type=JSON_TYPE, url=None, method="POST"):
        self.slug = slug
        self.url = url or HOST + slug
        self.body = body
        self.event_id = event_id
        self.event_type = event_type
        self.content_type = content_type
        self.method = method

    def vector(self, name, secrets, headers, expect="accepted", **other):
        accepted = expect == "accepted"
        body = other.get("body", self.body)
        vector = {
            "name": name,
            "secrets": secrets,
            "now": other.get("now", NOW),
            "method": other.get("method", self.method),
            "url": other.get("url", self.url),
            "headers": headers + ([self.content_type] if self.content_type else []),
        }
        if isinstance(body, bytes):
            vector["body_base64"] = b64(body)
        else:
            vector["body"] = body
        vector["expect"] = expect
        vector["event_id"] = other.get("event_id", self.event_id) if accepted else None
        vector["event_type"] = other.get("event_type", self.event_type) if accepted else None
        for key in ("certificates", "trust_roots"):
            if key in other:
                vector[key] = other[key]
        return vector


# --- Standard Webhooks and the services that use it -------------------------

WHSEC_A = "whsec_" + b64(bytes(range(1, 33)))
WHSEC_B = "whsec_" + b64(bytes(range(101, 133)))
WHSEC_C = "whsec_" + b64(bytes(range(201, 233)))


def whsec_key(secret):
    return base64.b64decode(secret.removeprefix("whsec_"))


def v1(secret, message_id, timestamp, body):
    return "v1," + b64mac(whsec_key(secret), raw(f"{message_id}.{timestamp}.") + raw(body))


def standard(slug, prefix, message_id, body, event_type, altered, published):
    """The vectors that Standard Webhooks, Svix, OpenAI and Clerk have in common."""
    case = Case(slug, body, message_id, event_type)

    def headers(signature, timestamp=NOW, identifier=message_id, drop=None):
        found = [
            [prefix + "-Id", identifier],
            [prefix + "-Timestamp", str(timestamp)],
            [prefix + "-Signature", signature],
        ]
        return [header for header in found if header[0] != drop]

    def sign(secret, timestamp=NOW):
        return v1(secret, message_id, timestamp, body)

    noise = "v1," + b64(bytes(32))
    vectors = [
        case.vector("good", [WHSEC_A], headers(sign(WHSEC_A))),
        case.vector("tampered", [WHSEC_A], headers(sign(WHSEC_A)), "wrong_signature", body=altered),
        case.vector("tampered_id", [WHSEC_A], headers(sign(WHSEC_A), identifier=message_id + "x"), "wrong_signature"),
        case.vector("tampered_timestamp", [WHSEC_A], headers(sign(WHSEC_A), NOW + 1), "wrong_signature"),
        case.vector("other_secret", [WHSEC_A], headers(sign(WHSEC_C)), "wrong_signature"),
        case.vector("rotated", [WHSEC_A, WHSEC_B], headers(sign(WHSEC_B))),
        case.vector("second_signature", [WHSEC_A], headers(sign(WHSEC_B) + " " + sign(WHSEC_A))),
        case.vector("unknown_version_first", [WHSEC_A], headers("v2," + noise[3:] + " " + sign(WHSEC_A))),
        case.vector("late_but_within", [WHSEC_A], headers(sign(WHSEC_A, NOW - 290), NOW - 290)),
        case.vector("stale", [WHSEC_A], headers(sign(WHSEC_A, NOW - 301), NOW - 301), "stale"),
        case.vector("future", [WHSEC_A], headers(sign(WHSEC_A, NOW + 301), NOW + 301), "stale"),
        case.vector("missing_header", [WHSEC_A], headers(sign(WHSEC_A), drop=prefix + "-Signature"), "missing_header"),
        case.vector("missing_id", [WHSEC_A], headers(sign(WHSEC_A), drop=prefix + "-Id"), "missing_header"),
        case.vector("missing_timestamp", [WHSEC_A], headers(sign(WHSEC_A), drop=prefix + "-Timestamp"), "missing_header"),
        case.vector("malformed_timestamp", [WHSEC_A], headers(sign(WHSEC_A), "hello"), "malformed_header"),
    ]
    if published:
        secret, identifier, timestamp, text, signature, kind = published
        assert v1(secret, identifier, timestamp, text) == signature
        vectors.append(
            case.vector(
                "published", [secret], headers(signature, timestamp, identifier),
                now=timestamp, body=text, event_id=identifier, event_type=kind,
            )
        )
    return case, vectors, headers


SVIX_PUBLISHED = (
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
    '{"test": 2432232314}', "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", None,
)
CONTACT = '{"type":"contact.created","timestamp":"2023-11-14T22:13:20Z","data":{"id":"c_1","name":"Zoë"}}'


@provider("standard_webhooks", "Standard Webhooks specification 1.0.0, \"Verifying webhook authenticity\"")
def standard_webhooks():
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    message_id = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
    altered = tamper(CONTACT, "c_1", "c_2")
    case, vectors, headers = standard(
        "standard_webhooks", "Webhook", message_id, CONTACT, "contact.created", altered, SVIX_PUBLISHED
    )
    bare = WHSEC_A.removeprefix("whsec_")
    vectors.append(case.vector("secret_without_prefix", [bare], headers(v1(WHSEC_A, message_id, NOW, CONTACT))))

    def asymmetric(seed):
        key = Ed25519PrivateKey.from_private_bytes(seed)
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        signature = key.sign(raw(f"{message_id}.{NOW}.{CONTACT}"))
        return "whpk_" + b64(public), "v1a," + b64(signature)

    public, signature = asymmetric(bytes(range(32)))
    other_public, _ = asymmetric(bytes(range(32, 64)))
    optional = [
        case.vector("ed25519_good", [public], headers(signature)),
        case.vector("ed25519_tampered", [public], headers(signature), "wrong_signature", body=altered),
        case.vector("ed25519_other_secret", [other_public], headers(signature), "wrong_signature"),
        case.vector("ed25519_after_hmac", [public], headers(v1(WHSEC_C, message_id, NOW, CONTACT) + " " + signature)),
    ]
    return vectors, [], optional


@provider("svix", "Svix documentation, \"Verifying Webhooks Manually\"")
def svix():
    message_id = "msg_p5jXN8AQM9LWM0D4loKWxJek"
    case, vectors, _ = standard(
        "svix", "Svix", message_id, CONTACT, "contact.created", tamper(CONTACT, "c_1", "c_2"), SVIX_PUBLISHED
    )
    white_label = [
        ["webhook-id", message_id],
        ["webhook-timestamp", str(NOW)],
        ["webhook-signature", v1(WHSEC_A, message_id, NOW, CONTACT)],
    ]
    vectors.append(case.vector("white_label_headers", [WHSEC_A], white_label))
    # Only one family is signed: the id of the other would be anybody's to choose.
    own = [["svix-" + name.removeprefix("webhook-"), value] for name, value in white_label]
    replayed = [["svix-id", "msg_new"]] + white_label
    vectors += [
        case.vector("both_families", [WHSEC_A], own + [["webhook-id", "msg_new"]]),
        case.vector("unsigned_id_beside_white_label_headers", [WHSEC_A], replayed, "missing_header"),
        case.vector("unsigned_family_beside_white_label_headers", [WHSEC_A], replayed + own[1:], "wrong_signature"),
    ]
    return vectors


@provider("openai", "OpenAI documentation, \"Webhooks\"; openai-python, resources/webhooks")
def openai():
    body = (
        '{"object":"event","id":"evt_1","type":"response.completed","created_at":1700000000,'
        '"data":{"id":"resp_1"}}'
    )
    text = (
        '{"id": "evt_685c059ae3a481909bdc86819b066fb6", "object": "event", "created_at": 1750861210, '
        '"type": "response.completed", "data": {"id": "resp_123"}}'
    )
    published = (
        "whsec_RdvaYFYUXuIFuEbvZHwMfYFhUf7aMYjYcmM24+Aj40c=", "wh_685c059ae39c8190af8c71ed1022a24d", 1750861210,
        text, "v1,gUAg4R2hWouRZqRQG4uJypNS8YK885G838+EHb4nKBY=", "response.completed",
    )
    return standard(
        "openai", "webhook", "wh_1", body, "response.completed", tamper(body, "resp_1", "resp_2"), published
    )[1]


@provider("clerk", "Clerk documentation, \"Sync Clerk data to your app with webhooks\"; Svix, \"Verifying Webhooks Manually\"")
def clerk():
    body = '{"data":{"id":"user_1","first_name":"Ada"},"object":"event","timestamp":1700000000000,"type":"user.created"}'
    return standard(
        "clerk", "svix", "msg_clerk1", body, "user.created", tamper(body, "user_1", "user_2"), None
    )[1]


# --- one HMAC over the body -------------------------------------------------

SECRET_A = "6f1a-first secret/With+signs="
SECRET_B = "b07e-second secret é"
SECRET_C = "secret that the endpoint does not have"


def plain(case, header, sign, altered, other_headers=(), a=SECRET_A, b=SECRET_B, c=SECRET_C, upper=False):
    """Vectors of a scheme with one header that is a function of secret and body."""
    extra = [list(pair) for pair in other_headers]

    def headers(secret):
        return [[header, sign(secret, case.body)]] + extra

    vectors = [
        case.vector("good", [a], headers(a)),
        case.vector("tampered", [a], headers(a), "wrong_signature", body=altered),
        case.vector("other_secret", [a], headers(c), "wrong_signature"),
        case.vector("rotated", [a, b], headers(b)),
        case.vector("missing_header", [a], extra, "missing_header"),
    ]
    return vectors


BYTES_BODY = b'{"note":"bytes that are not UTF-8: \xff\xfe"}'


@provider("github", "GitHub documentation, \"Validating webhook deliveries\"")
def github():
    delivery = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
    body = '{"action":"opened","number":7,"repository":{"full_name":"octo/hello"},"title":"Grüße"}'
    case = Case("github", body, delivery, "pull_request")
    extra = [["X-GitHub-Delivery", delivery], ["X-GitHub-Event", "pull_request"], ["X-GitHub-Hook-ID", "292430182"]]
    header = "X-Hub-Signature-256"

    def sign(secret, text):
        return "sha256=" + hexmac(secret, text)

    vectors = plain(case, header, sign, tamper(body, "hello", "hallo"), extra)
    legacy = ["X-Hub-Signature", "sha1=" + hexmac(SECRET_A, body, "sha1")]
    bad_legacy = ["X-Hub-Signature", "sha1=" + "0" * 40]
    form = "payload=%7B%22zen%22%3A%22Design+for+failure.%22%2C%22hook_id%22%3A1%7D"
    form_case = Case("github", form, delivery, "ping", FORM_TYPE)
    form_headers = [[header, sign(SECRET_A, form)], extra[0], ["X-GitHub-Event", "ping"]]
    published = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert sign("It's a Secret to Everybody", "Hello, World!") == published
    vectors += [
        case.vector("with_sha1_header", [SECRET_A], [legacy, [header, sign(SECRET_A, body)]] + extra),
        case.vector("sha1_header_not_used", [SECRET_A], [bad_legacy, [header, sign(SECRET_A, body)]] + extra),
        case.vector("sha1_header_alone", [SECRET_A], [legacy] + extra, "missing_header"),
        case.vector("malformed", [SECRET_A], [[header, hexmac(SECRET_A, body)]] + extra, "malformed_header"),
        case.vector("malformed_hex", [SECRET_A], [[header, "sha256=" + "zz" * 32]] + extra, "malformed_header"),
        form_case.vector("form", [SECRET_A], form_headers),
        case.vector("not_utf8", [SECRET_A], [[header, sign(SECRET_A, BYTES_BODY)]] + extra, body=BYTES_BODY),
        case.vector(
            "published", ["It's a Secret to Everybody"], [[header, published]],
            body="Hello, World!", event_id=None, event_type=None,
        ),
    ]
    return vectors


ATLASSIAN_PUBLISHED = "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"


def atlassian(case, extra, altered):
    def sign(secret, text):
        return "sha256=" + hexmac(secret, text)

    vectors = plain(case, "X-Hub-Signature", sign, altered, extra)
    assert sign("It's a Secret to Everybody", "Hello World!") == ATLASSIAN_PUBLISHED
    vectors += [
        case.vector(
            "malformed", [SECRET_A], [["X-Hub-Signature", hexmac(SECRET_A, case.body)]] + extra, "malformed_header"
        ),
        case.vector(
            "published", ["It's a Secret to Everybody"], [["X-Hub-Signature", ATLASSIAN_PUBLISHED]],
            body="Hello World!", event_id=None, event_type=None,
        ),
    ]
    return vectors


@provider("bitbucket", "Bitbucket Cloud documentation, \"Manage webhooks\" (secure webhooks) and \"Event payloads\"")
def bitbucket():
    request = "0c4ae9c8-5c3b-4f0e-9d60-0f4c3f3b1f11"
    body = '{"push":{"changes":[]},"repository":{"full_name":"team/repo"},"actor":{"nickname":"zoë"}}'
    case = Case("bitbucket", body, request, "repo:push")
    extra = [
        ["X-Event-Key", "repo:push"],
        ["X-Request-UUID", request],
        ["X-Hook-UUID", "6c1d3a6e-7a0e-4d0e-b3a5-4d2f6b1c2d3e"],
        ["X-Attempt-Number", "1"],
    ]
    return atlassian(case, extra, tamper(body, "team/repo", "team/repa"))


@provider("jira", "Jira Cloud platform documentation, \"Webhooks\" (secure admin webhooks)")
def jira():
    identifier = "a1b2c3d4-1111-2222-3333-444455556666"
    body = '{"timestamp":1700000000000,"webhookEvent":"jira:issue_updated","issue":{"id":"10001","key":"AB-1"}}'
    case = Case("jira", body, identifier, "jira:issue_updated")
    extra = [["X-Atlassian-Webhook-Identifier", identifier]]
    return atlassian(case, extra, tamper(body, "AB-1", "AB-2"))


@provider("shopify", "Shopify documentation, \"Verify webhook deliveries\"")
def shopify():
    delivery = "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
    body = '{"id":820982911946154508,"email":"jon@example.com","note":"ñ","total_price":"398.00"}'
    case = Case("shopify", body, delivery, "orders/create")
    extra = [
        ["X-Shopify-Topic", "orders/create"],
        ["X-Shopify-Shop-Domain", "example.myshopify.com"],
        ["X-Shopify-API-Version", "2024-01"],
        ["X-Shopify-Webhook-Id", delivery],
        ["X-Shopify-Event-Id", "98880550-7158-44d4-b7cd-2c97c8a091b5"],
        ["X-Shopify-Triggered-At", "2023-11-14T22:13:19.000000000Z"],
    ]
    vectors = plain(case, "X-Shopify-Hmac-SHA256", b64mac, tamper(body, "398.00", "398.01"), extra)
    vectors.append(
        case.vector(
            "hex_instead_of_base64", [SECRET_A], [["X-Shopify-Hmac-SHA256", hexmac(SECRET_A, body)]] + extra,
            "wrong_signature",
        )
    )
    return vectors


@provider("razorpay", "Razorpay documentation, \"Validate and Test Webhooks\"")
def razorpay():
    body = (
        '{"entity":"event","account_id":"acc_1","event":"payment.captured","contains":["payment"],'
        '"payload":{"payment":{"entity":{"id":"pay_1","amount":50000}}},"created_at":1700000000}'
    )
    case = Case("razorpay", body, "EvtRzp00000001", "payment.captured")
    vectors = plain(
        case, "X-Razorpay-Signature", hexmac, tamper(body, "50000", "60000"),
        [["x-razorpay-event-id", "EvtRzp00000001"]],
    )
    published = "ee0a3edebeb4be41bafa3bc0a39069d7845a5c37760b863405049de80b5fe92d"
    assert hexmac("123456", "{a:1, b:2}") == published
    vectors.append(
        case.vector(
            "published", ["123456"], [["X-Razorpay-Signature", published]],
            body="{a:1, b:2}", event_id=None, event_type=None,
        )
    )
    return vectors


@provider("intercom", "Intercom documentation, \"Setting up webhooks\" (signed notifications)")
def intercom():
    body = (
        '{"type":"notification_event","app_id":"abc123","data":{"type":"notification_event_data",'
        '"item":{"type":"contact","id":"1"}},"id":"notif_1","topic":"contact.user.created","delivery_attempts":1}'
    )
    case = Case("intercom", body, "notif_1", "contact.user.created")

    def sign(secret, text):
        return "sha1=" + hexmac(secret, text, "sha1")

    vectors = plain(case, "X-Hub-Signature", sign, tamper(body, "abc123", "abc124"))
    vectors.append(
        case.vector(
            "malformed", [SECRET_A], [["X-Hub-Signature", hexmac(SECRET_A, body, "sha1")]], "malformed_header"
        )
    )
    handshakes = [
        {"name": "head", "secrets": [SECRET_A], "now": NOW, "method": "HEAD", "url": case.url, "headers": [],
         "body": "", "answer": {"status": 200, "headers": [], "body": ""}}
    ]
    return vectors, handshakes


@provider("linear", "Linear documentation, \"Webhooks\"; @linear/sdk, webhooks/client")
def linear():
    def text(milliseconds):
        return (
            '{"action":"create","type":"Issue","createdAt":"2023-11-14T22:13:19.000Z",'
            '"data":{"id":"2174add1-f7c8-44e3-bbf3-2d60b5ea8bc9","title":"Überschrift"},'
            f'"webhookTimestamp":{milliseconds},"webhookId":"000042e3-d123-4980-b49f-8e140eef9329"}}'
        )

    delivery = "234d1a4e-b617-4388-90fe-adc3633d6b72"
    body = text(NOW * 1000)
    extra = [["Linear-Delivery", delivery], ["Linear-Event", "Issue"]]
    case = Case("linear", body, delivery, "Issue", ["Content-Type", "application/json; charset=utf-8"])
    vectors = plain(case, "Linear-Signature", hexmac, tamper(body, "create\"", "remove\""), extra)

    def at(name, seconds, expect="accepted"):
        moved = text(seconds * 1000)
        return case.vector(name, [SECRET_A], [["Linear-Signature", hexmac(SECRET_A, moved)]] + extra, expect, body=moved)

    vectors += [at("late_but_within", NOW - 55), at("stale", NOW - 61, "stale"), at("future", NOW + 61, "stale")]
    return vectors


@provider("notion", "Notion documentation, \"Webhooks\"")
def notion():
    body = (
        '{"id":"367cba44-b6f3-4c92-81e7-6a2e9659efd4","timestamp":"2023-11-14T22:13:20.000Z",'
        '"type":"page.created","attempt_number":1,"entity":{"id":"153104cd-477e-809d-8dc4-ff2d96ae3090","type":"page"}}'
    )
    token, token_b, token_c = "secret_tMrlL1qK5vuQAh1b6cZGhFChZTSYJlce98V0pYn7yBl", "secret_second", "secret_third"
    case = Case("notion", body, "367cba44-b6f3-4c92-81e7-6a2e9659efd4", "page.created")

    def sign(secret, text):
        return "sha256=" + hexmac(secret, text)

    vectors = plain(
        case, "X-Notion-Signature", sign, tamper(body, "page.created", "page.deleted"), a=token, b=token_b, c=token_c
    )
    text = '{"verification_token":"' + token + '"}'
    published = "sha256=461e8cbcba8a75c3edd866f0e71280f5a85cbf21eff040ebd10fe266df38a735"
    assert sign(token, text) == published
    vectors += [
        case.vector("malformed", [token], [["X-Notion-Signature", hexmac(token, body)]], "malformed_header"),
        case.vector(
            "published", [token], [["X-Notion-Signature", published]], body=text, event_id=None, event_type=None
        ),
    ]
    handshakes = [
        {"name": "verification_token", "secrets": [], "now": NOW, "method": "POST", "url": case.url,
         "headers": [JSON_TYPE], "body": text,
         "answer": {"status": 200, "headers": [], "body": ""}, "shown_to_customer": token}
    ]
    return vectors, handshakes


@provider("asana", "Asana documentation, \"Webhooks\"")
def asana():
    body = (
        '{"events":[{"user":{"gid":"1","resource_type":"user"},"action":"changed",'
        '"resource":{"gid":"2","resource_type":"task"},"created_at":"2023-11-14T22:13:20.000Z"}]}'
    )
    first = "b537207f20cbfa02357cf448134da559e8bd39d61597dcd5631b8012eae53e81"
    second = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
    third = "1" * 64
    case = Case("asana", body, None, None)
    vectors = plain(case, "X-Hook-Signature", hexmac, tamper(body, "changed", "deleted"), a=first, b=second, c=third)
    heartbeat = '{"events":[]}'
    vectors.append(
        case.vector("heartbeat", [first], [["X-Hook-Signature", hexmac(first, heartbeat)]], body=heartbeat)
    )
    handshakes = [
        {"name": "hook_secret", "secrets": [], "now": NOW, "method": "POST", "url": case.url,
         "headers": [["X-Hook-Secret", first], JSON_TYPE], "body": "{}",
         "answer": {"status": 200, "headers": [["X-Hook-Secret", first]], "body": ""}, "secret_to_keep": first}
    ]
    return vectors, handshakes


@provider("trello", "Trello documentation, \"Webhooks\" (webhook signatures)")
def trello():
    body = (
        '{"action":{"id":"51f9424bcd6e040f3c002412","type":"updateCard","data":{"card":{"name":"Café"}}},'
        '"model":{"id":"4eea503791e31d1746000080"}}'
    )
    url = HOST + "trello?board=7&x=%2F"
    case = Case("trello", body, "51f9424bcd6e040f3c002412", "updateCard", url=url)

    def sign(secret, text, address=url):
        return b64mac(secret, text + address, "sha1")

    vectors = plain(case, "X-Trello-Webhook", sign, tamper(body, "updateCard", "deleteCard"))
    vectors.append(
        case.vector("other_url", [SECRET_A], [["X-Trello-Webhook", sign(SECRET_A, body, HOST + "trello")]], "wrong_signature")
    )
    handshakes = [
        {"name": "head", "secrets": [SECRET_A], "now": NOW, "method": "HEAD", "url": url, "headers": [],
         "body": "", "answer": {"status": 200, "headers": [], "body": ""}}
    ]
    return vectors, handshakes


@provider("square", "Square documentation, \"Verify and validate an event notification\"; square-python-sdk, webhooks helper")
def square():
    body = (
        '{"merchant_id":"M1","type":"payment.updated","event_id":"6a8f5f28-54a1-4eb0-a98a-3111513fd4fc",'
        '"created_at":"2023-11-14T22:13:20Z","data":{"type":"payment","id":"p1","note":"é>"}}'
    )
    url = HOST + "square?site=1"
    case = Case("square", body, "6a8f5f28-54a1-4eb0-a98a-3111513fd4fc", "payment.updated", url=url)
    header = "x-square-hmacsha256-signature"

    def sign(secret, text, address=url):
        return b64mac(secret, address + text)

    vectors = plain(case, header, sign, tamper(body, "\"p1\"", "\"p2\""))
    text = (
        '{"merchant_id":"MLEFBHHSJGVHD","type":"webhooks.test_notification",'
        '"event_id":"ac3ac95b-f97d-458c-a6e6-18981597e05f","created_at":"2022-07-13T20:30:59.037339943Z",'
        '"data":{"type":"webhooks","id":"bc368e64-01aa-407e-b46e-3231809b1129"}}'
    )
    address, key = "https://webhook.site/679a4f3a-dcfa-49ee-bac5-9d0edad886b9", "Ibxx_5AKakO-3qeNVR61Dw"
    signature = "GF4YkrJgGBDZ9NIYbNXBnMzqb2HoL4RW/S6vkZ9/2N4="
    assert sign(key, text, address) == signature
    escaped = '{"data":{"type":"webhooks","id":">id<"}}'
    assert sign("signature-key", escaped, "https://webhook.site/webhooks") == "Cxt7+aTi4rKgcA0bC4g9EHdVtLSDWdqccmL5MvihU4U="
    vectors += [
        case.vector("other_url", [SECRET_A], [[header, sign(SECRET_A, body, HOST + "square")]], "wrong_signature"),
        case.vector(
            "published", [key], [[header, signature]], url=address, body=text,
            event_id="ac3ac95b-f97d-458c-a6e6-18981597e05f", event_type="webhooks.test_notification",
        ),
        case.vector(
            "published_escaped", ["signature-key"], [[header, "Cxt7+aTi4rKgcA0bC4g9EHdVtLSDWdqccmL5MvihU4U="]],
            url="https://webhook.site/webhooks", body=escaped, event_id=None, event_type=None,
        ),
    ]
    return vectors


# --- timestamp and HMAC -----------------------------------------------------


@provider("stripe", "Stripe documentation, \"Receive Stripe events in your webhook endpoint\" (verify webhook signatures manually)")
def stripe():
    body = (
        '{\n  "id": "evt_1",\n  "object": "event",\n  "type": "invoice.paid",\n'
        '  "data": {\n    "object": {\n      "id": "in_1",\n      "amount_paid": 2000\n    }\n  }\n}'
    )
    a, b, c = "whsec_test_secret_one", "whsec_test_secret_two", "whsec_test_secret_three"
    case = Case("stripe", body, "evt_1", "invoice.paid", ["Content-Type", "application/json; charset=utf-8"])

    def sign(secret, timestamp=NOW, scheme="v1"):
        return f"{scheme}=" + hexmac(secret, f"{timestamp}.{body}")

    def header(*items, timestamp=NOW):
        return [["Stripe-Signature", ",".join((f"t={timestamp}",) + items)]]

    return [
        case.vector("good", [a], header(sign(a))),
        case.vector("tampered", [a], header(sign(a)), "wrong_signature", body=tamper(body, "2000", "2001")),
        case.vector("tampered_timestamp", [a], header(sign(a), timestamp=NOW + 1), "wrong_signature"),
        case.vector("other_secret", [a], header(sign(c)), "wrong_signature"),
        case.vector("rotated", [a, b], header(sign(b))),
        case.vector("second_signature", [a], header(sign(b), sign(a))),
        case.vector("with_v0", [a], header(sign(a), "v0=" + "6" * 64)),
        case.vector("v0_first", [a], header("v0=" + "6" * 64, sign(a))),
        case.vector("late_but_within", [a], header(sign(a, NOW - 290), timestamp=NOW - 290)),
        case.vector("stale", [a], header(sign(a, NOW - 301), timestamp=NOW - 301), "stale"),
        case.vector("missing_header", [a], [], "missing_header"),
        case.vector("malformed", [a], [["Stripe-Signature", "nonsense"]], "malformed_header"),
        case.vector("no_timestamp", [a], [["Stripe-Signature", sign(a)]], "malformed_header"),
        case.vector("no_v1", [a], header(sign(a, scheme="v0")), "malformed_header"),
    ]


@provider("slack", "Slack documentation, \"Verifying requests from Slack\"")
def slack():
    body = (
        '{"token":"t","team_id":"T1","api_app_id":"A1","event":{"type":"app_mention","user":"U1","text":"hé"},'
        '"type":"event_callback","event_id":"Ev08MFMKH6","event_time":1700000000}'
    )
    a, b, c = "8f742231b10e8888abcd99yyyzzz85a5", "0123456789abcdef0123456789abcdef", "f" * 32
    case = Case("slack", body, "Ev08MFMKH6", "app_mention")

    def headers(secret, timestamp=NOW, text=body, sent=None):
        signature = "v0=" + hexmac(secret, f"v0:{timestamp}:{text}")
        return [["X-Slack-Request-Timestamp", str(sent or timestamp)], ["X-Slack-Signature", signature]]

    form = (
        "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
        "&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
        "&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
        "&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
    )
    published = headers(a, 1531420618, form)
    assert published[1][1] == "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    challenge = '{"token":"t","challenge":"3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P","type":"url_verification"}'
    form_case = Case("slack", form, None, None, FORM_TYPE)
    vectors = [
        case.vector("good", [a], headers(a)),
        case.vector("tampered", [a], headers(a), "wrong_signature", body=tamper(body, "\"U1\"", "\"U2\"")),
        case.vector("tampered_timestamp", [a], headers(a, sent=NOW + 1), "wrong_signature"),
        case.vector("other_secret", [a], headers(c), "wrong_signature"),
        case.vector("rotated", [a, b], headers(b)),
        case.vector("late_but_within", [a], headers(a, NOW - 290)),
        case.vector("stale", [a], headers(a, NOW - 301), "stale"),
        case.vector("missing_header", [a], headers(a)[:1], "missing_header"),
        case.vector("missing_timestamp", [a], headers(a)[1:], "missing_header"),
        case.vector("malformed", [a], [headers(a)[0], ["X-Slack-Signature", headers(a)[1][1][3:]]], "malformed_header"),
        case.vector("malformed_timestamp", [a], headers(a, sent="hello"), "malformed_header"),
        form_case.vector("published", [a], published, now=1531420618),
    ]
    handshakes = [
        {"name": "url_verification", "secrets": [a], "now": NOW, "method": "POST", "url": case.url,
         "headers": headers(a, text=challenge) + [JSON_TYPE], "body": challenge,
         "answer": {"status": 200, "headers": [["Content-Type", "text/plain"]],
                    "body": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P"}},
        {"name": "url_verification_wrong_signature", "secrets": [a], "now": NOW, "method": "POST", "url": case.url,
         "headers": headers(c, text=challenge) + [JSON_TYPE], "body": challenge, "answer": None},
    ]
    return vectors, handshakes


@provider("zoom", "Zoom documentation, \"Using webhooks\" (verify webhook events, validate your webhook endpoint)")
def zoom():
    body = '{"event":"meeting.started","event_ts":1700000000000,"payload":{"account_id":"a1","object":{"id":"1","topic":"Réunion"}}}'
    a, b, c = "zoom-secret-token-A", "zoom-secret-token-B", "zoom-secret-token-C"
    case = Case("zoom", body, None, "meeting.started")

    def headers(secret, timestamp=NOW, text=body, sent=None):
        signature = "v0=" + hexmac(secret, f"v0:{timestamp}:{text}")
        return [["x-zm-request-timestamp", str(sent or timestamp)], ["x-zm-signature", signature]]

    vectors = [
        case.vector("good", [a], headers(a)),
        case.vector("tampered", [a], headers(a), "wrong_signature", body=tamper(body, "\"a1\"", "\"a2\"")),
        case.vector("tampered_timestamp", [a], headers(a, sent=NOW + 1), "wrong_signature"),
        case.vector("other_secret", [a], headers(c), "wrong_signature"),
        case.vector("rotated", [a, b], headers(b)),
        case.vector("missing_header", [a], headers(a)[:1], "missing_header"),
        case.vector("missing_timestamp", [a], headers(a)[1:], "missing_header"),
        case.vector("malformed", [a], [headers(a)[0], ["x-zm-signature", headers(a)[1][1][3:]]], "malformed_header"),
        # Zoom tries again after 5, 20 and 60 minutes.
        case.vector("old_but_fresh", [a], headers(a), now=NOW + 2 * HOUR - 30),
        case.vector("stale", [a], headers(a), "stale", now=NOW + 2 * HOUR + 30),
    ]
    token = "qgg8vlvZRS6UYooatFL8Aw"
    challenge = '{"payload":{"plainToken":"' + token + '"},"event_ts":1700000000000,"event":"endpoint.url_validation"}'
    answer = json.dumps({"plainToken": token, "encryptedToken": hexmac(a, token)}, separators=(",", ":"))
    handshakes = [
        {"name": "url_validation", "secrets": [a], "now": NOW, "method": "POST", "url": case.url,
         "headers": headers(a, text=challenge) + [JSON_TYPE], "body": challenge,
         "answer": {"status": 200, "headers": [JSON_TYPE], "body": answer}},
        {"name": "url_validation_wrong_signature", "secrets": [a], "now": NOW, "method": "POST", "url": case.url,
         "headers": headers(c, text=challenge) + [JSON_TYPE], "body": challenge, "answer": None},
    ]
    return vectors, handshakes


@provider("zendesk", "Zendesk documentation, \"Verifying webhook authenticity\"")
def zendesk():
    body = (
        '{"account_id":22129848,"detail":{"id":"35436","subject":"Problème"},"event":{},'
        '"id":"2b24ef10-19d4-4740-93cf-8f98ec4776c0","subject":"zen:ticket:35436",'
        '"time":"2023-11-14T22:13:20Z","type":"zen:event-type:ticket.created","zendesk_event_version":"2022-06-20"}'
    )
    a, b, c = "dGhpc19zZWNyZXRfaXNfZm9yX3Rlc3Rpbmdfb25seQ==", "zendesk-second", "zendesk-third"
    # `/id` is an event's only where the event is Zendesk's: the body of a trigger is the customer's.
    case = Case("zendesk", body, None, "zen:event-type:ticket.created")
    names = "X-Zendesk-Webhook-Signature", "X-Zendesk-Webhook-Signature-Timestamp"

    def headers(secret, text=body, sent=iso(NOW)):
        return [[names[0], b64mac(secret, iso(NOW) + text)], [names[1], sent]]

    return [
        case.vector("good", [a], headers(a)),
        case.vector("tampered", [a], headers(a), "wrong_signature", body=tamper(body, "\"35436\"", "\"35437\"")),
        case.vector("tampered_timestamp", [a], headers(a, sent=iso(NOW + 1)), "wrong_signature"),
        case.vector("other_secret", [a], headers(c), "wrong_signature"),
        case.vector("rotated", [a, b], headers(b)),
        case.vector("no_body", [a], headers(a, ""), body="", event_type=None),
        case.vector("old_but_fresh", [a], headers(a), now=NOW + HOUR // 4 - 30),
        case.vector("stale", [a], headers(a), "stale", now=NOW + HOUR // 4 + 30),
        case.vector("missing_header", [a], headers(a)[1:], "missing_header"),
        case.vector("missing_timestamp", [a], headers(a)[:1], "missing_header"),
    ]


@provider("hubspot", "HubSpot documentation, \"Validating requests\" (v3 request signature)")
def hubspot():
    body = (
        '[{"eventId":100,"subscriptionId":1,"portalId":62515,"occurredAt":1700000000000,'
        '"subscriptionType":"contact.creation","attemptNumber":0,"objectId":123}]'
    )
    a, b, c = "3c9a1b7e-1111-4222-8333-944455556666", "7d8e9f00-aaaa-4bbb-8ccc-0ddddeeeefff", "00000000-0000-4000-8000-000000000000"
    case = Case("hubspot", body, None, None)

    def headers(secret, seconds=NOW, address=case.url, text=body, method="POST", sent=None):
        stamp = str(seconds * 1000)
        return [
            ["X-HubSpot-Signature-v3", b64mac(secret, method + address + text + stamp)],
            ["X-HubSpot-Request-Timestamp", sent or stamp],
        ]

    old = [["X-HubSpot-Signature-Version", "v1"], ["X-HubSpot-Signature", hashlib.sha256(raw(a + body)).hexdigest()]]
    plain_query, encoded, decoded = HOST + "hubspot?team=7", HOST + "hubspot?q=a%3Ab%40c", HOST + "hubspot?q=a:b@c"
    public_key = "cfc68c0b-4b4e-4ef8-b764-95350e4ea479"
    public_url = "https://webhook.site/335453f5-94b3-49d9-b684-a55354d4b8df"
    public_body = (
        '[{"eventId":531833541,"subscriptionId":3923621,"portalId":48807704,"appId":16111050,'
        '"occurredAt":1752613920733,"subscriptionType":"contact.creation","attemptNumber":0,'
        '"objectId":138017612137,"changeFlag":"CREATED","changeSource":"CRM_UI","sourceId":"userId:76023669"}]'
    )
    published = [
        ["X-HubSpot-Signature-v3", "gbj1XPRvUt0noT7i7fXfTzOD4sLzQmf0VT28ZYq0EYg="],
        ["X-HubSpot-Request-Timestamp", "1752613922216"],
    ]
    assert b64mac(public_key, "POST" + public_url + public_body + "1752613922216") == published[0][1]
    return [
        case.vector("published", [public_key], published, now=1752613922, url=public_url, body=public_body),
        case.vector("good", [a], headers(a)),
        case.vector("with_v1_headers", [a], old + headers(a)),
        case.vector("tampered", [a], headers(a), "wrong_signature", body=tamper(body, "123", "124")),
        case.vector("tampered_timestamp", [a], headers(a, sent=str(NOW * 1000 + 1)), "wrong_signature"),
        case.vector("other_secret", [a], headers(c), "wrong_signature"),
        case.vector("rotated", [a, b], headers(b)),
        case.vector("query", [a], headers(a, address=plain_query), url=plain_query),
        case.vector("query_signed_decoded", [a], headers(a, address=decoded), url=encoded),
        case.vector("other_url", [a], headers(a, address=HOST + "other"), "wrong_signature"),
        case.vector("other_method", [a], headers(a, method="PUT"), "wrong_signature"),
        case.vector("late_but_within", [a], headers(a, NOW - 290)),
        case.vector("stale", [a], headers(a, NOW - 301), "stale"),
        case.vector("missing_header", [a], headers(a)[1:], "missing_header"),
        case.vector("missing_timestamp", [a], headers(a)[:1], "missing_header"),
        case.vector("only_v1_headers", [a], old, "missing_header"),
    ]


@provider("paddle", "Paddle documentation, \"Verify webhook signatures\"; paddle-python-sdk, Notifications")
def paddle():
    body = (
        '{"event_id":"evt_01hv8x2acma2gz7he8kg9xsjs5","event_type":"subscription.created",'
        '"occurred_at":"2023-11-14T22:13:20.000000Z","notification_id":"ntf_01hv8x2axxc8shn6j6wvdqdhhr","data":{"id":"sub_1"}}'
    )
    a = "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_WvRO0eL4Bj9rgYYIBZY6wZhG4EHy9jzh"
    b = "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_TjIG2BXbm83HPXqNfziwe506sBEdqL/4"
    c = "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_vB/yIOnTOCWIvpBadM5jzBZPHc7OmdSo"
    case = Case("paddle", body, "evt_01hv8x2acma2gz7he8kg9xsjs5", "subscription.created")

    def h1(secret, timestamp=NOW, text=body):
        return "h1=" + hexmac(secret, f"{timestamp}:{text}")

    def header(*items, timestamp=NOW):
        return [["Paddle-Signature", ";".join((f"ts={timestamp}",) + items)]]

    published = "h1=d96299976a6eb066f484d7fde011ac56fc32b38fc9940bc419d6e537fdc6ef02"
    assert h1(a, 1696195954, "hello-world") == published
    price_key = "pdl_ntfset_01hsdn8d43dt7mezr1ef2jtbaw_hKkRiCGyyRhbFwIUuqiTBgI7gnWoV0Gr"
    price_body = (
        '{"data":{"id":"pri_01hsdn96k2hxjzsq5yerecdj9j","name":null,"status":"active",'
        '"quantity":{"maximum":999999,"minimum":1},"tax_mode":"account_setting",'
        '"product_id":"pro_01hsdn8qp7yydry3x1yeg6a9rv","unit_price":{"amount":"1000","currency_code":"USD"},'
        '"custom_data":null,"description":"testing","import_meta":null,"trial_period":null,'
        '"billing_cycle":{"interval":"month","frequency":1},"unit_price_overrides":[]},'
        '"event_id":"evt_01hsdn97563968dy0szkmgjwh3","event_type":"price.created",'
        '"occurred_at":"2024-03-20T10:07:35.590857Z","notification_id":"ntf_01hsdn977e920kbgzt6r6c9rqc"}'
    )
    price = "h1=6c05ef8fa83c44d751be6d259ec955ce5638e2c54095bf128e408e2fce1589c8"
    assert h1(price_key, 1710929255, price_body) == price
    return [
        case.vector("good", [a], header(h1(a))),
        case.vector("tampered", [a], header(h1(a)), "wrong_signature", body=tamper(body, "sub_1", "sub_2")),
        case.vector("tampered_timestamp", [a], header(h1(a), timestamp=NOW + 1), "wrong_signature"),
        case.vector("other_secret", [a], header(h1(c)), "wrong_signature"),
        case.vector("rotated", [a, b], header(h1(b))),
        case.vector("second_signature", [a], header(h1(b), h1(a))),
        case.vector("late_but_within", [a], header(h1(a, NOW - 4), timestamp=NOW - 4)),
        case.vector("stale", [a], header(h1(a, NOW - 301), timestamp=NOW - 301), "stale"),
        case.vector("missing_header", [a], [], "missing_header"),
        case.vector("malformed", [a], [["Paddle-Signature", "nonsense"]], "malformed_header"),
        case.vector("no_timestamp", [a], [["Paddle-Signature", h1(a)]], "malformed_header"),
        case.vector("no_signature", [a], header(), "malformed_header"),
        case.vector(
            "published", [a], header("h1=dummy", published, timestamp=1696195954),
            now=1696195954, body="hello-world", event_id=None, event_type=None,
        ),
        case.vector(
            "published_event", [price_key], header(price, timestamp=1710929255),
            now=1710929255, body=price_body, event_id="evt_01hsdn97563968dy0szkmgjwh3", event_type="price.created",
        ),
    ]


# --- signature in other places ----------------------------------------------


@provider("gitlab", "GitLab documentation, \"Webhooks\" (secret token, delivery headers)")
def gitlab():
    key = "f5e5f430-f57b-4e6e-9fac-d9128cd7232f"
    body = '{"object_kind":"push","event_name":"push","ref":"refs/heads/main","user_name":"Zoë"}'
    a, b, c = "gitlab-token-one", "gitlab-token-two", "gitlab-token-three"
    case = Case("gitlab", body, key, "Push Hook")
    extra = [
        ["X-Gitlab-Event", "Push Hook"],
        ["X-Gitlab-Instance", "https://gitlab.com"],
        ["X-Gitlab-Webhook-UUID", "02affd2d-2cba-4033-917d-ec22d5dc4b38"],
        ["X-Gitlab-Event-UUID", "13792a34-cac6-4fda-95a8-c58e00a3954e"],
        ["Idempotency-Key", key],
    ]

    def headers(secret):
        return [["X-Gitlab-Token", secret]] + extra

    def always(timestamp=NOW):
        return [["webhook-id", key], ["webhook-timestamp", str(timestamp)]]

    def signed(*secrets, timestamp=NOW):
        signatures = " ".join(v1(secret, key, timestamp, body) for secret in secrets)
        return always(timestamp) + [["webhook-signature", signatures]] + extra

    altered = tamper(body, "heads/main", "heads/mein")
    return [
        case.vector("good", [a], headers(a)),
        case.vector("other_secret", [a], headers(c), "wrong_signature"),
        case.vector("prefix_of_secret", [a], headers(a[:-1]), "wrong_signature"),
        case.vector("rotated", [a, b], headers(b)),
        case.vector("without_idempotency_key", [a], headers(a)[:-1], event_id=None),
        case.vector("with_unsigned_webhook_headers", [a], always() + headers(a)),
        case.vector("missing_header", [a], extra, "missing_header"),
        case.vector("signed_good", [WHSEC_A], signed(WHSEC_A)),
        case.vector("signed_tampered", [WHSEC_A], signed(WHSEC_A), "wrong_signature", body=altered),
        case.vector("signed_other_secret", [WHSEC_A], signed(WHSEC_C), "wrong_signature"),
        case.vector("signed_rotated", [WHSEC_A, WHSEC_B], signed(WHSEC_B)),
        case.vector("signed_stale", [WHSEC_A], signed(WHSEC_A, timestamp=NOW - 301), "stale"),
        case.vector("signed_missing_header", [WHSEC_A], always() + extra, "missing_header"),
        case.vector("signed_other_idempotency_key", [WHSEC_A], signed(WHSEC_A)[:-1] + [["Idempotency-Key", "new"]]),
    ]


@provider("twilio", "Twilio documentation, \"Secure webhooks\" (validating signatures); twilio-python, request_validator")
def twilio():
    a, b, c = "12345", "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
    body = "SmsSid=SM1&AccountSid=AC1&From=%2B14158675309&To=%2B18005551212&Body=H%C3%A9llo+w%26rld&Empty="
    url = HOST + "twilio?foo=1&bar=2"
    token = "5f4dcc3b-aaaa-bbbb-cccc-0123456789ab"
    case = Case("twilio", body, token, None, ["Content-Type", "application/x-www-form-urlencoded; charset=utf-8"], url=url)
    extra = [["I-Twilio-Idempotency-Token", token]]

    def sign(secret, address, form):
        pairs = sorted(set(parse_qsl(form, keep_blank_values=True)))
        return b64mac(secret, address + "".join(name + value for name, value in pairs), "sha1")

    def headers(secret, address=url, form=body):
        return [["X-Twilio-Signature", sign(secret, address, form)]] + extra

    def json_url(text):
        return HOST + "twilio?x=1&bodySHA256=" + hashlib.sha256(raw(text)).hexdigest()

    def json_headers(secret, address):
        return [["X-Twilio-Signature", b64mac(secret, address, "sha1")]] + extra

    json_body = '{"MessageSid":"SM1","Body":"héllo"}'
    json_case = Case("twilio", json_body, token, None, url=json_url(json_body))
    get_url = HOST + "twilio?CallSid=CA1&From=%2B14158675309"

    public_url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    public_form = "CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309"
    double_form = "Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234"
    public_json = '{"property": "value", "boolean": true}'
    public_json_url = public_url + "&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
    with_port = public_url.replace(".com", ".com:443")
    assert sign(a, public_url, public_form) == "RSOYDt4T1cUTdK1PDd93/VVr8B8="
    assert sign(a, public_url, double_form) == "IK+Dwps556ElfBT0I3Rgjkr1wJU="
    assert sign(a, with_port, public_form) == "kvajT1Ptam85bY51eRf/AJRuM3w="
    assert b64mac(a, public_json_url, "sha1") == "a9nBmqA0ju/hNViExpshrM61xv4="

    def published(name, signature, form, address=public_url, of=case):
        return of.vector(name, [a], [["X-Twilio-Signature", signature]], url=address, body=form, event_id=None)

    return [
        case.vector("good", [a], headers(a)),
        case.vector("tampered", [a], headers(a), "wrong_signature", body=tamper(body, "SmsSid=SM1", "SmsSid=SM2")),
        case.vector("other_secret", [a], headers(c), "wrong_signature"),
        case.vector("rotated", [a, b], headers(b)),
        case.vector("other_url", [a], headers(a, HOST + "twilio"), "wrong_signature"),
        case.vector("missing_header", [a], extra, "missing_header"),
        case.vector("repeated_parameter", [a], headers(a, form="b=2&a=2&a=1&a=2"), body="b=2&a=2&a=1&a=2"),
        Case("twilio", "", token, None, None, url=get_url, method="GET").vector("get", [a], json_headers(a, get_url)),
        json_case.vector("json", [a], json_headers(a, json_url(json_body))),
        json_case.vector(
            "json_tampered", [a], json_headers(a, json_url(json_body)), "wrong_signature",
            body=tamper(json_body, "SM1", "SM2"),
        ),
        published("published", "RSOYDt4T1cUTdK1PDd93/VVr8B8=", public_form),
        published("published_repeated_parameter", "IK+Dwps556ElfBT0I3Rgjkr1wJU=", double_form),
        published("published_signed_with_port", "kvajT1Ptam85bY51eRf/AJRuM3w=", public_form),
        published("published_json", "a9nBmqA0ju/hNViExpshrM61xv4=", public_json, public_json_url, json_case),
    ]


@provider("mailgun", "Mailgun documentation, \"Securing Webhooks\"")
def mailgun():
    a, b, c = "0123456789abcdef0123456789abcdef", "mailgun-key-two", "mailgun-key-three"
    token = "a8ce0edb2dd8301dee6c2405235584e45aa91d1e9f979f3de0"

    def text(secret, signed_token=token, sent_token=token, recipient="alice@example.com", signature=None):
        signature = signature or hexmac(secret, f"{NOW}{signed_token}")
        part = {"timestamp": str(NOW), "token": sent_token, "signature": signature}
        data = {"event": "opened", "timestamp": 1700000000.5, "id": "DACSsAdVSeGpLid7TN03WA", "recipient": recipient}
        return json.dumps({"signature": part, "event-data": data}, separators=(",", ":"))

    case = Case("mailgun", text(a), "DACSsAdVSeGpLid7TN03WA", "opened")
    other = token[:-1] + "1"
    unsigned = json.dumps({"event-data": {"event": "opened", "id": "x"}}, separators=(",", ":"))
    return [
        case.vector("good", [a], []),
        case.vector("tampered", [a], [], "wrong_signature", body=text(a, sent_token=other)),
        case.vector("other_secret", [a], [], "wrong_signature", body=text(c)),
        case.vector("rotated", [a, b], [], body=text(b)),
        case.vector("event_data_is_not_signed", [a], [], body=text(a, recipient="mallet@example.com")),
        # Mailgun tries again for 8 hours.
        case.vector("old_but_fresh", [a], [], now=NOW + 9 * HOUR - 30),
        case.vector("stale", [a], [], "stale", now=NOW + 9 * HOUR + 30),
        case.vector("missing_header", [a], [], "missing_header", body=unsigned),
    ]


@provider("adyen", "Adyen documentation, \"Verify HMAC signatures\"; adyen-python-api-library, util")
def adyen():
    a = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
    b, c = "00112233445566778899AABBCCDDEEFF" * 2, "FFEEDDCCBBAA99887766554433221100" * 2

    def signed(item):
        amount = item.get("amount", {})
        fields = [item.get(name, "") for name in ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")]
        fields += [str(amount.get("value", "")), amount.get("currency", ""), item.get("eventCode", ""), item.get("success", "")]
        return ":".join(fields)

    def sign(secret, item):
        return b64mac(bytes.fromhex(secret), signed(item))

    def wrap(items):
        found = [{"NotificationRequestItem": item} for item in items]
        return json.dumps({"live": "false", "notificationItems": found}, separators=(",", ":"), ensure_ascii=False)

    def item(secret=a, signature=None, changed=None, **fields):
        base = {
            "eventCode": "AUTHORISATION",
            "success": "true",
            "eventDate": "2023-11-14T22:13:20+00:00",
            "merchantAccountCode": "TestMerchant",
            "pspReference": "7914073381342284",
            "merchantReference": "TestPayment-1407325143704",
            "amount": {"value": 1130, "currency": "EUR"},
            "paymentMethod": "visa",
        }
        base.update(fields)
        signature = signature or sign(secret, base)
        base.update(changed or {})
        return {"additionalData": {"hmacSignature": signature}, **base}

    published = "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="
    assert item()["additionalData"]["hmacSignature"] == published
    case = Case("adyen", wrap([item()]), None, "AUTHORISATION")
    second = item(pspReference="8814073381342285", eventCode="CAPTURE", originalReference="7914073381342284")
    forged = item(changed={"success": "false"})
    special = {"merchantReference": "a:b\\c/d é"}
    unsigned = {key: value for key, value in item().items() if key != "additionalData"}
    public_key = "74F490DD33F7327BAECC88B2947C011FC02D014A473AAA33A8EC93E4DC069174"

    def public_item(reference, payment, signature):
        fields = {
            "merchantAccountCode": "AntoniStroinski", "merchantReference": reference, "pspReference": payment,
            "amount": {"currency": "EUR", "value": 1000},
        }
        assert item(public_key, **fields)["additionalData"]["hmacSignature"] == signature
        return wrap([item(signature=signature, **fields)])

    backslash = public_item("\\\\slashes are fun", "T7FD4VM4D3RZNN82", "nIgT81gaB5oJpn2jPXupDq68iRo2wUlBsuYjtYfwKqo=")
    colon = public_item(":slashes are fun", "M8NB66SBZSGLNK82", "2EQYm7YJpKO4EtHSPu55SQTyWf8dkW5u2nD1tJFpViA=")
    report = '{"type":"balancePlatform.transfer.created","environment":"test","data":{"id":"T1"}}'
    platform = Case("adyen", report, None, "balancePlatform.transfer.created")
    by_header = [["HmacSignature", b64mac(bytes.fromhex(a), report)], ["Protocol", "HmacSHA256"]]
    optional = [
        platform.vector("header_good", [a], by_header),
        platform.vector("header_tampered", [a], by_header, "wrong_signature", body=tamper(report, "\"T1\"", "\"T2\"")),
        platform.vector("header_missing", [a], [], "missing_header"),
    ]
    return [
        case.vector("good", [a], []),
        case.vector("published", [a], [], body=wrap([item(signature=published)])),
        case.vector("published_backslash", [public_key], [], body=backslash),
        case.vector("published_colon", [public_key], [], body=colon),
        case.vector("tampered", [a], [], "wrong_signature", body=wrap([item(changed={"amount": {"value": 1131, "currency": "EUR"}})])),
        case.vector("other_secret", [a], [], "wrong_signature", body=wrap([item(c)])),
        case.vector("rotated", [a, b], [], body=wrap([item(b)])),
        case.vector("original_reference", [a], [], body=wrap([second]), event_type="CAPTURE"),
        case.vector("many_items", [a], [], body=wrap([item()] * 100)),
        case.vector("too_many_items", [a], [], "malformed_header", body=wrap([item()] * 101)),
        case.vector("special_characters", [a], [], body=wrap([item(**special)])),
        case.vector("unsigned_field_changed", [a], [], body=wrap([item(changed={"paymentMethod": "mc"})])),
        case.vector("two_items_one_forged", [a], [], "wrong_signature", body=wrap([second, forged])),
        case.vector("lower_case_key", [a.lower()], []),
        case.vector("missing_header", [a], [], "missing_header", body=wrap([unsigned])),
    ], [], optional


# --- asymmetric signatures --------------------------------------------------


@provider("sendgrid", "Twilio SendGrid documentation, \"Event Webhook security features\" (signed event webhook); sendgrid-python, eventwebhook")
def sendgrid():
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

    scheme = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    keys = [ec.derive_private_key(int.from_bytes(hashlib.sha256(name).digest(), "big") >> 1, ec.SECP256R1())
            for name in (b"sendgrid one", b"sendgrid two", b"sendgrid three")]
    a, b, c = (b64(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)) for key in keys)
    body = (
        '[{"email":"ada@example.com","event":"delivered","sg_event_id":"ZGVsaXZlcmVkLTA",'
        '"sg_message_id":"m.1","timestamp":1700000000},\r\n'
        '{"email":"zoë@example.com","event":"open","sg_event_id":"b3Blbi0w","sg_message_id":"m.2","timestamp":1700000000}]\r\n'
    )
    case = Case("sendgrid", body, None, None)
    prefix = "X-Twilio-Email-Event-Webhook-"

    def headers(key, sent=str(NOW), signature=None):
        signature = signature or b64(key.sign(raw(str(NOW) + body), scheme))
        return [[prefix + "Signature", signature], [prefix + "Timestamp", sent]]

    public = (
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglS"
        "I8eNEc6wEA3F+g=="
    )
    published = (
        "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
    )
    text = (
        '[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
        '"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
        '"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
        '"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n'
    )
    load_der_public_key(base64.b64decode(public)).verify(
        base64.b64decode(published), raw("1600112502" + text), ec.ECDSA(hashes.SHA256())
    )
    return [
        case.vector("good", [a], headers(keys[0])),
        case.vector("tampered", [a], headers(keys[0]), "wrong_signature", body=tamper(body, "\"open\"", "\"opem\"")),
        case.vector("line_end_lost", [a], headers(keys[0]), "wrong_signature", body=body[:-2]),
        case.vector("tampered_timestamp", [a], headers(keys[0], str(NOW + 1)), "wrong_signature"),
        case.vector("other_secret", [a], headers(keys[2]), "wrong_signature"),
        case.vector("rotated", [a, b], headers(keys[1])),
        case.vector("missing_header", [a], headers(keys[0])[1:], "missing_header"),
        case.vector("missing_timestamp", [a], headers(keys[0])[:1], "missing_header"),
        case.vector("malformed", [a], headers(keys[0], signature="not base64!"), "malformed_header"),
        # SendGrid tries again for 24 hours.
        case.vector("old_but_fresh", [a], headers(keys[0]), now=NOW + 25 * HOUR - 30),
        case.vector("stale", [a], headers(keys[0]), "stale", now=NOW + 25 * HOUR + 30),
        case.vector("published", [public], headers(None, "1600112502", published), now=1600112502, body=text),
    ]


def fixed_rsa_key(name):
    """A 2048-bit RSA key that depends on the name alone (for test vectors only)."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    counter = 0

    def number(bits):
        nonlocal counter
        data = b""
        while len(data) * 8 < bits:
            data += hashlib.sha256(f"{name} {counter}".encode()).digest()
            counter += 1
        return int.from_bytes(data[: bits // 8], "big")

    def is_prime(candidate):
        if any(candidate % small == 0 for small in (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)):
            return False
        odd, shift = candidate - 1, 0
        while odd % 2 == 0:
            odd, shift = odd // 2, shift + 1
        for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37):
            value = pow(base, odd, candidate)
            if value in (1, candidate - 1):
                continue
            for _ in range(shift - 1):
                value = value * value % candidate
                if value == candidate - 1:
                    break
            else:
                return False
        return True

    def prime():
        candidate = number(1024) | (3 << 1022) | 1
        while candidate % 65537 == 1 or not is_prime(candidate):
            candidate += 2
        return candidate

    p, q = prime(), prime()
    p, q = max(p, q), min(p, q)
    d = pow(65537, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(65537, p * q)
    private = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return private.private_key()


@provider("paypal", "PayPal documentation, \"Integrate webhooks\" (self verification method); PayPal-Python-SDK, notifications")
def paypal():
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    keys = {name: fixed_rsa_key(name) for name in ("root", "leaf", "other root", "other leaf")}

    def name(common):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

    def certificate(common, key, issuer, issuer_key, serial, first=2023, last=2033):
        authority = common == issuer
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(name(issuer))
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(datetime(first, 1, 1))
            .not_valid_after(datetime(last, 1, 1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=not authority, content_commitment=False, key_encipherment=False,
                    data_encipherment=False, key_agreement=False, key_cert_sign=authority, crl_sign=authority,
                    encipher_only=False, decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
            )
        )
        if not authority:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(common)]), critical=False
            ).add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
        signed = builder.sign(issuer_key, hashes.SHA256())
        return signed.public_bytes(Encoding.PEM).decode("ascii")

    subject = "messageverificationcerts.paypal.com"
    root = certificate("Test Root", keys["root"], "Test Root", keys["root"], 1)
    leaf = certificate(subject, keys["leaf"], "Test Root", keys["root"], 2)
    expired = certificate(subject, keys["leaf"], "Test Root", keys["root"], 3, 2020, 2023)
    stranger = certificate("hooks.example.net", keys["leaf"], "Test Root", keys["root"], 4)
    untrusted = certificate(subject, keys["other leaf"], "Test Other Root", keys["other root"], 5)

    address = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-00000001"
    foreign = "https://api.paypal.com.example.net/v1/notifications/certs/CERT-360caa42-fca2a594-00000001"
    transmission, sent = "69cd13f0-d67a-11e5-baa3-778b53f4ae55", iso(NOW)
    body = (
        '{"id":"WH-2WR32451HC0233532-67976317FL4543714","create_time":"2023-11-14T22:13:20Z",'
        '"resource_type":"sale","event_type":"PAYMENT.SALE.COMPLETED","summary":"Paid: 4,50 €",'
        '"resource":{"id":"80021663DE681814L","amount":{"total":"4.50","currency":"EUR"}}}'
    )
    a, b, c = "1JE4291016473214C", "8PT597110X687430L", "00000000000000000"
    case = Case("paypal", body, "WH-2WR32451HC0233532-67976317FL4543714", "PAYMENT.SALE.COMPLETED")

    def headers(webhook, key="leaf", url=address, algorithm="SHA256withRSA", time=sent, drop=None):
        message = f"{transmission}|{sent}|{webhook}|{zlib.crc32(raw(body))}"
        signature = b64(keys[key].sign(raw(message), padding.PKCS1v15(), hashes.SHA256()))
        found = [
            ["PAYPAL-TRANSMISSION-ID", transmission],
            ["PAYPAL-TRANSMISSION-TIME", time],
            ["PAYPAL-TRANSMISSION-SIG", signature],
            ["PAYPAL-CERT-URL", url],
            ["PAYPAL-AUTH-ALGO", algorithm],
        ]
        return [header for header in found if header[0] != drop]

    def vector(label, secrets, signed, expect="accepted", served=leaf, url=address, **other):
        return case.vector(label, secrets, signed, expect, certificates={url: served}, trust_roots=[root], **other)

    return [
        vector("good", [a], headers(a)),
        vector("tampered", [a], headers(a), "wrong_signature", body=tamper(body, "\"4.50\"", "\"9.50\"")),
        vector("tampered_time", [a], headers(a, time=iso(NOW + 1)), "wrong_signature"),
        # PayPal tries again for three days.
        vector("old_but_fresh", [a], headers(a), now=NOW + 73 * HOUR - 30),
        vector("stale", [a], headers(a), "stale", now=NOW + 73 * HOUR + 30),
        vector("other_secret", [a], headers(c), "wrong_signature"),
        vector("rotated", [a, b], headers(b)),
        vector("other_key", [a], headers(a, "other leaf"), "wrong_signature"),
        vector("untrusted_certificate", [a], headers(a, "other leaf"), "wrong_signature", untrusted),
        vector("expired_certificate", [a], headers(a), "wrong_signature", expired),
        vector("certificate_of_someone_else", [a], headers(a), "wrong_signature", stranger),
        vector("foreign_certificate_url", [a], headers(a, url=foreign), "malformed_header", leaf, foreign),
        *(
            vector(label, [a], headers(a, url=address + end), "malformed_header", leaf, address + end)
            for label, end in (
                ("certificate_url_with_query", "?x=1"),
                ("certificate_url_with_escapes", "%2F..%2F..%2Fx"),
                ("certificate_url_with_more_path", "/x"),
                ("certificate_url_with_fragment", "#x"),
            )
        ),
        vector("other_algorithm", [a], headers(a, algorithm="SHA1withRSA"), "malformed_header"),
        vector("missing_header", [a], headers(a, drop="PAYPAL-TRANSMISSION-SIG"), "missing_header"),
        vector("missing_certificate_url", [a], headers(a, drop="PAYPAL-CERT-URL"), "missing_header"),
        vector("missing_transmission_id", [a], headers(a, drop="PAYPAL-TRANSMISSION-ID"), "missing_header"),
        vector("missing_transmission_time", [a], headers(a, drop="PAYPAL-TRANSMISSION-TIME"), "missing_header"),
    ]


def main():
    folder = Path(sys.argv[1])
    wanted = sys.argv[2:] or list(PROVIDERS)
    folder.mkdir(parents=True, exist_ok=True)
    for slug in wanted:
        source, function = PROVIDERS[slug]
        result = function()
        parts = result if isinstance(result, tuple) else (result,)
        content = {"provider": slug, "source": source}
        for key, entries in zip(("vectors", "handshakes", "optional"), parts):
            names = [entry["name"] for entry in entries]
            assert len(names) == len(set(names)), slug
            if entries:
                content[key] = entries
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (folder / f"{slug}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
