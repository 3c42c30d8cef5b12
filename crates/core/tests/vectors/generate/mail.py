"""Providers that send mail."""

import base64
import hashlib
import json
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from schemes import family
from shared import (
    FORM_TYPE, HOST, HOUR, JSON_TYPE, NOW, URL, Case, b64, compact, hexmac, http_date, mac, provider, raw, tamper,
    tamper_end, vector,
)
from standard_webhooks import signed_headers, whsec_key


@provider("customer_io", "Customer.io documentation, \"Reporting webhooks, Securely verify requests\"")
def customer_io():
    return family(
        lambda s, b, at: [("X-CIO-Signature", mac(s, b"v0:%d:" % at + raw(b)).hex()),
                          ("X-CIO-Timestamp", str(at))],
        ("f6c1a9e3d5b74820917364aa5e01cd2f8b94e760d1c3a5f7", "a7d2b0f4e6c85931a28475bb6f12de3a9ca5f871e2d4b6a8", "0" * 48),
        compact({"event_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ", "object_type": "email", "metric": "delivered",
                 "timestamp": 1700000000, "data": {"customer_id": "42", "delivery_id": "ZAIAAVTJVG0QcCok0-0ZKj6yiQ=="}}),
        "01E4C4CT6YDC7Y5M7FE1GWWPQJ", "delivered",
        malformed=[("X-CIO-Signature", "xyz"), ("X-CIO-Timestamp", "1700000000")])


@provider("klaviyo", "Klaviyo developer documentation, \"Working with system webhooks\"")
def klaviyo():
    return family(
        lambda s, b, at: [("Klaviyo-Signature", mac(s, raw(b) + http_date(at).encode()).hex()),
                          ("Klaviyo-Timestamp", http_date(at))],
        ("klaviyo-secret-key-0123456789", "klaviyo-secret-key-9876543210", "klaviyo-secret-key-0000000000"),
        compact({"data": [{"external_id": "4Yd5xkKqWmB", "topic": "event:klaviyo.email_delivered",
                           "payload": {"data": {"type": "event", "id": "4Yd5xkKqWmB"}}}],
                 "meta": {"klaviyo_account_id": "ABC123", "klaviyo_webhook_id": "01HF8Q4J8V9K2M3N4P5Q6R7S8T",
                          "timestamp": "2023-11-14T22:13:20+00:00"}}),
        plain=(("Klaviyo-Webhook-Id", "01HF8Q4J8V9K2M3N4P5Q6R7S8T"), JSON_TYPE),
        malformed=[("Klaviyo-Signature", "xyz"), ("Klaviyo-Timestamp", http_date(NOW))])


