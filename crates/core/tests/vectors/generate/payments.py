"""Providers that move and account for money."""

import json
import zlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from keys import public_der_base64, public_pem, rsa_key, rsa_key_of, rsa_sign, server_certificate
from schemes import b64_body, family, hex_body, plain
from shared import (
    FORM_TYPE, HOUR, JSON_TYPE, NOW, Case, b64, b64mac, compact, hexmac, iso, mac, provider, raw, tamper, tamper_end,
    vector, with_unicode,
)


@provider("adyen", "Adyen documentation, \"Verify HMAC signatures\"; adyen-python-api-library, util")
def adyen():
    a = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"
    b, c = "00112233445566778899AABBCCDDEEFF" * 2, "FFEEDDCCBBAA99887766554433221100" * 2

    def signed(item):
        amount = item.get("amount", {})
        fields = [item.get(name, "") for name in ("pspReference", "originalReference", "merchantAccountCode", "merchantReference")]
        fields += [str(amount.get("value", "")), amount.get("currency", ""), item.get("eventCode", ""), item.get("success", "")]
        return ":".join(fields)

    def sign(secret, item):
        return b64mac(bytes.fromhex(secret), signed(item))

    def wrap(items):
        found = [{"NotificationRequestItem": item} for item in items]
        return json.dumps({"live": "false", "notificationItems": found}, separators=(",", ":"), ensure_ascii=False)

    def item(secret=a, signature=None, changed=None, **fields):
        base = {
            "eventCode": "AUTHORISATION",
            "success": "true",
            "eventDate": "2023-11-14T22:13:20+00:00",
            "merchantAccountCode": "TestMerchant",
            "pspReference": "7914073381342284",
            "merchantReference": "TestPayment-1407325143704",
            "amount": {"value": 1130, "currency": "EUR"},
            "paymentMethod": "visa",
        }
        base.update(fields)
        signature = signature or sign(secret, base)
        base.update(changed or {})
        return {"additionalData": {"hmacSignature": signature}, **base}

    published = "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="
    assert item()["additionalData"]["hmacSignature"] == published
    case = Case("adyen", wrap([item()]), None, "AUTHORISATION")
    second = item(pspReference="8814073381342285", eventCode="CAPTURE", originalReference="7914073381342284")
    forged = item(changed={"success": "false"})
    special = {"merchantReference": "a:b\\c/d é"}
    unsigned = {key: value for key, value in item().items() if key != "additionalData"}
    public_key = "74F490DD33F7327BAECC88B2947C011FC02D014A473AAA33A8EC93E4DC069174"

    def public_item(reference, payment, signature):
        fields = {
            "merchantAccountCode": "AntoniStroinski", "merchantReference": reference, "pspReference": payment,
            "amount": {"currency": "EUR", "value": 1000},
        }
        assert item(public_key, **fields)["additionalData"]["hmacSignature"] == signature
        return wrap([item(signature=signature, **fields)])

    backslash = public_item("\\\\slashes are fun", "T7FD4VM4D3RZNN82", "nIgT81gaB5oJpn2jPXupDq68iRo2wUlBsuYjtYfwKqo=")
    colon = public_item(":slashes are fun", "M8NB66SBZSGLNK82", "2EQYm7YJpKO4EtHSPu55SQTyWf8dkW5u2nD1tJFpViA=")
    report = '{"type":"balancePlatform.transfer.created","environment":"test","data":{"id":"T1"}}'
    platform = Case("adyen", report, None, "balancePlatform.transfer.created")
    by_header = [["HmacSignature", b64mac(bytes.fromhex(a), report)], ["Protocol", "HmacSHA256"]]
    optional = [
        platform.vector("header_good", [a], by_header),
        platform.vector("header_tampered", [a], by_header, "wrong_signature", body=tamper(report, "\"T1\"", "\"T2\"")),
        platform.vector("header_missing", [a], [], "missing_header"),
    ]
    return [
        case.vector("good", [a], []),
        case.vector("published", [a], [], body=wrap([item(signature=published)])),
        case.vector("published_backslash", [public_key], [], body=backslash),
        case.vector("published_colon", [public_key], [], body=colon),
        case.vector("tampered", [a], [], "wrong_signature", body=wrap([item(changed={"amount": {"value": 1131, "currency": "EUR"}})])),
        case.vector("other_secret", [a], [], "wrong_signature", body=wrap([item(c)])),
        case.vector("rotated", [a, b], [], body=wrap([item(b)])),
        case.vector("original_reference", [a], [], body=wrap([second]), event_type="CAPTURE"),
        case.vector("many_items", [a], [], body=wrap([item()] * 100)),
        case.vector("too_many_items", [a], [], "malformed_header", body=wrap([item()] * 101)),
        case.vector("special_characters", [a], [], body=wrap([item(**special)])),
        case.vector("unsigned_field_changed", [a], [], body=wrap([item(changed={"paymentMethod": "mc"})])),
        case.vector("two_items_one_forged", [a], [], "wrong_signature", body=wrap([second, forged])),
        case.vector("lower_case_key", [a.lower()], []),
        case.vector("missing_header", [a], [], "missing_header", body=wrap([unsigned])),
    ], [], optional


