"""Vectors of schemes that many providers have in common."""

from shared import JSON_TYPE, NOW, b64mac, hexmac, tamper_end, vector, with_unicode

SECRET_A = "6f1a-first secret/With+signs="
SECRET_B = "b07e-second secret é"
SECRET_C = "secret that the endpoint does not have"


def plain(case, header, sign, altered, other_headers=(), a=SECRET_A, b=SECRET_B, c=SECRET_C):
    """Vectors of a scheme with one header that is a function of secret and body."""
    extra = [list(pair) for pair in other_headers]

    def headers(secret):
        return [[header, sign(secret, case.body)]] + extra

    return [
        case.vector("good", [a], headers(a)),
        case.vector("tampered", [a], headers(a), "wrong_signature", body=altered),
        case.vector("other_secret", [a], headers(c), "wrong_signature"),
        case.vector("rotated", [a, b], headers(b)),
        case.vector("missing_header", [a], extra, "missing_header"),
    ]


def family(sign, secrets, body, event_id=None, event_type=None, plain=(JSON_TYPE,), tolerance=None,
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
        v("tampered", [one], good, tamper_end(body), "wrong_signature"),
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
    return out + list(more)


def hex_body(header, algorithm="sha256", prefix=""):
    return lambda secret, body, at: [(header, prefix + hexmac(secret, body, algorithm))]


def b64_body(header, algorithm="sha256", prefix=""):
    return lambda secret, body, at: [(header, prefix + b64mac(secret, body, algorithm))]


def token_family(header, one, two, far, body, event_id, event_type, more=()):
    """The usual vectors of a provider that shows a secret in a header."""
    return [
        vector("good", [one], [(header, one), JSON_TYPE], body, "accepted", event_id, event_type),
        vector("lowercase_headers", [one], [(header.lower(), one), JSON_TYPE], body, "accepted", event_id, event_type),
        vector("unicode", [one], [(header, one), JSON_TYPE], with_unicode(body) if body.startswith("{") else body,
               "accepted", event_id, event_type),
        vector("other_secret", [one], [(header, far), JSON_TYPE], body, "wrong_signature"),
        vector("longer_than_the_secret", [one], [(header, one + "x"), JSON_TYPE], body, "wrong_signature"),
        vector("rotated", [one, two], [(header, two), JSON_TYPE], body, "accepted", event_id, event_type),
        vector("missing_header", [one], [JSON_TYPE], body, "missing_header"),
    ] + list(more)
