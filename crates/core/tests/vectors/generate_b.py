#!/usr/bin/env python3
"""Test vectors for webhook providers, part B.

Usage: generate_b.py OUTPUT_FOLDER

Writes one <slug>.json per provider into OUTPUT_FOLDER. Everything is fixed (secrets, keys, times), so
two runs write the same bytes. HMAC and hashes come from the standard library; RSA, ECDSA, Ed25519 and
the X.509 certificate come from the `cryptography` package (43 or newer).
"""

import base64
import datetime
import hashlib
import hmac
import json
import os
import random
import sys
import urllib.parse

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

NOW = 1700000000  # 2023-11-14T22:13:20Z
URL = "https://hooks.example.com/h/abc"
JSON = ("Content-Type", "application/json")

FILES = {}


# --- small helpers ---------------------------------------------------------------------------------

def raw(value):
    return value.encode("utf-8") if isinstance(value, str) else value


def mac(key, message, algorithm="sha256"):
    return hmac.new(raw(key), raw(message), algorithm).digest()


def b64(data):
    return base64.b64encode(raw(data)).decode("ascii")


def b64url(data):
    return base64.urlsafe_b64encode(raw(data)).decode("ascii").rstrip("=")


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def tamper(body):
    """Changes one byte: the last ASCII letter or digit."""
    data = bytearray(raw(body))
    for i in range(len(data) - 1, -1, -1):
        c = chr(data[i])
        if c.isascii() and c.isalnum():
            data[i] = ord("0" if c == "1" else "1") if c.isdigit() else ord("x" if c == "y" else "y")
            return data.decode("utf-8")
    raise ValueError("nothing to change")


def with_unicode(body):
    """The same JSON object with a member that is not ASCII."""
    assert body.startswith("{")
    return '{"note":"Gr\u00fc\u00dfe \U0001f600 \u65e5\u672c",' + body[1:]


def utc(epoch):
    return datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc)


def http_date(epoch):
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    t = utc(epoch)
    return "%s, %02d %s %04d %02d:%02d:%02d GMT" % (
        names[t.weekday()], t.day, months[t.month - 1], t.year, t.hour, t.minute, t.second)


def vector(name, secrets, headers, body, expect, event_id=None, event_type=None, now=NOW, method="POST",
           url=URL, **extra):
    out = {"name": name, "secrets": list(secrets), "now": now, "method": method, "url": url,
           "headers": [list(pair) for pair in headers]}
    if isinstance(body, bytes):
        out["body_base64"] = b64(body)
    else:
        out["body"] = body
    out["expect"] = expect
    out["event_id"] = event_id if expect == "accepted" else None
    out["event_type"] = event_type if expect == "accepted" else None
    out.update(extra)
    return out


def provider(slug, source, vectors):
    names = [v["name"] for v in vectors]
    assert len(names) == len(set(names)), (slug, names)
    FILES[slug] = {"provider": slug, "source": source, "vectors": vectors}


def family(slug, source, sign, secrets, body, event_id=None, event_type=None, plain=(JSON,), tolerance=None,
           malformed=None, auth_headers=None, unicode=True, now=NOW, more=()):
    """The usual vectors of a provider whose signature stands in headers and covers the body.

    sign(secret, body, seconds) gives the headers that carry the signature.
    secrets: the endpoint's secret, a newer one, and one that the endpoint does not have.
    tolerance: seconds, where the provider demands or recommends one.
    malformed: headers to send instead of the signature, in a form that the provider never sends.
    auth_headers: what `missing_header` leaves out; by default every header that sign gives.
    """
    one, two, foreign = secrets
    plain = list(plain)
    good = sign(one, body, now)

    def v(name, have, head, text, expect, at=now):
        return vector(name, have, list(head) + plain, text, expect, event_id, event_type, now=at)

    out = [
        v("good", [one], good, body, "accepted"),
        v("tampered", [one], good, tamper(body), "wrong_signature"),
        v("other_secret", [one], sign(foreign, body, now), body, "wrong_signature"),
        v("rotated", [one, two], sign(two, body, now), body, "accepted"),
        v("missing_header", [one],
          [h for h in good if auth_headers is not None and h[0] not in auth_headers], body, "missing_header"),
        vector("lowercase_headers", [one], [(n.lower(), x) for n, x in list(good) + plain], body, "accepted",
               event_id, event_type, now=now),
    ]
    if unicode:
        text = with_unicode(body)
        out.append(v("unicode", [one], sign(one, text, now), text, "accepted"))
    if tolerance is not None:
        out.append(v("old_but_fresh", [one], good, body, "accepted", at=now + tolerance - 30))
        out.append(v("stale", [one], good, body, "stale", at=now + tolerance + 30))
    if malformed is not None:
        out.append(v("malformed", [one], malformed, body, "malformed_header"))
    out.extend(more)
    provider(slug, source, out)


def hex_body(header, algorithm="sha256", prefix=""):
    return lambda secret, body, at: [(header, prefix + mac(secret, body, algorithm).hex())]


def b64_body(header, algorithm="sha256", prefix=""):
    return lambda secret, body, at: [(header, prefix + b64(mac(secret, body, algorithm)))]


# --- keys ------------------------------------------------------------------------------------------

def is_prime(n, rounds=24):
    for p in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47):
        if n % p == 0:
            return n == p
    d, r = n - 1, 0
    while d % 2 == 0:
        d, r = d // 2, r + 1
    rng = random.Random(n)
    for _ in range(rounds):
        x = pow(rng.randrange(2, n - 1), d, n)
        if x in (1, n - 1):
            continue
        for _ in range(r - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def prime(seed, bits):
    need = bits // 8
    stream = b"".join(hashlib.sha256(("%s/%d" % (seed, i)).encode()).digest() for i in range(need // 32 + 1))
    n = int.from_bytes(stream[:need], "big") | (3 << (bits - 2)) | 1
    while not (is_prime(n) and (n - 1) % 65537):
        n += 2
    return n


def rsa_key(seed):
    """An RSA key of 2048 bits made from a fixed text. For tests only."""
    p, q = sorted((prime(seed + "/p", 1024), prime(seed + "/q", 1024)), reverse=True)
    e = 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p),
                                    rsa.RSAPublicNumbers(e, p * q))
    return numbers.private_key()


def public_pem(key):
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def public_der_base64(key):
    return b64(key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))


# --- HMAC over the body ----------------------------------------------------------------------------