@provider("checkout_com", "Checkout.com documentation, \"Receive webhooks\" (Cko-Signature)")
def checkout_com():
    return family(
        hex_body("Cko-Signature"),
        ("cko-signature-key-1f3870be274f", "cko-signature-key-72b302bf297a", "cko-signature-key-000000000000"),
        compact({"id": "evt_az5sblvku4ge3dwpztvyizgcau", "type": "payment_approved", "version": "2.0.0",
                 "created_on": "2023-11-14T22:13:20.7467192Z", "data": {"id": "pay_mbabizu24mvu3mela5njyhpit4"}}),
        "evt_az5sblvku4ge3dwpztvyizgcau", "payment_approved",
        plain=(("Authorization", "Bearer value-set-in-the-workflow"), JSON_TYPE),
        malformed=[("Cko-Signature", "xyz")])


@provider("coinbase_commerce", "Coinbase Commerce documentation, \"Webhooks Security\"; `published` from coinbase-commerce-node's tests")
def coinbase_commerce():
    coinbase = (
        '{"id":1,"scheduled_for":"2017-01-31T20:50:02Z","attempt_number":1,"event":{"id":"24934862-d980-46cb-9402-43c81b'
        '0cdba6","type":"charge:created","api_version":"2018-03-22","created_at":"2017-01-31T20:49:02Z","data":{"code":"6'
        '6BEOV2A","name":"The Sovereign Individual","description":"Mastering the Transition to the Information Age","host'
        'ed_url":"https://commerce.coinbase.com/charges/66BEOV2A","created_at":"2017-01-31T20:49:02Z","expires_at":"2017-'
        '01-31T21:04:02Z","timeline":[{"time":"2017-01-31T20:49:02Z","status":"NEW"}],"metadata":{},"pricing_type":"no_pr'
        'ice","payments":[],"addresses":{"bitcoin":"0000000000000000000000000000000000","ethereum":"0x000000000000000000'
        '0000000000000000000000","litecoin":"3000000000000000000000000000000000","bitcoincash":"bitcoincash:00000000000000'
        '0000000000000000000000000000"}}}}')
    return family(
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
                       "8be7742c7d372f08a6a3224edadf18a22b65fa9e28f3f2de97376cdaa092590d"), JSON_TYPE], coinbase,
                     "accepted", "24934862-d980-46cb-9402-43c81b0cdba6", "charge:created"),))


@provider("gocardless", "GoCardless developer documentation, \"Webhooks\"; `published` from gocardless-pro-python's tests")
def gocardless():
    gocardless = (
        '{"events":[{"id":"EV00BD05S5VM2T","created_at":"2018-07-05T09:13:51.404Z","resource_type":"subscriptions","action'
        '":"created","links":{"subscription":"SB0003JJQ2MR06"},"details":{"origin":"api","cause":"subscription_created","d'
        'escription":"Subscription created via the API."},"metadata":{}},{"id":"EV00BD05TB8K63","created_at":"2018-07-05T0'
        '9:13:56.893Z","resource_type":"mandates","action":"created","links":{"mandate":"MD000AMA19XGEC"},"details":{"orig'
        'in":"api","cause":"mandate_created","description":"Mandate created via the API."},"metadata":{}}]}')
    return family(
        hex_body("Webhook-Signature"),
        ("ED7D658C-D8EB-4941-948B-3973214F2D49", "FE8E769D-E9FC-4A52-859C-4A84325A3E5A", "anotherkey"),
        compact({"events": [{"id": "EV123", "created_at": "2023-11-14T22:13:20.000Z", "resource_type": "payments",
                             "action": "confirmed", "links": {"payment": "PM123"},
                             "details": {"origin": "gocardless", "cause": "payment_confirmed"}}],
                 "meta": {"webhook_id": "WB123"}}),
        "WB123", None, malformed=[("Webhook-Signature", "xyz")],
        more=(vector("published", ["ED7D658C-D8EB-4941-948B-3973214F2D49"],
                     [("Webhook-Signature", "2693754819d3e32d7e8fcb13c729631f316c6de8dc1cf634d6527f1c07276e7e"),
                      JSON_TYPE], gocardless, "accepted"),))