@provider("mailchimp_transactional", "Mailchimp Transactional help, \"How to Authenticate Webhook Requests\" (Mandrill)")
def mailchimp_transactional():
    # Mailchimp Transactional (Mandrill): the URL, then every form field's name and value, sorted by name.
    def mandrill(secret, url, fields):
        text = url + "".join(k + v for k, v in sorted(fields.items()))
        return b64(mac(secret, text, "sha1"))
    url = URL + "?source=mandrill"
    fields = {"mandrill_events": compact([{"event": "open", "_id": "exampleaaaaaaaaaaaaaaaaaaaaaaaaa", "ts": 1700000000,
                                           "msg": {"subject": "Gr\u00fc\u00dfe & more", "email": "a+b@example.com"}}])}
    text = urlencode(fields)
    many = dict(fields, zeta="last", alpha="first")
    key, key2, key3 = "CNcdI5QJbqDkVMPV1lTWdg", "DOdeJ6RKcrElWNQW2mUXeh", "AAAAAAAAAAAAAAAAAAAAAA"
    ok = ("X-Mandrill-Signature", mandrill(key, url, fields))
    ping = {"mandrill_events": "[]"}
    thousand = {"f%d" % n: "" for n in range(1000)}
    return [
        vector("good", [key], [ok, FORM_TYPE], text, "accepted", url=url),
        vector("more_fields", [key], [("X-Mandrill-Signature", mandrill(key, url, many)), FORM_TYPE],
               urlencode(many), "accepted", url=url),
        vector("tampered", [key], [ok, FORM_TYPE], tamper_end(text), "wrong_signature", url=url),
        vector("other_url", [key], [ok, FORM_TYPE], text, "wrong_signature", url=URL),
        vector("other_secret", [key], [("X-Mandrill-Signature", mandrill(key3, url, fields)), FORM_TYPE], text,
               "wrong_signature", url=url),
        vector("rotated", [key, key2], [("X-Mandrill-Signature", mandrill(key2, url, fields)), FORM_TYPE], text, "accepted",
               url=url),
        vector("empty_test", [key], [("X-Mandrill-Signature", mandrill(key, url, ping)), FORM_TYPE],
               urlencode(ping), "accepted", url=url),
        vector("missing_header", [key], [FORM_TYPE], text, "missing_header", url=url),
        vector("malformed", [key], [("X-Mandrill-Signature", "not base64!"), FORM_TYPE], text, "malformed_header", url=url),
        vector("no_form", [key], [("X-Mandrill-Signature", mandrill(key, url, {})), JSON_TYPE], text, "wrong_signature",
               url=url),
        vector("as_many_fields_as_are_sorted", [key], [("X-Mandrill-Signature", mandrill(key, url, thousand)), FORM_TYPE],
               urlencode(thousand), "accepted", url=url),
        vector("too_many_fields", [key], [("X-Mandrill-Signature", mandrill(key, url, dict(thousand, z=""))), FORM_TYPE],
               urlencode(dict(thousand, z="")), "malformed_header", url=url),
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


@provider("postmark", "Postmark documentation, \"Webhooks overview\" (protecting your webhook)")
def postmark():
    body = '{"RecordType":"Bounce","ID":42,"Type":"HardBounce","Email":"zoë@example.com"}'
    one, two, far = "postmark:first password", "postmark:second:password", "postmark:another password"

    def basic(pair):
        return "Basic " + b64(pair)

    def case(name, secrets, authorization, expect):
        headers = [JSON_TYPE] + ([["Authorization", authorization]] if authorization else [])
        return vector(name, secrets, headers, body, expect, None, "Bounce", url=HOST + "postmark")

    return [
        case("good", [one], basic(one), "accepted"),
        case("lower_case_scheme", [one], basic(one).replace("Basic", "basic"), "accepted"),
        case("other_secret", [one], basic(far), "wrong_signature"),
        case("other_user", [one], basic("mallet:first password"), "wrong_signature"),
        case("rotated", [one, two], basic(two), "accepted"),
        case("missing_header", [one], None, "missing_header"),
        case("malformed", [one], "Basic *", "malformed_header"),
        case("other_scheme", [one], "Bearer abc", "malformed_header"),
    ]


@provider("resend", "Resend documentation, \"Verify webhooks requests\" (Svix); `published` from the Standard Webhooks and Svix libraries' tests")
def resend():
    svix = signed_headers("svix", whsec_key)
    whsec = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_NgLR0s9HLZrsUxkVQE9JMQaJp3MbMbTx", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    sent = compact({"type": "email.sent", "created_at": "2023-11-14T22:13:20.126Z",
                    "data": {"email_id": "56761188-7520-42d8-8898-ff6fc54ce618", "subject": "Hello"}})
    first, again = svix(whsec[1], sent, NOW), svix(whsec[0], sent, NOW)
    return family(
        svix, whsec, sent, "msg_p5jXN8AQM9LWM0D4loKWxJek", "email.sent", tolerance=300,
        malformed=[("svix-id", "msg_1"), ("svix-timestamp", "soon"), ("svix-signature", "v1,AAAA")],
        more=(vector("second_signature", [whsec[0]],
                     first[:2] + [("svix-signature", first[2][1] + " v1a,AAAA " + again[2][1]), JSON_TYPE], sent,
                     "accepted", "msg_p5jXN8AQM9LWM0D4loKWxJek", "email.sent"),
              vector("from_the_future", [whsec[0]], svix(whsec[0], sent, NOW + 330) + [JSON_TYPE], sent, "stale"),
              vector("published", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
                     [("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"), ("svix-timestamp", "1614265330"),
                      ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")],
                     '{"test": 2432232314}', "accepted", "msg_p5jXN8AQM9LWM0D4loKWxJek", None, now=1614265331)))


@provider("sendgrid", "Twilio SendGrid documentation, \"Event Webhook security features\" (signed event webhook); sendgrid-python, eventwebhook")
def sendgrid():
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
