"""Providers that run, watch and secure systems."""

import json
from datetime import datetime, timezone
from urllib.parse import quote, urlencode

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from keys import public_pem, rsa_key, rsa_sign
from schemes import family, hex_body, token_family
from shared import FORM_TYPE, JSON_TYPE, NOW, b64, compact, mac, provider, raw, tamper_end, vector


@provider("ably", "Ably documentation, \"Outbound webhooks, Webhook security\"")
def ably():
    ably = ("xVLyHw.A-pwhA:WcqFTvpTAD_1a2b3c4d5e6f7g8h9i0jKlMnOpQrStUv",
            "xVLyHw.B-qxiB:XdrGUwqUBE_2b3c4d5e6f7g8h9i0j1kLmNoPqRsTuVw",
            "xVLyHw.A-pwhA:00000000000000000000000000000000000000000000")
    return family(
        lambda secret, body, at: [("X-Ably-Key", secret.split(":", 1)[0]),
                                  ("X-Ably-Signature", b64(mac(secret.split(":", 1)[1], body)))],
        ably,
        compact({"items": [{"webhookId": "ABcDEf", "source": "channel.message",
                            "serial": "a7bcdEFghIjklm123456789:4", "timestamp": 1700000000000,
                            "name": "channel.message",
                            "data": {"channelId": "my-channel-4", "site": "eu-west-1-A",
                                     "messages": [{"id": "ABcDefgHIj:1:0", "data": "the message data"}]}}]}),
        plain=(("X-Ably-Version", "1.2"), JSON_TYPE),
        malformed=[("X-Ably-Key", "xVLyHw.A-pwhA"), ("X-Ably-Signature", "not base64!")])


@provider("auth0", "Auth0 documentation, \"Custom log streams using webhooks\"")
def auth0():
    log = {"log_id": "90020231114221320000000000000000000001", "data": {"date": "2023-11-14T22:13:20.000Z",
                                                                        "type": "s", "client_id": "AaiyAPdpYdesoKnqjj8HJqRn4T5titww"}}
    auth = "Bearer 7f9c2ba4e88f827d616045507605853e"
    return token_family(
        "Authorization",
        auth, "8a0d3cb5f99a938e727156618716964f", "Bearer 00000000000000000000000000000000",
        compact([log]), None, None,
        more=(vector("json_lines", [auth], [("Authorization", auth), ("Content-Type", "application/json")],
                     compact(log) + "\n" + compact(log) + "\n", "accepted"),))


@provider("aws_sns", "Amazon SNS developer guide, \"Verifying the signatures of Amazon SNS messages\"; sns-validator (aws-js-sns-message-validator)")
def aws_sns():
    # Amazon SNS: RSA PKCS#1 v1.5 with SHA-1 (version 1) or SHA-256 (version 2) over chosen members.
    s1, s3 = rsa_key("sns one"), rsa_key("sns far")

    def own_certificate(key):
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
        start = datetime(2020, 1, 1, tzinfo=timezone.utc)
        end = datetime(2040, 1, 1, tzinfo=timezone.utc)
        cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
                .serial_number(20231114).not_valid_before(start).not_valid_after(end)
                .sign(key, hashes.SHA256()))
        return cert.public_bytes(Encoding.PEM).decode("ascii")
    pem = own_certificate(s1)
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
    return [
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
    ]


@provider("buildkite", "Buildkite documentation, \"Pipelines webhooks, Webhook signature\"")
def buildkite():
    return family(
        lambda s, b, at: [("X-Buildkite-Signature",
                           "timestamp=%d,signature=%s" % (at, mac(s, b"%d." % at + raw(b)).hex()))],
        ("309c9c842b8565adecbd7469a6005989", "410d0d953c9676bfdfce8570b7116a9a", "00000000000000000000000000000000"),
        compact({"event": "build.finished", "build": {"id": "f62a1b4d-10f9-4790-bc1c-e2c3a0c80983", "number": 1},
                 "sender": {"id": "3d3c3bf0-7d58-4afe-8fe7-b3017d5504de", "name": "Sam"}}),
        None, "build.finished", plain=(("X-Buildkite-Event", "build.finished"), JSON_TYPE), tolerance=300,
        malformed=[("X-Buildkite-Signature", "signature=abcdef")],
        more=(vector("token_mode", ["309c9c842b8565adecbd7469a6005989"],
                     [("X-Buildkite-Token", "309c9c842b8565adecbd7469a6005989"), ("X-Buildkite-Event", "ping"),
                      JSON_TYPE], compact({"event": "ping"}), "accepted", None, "ping"),
              vector("token_mode_wrong", ["309c9c842b8565adecbd7469a6005989"],
                     [("X-Buildkite-Token", "00000000000000000000000000000000"), ("X-Buildkite-Event", "ping"),
                      JSON_TYPE], compact({"event": "ping"}), "wrong_signature")))