@provider("mollie", "Mollie documentation, next-gen webhooks; mollie-api-php SignatureValidator")
def mollie():
    mollie = ("mollie_whsec_8Gq2xVtB5nR1", "mollie_whsec_9Hr3yWuC6oS2", "mollie_whsec_0000000000")
    link = compact({"resource": "event", "id": "whe_gQMMaGqAVA", "type": "payment-link.paid",
                    "entityId": "pl_4Y0eZitmBnQ5jsBYZIBw", "createdAt": "2023-11-14T22:13:20+00:00"})
    return family(
        hex_body("X-Mollie-Signature", prefix="sha256="), mollie, link, "whe_gQMMaGqAVA", "payment-link.paid",
        malformed=[("X-Mollie-Signature", "sha256=xyz")],
        more=(vector("second_signature", [mollie[0]],
                     [("X-Mollie-Signature", "sha256=" + mac(mollie[1], link).hex()),
                      ("X-Mollie-Signature", "sha256=" + mac(mollie[0], link).hex()), JSON_TYPE], link, "accepted",
                     "whe_gQMMaGqAVA", "payment-link.paid"),
              vector("classic_unsigned", [mollie[0]],
                     [FORM_TYPE], "id=tr_d0b0E3EA3v",
                     "missing_header")))


@provider("paddle", "Paddle documentation, \"Verify webhook signatures\"; paddle-python-sdk, Notifications")
def paddle():
    body = (
        '{"event_id":"evt_01hv8x2acma2gz7he8kg9xsjs5","event_type":"subscription.created",'
        '"occurred_at":"2023-11-14T22:13:20.000000Z","notification_id":"ntf_01hv8x2axxc8shn6j6wvdqdhhr","data":{"id":"sub_1"}}'
    )
    a = "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_WvRO0eL4Bj9rgYYIBZY6wZhG4EHy9jzh"
    b = "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_TjIG2BXbm83HPXqNfziwe506sBEdqL/4"
    c = "pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_vB/yIOnTOCWIvpBadM5jzBZPHc7OmdSo"
    case = Case("paddle", body, "evt_01hv8x2acma2gz7he8kg9xsjs5", "subscription.created")

    def h1(secret, timestamp=NOW, text=body):
        return "h1=" + hexmac(secret, f"{timestamp}:{text}")

    def header(*items, timestamp=NOW):
        return [["Paddle-Signature", ";".join((f"ts={timestamp}",) + items)]]

    published = "h1=d96299976a6eb066f484d7fde011ac56fc32b38fc9940bc419d6e537fdc6ef02"
    assert h1(a, 1696195954, "hello-world") == published
    price_key = "pdl_ntfset_01hsdn8d43dt7mezr1ef2jtbaw_hKkRiCGyyRhbFwIUuqiTBgI7gnWoV0Gr"
    price_body = (
        '{"data":{"id":"pri_01hsdn96k2hxjzsq5yerecdj9j","name":null,"status":"active",'
        '"quantity":{"maximum":999999,"minimum":1},"tax_mode":"account_setting",'
        '"product_id":"pro_01hsdn8qp7yydry3x1yeg6a9rv","unit_price":{"amount":"1000","currency_code":"USD"},'
        '"custom_data":null,"description":"testing","import_meta":null,"trial_period":null,'
        '"billing_cycle":{"interval":"month","frequency":1},"unit_price_overrides":[]},'
        '"event_id":"evt_01hsdn97563968dy0szkmgjwh3","event_type":"price.created",'
        '"occurred_at":"2024-03-20T10:07:35.590857Z","notification_id":"ntf_01hsdn977e920kbgzt6r6c9rqc"}'
    )
    price = "h1=6c05ef8fa83c44d751be6d259ec955ce5638e2c54095bf128e408e2fce1589c8"
    assert h1(price_key, 1710929255, price_body) == price
    return [
        case.vector("good", [a], header(h1(a))),
        case.vector("tampered", [a], header(h1(a)), "wrong_signature", body=tamper(body, "sub_1", "sub_2")),
        case.vector("tampered_timestamp", [a], header(h1(a), timestamp=NOW + 1), "wrong_signature"),
        case.vector("other_secret", [a], header(h1(c)), "wrong_signature"),
        case.vector("rotated", [a, b], header(h1(b))),
        case.vector("second_signature", [a], header(h1(b), h1(a))),
        case.vector("late_but_within", [a], header(h1(a, NOW - 4), timestamp=NOW - 4)),
        case.vector("stale", [a], header(h1(a, NOW - 301), timestamp=NOW - 301), "stale"),
        case.vector("missing_header", [a], [], "missing_header"),
        case.vector("malformed", [a], [["Paddle-Signature", "nonsense"]], "malformed_header"),
        case.vector("no_timestamp", [a], [["Paddle-Signature", h1(a)]], "malformed_header"),
        case.vector("no_signature", [a], header(), "malformed_header"),
        case.vector(
            "published", [a], header("h1=dummy", published, timestamp=1696195954),
            now=1696195954, body="hello-world", event_id=None, event_type=None,
        ),
        case.vector(
            "published_event", [price_key], header(price, timestamp=1710929255),
            now=1710929255, body=price_body, event_id="evt_01hsdn97563968dy0szkmgjwh3", event_type="price.created",
        ),
    ]


