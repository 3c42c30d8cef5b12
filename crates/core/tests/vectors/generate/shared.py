"""What every provider's vectors are made with: encodings, the shape of a vector, and the list of providers."""

import base64
import hmac
import json
from datetime import datetime, timezone

NOW = 1700000000  # 2023-11-14T22:13:20Z
HOUR = 3600
HOST = "https://hooks.example.com/h/"
URL = HOST + "abc"
JSON_TYPE = ("Content-Type", "application/json")
FORM_TYPE = ("Content-Type", "application/x-www-form-urlencoded")

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
    return base64.b64encode(raw(data)).decode("ascii")


def b64mac(key, message, algorithm="sha256"):
    return b64(mac(key, message, algorithm))


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def utc(epoch):
    return datetime.fromtimestamp(epoch, timezone.utc)


def iso(epoch):
    return utc(epoch).strftime("%Y-%m-%dT%H:%M:%SZ")


def http_date(epoch):
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
    t = utc(epoch)
    return "%s, %02d %s %04d %02d:%02d:%02d GMT" % (
        names[t.weekday()], t.day, months[t.month - 1], t.year, t.hour, t.minute, t.second)


def tamper(body, old, new):
    """Changes one place of the body and nothing else."""
    assert body.count(old) == 1 and old != new and len(old) == len(new)
    return body.replace(old, new)


def tamper_end(body):
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


class Case:
    """The parts that all vectors of one provider share."""

    def __init__(self, slug, body, event_id, event_type, content_type=JSON_TYPE, url=None, method="POST"):
        self.url = url or HOST + slug
        self.body = body
        self.content_type = content_type
        self.usual = {"event_id": event_id, "event_type": event_type, "method": method, "url": self.url}

    def vector(self, name, secrets, headers, expect="accepted", body=None, **other):
        headers = headers + ([self.content_type] if self.content_type else [])
        body = self.body if body is None else body
        return vector(name, secrets, headers, body, expect, **{**self.usual, **other})
