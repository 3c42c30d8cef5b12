"""Providers that businesses work with: documents, tasks, customers."""

import base64
import hashlib
import json

from schemes import SECRET_A, b64_body, family, hex_body, plain
from shared import (
    HOST, HOUR, JSON_TYPE, NOW, URL, Case, b64, b64mac, compact, hexmac, iso, mac, provider, raw, tamper, tamper_end,
    vector, with_unicode,
)


@provider("airtable", "Airtable Web API, \"Webhooks overview\"; `library` from pyairtable's tests")
def airtable():
    airtable_doc = ('{"base": {"id": "app00000000000000"}, "webhook": {"id": "ach00000000000000"}, '
                    '"timestamp": "2022-02-01T21:25:05.663Z"}')
    return family(
        lambda secret, body, at: [("X-Airtable-Content-MAC",
                                   "hmac-sha256=" + mac(base64.b64decode(secret), body).hex())],
        (b64(hashlib.sha256(b"airtable one").digest()), b64(hashlib.sha256(b"airtable two").digest()),
         b64(hashlib.sha256(b"airtable far").digest())),
        compact({"base": {"id": "appAAAAAAAAAAAAAA"}, "webhook": {"id": "achAAAAAAAAAAAAAA"},
                 "timestamp": "2023-11-14T22:13:20.000Z"}),
        unicode=False, malformed=[("X-Airtable-Content-MAC", "sha256=00")],
        more=(vector("library", ["c2VjcmV0LWtleQ=="],
                     [("X-Airtable-Content-MAC",
                       "hmac-sha256=e26da696a90933647bddc83995c3e1e3bb1c3d8ce1ff61cb7469767d50b2b2d4"), JSON_TYPE],
                     airtable_doc, "accepted"),))


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


@provider("box", "Box developer documentation, \"Signature Verification\" (V2 webhooks); `published` from box-python-sdk's tests")
def box():
    # Box: the time is RFC 3339 and follows the body; one header for each of the two keys.
    def box_sig(key, body, stamp):
        return b64(mac(key, raw(body) + stamp.encode()))

    def box_head(stamp, primary, secondary):
        return [("BOX-DELIVERY-ID", "673a081b-bb4b-4d45-b4f1-4131a29c1d07"), ("BOX-DELIVERY-TIMESTAMP", stamp),
                ("BOX-SIGNATURE-PRIMARY", primary), ("BOX-SIGNATURE-SECONDARY", secondary),
                ("BOX-SIGNATURE-VERSION", "1"), ("BOX-SIGNATURE-ALGORITHM", "HmacSHA256"), JSON_TYPE]
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
    return [
        vector("good", [key1, key2], good, upload, "accepted", eid, etype),
        vector("primary_only", [key1], good, upload, "accepted", eid, etype),
        vector("secondary_only", [key2], good, upload, "accepted", eid, etype),
        vector("tampered", [key1, key2], good, tamper_end(upload), "wrong_signature"),
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
    ]


@provider("cal_com", "Cal.com documentation, \"Webhooks\"")
def cal_com():
    return family(
        hex_body("x-cal-signature-256"), ("cal-webhook-secret-one", "cal-webhook-secret-two", "cal-other"),
        compact({"triggerEvent": "BOOKING_CREATED", "createdAt": "2023-11-14T22:13:20.000Z",
                 "payload": {"type": "60min", "title": "60min between A and B", "uid": "bFJeNb2uX8ANpT3JL5EfXw"}}),
        None, "BOOKING_CREATED", malformed=[("x-cal-signature-256", "no-secret-provided")])


@provider("calendly", "Calendly developer documentation, \"Webhook signatures\"")
def calendly():
    return family(
        lambda s, b, at: [("Calendly-Webhook-Signature",
                           "t=%d,v1=%s" % (at, mac(s, b"%d." % at + raw(b)).hex()))],
        ("5mEzn9C-I28UtwOjZJtFoob0sAAFZ95GbZkqj4y3i0I", "6nFao0D-J39VuxPkAKuGppc1tBBGA06HcAlrk5z4j1J",
         "00000000000000000000000000000000000000000000"),
        compact({"event": "invitee.created", "created_at": "2023-11-14T22:13:20.000000Z",
                 "created_by": "https://api.calendly.com/users/AAAAAAAAAAAAAAAA",
                 "payload": {"uri": "https://api.calendly.com/scheduled_events/A/invitees/B", "status": "active"}}),
        None, "invitee.created", tolerance=180,
        malformed=[("Calendly-Webhook-Signature", "v1=abcdef")])


