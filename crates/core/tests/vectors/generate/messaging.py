"""Providers that carry messages, calls and posts."""

import hashlib
import json
from urllib.parse import parse_qsl

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemes import b64_body, family, hex_body, token_family
from shared import (
    FORM_TYPE, HOST, HOUR, JSON_TYPE, NOW, Case, b64, b64mac, compact, hexmac, mac, provider, raw, tamper, tamper_end,
    utc, vector, with_unicode,
)


@provider("discord", "Discord developer documentation, \"Webhook Events\", \"Validating Security Request Headers\"")
def discord():
    # Discord: Ed25519 over the time and the body.
    def discord_key(seed):
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())

    def discord_hex(key):
        return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    k1, k2, k3 = (discord_key(s) for s in (b"discord one", b"discord two", b"discord far"))

    def discord(key, body, at=NOW):
        return [("X-Signature-Ed25519", key.sign(str(at).encode() + raw(body)).hex()),
                ("X-Signature-Timestamp", str(at)), JSON_TYPE]
    body = compact({"version": 1, "application_id": "1234560123453231555", "type": 1,
                    "event": {"type": "APPLICATION_AUTHORIZED", "timestamp": "2023-11-14T22:13:20.064834",
                              "data": {"integration_type": 1, "scopes": ["applications.commands"]}}})
    ping = compact({"version": 1, "application_id": "1234560123453231555", "type": 0})
    kind = "APPLICATION_AUTHORIZED"
    later = discord(k1, body)
    later[1] = ("X-Signature-Timestamp", str(NOW + 1))
    return [
        vector("good", [discord_hex(k1)], discord(k1, body), body, "accepted", None, kind),
        vector("ping", [discord_hex(k1)], discord(k1, ping), ping, "accepted"),
        vector("unicode", [discord_hex(k1)], discord(k1, with_unicode(body)), with_unicode(body), "accepted", None, kind),
        vector("tampered", [discord_hex(k1)], discord(k1, body), tamper_end(body), "wrong_signature"),
        vector("tampered_timestamp", [discord_hex(k1)], later, body, "wrong_signature"),
        vector("other_secret", [discord_hex(k1)], discord(k3, body), body, "wrong_signature"),
        vector("rotated", [discord_hex(k1), discord_hex(k2)], discord(k2, body), body, "accepted", None, kind),
        vector("lowercase_headers", [discord_hex(k1)], [(n.lower(), x) for n, x in discord(k1, body)], body, "accepted",
               None, kind),
        # Discord tries again for 10 minutes.
        vector("old_but_fresh", [discord_hex(k1)], discord(k1, body), body, "accepted", None, kind, now=NOW + 870),
        vector("stale", [discord_hex(k1)], discord(k1, body), body, "stale", now=NOW + 930),
        vector("missing_header", [discord_hex(k1)], [discord(k1, body)[1], JSON_TYPE], body, "missing_header"),
        vector("missing_timestamp", [discord_hex(k1)], [discord(k1, body)[0], JSON_TYPE], body, "missing_header"),
        vector("malformed", [discord_hex(k1)], [("X-Signature-Ed25519", "xyz"), ("X-Signature-Timestamp", str(NOW)), JSON_TYPE],
               body, "malformed_header"),
    ]


@provider("front", "Front developer documentation, \"Application webhooks, Verifying integrity\"")
def front():
    def front(s, b, at):
        return [("X-Front-Signature", b64(mac(s, b"%d:" % (at * 1000) + raw(b)))),
                ("X-Front-Request-Timestamp", str(at * 1000))]
    front_key = ("b2d1f0e9c8a7", "c3e2a1f0d9b8", "000000000000")
    sync = compact({"type": "sync", "authorization": {"id": "cmp_abc"}})
    return family(
        front, front_key,
        compact({"type": "inbound_received", "authorization": {"id": "cmp_abc"},
                 "payload": {"id": "evt_55c8c149", "type": "inbound", "emitted_at": 1700000000.123}}),
        "evt_55c8c149", "inbound_received",
        malformed=[("X-Front-Signature", "not base64!"), ("X-Front-Request-Timestamp", "1700000000000")],
        more=(vector("challenge", [front_key[0]],
                     front(front_key[0], sync, NOW) + [("X-Front-Challenge", "f9b1d3a7c5"), JSON_TYPE], sync,
                     "accepted", None, "sync"),))


@provider("line", "LINE Developers, Messaging API, \"Verify webhook signature\"; `published` from line-bot-sdk-python's tests")
def line():
    line = ("8c570fa6dd201bb328f1c1eac23a96d8", "9d681fb7ee312cc439a2d2fbd34ba7e9", "00000000000000000000000000000000")
    nothing = compact({"destination": "U8e742f61d673b39c7fff3cecb7536ef0", "events": []})
    return family(
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
              vector("verify_button", [line[0]], [("x-line-signature", b64(mac(line[0], nothing))), JSON_TYPE], nothing,
                     "accepted")))


META_SECRETS = ("5f4dcc3b5aa765d61d8327deb882cf99", "6cb75f652a9b52798eb6cf2201057c73",
                "098f6bcd4621d373cade4e832627b4f6")