@provider("paypal", "PayPal documentation, \"Integrate webhooks\" (self verification method); PayPal-Python-SDK, notifications")
def paypal():
    keys = {name: rsa_key_of(f"{name} {part}" for part in range(8)) for name in ("root", "leaf", "other root", "other leaf")}

    subject = "messageverificationcerts.paypal.com"
    root = server_certificate("Test Root", keys["root"], "Test Root", keys["root"], 1)
    leaf = server_certificate(subject, keys["leaf"], "Test Root", keys["root"], 2)
    expired = server_certificate(subject, keys["leaf"], "Test Root", keys["root"], 3, 2020, 2023)
    stranger = server_certificate("hooks.example.net", keys["leaf"], "Test Root", keys["root"], 4)
    untrusted = server_certificate(subject, keys["other leaf"], "Test Other Root", keys["other root"], 5)

    address = "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-00000001"
    foreign = "https://api.paypal.com.example.net/v1/notifications/certs/CERT-360caa42-fca2a594-00000001"
    transmission, sent = "69cd13f0-d67a-11e5-baa3-778b53f4ae55", iso(NOW)
    body = (
        '{"id":"WH-2WR32451HC0233532-67976317FL4543714","create_time":"2023-11-14T22:13:20Z",'
        '"resource_type":"sale","event_type":"PAYMENT.SALE.COMPLETED","summary":"Paid: 4,50 €",'
        '"resource":{"id":"80021663DE681814L","amount":{"total":"4.50","currency":"EUR"}}}'
    )
    a, b, c = "1JE4291016473214C", "8PT597110X687430L", "00000000000000000"
    case = Case("paypal", body, "WH-2WR32451HC0233532-67976317FL4543714", "PAYMENT.SALE.COMPLETED")

    def headers(webhook, key="leaf", url=address, algorithm="SHA256withRSA", time=sent, drop=None):
        message = f"{transmission}|{sent}|{webhook}|{zlib.crc32(raw(body))}"
        signature = b64(keys[key].sign(raw(message), padding.PKCS1v15(), hashes.SHA256()))
        found = [
            ["PAYPAL-TRANSMISSION-ID", transmission],
            ["PAYPAL-TRANSMISSION-TIME", time],
            ["PAYPAL-TRANSMISSION-SIG", signature],
            ["PAYPAL-CERT-URL", url],
            ["PAYPAL-AUTH-ALGO", algorithm],
        ]
        return [header for header in found if header[0] != drop]

    def vector(label, secrets, signed, expect="accepted", served=leaf, url=address, **other):
        return case.vector(label, secrets, signed, expect, certificates={url: served}, trust_roots=[root], **other)

    return [
        vector("good", [a], headers(a)),
        vector("tampered", [a], headers(a), "wrong_signature", body=tamper(body, "\"4.50\"", "\"9.50\"")),
        vector("tampered_time", [a], headers(a, time=iso(NOW + 1)), "wrong_signature"),
        # PayPal tries again for three days.
        vector("old_but_fresh", [a], headers(a), now=NOW + 73 * HOUR - 30),
        vector("stale", [a], headers(a), "stale", now=NOW + 73 * HOUR + 30),
        vector("other_secret", [a], headers(c), "wrong_signature"),
        vector("rotated", [a, b], headers(b)),
        vector("other_key", [a], headers(a, "other leaf"), "wrong_signature"),
        vector("untrusted_certificate", [a], headers(a, "other leaf"), "wrong_signature", untrusted),
        vector("expired_certificate", [a], headers(a), "wrong_signature", expired),
        vector("certificate_of_someone_else", [a], headers(a), "wrong_signature", stranger),
        vector("foreign_certificate_url", [a], headers(a, url=foreign), "malformed_header", leaf, foreign),
        *(
            vector(label, [a], headers(a, url=address + end), "malformed_header", leaf, address + end)
            for label, end in (
                ("certificate_url_with_query", "?x=1"),
                ("certificate_url_with_escapes", "%2F..%2F..%2Fx"),
                ("certificate_url_with_more_path", "/x"),
                ("certificate_url_with_fragment", "#x"),
            )
        ),
        vector("other_algorithm", [a], headers(a, algorithm="SHA1withRSA"), "malformed_header"),
        vector("missing_header", [a], headers(a, drop="PAYPAL-TRANSMISSION-SIG"), "missing_header"),
        vector("missing_certificate_url", [a], headers(a, drop="PAYPAL-CERT-URL"), "missing_header"),
        vector("missing_transmission_id", [a], headers(a, drop="PAYPAL-TRANSMISSION-ID"), "missing_header"),
        vector("missing_transmission_time", [a], headers(a, drop="PAYPAL-TRANSMISSION-TIME"), "missing_header"),
    ]