@provider("checkr", "Checkr API documentation, \"Webhooks, Responding to and securing webhooks\"")
def checkr():
    return family(
        hex_body("X-Checkr-Signature"),
        ("83ebeabdec09f6670863766f792ead24d61fe3f9", "94fcfbceed10f7781974877f803fbe35e72fe4fa",
         "0000000000000000000000000000000000000000"),
        compact({"id": "1002d6bca6acdfcbb8442178", "object": "event", "type": "report.completed",
                 "created_at": "2023-11-14T22:13:20Z", "webhook_url": URL,
                 "data": {"object": {"id": "a13f4827d8711ddc75abc56c", "object": "report",
                                     "uri": "/v1/reports/a13f4827d8711ddc75abc56c"}}}),
        "1002d6bca6acdfcbb8442178", "report.completed", malformed=[("X-Checkr-Signature", "xyz")])


@provider("contentful", "Contentful documentation, \"Webhook request verification\"; @contentful/node-apps-toolkit signRequest and verifyRequest")
def contentful():
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
    return [
        vector("good", [one], good + idempotency, body, "accepted", ident, topic),
        vector("tampered", [one], good + idempotency, tamper_end(body), "wrong_signature"),
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
    ]


@provider("docusign", "Docusign developer documentation, \"How to validate an HMAC signature\" (Connect)")
def docusign():
    docusign = (
        "DocuSignHmacKeyOne+abcdefghijklmnopqrstuvwxyz0=", "DocuSignHmacKeyTwo+abcdefghijklmnopqrstuvwxyz0=",
        "DocuSignHmacKeyFar+abcdefghijklmnopqrstuvwxyz0=")
    envelope = compact({"event": "envelope-completed", "apiVersion": "v2.1", "retryCount": 0,
                        "configurationId": 10210000, "generatedDateTime": "2023-11-14T22:13:20.0000000Z",
                        "data": {"accountId": "e3a1f1b0-0000-4000-8000-000000000001",
                                 "envelopeId": "c3f4b2a0-0000-4000-8000-000000000002"}})
    many = [("X-DocuSign-Signature-1", b64(mac(docusign[2], envelope))),
            ("X-DocuSign-Signature-2", b64(mac(docusign[0], envelope))),
            ("X-DocuSign-Signature-10", b64(mac("yet another", envelope))), JSON_TYPE]
    tenth = [("X-DocuSign-Signature-1", b64(mac(docusign[2], envelope))),
             ("X-DocuSign-Signature-10", b64(mac(docusign[0], envelope))), JSON_TYPE]
    return family(
        b64_body("X-DocuSign-Signature-1"), docusign, envelope, None, "envelope-completed",
        plain=(("x-authorization-digest", "HMACSHA256"), JSON_TYPE),
        malformed=[("X-DocuSign-Signature-1", "not base64!")],
        more=(vector("second_signature", [docusign[0]], many, envelope, "accepted", None, "envelope-completed"),
              vector("tenth_signature", [docusign[0]], tenth, envelope, "accepted", None,
                     "envelope-completed")))


@provider("dropbox", "Dropbox developers, \"Webhooks\" reference")
def dropbox():
    return family(
        hex_body("X-Dropbox-Signature"),
        ("q2w4e6r8t0y1u3i", "z1x3c5v7b9n2m4k", "p0o9i8u7y6t5r4e"),
        '{"list_folder": {"accounts": ["dbid:AAH4f99T0taONIb-OurWxbNQ6ywGRopQngc"]}, '
        '"delta": {"users": [12345678]}}',
        malformed=[("X-Dropbox-Signature", "sha256=zz")])