@provider("meta", "Meta for Developers, \"Webhooks, Getting Started, Validating Payloads\"")
def meta():
    page = compact({"object": "page", "entry": [{"id": "1067280970047460", "time": 1700000000000, "changes": [
        {"field": "feed", "value": {"item": "status", "post_id": "44444444_444444444", "verb": "add"}}]}]})
    escaped = json.dumps({"object": "instagram", "entry": [{"id": "17841400000000000", "changes": [
        {"field": "comments", "value": {"id": "17865799348089039", "text": "\u00e4\u00f6\u00e5 \U0001f600"}}]}]},
        separators=(",", ":"))
    return family(
        hex_body("X-Hub-Signature-256", prefix="sha256="), META_SECRETS, page, None, "page",
        malformed=[("X-Hub-Signature-256", mac(META_SECRETS[0], page).hex())],
        more=(vector("escaped_unicode", [META_SECRETS[0]],
                     [("X-Hub-Signature-256", "sha256=" + mac(META_SECRETS[0], escaped).hex()), JSON_TYPE], escaped,
                     "accepted", None, "instagram"),
              vector("sha1_header_ignored", [META_SECRETS[0]],
                     [("X-Hub-Signature", "sha1=" + "0" * 40),
                      ("X-Hub-Signature-256", "sha256=" + mac(META_SECRETS[0], page).hex()), JSON_TYPE], page,
                     "accepted", None, "page"),
              vector("sha1_header_only", [META_SECRETS[0]],
                     [("X-Hub-Signature", "sha1=" + mac(META_SECRETS[0], page, "sha1").hex()), JSON_TYPE], page,
                     "missing_header")))


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


@provider("telegram", "Telegram Bot API, \"setWebhook\" (secret_token)")
def telegram():
    update = compact({"update_id": 10000, "message": {"message_id": 1365, "date": 1700000000, "text": "/start",
                                                      "chat": {"id": 1111111, "type": "private"}}})
    return token_family(
        "X-Telegram-Bot-Api-Secret-Token",
        "Secret_Token-0123456789", "Secret_Token-9876543210", "Secret_Token-0000000000", update, "10000", "message")


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


@provider("twitch", "Twitch developers, EventSub, \"Getting Events Using Webhook Callbacks\"; twitch-cli")
def twitch():
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
                ("Twitch-Eventsub-Subscription-Version", "2"), JSON_TYPE)
    return family(
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


@provider("viber", "Viber REST API documentation, \"Callbacks\"; `published` from viber-bot-python's tests")
def viber():
    return family(
        hex_body("X-Viber-Content-Signature"),
        ("44dafb7e0f40021e-61a47a1e6778d187-f2c5a676a07050b3", "55ebfc8f1f51132f-72b58b2f7889e298-a3d6b787b18161c4",
         "0000000000000000-0000000000000000-0000000000000000"),
        compact({"event": "message", "timestamp": 1700000000000, "message_token": 4912661846655238145,
                 "sender": {"id": "01234567890A=", "name": "John McClane"},
                 "message": {"type": "text", "text": "a message to the service"}}),
        None, "message", malformed=[("X-Viber-Content-Signature", "aaaaaaaaaaaaaaaaaaaaaazz")],
        more=(vector("published", ["44dafb7e0f40021e-61a47a1e6778d187-f2c5a676a07050b3"],
                     [("X-Viber-Content-Signature",
                       "d21b343448c8aee33b8e93768ef6ceb64a6ba6163099973a2b8bd028fea510ef"), JSON_TYPE],
                     '{"event":"webhook","timestamp":4977069964384421269,"message_token":1478683725125}',
                     "accepted", None, "webhook"),))


@provider("whatsapp", "Meta for Developers, WhatsApp Business Platform, \"Webhooks\"; same signature as meta")
def whatsapp():
    message = compact({"object": "whatsapp_business_account", "entry": [{"id": "8856996819413533", "changes": [
        {"value": {"messaging_product": "whatsapp",
                   "metadata": {"display_phone_number": "16505553333", "phone_number_id": "27681414235104944"},
                   "messages": [{"from": "16315551234", "id": "wamid.ABGGFlCGg0cvAgo-sJQh43L5Pe4W",
                                 "timestamp": "1700000000", "text": {"body": "Hello"}, "type": "text"}]},
         "field": "messages"}]}]})
    return family(
        hex_body("X-Hub-Signature-256", prefix="sha256="), META_SECRETS, message, None, "messages",
        malformed=[("X-Hub-Signature-256", "sha256=xyz")])


@provider("x", "X developer platform, \"V2 Webhooks API, Quickstart\" (signature header, CRC)")
def x():
    x_secret = "z3ZX4v7mAAUGykl3EcmkqbartmuW8VFOOzCloLx9Q45P0hLrFu"
    return family(
        b64_body("x-twitter-webhooks-signature", prefix="sha256="),
        (x_secret, "Yk2pQ7v0sB4nT9xW1cR6mZ8aL3dF5gH7jK2lP4oI6uY8tR0eWq",
         "00000000000000000000000000000000000000000000000000"),
        compact({"for_user_id": "2244994945", "favorite_events": [
            {"id": "a7ba59eab0bfcba386f7acedac279542", "created_at": "Tue Nov 14 22:13:20 +0000 2023"}]}),
        malformed=[("x-twitter-webhooks-signature", "no prefix")],
        # What a CRC has had signed, sent as if it were an event.
        more=(vector("answer_of_a_crc", [x_secret],
                     [("x-twitter-webhooks-signature", "sha256=" + b64(mac(x_secret, "crc-token"))), JSON_TYPE],
                     "crc-token", "malformed_header"),))


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