@provider("quickbooks", "Intuit developer documentation, \"Webhooks, Validating the notification\"")
def quickbooks():
    quick = ("a74cb1e2-7a0c-4d8a-9f0b-5c1d2e3f4a5b", "b85dc2f3-8b1d-4e9b-8a1c-6d2e3f4a5b6c",
             "00000000-0000-4000-8000-000000000000")
    cloud = compact([{"specversion": "1.0", "id": "88cd52aa-33b6-4351-9aa4-47572edbd068",
                      "source": "intuit.dsnBgbseACLLRZNxo2dfc4evmEJdxde58xeeYcZliOU=",
                      "type": "qbo.account.created.v1", "datacontenttype": "application/json",
                      "time": "2023-11-14T22:13:20.179851517Z", "intuitentityid": "1234",
                      "intuitaccountid": "310687", "data": {}}])
    return family(
        b64_body("intuit-signature"), quick,
        compact({"eventNotifications": [{"realmId": "310687", "dataChangeEvent": {"entities": [
            {"name": "Customer", "id": "1", "operation": "Create", "lastUpdated": "2023-11-14T22:13:20.000Z"}]}}]}),
        malformed=[("intuit-signature", "not base64!")],
        more=(vector("cloudevents", [quick[0]], [("intuit-signature", b64(mac(quick[0], cloud))), JSON_TYPE], cloud,
                     "accepted"),))


@provider("razorpay", "Razorpay documentation, \"Validate and Test Webhooks\"")
def razorpay():
    body = (
        '{"entity":"event","account_id":"acc_1","event":"payment.captured","contains":["payment"],'
        '"payload":{"payment":{"entity":{"id":"pay_1","amount":50000}}},"created_at":1700000000}'
    )
    case = Case("razorpay", body, "EvtRzp00000001", "payment.captured")
    vectors = plain(
        case, "X-Razorpay-Signature", hexmac, tamper(body, "50000", "60000"),
        [["x-razorpay-event-id", "EvtRzp00000001"]],
    )
    published = "ee0a3edebeb4be41bafa3bc0a39069d7845a5c37760b863405049de80b5fe92d"
    assert hexmac("123456", "{a:1, b:2}") == published
    vectors.append(
        case.vector(
            "published", ["123456"], [["X-Razorpay-Signature", published]],
            body="{a:1, b:2}", event_id=None, event_type=None,
        )
    )
    return vectors