@provider("figma", "Figma REST API documentation, \"Webhooks security\"; figma/rest-api-spec WebhookBasePayload")
def figma():
    def figma(passcode, kind="FILE_UPDATE", **more):
        return compact(dict({"event_type": kind, "passcode": passcode, "timestamp": "2023-11-14T22:13:20Z",
                             "webhook_id": "22"}, **more))
    extra = {"file_key": "zH7SXgOADFsBjl3tTpzYoA", "file_name": "Gr\u00fc\u00dfe"}
    p1, p2 = "figma-passcode-one", "figma-passcode-two"
    without = json.loads(figma(p1, **extra))
    del without["passcode"]
    return [
        vector("good", [p1], [JSON_TYPE], figma(p1, **extra), "accepted", None, "FILE_UPDATE"),
        vector("ping", [p1], [JSON_TYPE], figma(p1, "PING"), "accepted", None, "PING"),
        vector("tampered", [p1], [JSON_TYPE], figma(tamper_end(p1), **extra), "wrong_signature"),
        vector("rest_not_covered", [p1], [JSON_TYPE], figma(p1, **dict(extra, file_name="Other")), "accepted", None,
               "FILE_UPDATE"),
        vector("other_secret", [p1], [JSON_TYPE], figma("figma-passcode-far", **extra), "wrong_signature"),
        vector("rotated", [p1, p2], [JSON_TYPE], figma(p2, **extra), "accepted", None, "FILE_UPDATE"),
        vector("missing_header", [p1], [JSON_TYPE], compact(without), "missing_header"),
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


@provider("persona", "Persona documentation, \"Webhook Best Practices, Checking signatures\"")
def persona():
    def persona(s, b, at):
        return "t=%d,v1=%s" % (at, mac(s, b"%d." % at + raw(b)).hex())
    persona_key = ("wbhsec_6f2d8c1b-0a3e-4d57-9c8b-1e2f3a4b5c6d", "wbhsec_7a3e9d2c-1b4f-4e68-8d9c-2f3a4b5c6d7e",
                   "wbhsec_00000000-0000-4000-8000-000000000000")
    inquiry = compact({"data": {"type": "event", "id": "evt_CNf5w1vXhTTTcsAoUQ9dpE1n", "attributes": {
        "name": "inquiry.completed", "created-at": "2023-11-14T22:13:20.000Z",
        "payload": {"data": {"type": "inquiry", "id": "inq_2CVZ4HyVg7qaboXz2PUHknAn"}}}}})
    return family(
        lambda s, b, at: [("Persona-Signature", persona(s, b, at))], persona_key, inquiry,
        "evt_CNf5w1vXhTTTcsAoUQ9dpE1n", "inquiry.completed", tolerance=7200,
        malformed=[("Persona-Signature", "v1=abcdef")],
        more=(vector("second_signature", [persona_key[0]],
                     [("Persona-Signature", persona(persona_key[1], inquiry, NOW) + " " +
                       persona(persona_key[0], inquiry, NOW)), JSON_TYPE], inquiry, "accepted",
                     "evt_CNf5w1vXhTTTcsAoUQ9dpE1n", "inquiry.completed"),))


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


@provider("typeform", "Typeform developers, \"Secure your webhooks\"")
def typeform():
    return family(
        b64_body("Typeform-Signature", prefix="sha256="),
        ("a3d1c5f0e4b29d7768c1f0aa5e34c2b19d80e6f7", "b5e2c6f1d4a38e9079d2e1bb6f45d3c20e91f708",
         "00112233445566778899aabbccddeeff00112233"),
        compact({"event_id": "01HF8Q4J8V9K2M3N4P5Q6R7S8T", "event_type": "form_response",
                 "form_response": {"form_id": "lT4Z3j", "token": "a3a12ec67a1365927098a606107fac15"}}),
        "01HF8Q4J8V9K2M3N4P5Q6R7S8T", "form_response",
        malformed=[("Typeform-Signature", "md5=abc")])


@provider("webflow", "Webflow developer documentation, \"Webhooks, Validating request signatures\"; js-webflow-api")
def webflow():
    def webflow(s, b, at):
        return [("x-webflow-timestamp", str(at * 1000)),
                ("x-webflow-signature", mac(s, b"%d:" % (at * 1000) + raw(b)).hex())]
    return family(
        webflow,
        ("f2e1d0c9b8a7968574635241302f1e0d0c1b2a39485766758493a2b1c0dfeefd",
         "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90", "0" * 64),
        compact({"triggerType": "form_submission",
                 "payload": {"name": "Contact", "siteId": "65427cf400e02b306eaa049c", "id": "65a5d3c8f7e2b4001"}}),
        None, "form_submission", tolerance=300,
        malformed=[("x-webflow-timestamp", "yesterday"), ("x-webflow-signature", "00")],
        more=(vector("missing_timestamp", ["f2e1d0c9b8a7968574635241302f1e0d0c1b2a39485766758493a2b1c0dfeefd"],
                     [("x-webflow-signature", "00" * 32), JSON_TYPE], "{}", "missing_header"),))


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
