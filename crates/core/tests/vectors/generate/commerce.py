"""Shops."""

from schemes import SECRET_A, b64_body, family, hex_body, plain
from shared import HOST, JSON_TYPE, Case, b64mac, compact, hexmac, provider, raw, tamper, vector
from standard_webhooks import signed_headers


@provider("bigcommerce", "BigCommerce documentation, \"HTTPS Webhooks Overview, Security\" (Standard Webhooks with the client secret's text as key)")
def bigcommerce():
    return family(
        signed_headers("webhook", raw),
        ("9a1f3c5e7b2d4f6a8c0e1b3d5f7a9c2e4b6d8f0a1c3e5b7d9f2a4c6e8b0d1f3a",
         "0b2a4d6f8c3e5a7b9d1f2c4e6a8b0d3f5c7e9a1b2d4f6c8e0a3b5d7f9c1e2a4b", "0" * 64),
        compact({"store_id": "11111", "producer": "stores/abcde", "scope": "store/order/statusUpdated",
                 "data": {"type": "order", "id": 173331}, "hash": "3f9ea420af83450d7ef9f78b08c8af25b2213637"}),
        "msg_p5jXN8AQM9LWM0D4loKWxJek", "store/order/statusUpdated", tolerance=300,
        malformed=[("webhook-id", "msg_1"), ("webhook-timestamp", "soon"), ("webhook-signature", "v1,AAAA")])


@provider("lemon_squeezy", "Lemon Squeezy documentation, \"Signing requests\", \"Webhook requests\"")
def lemon_squeezy():
    return family(
        hex_body("X-Signature"), ("my-lemon-signing-secret-2023", "next-lemon-signing-secret", "someone-else"),
        compact({"meta": {"event_name": "order_created"},
                 "data": {"type": "orders", "id": "1", "attributes": {"store_id": 1, "total": 1199}}}),
        None, "order_created", plain=(("X-Event-Name", "order_created"), JSON_TYPE),
        malformed=[("X-Signature", "xyz")])


@provider("shopify", "Shopify documentation, \"Verify webhook deliveries\"")
def shopify():
    delivery = "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
    body = '{"id":820982911946154508,"email":"jon@example.com","note":"ñ","total_price":"398.00"}'
    case = Case("shopify", body, delivery, "orders/create")
    extra = [
        ["X-Shopify-Topic", "orders/create"],
        ["X-Shopify-Shop-Domain", "example.myshopify.com"],
        ["X-Shopify-API-Version", "2024-01"],
        ["X-Shopify-Webhook-Id", delivery],
        ["X-Shopify-Event-Id", "98880550-7158-44d4-b7cd-2c97c8a091b5"],
        ["X-Shopify-Triggered-At", "2023-11-14T22:13:19.000000000Z"],
    ]
    vectors = plain(case, "X-Shopify-Hmac-SHA256", b64mac, tamper(body, "398.00", "398.01"), extra)
    vectors.append(
        case.vector(
            "hex_instead_of_base64", [SECRET_A], [["X-Shopify-Hmac-SHA256", hexmac(SECRET_A, body)]] + extra,
            "wrong_signature",
        )
    )
    return vectors


@provider("square", "Square documentation, \"Verify and validate an event notification\"; square-python-sdk, webhooks helper")
def square():
    body = (
        '{"merchant_id":"M1","type":"payment.updated","event_id":"6a8f5f28-54a1-4eb0-a98a-3111513fd4fc",'
        '"created_at":"2023-11-14T22:13:20Z","data":{"type":"payment","id":"p1","note":"é>"}}'
    )
    url = HOST + "square?site=1"
    case = Case("square", body, "6a8f5f28-54a1-4eb0-a98a-3111513fd4fc", "payment.updated", url=url)
    header = "x-square-hmacsha256-signature"

    def sign(secret, text, address=url):
        return b64mac(secret, address + text)

    vectors = plain(case, header, sign, tamper(body, "\"p1\"", "\"p2\""))
    text = (
        '{"merchant_id":"MLEFBHHSJGVHD","type":"webhooks.test_notification",'
        '"event_id":"ac3ac95b-f97d-458c-a6e6-18981597e05f","created_at":"2022-07-13T20:30:59.037339943Z",'
        '"data":{"type":"webhooks","id":"bc368e64-01aa-407e-b46e-3231809b1129"}}'
    )
    address, key = "https://webhook.site/679a4f3a-dcfa-49ee-bac5-9d0edad886b9", "Ibxx_5AKakO-3qeNVR61Dw"
    signature = "GF4YkrJgGBDZ9NIYbNXBnMzqb2HoL4RW/S6vkZ9/2N4="
    assert sign(key, text, address) == signature
    escaped = '{"data":{"type":"webhooks","id":">id<"}}'
    assert sign("signature-key", escaped, "https://webhook.site/webhooks") == "Cxt7+aTi4rKgcA0bC4g9EHdVtLSDWdqccmL5MvihU4U="
    vectors += [
        case.vector("other_url", [SECRET_A], [[header, sign(SECRET_A, body, HOST + "square")]], "wrong_signature"),
        case.vector(
            "published", [key], [[header, signature]], url=address, body=text,
            event_id="ac3ac95b-f97d-458c-a6e6-18981597e05f", event_type="webhooks.test_notification",
        ),
        case.vector(
            "published_escaped", ["signature-key"], [[header, "Cxt7+aTi4rKgcA0bC4g9EHdVtLSDWdqccmL5MvihU4U="]],
            url="https://webhook.site/webhooks", body=escaped, event_id=None, event_type=None,
        ),
    ]
    return vectors


@provider("woocommerce", "WooCommerce REST API documentation, \"Webhooks\" (its delivery example is `published`)")
def woocommerce():
    woo_doc = '{"action":"woocommerce_add_to_cart","arg":"7cbbc409ec990f19c78c75bd1e06f215"}'
    woo_head = [("X-WC-Webhook-Topic", "action.woocommerce_add_to_cart"), ("X-WC-Webhook-Resource", "action"),
                ("X-WC-Webhook-Event", "woocommerce_add_to_cart"),
                ("X-WC-Webhook-Signature", "geC1akFhCtsO7fbXz5XiGUsMsRa4Mt0IJsZ96nTaHjI="),
                ("X-WC-Webhook-ID", "535"), ("X-WC-Webhook-Delivery-ID", "378"), JSON_TYPE]
    return family(
        b64_body("X-WC-Webhook-Signature"),
        ("my-super-secret-private-key", "T$|2b8Uo&k~)@w?{Yz#9", "another secret"),
        compact({"id": 727, "status": "processing", "currency": "USD", "total": "29.35"}),
        None, "order.updated",
        plain=(("X-WC-Webhook-Source", "https://shop.example.com/"), ("X-WC-Webhook-Topic", "order.updated"),
               ("X-WC-Webhook-Resource", "order"), ("X-WC-Webhook-Event", "updated"), ("X-WC-Webhook-ID", "535"),
               ("X-WC-Webhook-Delivery-ID", "a1b2c3d4e5f60718293a4b5c6d7e8f90"), JSON_TYPE),
        malformed=[("X-WC-Webhook-Signature", "not base64!")],
        more=(vector("published", ["my-super-secret-private-key"], woo_head, woo_doc, "accepted", None,
                     "action.woocommerce_add_to_cart"),))