@provider("revolut", "Revolut developer documentation, \"Verify the payload signature\" (its example is `published`)")
def revolut():
    def revolut(s, b, at):
        return "v1=" + mac(s, b"v1.%d." % (at * 1000) + raw(b)).hex()
    rev = ("wsk_r59a4HfWVAKycbCaNO1RvgCJec02gRd8", "wsk_s60b5IgXWBLzdcDbOP2SwhDKfd13hSe9", "wsk_000000000000000000000000000000000")
    order = compact({"event": "ORDER_COMPLETED", "order_id": "9fc01989-3f61-4484-a5d9-ffe768531be9",
                     "merchant_order_ext_ref": "Test #3928"})
    rev_doc = ('{"data":{"id":"645a7696-22f3-aa47-9c74-cbae0449cc46","new_state":"completed","old_state":"pending",'
               '"request_id":"app_charges-9f5d5eb3-1e06-46c5-b1c0-3914763e0bcb"},"event":"TransactionStateChanged",'
               '"timestamp":"2023-05-09T16:36:38.028960Z"}')
    return family(
        lambda s, b, at: [("Revolut-Signature", revolut(s, b, at)),
                          ("Revolut-Request-Timestamp", str(at * 1000))],
        rev, order, None, "ORDER_COMPLETED", tolerance=300,
        malformed=[("Revolut-Signature", "abcdef"), ("Revolut-Request-Timestamp", "1700000000000")],
        more=(vector("second_signature", [rev[0]],
                     [("Revolut-Signature", revolut(rev[1], order, NOW) + "," + revolut(rev[0], order, NOW)),
                      ("Revolut-Request-Timestamp", "1700000000000"), JSON_TYPE], order, "accepted", None,
                     "ORDER_COMPLETED"),
              vector("published", [rev[0]],
                     [("Revolut-Signature", "v1=bca326fb378d0da7f7c490ad584a8106bab9723d8d9cdd0d50b4c5b3be3837c0"),
                      ("Revolut-Request-Timestamp", "1683650202360"), JSON_TYPE], rev_doc, "accepted", None,
                     "TransactionStateChanged", now=1683650203)))


@provider("stripe", "Stripe documentation, \"Receive Stripe events in your webhook endpoint\" (verify webhook signatures manually)")
def stripe():
    body = (
        '{\n  "id": "evt_1",\n  "object": "event",\n  "type": "invoice.paid",\n'
        '  "data": {\n    "object": {\n      "id": "in_1",\n      "amount_paid": 2000\n    }\n  }\n}'
    )
    a, b, c = "whsec_test_secret_one", "whsec_test_secret_two", "whsec_test_secret_three"
    case = Case("stripe", body, "evt_1", "invoice.paid", ["Content-Type", "application/json; charset=utf-8"])

    def sign(secret, timestamp=NOW, scheme="v1"):
        return f"{scheme}=" + hexmac(secret, f"{timestamp}.{body}")

    def header(*items, timestamp=NOW):
        return [["Stripe-Signature", ",".join((f"t={timestamp}",) + items)]]

    return [
        case.vector("good", [a], header(sign(a))),
        case.vector("tampered", [a], header(sign(a)), "wrong_signature", body=tamper(body, "2000", "2001")),
        case.vector("tampered_timestamp", [a], header(sign(a), timestamp=NOW + 1), "wrong_signature"),
        case.vector("other_secret", [a], header(sign(c)), "wrong_signature"),
        case.vector("rotated", [a, b], header(sign(b))),
        case.vector("second_signature", [a], header(sign(b), sign(a))),
        case.vector("with_v0", [a], header(sign(a), "v0=" + "6" * 64)),
        case.vector("v0_first", [a], header("v0=" + "6" * 64, sign(a))),
        case.vector("late_but_within", [a], header(sign(a, NOW - 290), timestamp=NOW - 290)),
        case.vector("stale", [a], header(sign(a, NOW - 301), timestamp=NOW - 301), "stale"),
        case.vector("missing_header", [a], [], "missing_header"),
        case.vector("malformed", [a], [["Stripe-Signature", "nonsense"]], "malformed_header"),
        case.vector("no_timestamp", [a], [["Stripe-Signature", sign(a)]], "malformed_header"),
        case.vector("no_v1", [a], header(sign(a, scheme="v0")), "malformed_header"),
    ]


