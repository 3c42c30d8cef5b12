"""Providers that developers work with."""

from schemes import SECRET_A, plain
from shared import FORM_TYPE, NOW, Case, hexmac, provider, tamper
from standard_webhooks import WHSEC_A, WHSEC_B, WHSEC_C, standard, v1

BYTES_BODY = b'{"note":"bytes that are not UTF-8: \xff\xfe"}'
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


@provider("clerk", "Clerk documentation, \"Sync Clerk data to your app with webhooks\"; Svix, \"Verifying Webhooks Manually\"")
def clerk():
    body = '{"data":{"id":"user_1","first_name":"Ada"},"object":"event","timestamp":1700000000000,"type":"user.created"}'
    return standard(
        "clerk", "svix", "msg_clerk1", body, "user.created", tamper(body, "user_1", "user_2"), None
    )[1]


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


@provider("jira", "Jira Cloud platform documentation, \"Webhooks\" (secure admin webhooks)")
def jira():
    identifier = "a1b2c3d4-1111-2222-3333-444455556666"
    body = '{"timestamp":1700000000000,"webhookEvent":"jira:issue_updated","issue":{"id":"10001","key":"AB-1"}}'
    case = Case("jira", body, identifier, "jira:issue_updated")
    extra = [["X-Atlassian-Webhook-Identifier", identifier]]
    return atlassian(case, extra, tamper(body, "AB-1", "AB-2"))


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