def body_only():
    family("typeform", "Typeform developers, \"Secure your webhooks\"",
           b64_body("Typeform-Signature", prefix="sha256="),
           ("a3d1c5f0e4b29d7768c1f0aa5e34c2b19d80e6f7", "b5e2c6f1d4a38e9079d2e1bb6f45d3c20e91f708",
            "00112233445566778899aabbccddeeff00112233"),
           compact({"event_id": "01HF8Q4J8V9K2M3N4P5Q6R7S8T", "event_type": "form_response",
                    "form_response": {"form_id": "lT4Z3j", "token": "a3a12ec67a1365927098a606107fac15"}}),
           "01HF8Q4J8V9K2M3N4P5Q6R7S8T", "form_response",
           malformed=[("Typeform-Signature", "md5=abc")])

    docusign = (
        "DocuSignHmacKeyOne+abcdefghijklmnopqrstuvwxyz0=", "DocuSignHmacKeyTwo+abcdefghijklmnopqrstuvwxyz0=",
        "DocuSignHmacKeyFar+abcdefghijklmnopqrstuvwxyz0=")
    envelope = compact({"event": "envelope-completed", "apiVersion": "v2.1", "retryCount": 0,
                        "configurationId": 10210000, "generatedDateTime": "2023-11-14T22:13:20.0000000Z",
                        "data": {"accountId": "e3a1f1b0-0000-4000-8000-000000000001",
                                 "envelopeId": "c3f4b2a0-0000-4000-8000-000000000002"}})
    many = [("X-DocuSign-Signature-1", b64(mac(docusign[2], envelope))),
            ("X-DocuSign-Signature-2", b64(mac(docusign[0], envelope))),
            ("X-DocuSign-Signature-10", b64(mac("yet another", envelope))), JSON]
    tenth = [("X-DocuSign-Signature-1", b64(mac(docusign[2], envelope))),
             ("X-DocuSign-Signature-10", b64(mac(docusign[0], envelope))), JSON]
    family("docusign", "Docusign developer documentation, \"How to validate an HMAC signature\" (Connect)",
           b64_body("X-DocuSign-Signature-1"), docusign, envelope, None, "envelope-completed",
           plain=(("x-authorization-digest", "HMACSHA256"), JSON),
           malformed=[("X-DocuSign-Signature-1", "not base64!")],
           more=(vector("second_signature", [docusign[0]], many, envelope, "accepted", None, "envelope-completed"),
                 vector("tenth_signature", [docusign[0]], tenth, envelope, "accepted", None,
                        "envelope-completed")))

    family("dropbox", "Dropbox developers, \"Webhooks\" reference",
           hex_body("X-Dropbox-Signature"),
           ("q2w4e6r8t0y1u3i", "z1x3c5v7b9n2m4k", "p0o9i8u7y6t5r4e"),
           '{"list_folder": {"accounts": ["dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc"]}, '
           '"delta": {"users": [12345678]}}',
           malformed=[("X-Dropbox-Signature", "sha256=zz")])

    meta = ("5f4dcc3b5aa765d61d8327deb882cf99", "6cb75f652a9b52798eb6cf2201057c73",
            "098f6bcd4621d373cade4e832627b4f6")
    page = compact({"object": "page", "entry": [{"id": "1067280970047460", "time": 1700000000000, "changes": [
        {"field": "feed", "value": {"item": "status", "post_id": "44444444_444444444", "verb": "add"}}]}]})
    escaped = json.dumps({"object": "instagram", "entry": [{"id": "17841400000000000", "changes": [
        {"field": "comments", "value": {"id": "17865799348089039", "text": "\u00e4\u00f6\u00e5 \U0001f600"}}]}]},
        separators=(",", ":"))
    family("meta", "Meta for Developers, \"Webhooks, Getting Started, Validating Payloads\"",
           hex_body("X-Hub-Signature-256", prefix="sha256="), meta, page, None, "page",
           malformed=[("X-Hub-Signature-256", mac(meta[0], page).hex())],
           more=(vector("escaped_unicode", [meta[0]],
                        [("X-Hub-Signature-256", "sha256=" + mac(meta[0], escaped).hex()), JSON], escaped,
                        "accepted", None, "instagram"),
                 vector("sha1_header_ignored", [meta[0]],
                        [("X-Hub-Signature", "sha1=" + "0" * 40),
                         ("X-Hub-Signature-256", "sha256=" + mac(meta[0], page).hex()), JSON], page,
                        "accepted", None, "page"),
                 vector("sha1_header_only", [meta[0]],
                        [("X-Hub-Signature", "sha1=" + mac(meta[0], page, "sha1").hex()), JSON], page,
                        "missing_header")))

    message = compact({"object": "whatsapp_business_account", "entry": [{"id": "8856996819413533", "changes": [
        {"value": {"messaging_product": "whatsapp",
                   "metadata": {"display_phone_number": "16505553333", "phone_number_id": "27681414235104944"},
                   "messages": [{"from": "16315551234", "id": "wamid.ABGGFlCGg0cvAgo-sJQh43L5Pe4W",
                                 "timestamp": "1700000000", "text": {"body": "Hello"}, "type": "text"}]},
         "field": "messages"}]}]})
    family("whatsapp", "Meta for Developers, WhatsApp Business Platform, \"Webhooks\"; same signature as meta",
           hex_body("X-Hub-Signature-256", prefix="sha256="), meta, message, None, "messages",
           malformed=[("X-Hub-Signature-256", "sha256=xyz")])

    x_secret = "z3ZX4v7mAAUGykl3EcmkqbartmuW8VFOOzCloLx9Q45P0hLrFu"
    family("x", "X developer platform, \"V2 Webhooks API, Quickstart\" (signature header, CRC)",
           b64_body("x-twitter-webhooks-signature", prefix="sha256="),
           (x_secret, "Yk2pQ7v0sB4nT9xW1cR6mZ8aL3dF5gH7jK2lP4oI6uY8tR0eWq",
            "00000000000000000000000000000000000000000000000000"),
           compact({"for_user_id": "2244994945", "favorite_events": [
               {"id": "a7ba59eab0bfcba386f7acedac279542", "created_at": "Tue Nov 14 22:13:20 +0000 2023"}]}),
           malformed=[("x-twitter-webhooks-signature", "no prefix")],
           # What a CRC has had signed, sent as if it were an event.
           more=(vector("answer_of_a_crc", [x_secret],
                        [("x-twitter-webhooks-signature", "sha256=" + b64(mac(x_secret, "crc-token"))), JSON],
                        "crc-token", "malformed_header"),))

    family("sentry", "Sentry documentation, \"Integration platform webhooks\"",
           hex_body("Sentry-Hook-Signature"),
           ("8f3c1d9b7e2a4c6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7",
            "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
           compact({"action": "created", "installation": {"uuid": "a8e5d37a-696c-4c54-adb5-b3f28d64c7de"},
                    "data": {"issue": {"id": "1170820242", "title": "TypeError"}}, "actor": {"type": "application"}}),
           None, "issue",
           plain=(("Request-ID", "4b1d2a9c-0000-4000-8000-000000000003"), ("Sentry-Hook-Resource", "issue"),
                  ("Sentry-Hook-Timestamp", "1700000000"), JSON),
           malformed=[("Sentry-Hook-Signature", "v0=nothex")])

    pd = ("kF5uRMgqN7p2yYbV3cXzWq1sDtLhJ8aE", "mG6vSNhrO8q3zZcW4dYaXr2tEuMiK9bF", "nH7wTOisP9r4aAdX5eZbYs3uFvNjL0cG")
    incident = compact({"event": {"id": "5ac64822-4adc-4fda-ade0-410becf0de4f", "event_type": "incident.triggered",
                                  "resource_type": "incident", "occurred_at": "2023-11-14T22:13:20.000Z",
                                  "data": {"id": "PGR0VU2", "type": "incident", "status": "triggered"}}})
    pd_head = [("X-Webhook-Id", "d4e7c0b1-0000-4000-8000-000000000004"),
               ("X-Webhook-Subscription", "PT8ONKS"), JSON]
    family("pagerduty", "PagerDuty developer documentation, \"Webhooks v3, Verifying Signatures\"",
           hex_body("X-PagerDuty-Signature", prefix="v1="), pd, incident,
           "d4e7c0b1-0000-4000-8000-000000000004", "incident.triggered", plain=pd_head,
           malformed=[("X-PagerDuty-Signature", "abcdef")],
           more=(vector("second_signature", [pd[0]],
                        [("X-PagerDuty-Signature", "v1=%s,v1=%s" % (mac(pd[1], incident).hex(),
                                                                     mac(pd[0], incident).hex()))] + pd_head,
                        incident, "accepted", "d4e7c0b1-0000-4000-8000-000000000004", "incident.triggered"),
                 vector("unknown_version_first", [pd[0]],
                        [("X-PagerDuty-Signature", "v2=00ff,v1=" + mac(pd[0], incident).hex())] + pd_head,
                        incident, "accepted", "d4e7c0b1-0000-4000-8000-000000000004", "incident.triggered")))

    family("vercel", "Vercel documentation, \"Webhooks, Securing webhooks\"",
           hex_body("x-vercel-signature", "sha1"),
           ("Vr7tKp2mQ9sXw4yZ", "Nc3bLd8fGh1jRk6t", "Aa0Bb1Cc2Dd3Ee4F"),
           compact({"id": "evt_2XqF5vUoP6n8KzYdR", "type": "deployment.created", "createdAt": 1700000000000,
                    "region": "sfo1", "payload": {"deployment": {"id": "dpl_FjHqKqFz1", "name": "my-app"}}}),
           "evt_2XqF5vUoP6n8KzYdR", "deployment.created",
           malformed=[("x-vercel-signature", "xyz")])

    woo_doc = '{"action":"woocommerce_add_to_cart","arg":"7cbbc409ec990f19c78c75bd1e06f215"}'
    woo_head = [("X-WC-Webhook-Topic", "action.woocommerce_add_to_cart"), ("X-WC-Webhook-Resource", "action"),
                ("X-WC-Webhook-Event", "woocommerce_add_to_cart"),
                ("X-WC-Webhook-Signature", "geC1akFhCtsO7fbXz5XiGUsMsRa4Mt0IJsZ96nTaHjI="),
                ("X-WC-Webhook-ID", "535"), ("X-WC-Webhook-Delivery-ID", "378"), JSON]
    family("woocommerce", "WooCommerce REST API documentation, \"Webhooks\" (its delivery example is `published`)",
           b64_body("X-WC-Webhook-Signature"),
           ("my-super-secret-private-key", "T$|2b8Uo&k~)@w?{Yz#9", "another secret"),
           compact({"id": 727, "status": "processing", "currency": "USD", "total": "29.35"}),
           None, "order.updated",
           plain=(("X-WC-Webhook-Source", "https://shop.example.com/"), ("X-WC-Webhook-Topic", "order.updated"),
                  ("X-WC-Webhook-Resource", "order"), ("X-WC-Webhook-Event", "updated"), ("X-WC-Webhook-ID", "535"),
                  ("X-WC-Webhook-Delivery-ID", "a1b2c3d4e5f60718293a4b5c6d7e8f90"), JSON),
           malformed=[("X-WC-Webhook-Signature", "not base64!")],
           more=(vector("published", ["my-super-secret-private-key"], woo_head, woo_doc, "accepted", None,
                        "action.woocommerce_add_to_cart"),))

    xero = ("OSd0eLlVIY9ZhViEqlDUh4+6n6M+Lo+eDaEJheJ6OCCgWwIz2D3JIAU6jPMipHRbgKTLz2uJ+xiACXGDBLrgdA==",
            "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYg==",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==")
    itr = '{"events":[],"firstEventSequence": 0,"lastEventSequence": 0, "entropy": "S0m3r4Nd0mt3xt"}'
    family("xero", "Xero developer documentation, \"Webhooks, Configuring your server\"",
           b64_body("x-xero-signature"), xero,
           compact({"events": [{"resourceUrl": "https://api.xero.com/api.xro/2.0/Invoices/44aa0707-f718-4f1c-8d53-f2da9ca59533",
                                "resourceId": "44aa0707-f718-4f1c-8d53-f2da9ca59533",
                                "eventDateUtc": "2023-11-14T22:13:20.000", "eventType": "UPDATE",
                                "eventCategory": "INVOICE", "tenantId": "e629a03c-7ffe-4913-bf94-ff2fdb66a702"}],
                    "firstEventSequence": 1, "lastEventSequence": 1, "entropy": "SHVLNOIKZZUPDSWAJGDO"}),
           malformed=[("x-xero-signature", "not base64!")],
           more=(vector("intent_to_receive", [xero[0]],
                        [("x-xero-signature", b64(mac(xero[0], itr))), JSON], itr, "accepted"),
                 vector("intent_to_receive_wrong", [xero[0]],
                        [("x-xero-signature", b64(mac(xero[2], itr))), JSON], itr, "wrong_signature")))

    quick = ("a74cb1e2-7a0c-4d8a-9f0b-5c1d2e3f4a5b", "b85dc2f3-8b1d-4e9b-8a1c-6d2e3f4a5b6c",
             "00000000-0000-4000-8000-000000000000")
    cloud = compact([{"specversion": "1.0", "id": "88cd52aa-33b6-4351-9aa4-47572edbd068",
                      "source": "intuit.dsnBgbseACLLRZNxo2dfc4evmEJdxde58xeeYcZliOU=",
                      "type": "qbo.account.created.v1", "datacontenttype": "application/json",
                      "time": "2023-11-14T22:13:20.179851517Z", "intuitentityid": "1234",
                      "intuitaccountid": "310687", "data": {}}])
    family("quickbooks", "Intuit developer documentation, \"Webhooks, Validating the notification\"",
           b64_body("intuit-signature"), quick,
           compact({"eventNotifications": [{"realmId": "310687", "dataChangeEvent": {"entities": [
               {"name": "Customer", "id": "1", "operation": "Create", "lastUpdated": "2023-11-14T22:13:20.000Z"}]}}]}),
           malformed=[("intuit-signature", "not base64!")],
           more=(vector("cloudevents", [quick[0]], [("intuit-signature", b64(mac(quick[0], cloud))), JSON], cloud,
                        "accepted"),))

    circle = ("hunter123", "another-secret", "not-yours")
    workflow = compact({"id": "3888f21b-eaa7-38e3-8f3d-75a63bba8895", "type": "workflow-completed",
                        "happened_at": "2023-11-14T22:13:20.000Z",
                        "webhook": {"id": "cf8c4fdd-0587-4da1-b4ca-4846e9640af9", "name": "Sample Webhook"},
                        "workflow": {"id": "fda08377-fe7e-46b1-8992-3a7aaecac9c3", "status": "success"}})
    family("circleci", "CircleCI documentation, \"Outbound webhooks, Validate outbound webhooks\" (examples: `published`)",
           hex_body("circleci-signature", prefix="v1="), circle, workflow,
           "3888f21b-eaa7-38e3-8f3d-75a63bba8895", "workflow-completed",
           plain=(("circleci-event-type", "workflow-completed"), ("user-agent", "CircleCI-Webhook/1.0"), JSON),
           malformed=[("circleci-signature", "nothing here")],
           more=(vector("published", ["secret"],
                        [("circleci-signature",
                          "v1=734cc62f32841568f45715aeb9f4d7891324e6d948e4c6c60c0621cdac48623a")],
                        "hello world", "accepted"),
                 vector("published_2", ["hunter123"],
                        [("circleci-signature",
                          "v1=9be2242094a9a8c00c64306f382a7f9d691de910b4a266f67bd314ef18ac49fa")],
                        "an-important-request-payload", "accepted"),
                 vector("later_versions", [circle[0]],
                        [("circleci-signature", "v1=%s,v2=00ff,v3=abcd" % mac(circle[0], workflow).hex()), JSON],
                        workflow, "accepted", "3888f21b-eaa7-38e3-8f3d-75a63bba8895", "workflow-completed")))

    coinbase = (
        '{"id":1,"scheduled_for":"2017-01-31T20:50:02Z","attempt_number":1,"event":{"id":"24934862-d980-46cb-9402-43c81b'
        '0cdba6","type":"charge:created","api_version":"2018-03-22","created_at":"2017-01-31T20:49:02Z","data":{"code":"6'
        '6BEOV2A","name":"The Sovereign Individual","description":"Mastering the Transition to the Information Age","host'
        'ed_url":"https://commerce.coinbase.com/charges/66BEOV2A","created_at":"2017-01-31T20:49:02Z","expires_at":"2017-'
        '01-31T21:04:02Z","timeline":[{"time":"2017-01-31T20:49:02Z","status":"NEW"}],"metadata":{},"pricing_type":"no_pr'
        'ice","payments":[],"addresses":{"bitcoin":"0000000000000000000000000000000000","ethereum":"0x000000000000000000'
        '0000000000000000000000","litecoin":"3000000000000000000000000000000000","bitcoincash":"bitcoincash:00000000000000'
        '0000000000000000000000000000"}}}}')
    family("coinbase_commerce", "Coinbase Commerce documentation, \"Webhooks Security\"; `published` from coinbase-commerce-node's tests",
           hex_body("X-CC-Webhook-Signature"),
           ("30291a20-0bd1-4267-9b0f-e6e7b123c0bf", "41302b31-1ce2-4378-8a10-f7f8c234d1c0",
            "30291a20-0bd1-4267-9b0f-e6e7b123c0bg"),
           compact({"id": 7, "scheduled_for": "2023-11-14T22:13:20Z", "attempt_number": 2,
                    "event": {"id": "35045973-ea91-4bdc-8513-54d92c1dece7", "type": "charge:confirmed",
                              "api_version": "2018-03-22", "data": {"code": "77CFPW3B"}}}),
           "35045973-ea91-4bdc-8513-54d92c1dece7", "charge:confirmed",
           malformed=[("X-CC-Webhook-Signature", "xyz")],
           more=(vector("published", ["30291a20-0bd1-4267-9b0f-e6e7b123c0bf"],
                        [("X-CC-Webhook-Signature",
                          "8be7742c7d372f08a6a3224edadf18a22b65fa9e28f3f2de97376cdaa092590d"), JSON], coinbase,
                        "accepted", "24934862-d980-46cb-9402-43c81b0cdba6", "charge:created"),))

    gocardless = (
        '{"events":[{"id":"EV00BD05S5VM2T","created_at":"2018-07-05T09:13:51.404Z","resource_type":"subscriptions","action'
        '":"created","links":{"subscription":"SB0003JJQ2MR06"},"details":{"origin":"api","cause":"subscription_created","d'
        'escription":"Subscription created via the API."},"metadata":{}},{"id":"EV00BD05TB8K63","created_at":"2018-07-05T0'
        '9:13:56.893Z","resource_type":"mandates","action":"created","links":{"mandate":"MD000AMA19XGEC"},"details":{"orig'
        'in":"api","cause":"mandate_created","description":"Mandate created via the API."},"metadata":{}}]}')
    family("gocardless", "GoCardless developer documentation, \"Webhooks\"; `published` from gocardless-pro-python's tests",
           hex_body("Webhook-Signature"),
           ("ED7D658C-D8EB-4941-948B-3973214F2D49", "FE8E769D-E9FC-4A52-859C-4A84325A3E5A", "anotherkey"),
           compact({"events": [{"id": "EV123", "created_at": "2023-11-14T22:13:20.000Z", "resource_type": "payments",
                                "action": "confirmed", "links": {"payment": "PM123"},
                                "details": {"origin": "gocardless", "cause": "payment_confirmed"}}],
                    "meta": {"webhook_id": "WB123"}}),
           "WB123", None, malformed=[("Webhook-Signature", "xyz")],
           more=(vector("published", ["ED7D658C-D8EB-4941-948B-3973214F2D49"],
                        [("Webhook-Signature", "2693754819d3e32d7e8fcb13c729631f316c6de8dc1cf634d6527f1c07276e7e"),
                         JSON], gocardless, "accepted"),))

    mollie = ("mollie_whsec_8Gq2xVtB5nR1", "mollie_whsec_9Hr3yWuC6oS2", "mollie_whsec_0000000000")
    link = compact({"resource": "event", "id": "whe_gQMMaGqAVA", "type": "payment-link.paid",
                    "entityId": "pl_4Y0eZitmBnQ5jsBYZIBw", "createdAt": "2023-11-14T22:13:20+00:00"})
    family("mollie", "Mollie documentation, next-gen webhooks; mollie-api-php SignatureValidator",
           hex_body("X-Mollie-Signature", prefix="sha256="), mollie, link, "whe_gQMMaGqAVA", "payment-link.paid",
           malformed=[("X-Mollie-Signature", "sha256=xyz")],
           more=(vector("second_signature", [mollie[0]],
                        [("X-Mollie-Signature", "sha256=" + mac(mollie[1], link).hex()),
                         ("X-Mollie-Signature", "sha256=" + mac(mollie[0], link).hex()), JSON], link, "accepted",
                        "whe_gQMMaGqAVA", "payment-link.paid"),
                 vector("classic_unsigned", [mollie[0]],
                        [("Content-Type", "application/x-www-form-urlencoded")], "id=tr_d0b0E3EA3v",
                        "missing_header")))

    family("lemon_squeezy", "Lemon Squeezy documentation, \"Signing requests\", \"Webhook requests\"",
           hex_body("X-Signature"), ("my-lemon-signing-secret-2023", "next-lemon-signing-secret", "someone-else"),
           compact({"meta": {"event_name": "order_created"},
                    "data": {"type": "orders", "id": "1", "attributes": {"store_id": 1, "total": 1199}}}),
           None, "order_created", plain=(("X-Event-Name", "order_created"), JSON),
           malformed=[("X-Signature", "xyz")])

    family("cal_com", "Cal.com documentation, \"Webhooks\"",
           hex_body("x-cal-signature-256"), ("cal-webhook-secret-one", "cal-webhook-secret-two", "cal-other"),
           compact({"triggerEvent": "BOOKING_CREATED", "createdAt": "2023-11-14T22:13:20.000Z",
                    "payload": {"type": "60min", "title": "60min between A and B", "uid": "bFJeNb2uX8ANpT3JL5EfXw"}}),
           None, "BOOKING_CREATED", malformed=[("x-cal-signature-256", "no-secret-provided")])

    family("launchdarkly", "LaunchDarkly documentation, \"Webhooks, Sign a webhook\"",
           hex_body("X-LD-Signature"), ("ld-secret-5d41402abc4b", "ld-secret-7d793037a076", "ld-secret-000000000000"),
           compact({"_id": "57c0a8e29969090743529965", "date": 1700000000000, "kind": "flag", "name": "Example",
                    "description": "- Turned on the flag", "comment": ""}),
           "57c0a8e29969090743529965", "flag", malformed=[("X-LD-Signature", "xyz")])

    family("snyk", "Snyk documentation, \"Validation and versioning of payloads\"",
           hex_body("X-Hub-Signature", prefix="sha256="),
           ("a8be22bb7bed43a3ac24de3580093560", "b9cf33cc8cfe54b4bd35ef4691104671", "00000000000000000000000000000000"),
           compact({"project": {"id": "d3cf26b3-2d77-497b-bce2-23b33cc15362"},
                    "org": {"id": "4a18d42f-0706-4ad0-b127-24078731fbed"}, "newIssues": [], "removedIssues": []}),
           None, "project_snapshot/v0",
           plain=(("X-Snyk-Event", "project_snapshot/v0"),
                  ("X-Snyk-Transport-ID", "998fe884-18a0-45db-8ae0-e379eea3bc0a"),
                  ("X-Snyk-Timestamp", "2023-11-14T22:13:20Z"), JSON),
           malformed=[("X-Hub-Signature", "sha256=xyz")])

    family("checkr", "Checkr API documentation, \"Webhooks, Responding to and securing webhooks\"",
           hex_body("X-Checkr-Signature"),
           ("83ebeabdec09f6670863766f792ead24d61fe3f9", "94fcfbceed10f7781974877f803fbe35e72fe4fa",
            "0000000000000000000000000000000000000000"),
           compact({"id": "1002d6bca6acdfcbb8442178", "object": "event", "type": "report.completed",
                    "created_at": "2023-11-14T22:13:20Z", "webhook_url": URL,
                    "data": {"object": {"id": "a13f4827d8711ddc75abc56c", "object": "report",
                                        "uri": "/v1/reports/a13f4827d8711ddc75abc56c"}}}),
           "1002d6bca6acdfcbb8442178", "report.completed", malformed=[("X-Checkr-Signature", "xyz")])

    family("checkout_com", "Checkout.com documentation, \"Receive webhooks\" (Cko-Signature)",
           hex_body("Cko-Signature"),
           ("cko-signature-key-1f3870be274f", "cko-signature-key-72b302bf297a", "cko-signature-key-000000000000"),
           compact({"id": "evt_az5sblvku4ge3dwpztvyizgcau", "type": "payment_approved", "version": "2.0.0",
                    "created_on": "2023-11-14T22:13:20.7467192Z", "data": {"id": "pay_mbabizu24mvu3mela5njyhpit4"}}),
           "evt_az5sblvku4ge3dwpztvyizgcau", "payment_approved",
           plain=(("Authorization", "Bearer value-set-in-the-workflow"), JSON),
           malformed=[("Cko-Signature", "xyz")])

    line = ("8c570fa6dd201bb328f1c1eac23a96d8", "9d681fb7ee312cc439a2d2fbd34ba7e9", "00000000000000000000000000000000")
    nothing = compact({"destination": "U8e742f61d673b39c7fff3cecb7536ef0", "events": []})
    family("line", "LINE Developers, Messaging API, \"Verify webhook signature\"; `published` from line-bot-sdk-python's tests",
           b64_body("x-line-signature"), line,
           compact({"destination": "U8e742f61d673b39c7fff3cecb7536ef0", "events": [
               {"type": "message", "message": {"type": "text", "id": "14353798921116", "text": "Hello"},
                "timestamp": 1700000000000, "source": {"type": "user", "userId": "U80696558e1aa831af28d79c"},
                "mode": "active", "webhookEventId": "01FZ74A0TDDPYRVKNK77XKC3ZR",
                "deliveryContext": {"isRedelivery": False}, "replyToken": "757913772c4646b784d4b7ce46d12671"}]}),
           malformed=[("x-line-signature", "not base64!")],
           more=(vector("published", ["channel_secret"],
                        [("X-Line-Signature", "/gg9a+LvFevTH1sd7XCQycD7tsWclCsInj7MhBHxN7k=")],
                        "bodybodybodybody", "accepted"),
                 vector("verify_button", [line[0]], [("x-line-signature", b64(mac(line[0], nothing))), JSON], nothing,
                        "accepted")))

    family("viber", "Viber REST API documentation, \"Callbacks\"; `published` from viber-bot-python's tests",
           hex_body("X-Viber-Content-Signature"),
           ("44dafb7e0f40021e-61a47a1e6778d187-f2c5a676a07050b3", "55ebfc8f1f51132f-72b58b2f7889e298-a3d6b787b18161c4",
            "0000000000000000-0000000000000000-0000000000000000"),
           compact({"event": "message", "timestamp": 1700000000000, "message_token": 4912661846655238145,
                    "sender": {"id": "01234567890A=", "name": "John McClane"},
                    "message": {"type": "text", "text": "a message to the service"}}),
           None, "message", malformed=[("X-Viber-Content-Signature", "aaaaaaaaaaaaaaaaaaaaaazz")],
           more=(vector("published", ["44dafb7e0f40021e-61a47a1e6778d187-f2c5a676a07050b3"],
                        [("X-Viber-Content-Signature",
                          "d21b343448c8aee33b8e93768ef6ceb64a6ba6163099973a2b8bd028fea510ef"), JSON],
                        '{"event":"webhook","timestamp":4977069964384421269,"message_token":1478683725125}',
                        "accepted", None, "webhook"),))

    airtable_doc = ('{"base": {"id": "app00000000000000"}, "webhook": {"id": "ach00000000000000"}, '
                    '"timestamp": "2022-02-01T21:25:05.663Z"}')
    family("airtable", "Airtable Web API, \"Webhooks overview\"; `library` from pyairtable's tests",
           lambda secret, body, at: [("X-Airtable-Content-MAC",
                                      "hmac-sha256=" + mac(base64.b64decode(secret), body).hex())],
           (b64(hashlib.sha256(b"airtable one").digest()), b64(hashlib.sha256(b"airtable two").digest()),
            b64(hashlib.sha256(b"airtable far").digest())),
           compact({"base": {"id": "appAAAAAAAAAAAAAA"}, "webhook": {"id": "achAAAAAAAAAAAAAA"},
                    "timestamp": "2023-11-14T22:13:20.000Z"}),
           unicode=False, malformed=[("X-Airtable-Content-MAC", "sha256=00")],
           more=(vector("library", ["c2VjcmV0LWtleQ=="],
                        [("X-Airtable-Content-MAC",
                          "hmac-sha256=e26da696a90933647bddc83995c3e1e3bb1c3d8ce1ff61cb7469767d50b2b2d4"), JSON],
                        airtable_doc, "accepted"),))

    ably = ("xVLyHw.A-pwhA:WcqFTvpTAD_1a2b3c4d5e6f7g8h9i0jKlMnOpQrStUv",
            "xVLyHw.B-qxiB:XdrGUwqUBE_2b3c4d5e6f7g8h9i0j1kLmNoPqRsTuVw",
            "xVLyHw.A-pwhA:00000000000000000000000000000000000000000000")
    family("ably", "Ably documentation, \"Outbound webhooks, Webhook security\"",
           lambda secret, body, at: [("X-Ably-Key", secret.split(":", 1)[0]),
                                     ("X-Ably-Signature", b64(mac(secret.split(":", 1)[1], body)))],
           ably,
           compact({"items": [{"webhookId": "ABcDEf", "source": "channel.message",
                               "serial": "a7bcdEFghIjklm123456789:4", "timestamp": 1700000000000,
                               "name": "channel.message",
                               "data": {"channelId": "my-channel-4", "site": "eu-west-1-A",
                                        "messages": [{"id": "ABcDefgHIj:1:0", "data": "the message data"}]}}]}),
           plain=(("X-Ably-Version", "1.2"), JSON),
           malformed=[("X-Ably-Key", "xVLyHw.A-pwhA"), ("X-Ably-Signature", "not base64!")])

    pusher_secret = ("7ad3773142a6692b25b8", "8be4884253b7703c36c9", "00000000000000000000")
    family("pusher", "Pusher Channels documentation, \"Webhooks, Security\"; pusher-http-python validate_webhook",
           lambda secret, body, at: [("X-Pusher-Key", "278d425bdf160c739803"),
                                     ("X-Pusher-Signature", mac(secret, body).hex())],
           pusher_secret,
           compact({"time_ms": 1700000000000, "events": [{"name": "channel_occupied", "channel": "test_channel"}]}),
           auth_headers=("X-Pusher-Signature",),
           malformed=[("X-Pusher-Key", "278d425bdf160c739803"), ("X-Pusher-Signature", "xyz")])

    segment = ("segment-shared-secret", "segment-next-secret", "segment-other")
    track = compact({"messageId": "ajs-next-1700000000000-abc", "type": "track", "event": "Order Completed",
                     "userId": "019mr8mf4r", "timestamp": "2023-11-14T22:13:20.000Z"})
    second = compact({"messageId": "ajs-next-1700000000001-def", "type": "track", "event": "Other"})
    batch = "[" + track + "," + second + "]"
    family("segment", "Segment documentation, \"Webhooks destination, Authentication\" and \"Webhooks (Actions)\"",
           hex_body("X-Signature", "sha1"), segment, track, "ajs-next-1700000000000-abc", "track",
           malformed=[("X-Signature", "xyz")],
           more=(vector("batch_signs_first_event", [segment[0]],
                        [("X-Signature", mac(segment[0], track, "sha1").hex()), JSON], batch, "accepted"),
                 vector("batch_second_event_not_covered", [segment[0]],
                        [("X-Signature", mac(segment[0], track, "sha1").hex()), JSON],
                        "[" + track + "," + tamper(second) + "]", "accepted"),
                 vector("batch_first_event_tampered", [segment[0]],
                        [("X-Signature", mac(segment[0], track, "sha1").hex()), JSON],
                        "[" + tamper(track) + "," + second + "]", "wrong_signature")))


# --- HMAC over a time and the body -----------------------------------------------------------------

def timed():
    family("calendly", "Calendly developer documentation, \"Webhook signatures\"",
           lambda s, b, at: [("Calendly-Webhook-Signature",
                              "t=%d,v1=%s" % (at, mac(s, b"%d." % at + raw(b)).hex()))],
           ("5mEzn9C-I28UtwOjZJtFoob0sAAFZ95GbZkqj4y3i0I", "6nFao0D-J39VuxPkAKuGppc1tBBGA06HcAlrk5z4j1J",
            "00000000000000000000000000000000000000000000"),
           compact({"event": "invitee.created", "created_at": "2023-11-14T22:13:20.000000Z",
                    "created_by": "https://api.calendly.com/users/AAAAAAAAAAAAAAAA",
                    "payload": {"uri": "https://api.calendly.com/scheduled_events/A/invitees/B", "status": "active"}}),
           None, "invitee.created", tolerance=180,
           malformed=[("Calendly-Webhook-Signature", "v1=abcdef")])

    family("workos", "WorkOS documentation, \"Webhooks, Validating events\"; workos-node signature provider",
           lambda s, b, at: [("WorkOS-Signature",
                              "t=%d, v1=%s" % (at * 1000, mac(s, b"%d." % (at * 1000) + raw(b)).hex()))],
           ("Gj5kQ2vXbN8mT1wZ7yR4cL9dF3hS6pAe", "Hk6lR3wYcO9nU2xA8zS5dM0eG4iT7qBf", "Il7mS4xZdP0oV3yB9aT6eN1fH5jU8rCg"),
           compact({"id": "event_01FAEAJCJX3ZBZ30D8BD1924TVG", "event": "dsync.user.created",
                    "data": {"id": "directory_user_01FAEAJCR3ZBZ30D8BD1924TVG", "state": "active"},
                    "created_at": "2023-11-14T22:13:20.000Z"}),
           "event_01FAEAJCJX3ZBZ30D8BD1924TVG", "dsync.user.created", tolerance=180,
           malformed=[("WorkOS-Signature", "v1=abcdef")])

    family("buildkite", "Buildkite documentation, \"Pipelines webhooks, Webhook signature\"",
           lambda s, b, at: [("X-Buildkite-Signature",
                              "timestamp=%d,signature=%s" % (at, mac(s, b"%d." % at + raw(b)).hex()))],
           ("309c9c842b8565adecbd7469a6005989", "410d0d953c9676bfdfce8570b7116a9a", "00000000000000000000000000000000"),
           compact({"event": "build.finished", "build": {"id": "f62a1b4d-10f9-4790-bc1c-e2c3a0c80983", "number": 1},
                    "sender": {"id": "3d3c3bf0-7d58-4afe-8fe7-b3017d5504de", "name": "Sam"}}),
           None, "build.finished", plain=(("X-Buildkite-Event", "build.finished"), JSON), tolerance=300,
           malformed=[("X-Buildkite-Signature", "signature=abcdef")],
           more=(vector("token_mode", ["309c9c842b8565adecbd7469a6005989"],
                        [("X-Buildkite-Token", "309c9c842b8565adecbd7469a6005989"), ("X-Buildkite-Event", "ping"),
                         JSON], compact({"event": "ping"}), "accepted", None, "ping"),
                 vector("token_mode_wrong", ["309c9c842b8565adecbd7469a6005989"],
                        [("X-Buildkite-Token", "00000000000000000000000000000000"), ("X-Buildkite-Event", "ping"),
                         JSON], compact({"event": "ping"}), "wrong_signature")))

    def webflow(s, b, at):
        return [("x-webflow-timestamp", str(at * 1000)),
                ("x-webflow-signature", mac(s, b"%d:" % (at * 1000) + raw(b)).hex())]
    family("webflow", "Webflow developer documentation, \"Webhooks, Validating request signatures\"; js-webflow-api",
           webflow,
           ("f2e1d0c9b8a7968574635241302f1e0d0c1b2a39485766758493a2b1c0dfeefd",
            "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90", "0" * 64),
           compact({"triggerType": "form_submission",
                    "payload": {"name": "Contact", "siteId": "65427cf400e02b306eaa049c", "id": "65a5d3c8f7e2b4001"}}),
           None, "form_submission", tolerance=300,
           malformed=[("x-webflow-timestamp", "yesterday"), ("x-webflow-signature", "00")],
           more=(vector("missing_timestamp", ["f2e1d0c9b8a7968574635241302f1e0d0c1b2a39485766758493a2b1c0dfeefd"],
                        [("x-webflow-signature", "00" * 32), JSON], "{}", "missing_header"),))

    family("close", "Close API documentation, \"Webhooks, Webhook Signatures\"",
           lambda s, b, at: [("close-sig-hash", mac(bytes.fromhex(s), str(at).encode() + raw(b)).hex()),
                             ("close-sig-timestamp", str(at))],
           ("058bfb6a3d8cfdc4da7c3be5901b16ae11da982b46a25fb2cd7016e97a140a1c",
            "169cac7b4e9dfed5eb8d4cf6a12c27bf22eba93c57b36ac3de8127fa8b251b2d", "0" * 64),
           compact({"event": {"id": "ev_2sYKRjcrA79yKxi3S4Crd7", "action": "updated", "object_type": "opportunity",
                              "object_id": "oppo_7H4sjNso7FyBFaeR3RXi5PMJbilfo0c6UPCxsJtEhCO",
                              "date_created": "2023-11-14T22:13:20.395000"},
                    "subscription_id": "whsub_123"}),
           "ev_2sYKRjcrA79yKxi3S4Crd7", "opportunity.updated",
           malformed=[("close-sig-hash", "xyz"), ("close-sig-timestamp", "1700000000")])

    def front(s, b, at):
        return [("X-Front-Signature", b64(mac(s, b"%d:" % (at * 1000) + raw(b)))),
                ("X-Front-Request-Timestamp", str(at * 1000))]
    front_key = ("b2d1f0e9c8a7", "c3e2a1f0d9b8", "000000000000")
    sync = compact({"type": "sync", "authorization": {"id": "cmp_abc"}})
    family("front", "Front developer documentation, \"Application webhooks, Verifying integrity\"",
           front, front_key,
           compact({"type": "inbound_received", "authorization": {"id": "cmp_abc"},
                    "payload": {"id": "evt_55c8c149", "type": "inbound", "emitted_at": 1700000000.123}}),
           "evt_55c8c149", "inbound_received",
           malformed=[("X-Front-Signature", "not base64!"), ("X-Front-Request-Timestamp", "1700000000000")],
           more=(vector("challenge", [front_key[0]],
                        front(front_key[0], sync, NOW) + [("X-Front-Challenge", "f9b1d3a7c5"), JSON], sync,
                        "accepted", None, "sync"),))

    family("customer_io", "Customer.io documentation, \"Reporting webhooks, Securely verify requests\"",
           lambda s, b, at: [("X-CIO-Signature", mac(s, b"v0:%d:" % at + raw(b)).hex()),
                             ("X-CIO-Timestamp", str(at))],
           ("f6c1a9e3d5b74820917364aa5e01cd2f8b94e760d1c3a5f7", "a7d2b0f4e6c85931a28475bb6f12de3a9ca5f871e2d4b6a8", "0" * 48),
           compact({"event_id": "01E4C4CT6YDC7Y5M7FE1GWWPQJ", "object_type": "email", "metric": "delivered",
                    "timestamp": 1700000000, "data": {"customer_id": "42", "delivery_id": "ZAIAAVTJVG0QcCok0-0ZKj6yiQ=="}}),
           "01E4C4CT6YDC7Y5M7FE1GWWPQJ", "delivered",
           malformed=[("X-CIO-Signature", "xyz"), ("X-CIO-Timestamp", "1700000000")])

    def persona(s, b, at):
        return "t=%d,v1=%s" % (at, mac(s, b"%d." % at + raw(b)).hex())
    persona_key = ("wbhsec_6f2d8c1b-0a3e-4d57-9c8b-1e2f3a4b5c6d", "wbhsec_7a3e9d2c-1b4f-4e68-8d9c-2f3a4b5c6d7e",
                   "wbhsec_00000000-0000-4000-8000-000000000000")
    inquiry = compact({"data": {"type": "event", "id": "evt_CNf5w1vXhTTTcsAoUQ9dpE1n", "attributes": {
        "name": "inquiry.completed", "created-at": "2023-11-14T22:13:20.000Z",
        "payload": {"data": {"type": "inquiry", "id": "inq_2CVZ4HyVg7qaboXz2PUHknAn"}}}}})
    family("persona", "Persona documentation, \"Webhook Best Practices, Checking signatures\"",
           lambda s, b, at: [("Persona-Signature", persona(s, b, at))], persona_key, inquiry,
           "evt_CNf5w1vXhTTTcsAoUQ9dpE1n", "inquiry.completed", tolerance=7200,
           malformed=[("Persona-Signature", "v1=abcdef")],
           more=(vector("second_signature", [persona_key[0]],
                        [("Persona-Signature", persona(persona_key[1], inquiry, NOW) + " " +
                          persona(persona_key[0], inquiry, NOW)), JSON], inquiry, "accepted",
                        "evt_CNf5w1vXhTTTcsAoUQ9dpE1n", "inquiry.completed"),))

    def revolut(s, b, at):
        return "v1=" + mac(s, b"v1.%d." % (at * 1000) + raw(b)).hex()
    rev = ("wsk_r59a4HfWVAKycbCaNO1RvgCJec02gRd8", "wsk_s60b5IgXWBLzdcDbOP2SwhDKfd13hSe9", "wsk_000000000000000000000000000000000")
    order = compact({"event": "ORDER_COMPLETED", "order_id": "9fc01989-3f61-4484-a5d9-ffe768531be9",
                     "merchant_order_ext_ref": "Test #3928"})
    rev_doc = ('{"data":{"id":"645a7696-22f3-aa47-9c74-cbae0449cc46","new_state":"completed","old_state":"pending",'
               '"request_id":"app_charges-9f5d5eb3-1e06-46c5-b1c0-3914763e0bcb"},"event":"TransactionStateChanged",'
               '"timestamp":"2023-05-09T16:36:38.028960Z"}')
    family("revolut", "Revolut developer documentation, \"Verify the payload signature\" (its example is `published`)",
           lambda s, b, at: [("Revolut-Signature", revolut(s, b, at)),
                             ("Revolut-Request-Timestamp", str(at * 1000))],
           rev, order, None, "ORDER_COMPLETED", tolerance=300,
           malformed=[("Revolut-Signature", "abcdef"), ("Revolut-Request-Timestamp", "1700000000000")],
           more=(vector("second_signature", [rev[0]],
                        [("Revolut-Signature", revolut(rev[1], order, NOW) + "," + revolut(rev[0], order, NOW)),
                         ("Revolut-Request-Timestamp", "1700000000000"), JSON], order, "accepted", None,
                        "ORDER_COMPLETED"),
                 vector("published", [rev[0]],
                        [("Revolut-Signature", "v1=bca326fb378d0da7f7c490ad584a8106bab9723d8d9cdd0d50b4c5b3be3837c0"),
                         ("Revolut-Request-Timestamp", "1683650202360"), JSON], rev_doc, "accepted", None,
                        "TransactionStateChanged", now=1683650203)))

    family("klaviyo", "Klaviyo developer documentation, \"Working with system webhooks\"",
           lambda s, b, at: [("Klaviyo-Signature", mac(s, raw(b) + http_date(at).encode()).hex()),
                             ("Klaviyo-Timestamp", http_date(at))],
           ("klaviyo-secret-key-0123456789", "klaviyo-secret-key-9876543210", "klaviyo-secret-key-0000000000"),
           compact({"data": [{"external_id": "4Yd5xkKqWmB", "topic": "event:klaviyo.email_delivered",
                              "payload": {"data": {"type": "event", "id": "4Yd5xkKqWmB"}}}],
                    "meta": {"klaviyo_account_id": "ABC123", "klaviyo_webhook_id": "01HF8Q4J8V9K2M3N4P5Q6R7S8T",
                             "timestamp": "2023-11-14T22:13:20+00:00"}}),
           plain=(("Klaviyo-Webhook-Id", "01HF8Q4J8V9K2M3N4P5Q6R7S8T"), JSON),
           malformed=[("Klaviyo-Signature", "xyz"), ("Klaviyo-Timestamp", http_date(NOW))])

    def twitch(s, b, at, kind="notification"):
        stamp = utc(at).strftime("%Y-%m-%dT%H:%M:%S") + ".123456789Z"
        return [("Twitch-Eventsub-Message-Id", "e76c6bd4-55c9-4987-8304-da1588d8988b"),
                ("Twitch-Eventsub-Message-Timestamp", stamp),
                ("Twitch-Eventsub-Message-Signature",
                 "sha256=" + mac(s, b"e76c6bd4-55c9-4987-8304-da1588d8988b" + stamp.encode() + raw(b)).hex()),
                ("Twitch-Eventsub-Message-Type", kind)]
    twitch_key = ("s3cre77890ab-one", "s3cre77890ab-two", "s3cre77890ab-far")
    challenge = compact({"challenge": "pogchamp-kappa-360noscope-vohiyo",
                         "subscription": {"id": "f1c2a387-161a-49f9-a165-0f21d7a4e1c4",
                                          "status": "webhook_callback_verification_pending",
                                          "type": "channel.follow", "version": "2"}})
    tw_plain = (("Twitch-Eventsub-Subscription-Type", "channel.follow"),
                ("Twitch-Eventsub-Subscription-Version", "2"), JSON)
    family("twitch", "Twitch developers, EventSub, \"Getting Events Using Webhook Callbacks\"; twitch-cli",
           twitch, twitch_key,
           compact({"subscription": {"id": "f1c2a387-161a-49f9-a165-0f21d7a4e1c4", "type": "channel.follow",
                                     "version": "2", "status": "enabled"},
                    "event": {"user_id": "1337", "user_login": "awesome_user", "broadcaster_user_id": "12826"}}),
           "e76c6bd4-55c9-4987-8304-da1588d8988b", "channel.follow", plain=tw_plain, tolerance=600,
           auth_headers=("Twitch-Eventsub-Message-Signature",),
           malformed=[(n, x.replace("sha256=", "")) for n, x in twitch(twitch_key[0], "{}", NOW)],
           more=(vector("challenge", [twitch_key[0]],
                        twitch(twitch_key[0], challenge, NOW, "webhook_callback_verification") + list(tw_plain),
                        challenge, "accepted", "e76c6bd4-55c9-4987-8304-da1588d8988b", "channel.follow"),))

    # Box: the time is RFC 3339 and follows the body; one header for each of the two keys.
    def box_sig(key, body, stamp):
        return b64(mac(key, raw(body) + stamp.encode()))

    def box_head(stamp, primary, secondary):
        return [("BOX-DELIVERY-ID", "673a081b-bb4b-4d45-b4f1-4131a29c1d07"), ("BOX-DELIVERY-TIMESTAMP", stamp),
                ("BOX-SIGNATURE-PRIMARY", primary), ("BOX-SIGNATURE-SECONDARY", secondary),
                ("BOX-SIGNATURE-VERSION", "1"), ("BOX-SIGNATURE-ALGORITHM", "HmacSHA256"), JSON]
    stamp = "2023-11-14T14:13:20-08:00"
    key1, key2, key3 = "Fd28OJrZ8oNxkgmS7TbjXNgrG8v", "KWkROAOiof4zhYUHbAmiVn63cMj", "00000000000000000000000000"
    upload = compact({"type": "webhook_event", "id": "eb0c4e06-751f-442c-86f8-fd5bb404dbec",
                      "created_at": "2023-11-14T14:13:19-08:00", "trigger": "FILE.UPLOADED",
                      "webhook": {"id": "53", "type": "webhook"}, "source": {"id": "73835521473", "type": "file"}})
    eid, etype = "eb0c4e06-751f-442c-86f8-fd5bb404dbec", "FILE.UPLOADED"
    good = box_head(stamp, box_sig(key1, upload, stamp), box_sig(key2, upload, stamp))
    escaped = json.dumps({"type": "webhook_event", "id": eid, "trigger": etype,
                          "source": {"type": "file", "name": "\u30b9\u30af\u30ea\u30fc\u30f3 \U0001f600.txt"}},
                         separators=(",", ":"))
    doc = ('{"type":"webhook_event","webhook":{"id":"1234567890"},"trigger":"FILE.UPLOADED","source":{"id":'
           '"1234567890","type":"file","name":"Test.txt"}}')
    doc_head = [("box-delivery-id", "f96bb54b-ee16-4fc5-aa65-8c2d9e5b546f"),
                ("box-delivery-timestamp", "2020-01-01T00:00:00-07:00"),
                ("box-signature-algorithm", "HmacSHA256"),
                ("box-signature-primary", "6TfeAW3A1PASkgboxxA5yqHNKOwFyMWuEXny/FPD5hI="),
                ("box-signature-secondary", "v+1CD1Jdo3muIcbpv5lxxgPglOqMfsNHPV899xWYydo="),
                ("box-signature-version", "1")]
    provider("box", "Box developer documentation, \"Signature Verification\" (V2 webhooks); `published` from box-python-sdk's tests", [
        vector("good", [key1, key2], good, upload, "accepted", eid, etype),
        vector("primary_only", [key1], good, upload, "accepted", eid, etype),
        vector("secondary_only", [key2], good, upload, "accepted", eid, etype),
        vector("tampered", [key1, key2], good, tamper(upload), "wrong_signature"),
        vector("other_secret", [key3], good, upload, "wrong_signature"),
        vector("rotated", [key1, key2],
               box_head(stamp, box_sig(key3, upload, stamp), box_sig(key2, upload, stamp)), upload, "accepted",
               eid, etype),
        vector("missing_header", [key1], [h for h in good if "SIGNATURE-PRIMARY" not in h[0] and
                                          "SIGNATURE-SECONDARY" not in h[0]], upload, "missing_header"),
        vector("missing_timestamp", [key1], [h for h in good if "TIMESTAMP" not in h[0]], upload, "missing_header"),
        vector("lowercase_headers", [key1], [(n.lower(), x) for n, x in good], upload, "accepted", eid, etype),
        vector("escaped_unicode", [key1],
               box_head(stamp, box_sig(key1, escaped, stamp), box_sig(key2, escaped, stamp)), escaped, "accepted",
               eid, etype),
        vector("old_but_fresh", [key1], good, upload, "accepted", eid, etype, now=NOW + 570),
        vector("stale", [key1], good, upload, "stale", now=NOW + 630),
        vector("malformed", [key1], [(n, "3" if n == "BOX-SIGNATURE-VERSION" else x) for n, x in good], upload,
               "malformed_header"),
        vector("published", ["SamplePrimaryKey", "SampleSecondaryKey"], doc_head, doc, "accepted", None,
               "FILE.UPLOADED", now=1577862010),
    ])

    # Standard Webhooks and Svix
    def standard(prefix, key_of):
        def sign(secret, body, at):
            ident = "msg_p5jXN8AQM9LWM0D4loKWxJek"
            content = b"%s.%d." % (ident.encode(), at) + raw(body)
            return [(prefix + "-id", ident), (prefix + "-timestamp", str(at)),
                    (prefix + "-signature", "v1," + b64(mac(key_of(secret), content)))]
        return sign
    svix = standard("svix", lambda s: base64.b64decode(s[len("whsec_"):]))
    whsec = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_NgLR0s9HLZrsUxkVQE9JMQaJp3MbMbTx", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
    sent = compact({"type": "email.sent", "created_at": "2023-11-14T22:13:20.126Z",
                    "data": {"email_id": "56761188-7520-42d8-8898-ff6fc54ce618", "subject": "Hello"}})
    first, again = svix(whsec[1], sent, NOW), svix(whsec[0], sent, NOW)
    family("resend", "Resend documentation, \"Verify webhooks requests\" (Svix); `published` from the Standard Webhooks and Svix libraries' tests",
           svix, whsec, sent, "msg_p5jXN8AQM9LWM0D4loKWxJek", "email.sent", tolerance=300,
           malformed=[("svix-id", "msg_1"), ("svix-timestamp", "soon"), ("svix-signature", "v1,AAAA")],
           more=(vector("second_signature", [whsec[0]],
                        first[:2] + [("svix-signature", first[2][1] + " v1a,AAAA " + again[2][1]), JSON], sent,
                        "accepted", "msg_p5jXN8AQM9LWM0D4loKWxJek", "email.sent"),
                 vector("from_the_future", [whsec[0]], svix(whsec[0], sent, NOW + 330) + [JSON], sent, "stale"),
                 vector("published", ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
                        [("svix-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"), ("svix-timestamp", "1614265330"),
                         ("svix-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")],
                        '{"test": 2432232314}', "accepted", "msg_p5jXN8AQM9LWM0D4loKWxJek", None, now=1614265331)))

    family("bigcommerce", "BigCommerce documentation, \"HTTPS Webhooks Overview, Security\" (Standard Webhooks with the client secret's text as key)",
           standard("webhook", lambda s: s.encode()),
           ("9a1f3c5e7b2d4f6a8c0e1b3d5f7a9c2e4b6d8f0a1c3e5b7d9f2a4c6e8b0d1f3a",
            "0b2a4d6f8c3e5a7b9d1f2c4e6a8b0d3f5c7e9a1b2d4f6c8e0a3b5d7f9c1e2a4b", "0" * 64),
           compact({"store_id": "11111", "producer": "stores/abcde", "scope": "store/order/statusUpdated",
                    "data": {"type": "order", "id": 173331}, "hash": "3f9ea420af83450d7ef9f78b08c8af25b2213637"}),
           "msg_p5jXN8AQM9LWM0D4loKWxJek", "store/order/statusUpdated", tolerance=300,
           malformed=[("webhook-id", "msg_1"), ("webhook-timestamp", "soon"), ("webhook-signature", "v1,AAAA")])


# --- canonical requests ----------------------------------------------------------------------------

def canonical():
    def contentful(secret, body, at, path="/h/abc", topic="ContentManagement.Entry.publish", method="POST"):
        head = {"content-type": "application/vnd.contentful.management.v1+json",
                "x-contentful-topic": topic,
                "x-contentful-webhook-name": "My webhook",
                "x-contentful-timestamp": str(at * 1000)}
        names = sorted(list(head) + ["x-contentful-signed-headers"])
        head["x-contentful-signed-headers"] = ",".join(names)
        text = "\n".join((method, path, ";".join("%s:%s" % (n, head[n]) for n in names), body))
        shown = {"content-type": "Content-Type", "x-contentful-topic": "X-Contentful-Topic",
                 "x-contentful-webhook-name": "X-Contentful-Webhook-Name"}
        return [(shown.get(n, n), head[n]) for n in names] + [("x-contentful-signature", mac(secret, text).hex())]

    idempotency = [("X-Contentful-Idempotency-Key", "3d6f0b1f6b3b0a9d7c1e5f4a2b8c9d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708")]
    ident = idempotency[0][1]
    topic = "ContentManagement.Entry.publish"
    one = "q1w2e3r4t5y6u7i8o9p0a1s2d3f4g5h6j7k8l9z0x1c2v3b4n5m6Q7W8E9R0T1Y2"
    two = "Z1X2C3V4B5N6M7A8S9D0F1G2H3J4K5L6Q7W8E9R0T1Y2U3I4O5P6a7s8d9f0g1h2"
    far = "0" * 64
    body = compact({"sys": {"type": "Entry", "id": "5KsDBWseXY6QegucYAoacS", "version": 2}, "fields": {"title": {"en-US": "Hi"}}})
    good = contentful(one, body, NOW)
    moved = [(n, "ContentManagement.Entry.delete" if n == "X-Contentful-Topic" else x) for n, x in good]
    provider("contentful", "Contentful documentation, \"Webhook request verification\"; @contentful/node-apps-toolkit signRequest and verifyRequest", [
        vector("good", [one], good + idempotency, body, "accepted", ident, topic),
        vector("tampered", [one], good + idempotency, tamper(body), "wrong_signature"),
        vector("tampered_signed_header", [one], moved + idempotency, body, "wrong_signature"),
        vector("other_path", [one], good + idempotency, body, "wrong_signature", url="https://hooks.example.com/h/other"),
        vector("other_secret", [one], contentful(far, body, NOW) + idempotency, body, "wrong_signature"),
        vector("rotated", [one, two], contentful(two, body, NOW) + idempotency, body, "accepted", ident, topic),
        vector("unicode", [one], contentful(one, with_unicode(body), NOW) + idempotency, with_unicode(body), "accepted",
               ident, topic),
        vector("lowercase_headers", [one], [(n.lower(), x) for n, x in good + idempotency], body, "accepted", ident, topic),
        vector("unsigned_extra_header", [one], good + idempotency + [("X-Forwarded-For", "192.0.2.1")], body, "accepted",
               ident, topic),
        vector("old_but_fresh", [one], good + idempotency, body, "accepted", ident, topic, now=NOW + 20),
        vector("stale", [one], good + idempotency, body, "stale", now=NOW + 600),
        vector("missing_header", [one], [h for h in good if h[0] != "x-contentful-signature"] + idempotency, body,
               "missing_header"),
        vector("malformed", [one],
               [(n, "abc" if n == "x-contentful-signature" else x) for n, x in good] + idempotency, body,
               "malformed_header"),
    ])

    # Mailchimp Transactional (Mandrill): the URL, then every form field's name and value, sorted by name.
    def mandrill(secret, url, fields):
        text = url + "".join(k + v for k, v in sorted(fields.items()))
        return b64(mac(secret, text, "sha1"))
    form = ("Content-Type", "application/x-www-form-urlencoded")
    url = URL + "?source=mandrill"
    fields = {"mandrill_events": compact([{"event": "open", "_id": "exampleaaaaaaaaaaaaaaaaaaaaaaaaa", "ts": 1700000000,
                                           "msg": {"subject": "Gr\u00fc\u00dfe & more", "email": "a+b@example.com"}}])}
    text = urllib.parse.urlencode(fields)
    many = dict(fields, zeta="last", alpha="first")
    key, key2, key3 = "CNcdI5QJbqDkVMPV1lTWdg", "DOdeJ6RKcrElWNQW2mUXeh", "AAAAAAAAAAAAAAAAAAAAAA"
    ok = ("X-Mandrill-Signature", mandrill(key, url, fields))
    ping = {"mandrill_events": "[]"}
    thousand = {"f%d" % n: "" for n in range(1000)}
    provider("mailchimp_transactional", "Mailchimp Transactional help, \"How to Authenticate Webhook Requests\" (Mandrill)", [
        vector("good", [key], [ok, form], text, "accepted", url=url),
        vector("more_fields", [key], [("X-Mandrill-Signature", mandrill(key, url, many)), form],
               urllib.parse.urlencode(many), "accepted", url=url),
        vector("tampered", [key], [ok, form], tamper(text), "wrong_signature", url=url),
        vector("other_url", [key], [ok, form], text, "wrong_signature", url=URL),
        vector("other_secret", [key], [("X-Mandrill-Signature", mandrill(key3, url, fields)), form], text,
               "wrong_signature", url=url),
        vector("rotated", [key, key2], [("X-Mandrill-Signature", mandrill(key2, url, fields)), form], text, "accepted",
               url=url),
        vector("empty_test", [key], [("X-Mandrill-Signature", mandrill(key, url, ping)), form],
               urllib.parse.urlencode(ping), "accepted", url=url),
        vector("missing_header", [key], [form], text, "missing_header", url=url),
        vector("malformed", [key], [("X-Mandrill-Signature", "not base64!"), form], text, "malformed_header", url=url),
        vector("no_form", [key], [("X-Mandrill-Signature", mandrill(key, url, {})), JSON], text, "wrong_signature",
               url=url),
        vector("as_many_fields_as_are_sorted", [key], [("X-Mandrill-Signature", mandrill(key, url, thousand)), form],
               urllib.parse.urlencode(thousand), "accepted", url=url),
        vector("too_many_fields", [key], [("X-Mandrill-Signature", mandrill(key, url, dict(thousand, z=""))), form],
               urllib.parse.urlencode(dict(thousand, z="")), "malformed_header", url=url),
    ])


# --- proofs inside the body ------------------------------------------------------------------------

def in_body():
    # Dropbox Sign: HMAC of the time and the type only, inside the JSON text of a form field.
    key = "324e3b0840f065eb51f3fd63231d0d33daa35d4ed10d27718839e81737065782"
    key2 = "435f4c1951a176fc62a4ae74342e1e44ebb46e5fe21e38829940f92848176893"
    far = "0" * 64

    def event(secret, kind="signature_request_sent", time="1700000000"):
        return {"event": {"event_time": time, "event_type": kind,
                          "event_hash": mac(secret, time + kind).hex(),
                          "event_metadata": {"related_signature_id": "ad4d8a769b555fa5ef38691465d426682bf2c992",
                                             "reported_for_account_id": "63522885f9261e2b04eea043933ee7313eb674fd",
                                             "reported_for_app_id": None}},
                "signature_request": {"signature_request_id": "17d163069282df5eb63857d31ff4a3bffa9e46c0",
                                      "title": "Purchase Order"}}

    boundary = "------------------------d74496d66958873e"
    multipart = ("Content-Type", "multipart/form-data; boundary=" + boundary)
    form = ("Content-Type", "application/x-www-form-urlencoded")

    def wrap(text):
        return ("--%s\r\nContent-Disposition: form-data; name=\"json\"\r\n\r\n%s\r\n--%s--\r\n" % (boundary, text, boundary))
    good = compact(event(key))
    published = compact({"account_guid": "63522885f9261e2b04eea043933ee7313eb674fd", "event": {
        "event_time": "1348177752", "event_type": "signature_request_sent",
        "event_hash": "08d45a6b7677492b78be030cef18cfeaece8fe67e163cc8e526ee638ad483756",
        "event_metadata": {"related_signature_id": "ad4d8a769b555fa5ef38691465d426682bf2c992",
                           "reported_for_account_id": "63522885f9261e2b04eea043933ee7313eb674fd",
                           "reported_for_app_id": "98891a1b59f312d04cd88e4e0c498d75e0ce0ce0"}}})
    no_hash = event(key)
    del no_hash["event"]["event_hash"]
    odd = event(key)
    odd["event"]["event_hash"] = "xyz"
    kind = "signature_request_sent"
    provider("dropbox_sign", "Dropbox Sign developer documentation, \"Events Walkthrough, Event Hash Verification\"; `published` from dropbox-sign-python's fixtures", [
        vector("good", [key], [multipart], wrap(good), "accepted", None, kind),
        vector("json_body", [key], [JSON], good, "accepted", None, kind),
        vector("urlencoded_body", [key], [form], urllib.parse.urlencode({"json": good}), "accepted", None, kind),
        vector("tampered", [key], [multipart], wrap(good.replace(kind, "signature_request_seen", 1)), "wrong_signature"),
        vector("rest_not_covered", [key], [multipart], wrap(good.replace("Purchase", "Purchose")), "accepted", None, kind),
        vector("other_secret", [key], [multipart], wrap(compact(event(far))), "wrong_signature"),
        vector("rotated", [key, key2], [multipart], wrap(compact(event(key2))), "accepted", None, kind),
        vector("callback_test", [key], [multipart], wrap(compact(event(key, "callback_test"))), "accepted", None,
               "callback_test"),
        vector("missing_header", [key], [multipart], wrap(compact(no_hash)), "missing_header"),
        vector("malformed", [key], [multipart], wrap(compact(odd)), "malformed_header"),
        vector("published", [key], [JSON], published, "accepted", None, kind),
    ])

    def figma(passcode, kind="FILE_UPDATE", **more):
        return compact(dict({"event_type": kind, "passcode": passcode, "timestamp": "2023-11-14T22:13:20Z",
                             "webhook_id": "22"}, **more))
    extra = {"file_key": "zH7SXgOADFsBjl3tTpzYoA", "file_name": "Gr\u00fc\u00dfe"}
    p1, p2 = "figma-passcode-one", "figma-passcode-two"
    without = json.loads(figma(p1, **extra))
    del without["passcode"]
    provider("figma", "Figma REST API documentation, \"Webhooks security\"; figma/rest-api-spec WebhookBasePayload", [
        vector("good", [p1], [JSON], figma(p1, **extra), "accepted", None, "FILE_UPDATE"),
        vector("ping", [p1], [JSON], figma(p1, "PING"), "accepted", None, "PING"),
        vector("tampered", [p1], [JSON], figma(tamper(p1), **extra), "wrong_signature"),
        vector("rest_not_covered", [p1], [JSON], figma(p1, **dict(extra, file_name="Other")), "accepted", None,
               "FILE_UPDATE"),
        vector("other_secret", [p1], [JSON], figma("figma-passcode-far", **extra), "wrong_signature"),
        vector("rotated", [p1, p2], [JSON], figma(p2, **extra), "accepted", None, "FILE_UPDATE"),
        vector("missing_header", [p1], [JSON], compact(without), "missing_header"),
    ])


# --- tokens in a header ----------------------------------------------------------------------------

def tokens():
    def token(slug, source, header, one, two, far, body, event_id, event_type, more=()):
        provider(slug, source, [
            vector("good", [one], [(header, one), JSON], body, "accepted", event_id, event_type),
            vector("lowercase_headers", [one], [(header.lower(), one), JSON], body, "accepted", event_id, event_type),
            vector("unicode", [one], [(header, one), JSON], with_unicode(body) if body.startswith("{") else body,
                   "accepted", event_id, event_type),
            vector("other_secret", [one], [(header, far), JSON], body, "wrong_signature"),
            vector("longer_than_the_secret", [one], [(header, one + "x"), JSON], body, "wrong_signature"),
            vector("rotated", [one, two], [(header, two), JSON], body, "accepted", event_id, event_type),
            vector("missing_header", [one], [JSON], body, "missing_header"),
        ] + list(more))

    hook = compact({"eventType": "com.okta.event_hook", "eventTypeVersion": "1.0", "cloudEventsVersion": "0.1",
                    "source": "https://example.okta.com/api/v1/eventHooks/who7hphp39JoHLni81d7",
                    "eventId": "85b60edb-4263-4e13-993b-818e26201052",
                    "data": {"events": [{"uuid": "f1d0b993-cc19-11ed-a688-db22c99ef6c4",
                                         "published": "2023-11-14T22:13:20.159Z", "eventType": "user.session.start"}]}})
    token("okta", "Okta developer documentation, \"Event hooks\"", "Authorization",
          "Basic YWRtaW46c3VwZXJzZWNyZXQ=", "okta-event-hook-secret-2", "Basic YWRtaW46d3Jvbmc=", hook,
          "85b60edb-4263-4e13-993b-818e26201052", "user.session.start")

    log = {"log_id": "90020231114221320000000000000000000001", "data": {"date": "2023-11-14T22:13:20.000Z",
                                                                        "type": "s", "client_id": "AaiyAPdpYdesoKnqjj8HJqRn4T5titww"}}
    auth = "Bearer 7f9c2ba4e88f827d616045507605853e"
    token("auth0", "Auth0 documentation, \"Custom log streams using webhooks\"", "Authorization",
          auth, "8a0d3cb5f99a938e727156618716964f", "Bearer 00000000000000000000000000000000",
          compact([log]), None, None,
          more=(vector("json_lines", [auth], [("Authorization", auth), ("Content-Type", "application/json")],
                       compact(log) + "\n" + compact(log) + "\n", "accepted"),))

    update = compact({"update_id": 10000, "message": {"message_id": 1365, "date": 1700000000, "text": "/start",
                                                      "chat": {"id": 1111111, "type": "private"}}})
    token("telegram", "Telegram Bot API, \"setWebhook\" (secret_token)", "X-Telegram-Bot-Api-Secret-Token",
          "Secret_Token-0123456789", "Secret_Token-9876543210", "Secret_Token-0000000000", update, "10000", "message")


# --- signatures with public keys -------------------------------------------------------------------

def public_keys():
    # Discord: Ed25519 over the time and the body.
    def discord_key(seed):
        return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())

    def discord_hex(key):
        return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()
    k1, k2, k3 = (discord_key(s) for s in (b"discord one", b"discord two", b"discord far"))

    def discord(key, body, at=NOW):
        return [("X-Signature-Ed25519", key.sign(str(at).encode() + raw(body)).hex()),
                ("X-Signature-Timestamp", str(at)), JSON]
    body = compact({"version": 1, "application_id": "1234560123453231555", "type": 1,
                    "event": {"type": "APPLICATION_AUTHORIZED", "timestamp": "2023-11-14T22:13:20.064834",
                              "data": {"integration_type": 1, "scopes": ["applications.commands"]}}})
    ping = compact({"version": 1, "application_id": "1234560123453231555", "type": 0})
    kind = "APPLICATION_AUTHORIZED"
    later = discord(k1, body)
    later[1] = ("X-Signature-Timestamp", str(NOW + 1))
    provider("discord", "Discord developer documentation, \"Webhook Events\", \"Validating Security Request Headers\"", [
        vector("good", [discord_hex(k1)], discord(k1, body), body, "accepted", None, kind),
        vector("ping", [discord_hex(k1)], discord(k1, ping), ping, "accepted"),
        vector("unicode", [discord_hex(k1)], discord(k1, with_unicode(body)), with_unicode(body), "accepted", None, kind),
        vector("tampered", [discord_hex(k1)], discord(k1, body), tamper(body), "wrong_signature"),
        vector("tampered_timestamp", [discord_hex(k1)], later, body, "wrong_signature"),
        vector("other_secret", [discord_hex(k1)], discord(k3, body), body, "wrong_signature"),
        vector("rotated", [discord_hex(k1), discord_hex(k2)], discord(k2, body), body, "accepted", None, kind),
        vector("lowercase_headers", [discord_hex(k1)], [(n.lower(), x) for n, x in discord(k1, body)], body, "accepted",
               None, kind),
        # Discord tries again for 10 minutes.
        vector("old_but_fresh", [discord_hex(k1)], discord(k1, body), body, "accepted", None, kind, now=NOW + 870),
        vector("stale", [discord_hex(k1)], discord(k1, body), body, "stale", now=NOW + 930),
        vector("missing_header", [discord_hex(k1)], [discord(k1, body)[1], JSON], body, "missing_header"),
        vector("missing_timestamp", [discord_hex(k1)], [discord(k1, body)[0], JSON], body, "missing_header"),
        vector("malformed", [discord_hex(k1)], [("X-Signature-Ed25519", "xyz"), ("X-Signature-Timestamp", str(NOW)), JSON],
               body, "malformed_header"),
    ])

    # Wise: RSA PKCS#1 v1.5 with SHA-256 over the body.
    w1, w2, w3 = rsa_key("wise one"), rsa_key("wise two"), rsa_key("wise far")

    def rsa_sign(key, text, algorithm):
        return b64(key.sign(raw(text), padding.PKCS1v15(), algorithm))

    def wise(key, text):
        return [("X-Signature-SHA256", rsa_sign(key, text, hashes.SHA256())),
                ("X-Delivery-Id", "4a6b9810-4279-4de5-8d8d-1a6cf3b92a75"), JSON]
    body = compact({"data": {"resource": {"type": "transfer", "id": 111, "profile_id": 222, "account_id": 333},
                             "current_state": "processing", "previous_state": "incoming_payment_waiting",
                             "occurred_at": "2023-11-14T22:13:20Z"},
                    "subscription_id": "01234567-89ab-cdef-0123-456789abcdef", "event_type": "transfers#state-change",
                    "schema_version": "2.0.0", "sent_at": "2023-11-14T22:13:20Z"})
    kind = "transfers#state-change"
    provider("wise", "Wise Platform documentation, \"Webhook event handling, Signature header\"", [
        vector("good", [public_pem(w1)], wise(w1, body), body, "accepted", None, kind),
        vector("key_without_pem_lines", [public_der_base64(w1)], wise(w1, body), body, "accepted", None, kind),
        vector("test_notification", [public_pem(w1)], wise(w1, body) + [("X-Test-Notification", "true")], body, "accepted",
               None, kind),
        vector("unicode", [public_pem(w1)], wise(w1, with_unicode(body)), with_unicode(body), "accepted", None, kind),
        vector("tampered", [public_pem(w1)], wise(w1, body), tamper(body), "wrong_signature"),
        vector("other_secret", [public_pem(w1)], wise(w3, body), body, "wrong_signature"),
        vector("rotated", [public_pem(w1), public_pem(w2)], wise(w2, body), body, "accepted", None, kind),
        vector("lowercase_headers", [public_pem(w1)], [(n.lower(), x) for n, x in wise(w1, body)], body, "accepted", None,
               kind),
        vector("missing_header", [public_pem(w1)], wise(w1, body)[1:], body, "missing_header"),
        vector("malformed", [public_pem(w1)], [("X-Signature-SHA256", "not base64!")] + wise(w1, body)[1:], body,
               "malformed_header"),
    ])

    # Travis CI: RSA PKCS#1 v1.5 with SHA-1 over the decoded `payload` field of the form.
    t1, t2, t3 = rsa_key("travis one"), rsa_key("travis two"), rsa_key("travis far")
    form = ("Content-Type", "application/x-www-form-urlencoded")
    payload = compact({"id": 183791261, "number": "7", "status": 0, "state": "passed", "type": "push",
                       "commit": "62aae5f70ceee39123ef", "message": "Gr\u00fc\u00dfe + more & \u65e5\u672c",
                       "repository": {"id": 1, "name": "minimal", "owner_name": "svenfuchs"}})

    def travis(key, text):
        return [("Signature", rsa_sign(key, text, hashes.SHA1())), ("Travis-Repo-Slug", "svenfuchs/minimal"), form]
    sent = urllib.parse.urlencode({"payload": payload})
    percent = "payload=" + urllib.parse.quote(payload, safe="")
    other = urllib.parse.urlencode({"payload": tamper(payload)})
    provider("travis_ci", "Travis CI documentation, \"Configuring build notifications, Verifying Webhook requests\"", [
        vector("good", [public_pem(t1)], travis(t1, payload), sent, "accepted"),
        vector("percent_encoded_spaces", [public_pem(t1)], travis(t1, payload), percent, "accepted"),
        vector("tampered", [public_pem(t1)], travis(t1, payload), other, "wrong_signature"),
        vector("another_field", [public_pem(t1)], travis(t1, payload), sent + "&more=1", "malformed_header"),
        vector("another_field_first", [public_pem(t1)], travis(t1, payload), "more=1&" + sent, "malformed_header"),
        vector("second_payload", [public_pem(t1)], travis(t1, payload), sent + "&" + other, "malformed_header"),
        vector("signed_raw_body", [public_pem(t1)], travis(t1, sent), sent, "wrong_signature"),
        vector("other_secret", [public_pem(t1)], travis(t3, payload), sent, "wrong_signature"),
        vector("rotated", [public_pem(t1), public_pem(t2)], travis(t2, payload), sent, "accepted"),
        vector("missing_header", [public_pem(t1)], travis(t1, payload)[1:], sent, "missing_header"),
        vector("malformed", [public_pem(t1)], [("Signature", "not base64!")] + travis(t1, payload)[1:], sent,
               "malformed_header"),
    ])

    # Amazon SNS: RSA PKCS#1 v1.5 with SHA-1 (version 1) or SHA-256 (version 2) over chosen members.
    s1, s3 = rsa_key("sns one"), rsa_key("sns far")

    def certificate(key):
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
        start = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
        end = datetime.datetime(2040, 1, 1, tzinfo=datetime.timezone.utc)
        cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                .serial_number(20231114).not_valid_before(start).not_valid_after(end)
                .sign(key, hashes.SHA256()))
        return cert.public_bytes(serialization.Encoding.PEM).decode("ascii")
    pem = certificate(s1)
    topic, topic2 = "arn:aws:sns:us-east-1:123456789012:MyTopic", "arn:aws:sns:us-east-1:123456789012:Second"
    cert_url = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem"

    def sns(key, version="2", kind="Notification", arn=topic, subject=None, text="Hello from SNS!", where=cert_url):
        m = {"Type": kind, "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"}
        if kind != "Notification":
            m["Token"] = "2336412f37fb687f5d51e6e241d09c805a5a57b30d712f794cc5f6a988666d92"
        m["TopicArn"] = arn
        if subject is not None:
            m["Subject"] = subject
        m["Message"] = text
        if kind != "Notification":
            m["SubscribeURL"] = ("https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=%s&Token=%s"
                                 % (arn, m["Token"]))
        m["Timestamp"] = "2023-11-14T22:13:20.000Z"
        m["SignatureVersion"] = version
        names = (("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type") if kind == "Notification"
                 else ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"))
        signed = "".join("%s\n%s\n" % (n, m[n]) for n in names if n in m)
        m["Signature"] = rsa_sign(key, signed, hashes.SHA1() if version == "1" else hashes.SHA256())
        m["SigningCertURL"] = where
        if kind == "Notification":
            m["UnsubscribeURL"] = "https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn=" + arn + ":c9135db0"
        return json.dumps(m, indent=2, ensure_ascii=False)

    def sns_vector(name, text, expect, secrets=(topic,), kind="Notification", arn=topic, cert=pem, now=NOW):
        head = [("x-amz-sns-message-type", kind), ("x-amz-sns-message-id", "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324"),
                ("x-amz-sns-topic-arn", arn), ("Content-Type", "text/plain; charset=UTF-8")]
        return vector(name, secrets, head, text, expect, "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324", kind, certificate=cert,
                      now=now)
    confirm = "SubscriptionConfirmation"
    # Somebody publishes to a topic of his own what looks like the end of a message to ours, and moves the end that
    # was signed with it into the type.
    theirs = "arn:aws:sns:us-east-1:999999999999:Theirs"
    tail = "evil\nMessageId\nx\nTimestamp\nt\nTopicArn\n" + topic + "\nType\nNotification"
    genuine = json.loads(sns(s1, arn=theirs, text=tail))
    moved = dict(genuine, Message="evil", MessageId="x", Timestamp="t", TopicArn=topic,
                 Type="Notification\nMessageId\n%s\nTimestamp\n%s\nTopicArn\n%s\nType\nNotification"
                      % (genuine["MessageId"], genuine["Timestamp"], theirs))

    def without(name):
        message = json.loads(sns(s1))
        del message[name]
        return json.dumps(message, indent=2)
    version3 = json.loads(sns(s1))
    version3["SignatureVersion"] = "3"
    unsigned = json.loads(sns(s1))
    del unsigned["Signature"]
    odd = json.loads(sns(s1))
    odd["Signature"] = "not base64!"
    provider("aws_sns", "Amazon SNS developer guide, \"Verifying the signatures of Amazon SNS messages\"; sns-validator (aws-js-sns-message-validator)", [
        sns_vector("good", sns(s1), "accepted"),
        sns_vector("version_1", sns(s1, "1"), "accepted"),
        sns_vector("with_subject", sns(s1, subject="My First Message"), "accepted"),
        sns_vector("version_1_with_subject", sns(s1, "1", subject="My First Message"), "accepted"),
        sns_vector("unicode", sns(s1, text="Gr\u00fc\u00dfe \U0001f600\nsecond line \"quoted\""), "accepted"),
        sns_vector("subscription_confirmation", sns(s1, kind=confirm), "accepted", kind=confirm),
        sns_vector("subscription_confirmation_version_1", sns(s1, "1", kind=confirm), "accepted", kind=confirm),
        sns_vector("unsubscribe_confirmation", sns(s1, kind="UnsubscribeConfirmation"), "accepted",
                   kind="UnsubscribeConfirmation"),
        sns_vector("tampered", sns(s1).replace("Hello from SNS!", "Hello from SNS?"), "wrong_signature"),
        sns_vector("version_1_tampered", sns(s1, "1").replace("Hello from SNS!", "Hello from SNS?"), "wrong_signature"),
        sns_vector("version_1_as_2", sns(s1, "1").replace('"SignatureVersion": "1"', '"SignatureVersion": "2"'),
                   "wrong_signature"),
        sns_vector("other_secret", sns(s3), "wrong_signature"),
        sns_vector("other_topic", sns(s1, arn=topic2), "wrong_signature", arn=topic2),
        sns_vector("rotated", sns(s1, arn=topic2), "accepted", secrets=(topic, topic2), arn=topic2),
        # The time is the message's own, the same on each attempt: SNS tries again for an hour at most.
        sns_vector("old_but_fresh", sns(s1), "accepted", now=NOW + 86400 - 30),
        sns_vector("stale", sns(s1), "stale", now=NOW + 86400 + 30),
        sns_vector("foreign_certificate_url", sns(s1, where="https://sns.us-east-1.amazonaws.com.example.org/cert.pem"),
                   "wrong_signature"),
        sns_vector("certificate_url_without_tls", sns(s1, where=cert_url.replace("https:", "http:")), "wrong_signature"),
        sns_vector("missing_header", json.dumps(unsigned, indent=2), "missing_header"),
        sns_vector("malformed", json.dumps(odd, indent=2), "malformed_header"),
        sns_vector("unknown_version", json.dumps(version3, indent=2), "malformed_header"),
        sns_vector("fields_in_the_message_of_another_topic", json.dumps(moved, indent=2), "malformed_header"),
        sns_vector("line_break_in_a_field", sns(s1, subject="a\nTimestamp\nb"), "malformed_header"),
        sns_vector("carriage_return_in_a_field", sns(s1, subject="a\rb"), "malformed_header"),
        sns_vector("unknown_kind", sns(s1, kind="Other"), "malformed_header", kind="Other"),
        sns_vector("missing_message_id", without("MessageId"), "missing_header"),
        sns_vector("missing_timestamp", without("Timestamp"), "missing_header"),
        sns_vector("page_with_a_certificate", sns(s1), "wrong_signature", cert="<p>\n" + pem),
        sns_vector("certificate_url_with_query", sns(s1, where=cert_url + "?x=1"), "wrong_signature"),
        sns_vector("certificate_url_of_another_name", sns(s1, where=cert_url.replace("SimpleN", "N")), "wrong_signature"),
    ])


# --- JSON Web Tokens -------------------------------------------------------------------------------

def tokens_jwt():
    # Plaid: ES256 over a claim with the SHA-256 of the body.
    def ec_key(seed):
        n = int.from_bytes(hashlib.sha256(seed).digest(), "big")
        return ec.derive_private_key(n, ec.SECP256R1())

    def jwk(key, kid):
        n = key.public_key().public_numbers()
        return {"alg": "ES256", "created_at": 1560466150, "crv": "P-256", "expired_at": None, "kid": kid, "kty": "EC",
                "use": "sig", "x": b64url(n.x.to_bytes(32, "big")), "y": b64url(n.y.to_bytes(32, "big"))}

    def es256(key, text):
        r, s = decode_dss_signature(key.sign(text, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    k1, k2, k3 = ec_key(b"plaid one"), ec_key(b"plaid two"), ec_key(b"plaid far")
    id1, id2 = "bfbd5111-8e33-4643-8ced-b2e642a72f3c", "6c5516e1-92dc-479e-a8ff-5a51992e0001"
    j1, j2 = jwk(k1, id1), jwk(k2, id2)

    def plaid(key, kid, text, at=NOW, alg="ES256"):
        head = b64url(compact({"alg": alg, "kid": kid, "typ": "JWT"}))
        claims = b64url(compact({"iat": at, "request_body_sha256": hashlib.sha256(raw(text)).hexdigest()}))
        signed = (head + "." + claims).encode()
        if alg == "HS256":
            signature = mac(compact(j1), signed)
        elif alg == "none":
            signature = b""
        else:
            signature = es256(key, signed)
        return [("Plaid-Verification", signed.decode() + "." + b64url(signature)), JSON]
    body = json.dumps({"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE",
                       "item_id": "wz666MBjYWTp2PDzzggYhM6oWWmBb", "initial_update_complete": True,
                       "environment": "production"}, indent=2)
    text1, text2 = compact(j1), compact(j2)

    def pv(name, head, text, expect, secrets=(text1,), now=NOW, keys=(j1,)):
        return vector(name, secrets, head, text, expect, None, "TRANSACTIONS", now=now, jwk=list(keys))
    good = plaid(k1, id1, body)
    provider("plaid", "Plaid documentation, \"Verify webhooks\"; secrets and jwk: what /webhook_verification_key/get answers for the kid", [
        pv("good", good, body, "accepted"),
        pv("unicode", plaid(k1, id1, with_unicode(body)), with_unicode(body), "accepted"),
        pv("tampered", good, tamper(body), "wrong_signature"),
        pv("reformatted", good, compact(json.loads(body)), "wrong_signature"),
        pv("other_secret", plaid(k3, id1, body), body, "wrong_signature"),
        pv("unknown_kid", plaid(k2, id2, body), body, "wrong_signature"),
        pv("rotated", plaid(k2, id2, body), body, "accepted", (text1, text2), keys=(j1, j2)),
        pv("old_but_fresh", good, body, "accepted", now=NOW + 270),
        pv("stale", good, body, "stale", now=NOW + 330),
        pv("algorithm_none", plaid(k1, id1, body, alg="none"), body, "malformed_header"),
        pv("algorithm_hs256", plaid(k1, id1, body, alg="HS256"), body, "malformed_header"),
        pv("lowercase_headers", [(n.lower(), x) for n, x in good], body, "accepted"),
        pv("missing_header", [JSON], body, "missing_header"),
        pv("malformed", [("Plaid-Verification", "not-a-token"), JSON], body, "malformed_header"),
    ])

    # monday.com: HS256 with the app's signing secret; the body is not covered.
    def monday(secret, at=NOW, alg="HS256", aud=URL, life=300):
        head = b64url(compact({"alg": alg, "typ": "JWT"}))
        claims = b64url(compact({"accountId": 1825529, "userId": 4012689, "aud": aud, "exp": at + life,
                                 "shortLivedToken": "SHORT_LIVED_TOKEN", "iat": at}))
        signed = head + "." + claims
        return signed + "." + ("" if alg == "none" else b64url(mac(secret, signed)))
    m1, m2, m3 = "0f1e2d3c4b5a69788796a5b4c3d2e1f0", "1a2b3c4d5e6f708192a3b4c5d6e7f809", "00000000000000000000000000000000"
    body = compact({"event": {"userId": 9603417, "boardId": 1771812698, "pulseId": 1772099344, "pulseName": "Create_item",
                              "type": "create_pulse", "triggerTime": "2023-11-14T22:13:20.000Z",
                              "subscriptionId": 73759690, "triggerUuid": "b5ed2e17c530f43668de130142445cba"}})
    ident, kind = "b5ed2e17c530f43668de130142445cba", "create_pulse"
    parts = monday(m1).split(".")
    forged = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    forged["accountId"] = 1825520
    forged = ".".join((parts[0], b64url(compact(forged)), parts[2]))
    provider("monday", "monday.com developer documentation, \"Webhooks\", \"Verify the authenticity of requests from monday.com\"", [
        vector("good", [m1], [("Authorization", monday(m1)), JSON], body, "accepted", ident, kind),
        vector("tampered", [m1], [("Authorization", forged), JSON], body, "wrong_signature"),
        vector("body_not_covered", [m1], [("Authorization", monday(m1)), JSON], body.replace("Create_item", "Create_other"),
               "accepted", ident, kind),
        vector("other_secret", [m1], [("Authorization", monday(m3)), JSON], body, "wrong_signature"),
        vector("other_audience", [m1], [("Authorization", monday(m1, aud="https://hooks.example.com/h/other")), JSON], body,
               "wrong_signature"),
        vector("rotated", [m1, m2], [("Authorization", monday(m2)), JSON], body, "accepted", ident, kind),
        vector("old_but_fresh", [m1], [("Authorization", monday(m1)), JSON], body, "accepted", ident, kind, now=NOW + 200),
        vector("stale", [m1], [("Authorization", monday(m1)), JSON], body, "stale", now=NOW + 600),
        vector("algorithm_none", [m1], [("Authorization", monday(m1, alg="none")), JSON], body, "malformed_header"),
        vector("lowercase_headers", [m1], [("authorization", monday(m1)), JSON], body, "accepted", ident, kind),
        vector("missing_header", [m1], [JSON], body, "missing_header"),
        vector("malformed", [m1], [("Authorization", "not-a-token"), JSON], body, "malformed_header"),
    ])


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: generate_b.py OUTPUT_FOLDER")
    for part in (body_only, timed, canonical, in_body, tokens, public_keys, tokens_jwt):
        part()
    for slug in sorted(FILES):
        path = os.path.join(sys.argv[1], slug + ".json")
        with open(path, "w", encoding="utf-8", newline="\n") as f:
            json.dump(FILES[slug], f, ensure_ascii=False, indent=2)
            f.write("\n")
    print("%d files, %d vectors" % (len(FILES), sum(len(x["vectors"]) for x in FILES.values())))


if __name__ == "__main__":
    main()