@provider("wise", "Wise Platform documentation, \"Webhook event handling, Signature header\"")
def wise():
    # Wise: RSA PKCS#1 v1.5 with SHA-256 over the body.
    w1, w2, w3 = rsa_key("wise one"), rsa_key("wise two"), rsa_key("wise far")

    def wise(key, text):
        return [("X-Signature-SHA256", rsa_sign(key, text, hashes.SHA256())),
                ("X-Delivery-Id", "4a6b9810-4279-4de5-8d8d-1a6cf3b92a75"), JSON_TYPE]
    body = compact({"data": {"resource": {"type": "transfer", "id": 111, "profile_id": 222, "account_id": 333},
                             "current_state": "processing", "previous_state": "incoming_payment_waiting",
                             "occurred_at": "2023-11-14T22:13:20Z"},
                    "subscription_id": "01234567-89ab-cdef-0123-456789abcdef", "event_type": "transfers#state-change",
                    "schema_version": "2.0.0", "sent_at": "2023-11-14T22:13:20Z"})
    kind = "transfers#state-change"
    return [
        vector("good", [public_pem(w1)], wise(w1, body), body, "accepted", None, kind),
        vector("key_without_pem_lines", [public_der_base64(w1)], wise(w1, body), body, "accepted", None, kind),
        vector("test_notification", [public_pem(w1)], wise(w1, body) + [("X-Test-Notification", "true")], body, "accepted",
               None, kind),
        vector("unicode", [public_pem(w1)], wise(w1, with_unicode(body)), with_unicode(body), "accepted", None, kind),
        vector("tampered", [public_pem(w1)], wise(w1, body), tamper_end(body), "wrong_signature"),
        vector("other_secret", [public_pem(w1)], wise(w3, body), body, "wrong_signature"),
        vector("rotated", [public_pem(w1), public_pem(w2)], wise(w2, body), body, "accepted", None, kind),
        vector("lowercase_headers", [public_pem(w1)], [(n.lower(), x) for n, x in wise(w1, body)], body, "accepted", None,
               kind),
        vector("missing_header", [public_pem(w1)], wise(w1, body)[1:], body, "missing_header"),
        vector("malformed", [public_pem(w1)], [("X-Signature-SHA256", "not base64!")] + wise(w1, body)[1:], body,
               "malformed_header"),
    ]


@provider("xero", "Xero developer documentation, \"Webhooks, Configuring your server\"")
def xero():
    xero = ("OSd0eLlVIY9ZhViEqlDUh4+6n6M+Lo+eDaEJheJ6OCCgWwIz2D3JIAU6jPMipHRbgKTLz2uJ+xiACXGDBLrgdA==",
            "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYg==",
            "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==")
    itr = '{"events":[],"firstEventSequence": 0,"lastEventSequence": 0, "entropy": "S0m3r4Nd0mt3xt"}'
    return family(
        b64_body("x-xero-signature"), xero,
        compact({"events": [{"resourceUrl": "https://api.xero.com/api.xro/2.0/Invoices/44aa0707-f718-4f1c-8d53-f2da9ca59533",
                             "resourceId": "44aa0707-f718-4f1c-8d53-f2da9ca59533",
                             "eventDateUtc": "2023-11-14T22:13:20.000", "eventType": "UPDATE",
                             "eventCategory": "INVOICE", "tenantId": "e629a03c-7ffe-4913-bf94-ff2fdb66a702"}],
                 "firstEventSequence": 1, "lastEventSequence": 1, "entropy": "SHVLNOIKZZUPDSWAJGDO"}),
        malformed=[("x-xero-signature", "not base64!")],
        more=(vector("intent_to_receive", [xero[0]],
                     [("x-xero-signature", b64(mac(xero[0], itr))), JSON_TYPE], itr, "accepted"),
              vector("intent_to_receive_wrong", [xero[0]],
                     [("x-xero-signature", b64(mac(xero[2], itr))), JSON_TYPE], itr, "wrong_signature")))
