#!/usr/bin/env python3
"""Writes the vectors of providers that sign nothing but use HTTP basic authentication.

Usage: generate_basic_auth.py OUTPUT_FOLDER
"""

import base64
import json
import sys
from pathlib import Path

BODY = '{"RecordType":"Bounce","ID":42,"Type":"HardBounce","Email":"zoë@example.com"}'


def vector(name, secrets, authorization, expect):
    headers = [["Content-Type", "application/json"]]
    if authorization is not None:
        headers.append(["Authorization", authorization])
    return {
        "name": name, "secrets": secrets, "now": 1700000000, "method": "POST",
        "url": "https://hooks.example.com/h/postmark", "headers": headers, "body": BODY, "expect": expect,
        "event_id": None, "event_type": "Bounce" if expect == "accepted" else None,
    }


def basic(pair):
    return "Basic " + base64.b64encode(pair.encode()).decode()


def main():
    one, two, far = "postmark:first password", "postmark:second:password", "postmark:another password"
    vectors = [
        vector("good", [one], basic(one), "accepted"),
        vector("lower_case_scheme", [one], basic(one).replace("Basic", "basic"), "accepted"),
        vector("other_secret", [one], basic(far), "wrong_signature"),
        vector("other_user", [one], basic("mallet:first password"), "wrong_signature"),
        vector("rotated", [one, two], basic(two), "accepted"),
        vector("missing_header", [one], None, "missing_header"),
        vector("malformed", [one], "Basic *", "malformed_header"),
        vector("other_scheme", [one], "Bearer abc", "malformed_header"),
    ]
    source = "Postmark documentation, \"Webhooks overview\" (protecting your webhook)"
    content = {"provider": "postmark", "source": source, "vectors": vectors}
    path = Path(sys.argv[1]) / "postmark.json"
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
