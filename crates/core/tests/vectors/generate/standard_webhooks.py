"""Standard Webhooks and Svix, and what those have in common that sign in the same way."""

import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared import NOW, Case, b64, b64mac, provider, raw, tamper

WHSEC_A = "whsec_" + b64(bytes(range(1, 33)))
WHSEC_B = "whsec_" + b64(bytes(range(101, 133)))
WHSEC_C = "whsec_" + b64(bytes(range(201, 233)))
SVIX_PUBLISHED = (
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
    '{"test": 2432232314}', "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", None,
)
CONTACT = '{"type":"contact.created","timestamp":"2023-11-14T22:13:20Z","data":{"id":"c_1","name":"Zoë"}}'


def whsec_key(secret):
    return base64.b64decode(secret.removeprefix("whsec_"))


def v1(secret, message_id, timestamp, body):
    return "v1," + b64mac(whsec_key(secret), raw(f"{message_id}.{timestamp}.") + raw(body))


def signed_headers(prefix, key_of):
    """What sends with such headers, for `family`."""
    identifier = "msg_p5jXN8AQM9LWM0D4loKWxJek"

    def sign(secret, body, at):
        signature = "v1," + b64mac(key_of(secret), raw(f"{identifier}.{at}.") + raw(body))
        return [(prefix + "-id", identifier), (prefix + "-timestamp", str(at)), (prefix + "-signature", signature)]

    return sign


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


@provider("standard_webhooks", "Standard Webhooks specification 1.0.0, \"Verifying webhook authenticity\"")
def standard_webhooks():
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