@provider("circleci", "CircleCI documentation, \"Outbound webhooks, Validate outbound webhooks\" (examples: `published`)")
def circleci():
    circle = ("hunter123", "another-secret", "not-yours")
    workflow = compact({"id": "3888f21b-eaa7-38e3-8f3d-75a63bba8895", "type": "workflow-completed",
                        "happened_at": "2023-11-14T22:13:20.000Z",
                        "webhook": {"id": "cf8c4fdd-0587-4da1-b4ca-4846e9640af9", "name": "Sample Webhook"},
                        "workflow": {"id": "fda08377-fe7e-46b1-8992-3a7aaecac9c3", "status": "success"}})
    return family(
        hex_body("circleci-signature", prefix="v1="), circle, workflow,
        "3888f21b-eaa7-38e3-8f3d-75a63bba8895", "workflow-completed",
        plain=(("circleci-event-type", "workflow-completed"), ("user-agent", "CircleCI-Webhook/1.0"), JSON_TYPE),
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
                     [("circleci-signature", "v1=%s,v2=00ff,v3=abcd" % mac(circle[0], workflow).hex()), JSON_TYPE],
                     workflow, "accepted", "3888f21b-eaa7-38e3-8f3d-75a63bba8895", "workflow-completed")))


@provider("launchdarkly", "LaunchDarkly documentation, \"Webhooks, Sign a webhook\"")
def launchdarkly():
    return family(
        hex_body("X-LD-Signature"), ("ld-secret-5d41402abc4b", "ld-secret-7d793037a076", "ld-secret-000000000000"),
        compact({"_id": "57c0a8e29969090743529965", "date": 1700000000000, "kind": "flag", "name": "Example",
                 "description": "- Turned on the flag", "comment": ""}),
        "57c0a8e29969090743529965", "flag", malformed=[("X-LD-Signature", "xyz")])


@provider("okta", "Okta developer documentation, \"Event hooks\"")
def okta():
    hook = compact({"eventType": "com.okta.event_hook", "eventTypeVersion": "1.0", "cloudEventsVersion": "0.1",
                    "source": "https://example.okta.com/api/v1/eventHooks/who7hphp39JoHLni81d7",
                    "eventId": "85b60edb-4263-4e13-993b-818e26201052",
                    "data": {"events": [{"uuid": "f1d0b993-cc19-11ed-a688-db22c99ef6c4",
                                         "published": "2023-11-14T22:13:20.159Z", "eventType": "user.session.start"}]}})
    return token_family(
        "Authorization",
        "Basic YWRtaW46c3VwZXJzZWNyZXQ=", "okta-event-hook-secret-2", "Basic YWRtaW46d3Jvbmc=", hook,
        "85b60edb-4263-4e13-993b-818e26201052", "user.session.start")


