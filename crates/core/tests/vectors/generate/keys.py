"""Keys and certificates that depend on a text alone, so that every run signs with the same. For tests only."""

import hashlib
import random
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared import b64, raw


def is_prime(n, rounds=24):
    for p in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47):
        if n % p == 0:
            return n == p
    d, r = n - 1, 0
    while d % 2 == 0:
        d, r = d // 2, r + 1
    rng = random.Random(n)
    for _ in range(rounds):
        x = pow(rng.randrange(2, n - 1), d, n)
        if x in (1, n - 1):
            continue
        for _ in range(r - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def prime(texts):
    """The first fitting prime from a number of 1024 bits on that four texts give."""
    digests = b"".join(hashlib.sha256(text.encode()).digest() for text in texts)
    n = int.from_bytes(digests, "big") | (3 << 1022) | 1
    while not (is_prime(n) and (n - 1) % 65537):
        n += 2
    return n


def rsa_key_of(texts):
    """An RSA key of 2048 bits made from eight texts."""
    texts = list(texts)
    p, q = sorted((prime(texts[:4]), prime(texts[4:])), reverse=True)
    e = 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key()


def rsa_key(seed):
    """An RSA key of 2048 bits made from a text."""
    return rsa_key_of(f"{seed}/{factor}/{part}" for factor in "pq" for part in range(4))


def rsa_sign(key, text, algorithm):
    return b64(key.sign(raw(text), padding.PKCS1v15(), algorithm))


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode("ascii")


def public_der_base64(key):
    return b64(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def common_name(common):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def server_certificate(common, key, issuer, issuer_key, serial, first=2023, last=2033):
    """A server's certificate in PEM, or an authority's where it is its own issuer; valid from one year to another."""
    authority = common == issuer
    builder = (
        x509.CertificateBuilder()
        .subject_name(common_name(common))
        .issuer_name(common_name(issuer))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(datetime(first, 1, 1))
        .not_valid_after(datetime(last, 1, 1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority, content_commitment=False, key_encipherment=False,
                data_encipherment=False, key_agreement=False, key_cert_sign=authority, crl_sign=authority,
                encipher_only=False, decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )
    if not authority:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(common)]), critical=False
        ).add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
    signed = builder.sign(issuer_key, hashes.SHA256())
    return signed.public_bytes(Encoding.PEM).decode("ascii")
