"""Writes the vectors of every provider, or of some, one JSON file each.

Usage: python3 generate FOLDER [SLUG ...]

Everything is fixed (secrets, keys, times), so that each run writes the same bytes. What signs here follows the
providers' published pages and uses the standard library and the `cryptography` package (43 or newer).
"""

import json
import sys
from pathlib import Path

# Each registers its providers.
import business  # noqa: F401
import commerce  # noqa: F401
import developer  # noqa: F401
import mail  # noqa: F401
import messaging  # noqa: F401
import operations  # noqa: F401
import payments  # noqa: F401
import standard_webhooks  # noqa: F401
from shared import PROVIDERS


def content(slug):
    source, function = PROVIDERS[slug]
    result = function()
    parts = result if isinstance(result, tuple) else (result,)
    found = {"provider": slug, "source": source}
    for key, entries in zip(("vectors", "handshakes", "optional"), parts):
        names = [entry["name"] for entry in entries]
        assert len(names) == len(set(names)), slug
        if entries:
            found[key] = entries
    return found


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: generate FOLDER [SLUG ...]")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for slug in sys.argv[2:] or sorted(PROVIDERS):
        text = json.dumps(content(slug), indent=2, ensure_ascii=False)
        (folder / f"{slug}.json").write_text(text + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