@provider("pagerduty", "PagerDuty developer documentation, \"Webhooks v3, Verifying Signatures\"")
def pagerduty():
    pd = ("kF5uRMgqN7p2yYbV3cXzWq1sDtLhJ8aE", "mG6vSNhrO8q3zZcW4dYaXr2tEuMiK9bF", "nH7wTOisP9r4aAdX5eZbYs3uFvNjL0cG")
    incident = compact({"event": {"id": "5ac64822-4adc-4fda-ade0-410becf0de4f", "event_type": "incident.triggered",
                                  "resource_type": "incident", "occurred_at": "2023-11-14T22:13:20.000Z",
                                  "data": {"id": "PGR0VU2", "type": "incident", "status": "triggered"}}})
    pd_head = [("X-Webhook-Id", "d4e7c0b1-0000-4000-8000-000000000004"),
               ("X-Webhook-Subscription", "PT8ONKS"), JSON_TYPE]
    return family(
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


@provider("pusher", "Pusher Channels documentation, \"Webhooks, Security\"; pusher-http-python validate_webhook")
def pusher():
    pusher_secret = ("7ad3773142a6692b25b8", "8be4884253b7703c36c9", "00000000000000000000")
    return family(
        lambda secret, body, at: [("X-Pusher-Key", "278d425bdf160c739803"),
                                  ("X-Pusher-Signature", mac(secret, body).hex())],
        pusher_secret,
        compact({"time_ms": 1700000000000, "events": [{"name": "channel_occupied", "channel": "test_channel"}]}),
        auth_headers=("X-Pusher-Signature",),
        malformed=[("X-Pusher-Key", "278d425bdf160c739803"), ("X-Pusher-Signature", "xyz")])


@provider("sentry", "Sentry documentation, \"Integration platform webhooks\"")
def sentry():
    return family(
        hex_body("Sentry-Hook-Signature"),
        ("8f3c1d9b7e2a4c6f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7",
         "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f809",
         "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"),
        compact({"action": "created", "installation": {"uuid": "a8e5d37a-696c-4c54-adb5-b3f28d64c7de"},
                 "data": {"issue": {"id": "1170820242", "title": "TypeError"}}, "actor": {"type": "application"}}),
        None, "issue",
        plain=(("Request-ID", "4b1d2a9c-0000-4000-8000-000000000003"), ("Sentry-Hook-Resource", "issue"),
               ("Sentry-Hook-Timestamp", "1700000000"), JSON_TYPE),
        malformed=[("Sentry-Hook-Signature", "v0=nothex")])


@provider("snyk", "Snyk documentation, \"Validation and versioning of payloads\"")
def snyk():
    return family(
        hex_body("X-Hub-Signature", prefix="sha256="),
        ("a8be22bb7bed43a3ac24de3580093560", "b9cf33cc8cfe54b4bd35ef4691104671", "00000000000000000000000000000000"),
        compact({"project": {"id": "d3cf26b3-2d77-497b-bce2-23b33cc15362"},
                 "org": {"id": "4a18d42f-0706-4ad0-b127-24078731fbed"}, "newIssues": [], "removedIssues": []}),
        None, "project_snapshot/v0",
        plain=(("X-Snyk-Event", "project_snapshot/v0"),
               ("X-Snyk-Transport-ID", "998fe884-18a0-45db-8ae0-e379eea3bc0a"),
               ("X-Snyk-Timestamp", "2023-11-14T22:13:20Z"), JSON_TYPE),
        malformed=[("X-Hub-Signature", "sha256=xyz")])


@provider("travis_ci", "Travis CI documentation, \"Configuring build notifications, Verifying Webhook requests\"")
def travis_ci():
    # Travis CI: RSA PKCS#1 v1.5 with SHA-1 over the decoded `payload` field of the form.
    t1, t2, t3 = rsa_key("travis one"), rsa_key("travis two"), rsa_key("travis far")
    payload = compact({"id": 183791261, "number": "7", "status": 0, "state": "passed", "type": "push",
                       "commit": "62aae5f70ceee39123ef", "message": "Gr\u00fc\u00dfe + more & \u65e5\u672c",
                       "repository": {"id": 1, "name": "minimal", "owner_name": "svenfuchs"}})

    def travis(key, text):
        return [("Signature", rsa_sign(key, text, hashes.SHA1())), ("Travis-Repo-Slug", "svenfuchs/minimal"), FORM_TYPE]
    sent = urlencode({"payload": payload})
    percent = "payload=" + quote(payload, safe="")
    other = urlencode({"payload": tamper_end(payload)})
    return [
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
    ]


@provider("vercel", "Vercel documentation, \"Webhooks, Securing webhooks\"")
def vercel():
    return family(
        hex_body("x-vercel-signature", "sha1"),
        ("Vr7tKp2mQ9sXw4yZ", "Nc3bLd8fGh1jRk6t", "Aa0Bb1Cc2Dd3Ee4F"),
        compact({"id": "evt_2XqF5vUoP6n8KzYdR", "type": "deployment.created", "createdAt": 1700000000000,
                 "region": "sfo1", "payload": {"deployment": {"id": "dpl_FjHqKqFz1", "name": "my-app"}}}),
        "evt_2XqF5vUoP6n8KzYdR", "deployment.created",
        malformed=[("x-vercel-signature", "xyz")])


@provider("workos", "WorkOS documentation, \"Webhooks, Validating events\"; workos-node signature provider")
def workos():
    return family(
        lambda s, b, at: [("WorkOS-Signature",
                           "t=%d, v1=%s" % (at * 1000, mac(s, b"%d." % (at * 1000) + raw(b)).hex()))],
        ("Gj5kQ2vXbN8mT1wZ7yR4cL9dF3hS6pAe", "Hk6lR3wYcO9nU2xA8zS5dM0eG4iT7qBf", "Il7mS4xZdP0oV3yB9aT6eN1fH5jU8rCg"),
        compact({"id": "event_01FAEAJCJX3ZBZ30D8BD1924TVG", "event": "dsync.user.created",
                 "data": {"id": "directory_user_01FAEAJCR3ZBZ30D8BD1924TVG", "state": "active"},
                 "created_at": "2023-11-14T22:13:20.000Z"}),
        "event_01FAEAJCJX3ZBZ30D8BD1924TVG", "dsync.user.created", tolerance=180,
        malformed=[("WorkOS-Signature", "v1=abcdef")])
