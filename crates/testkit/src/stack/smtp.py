"""A mail server that takes mail over TLS from those who log in, and keeps it: aiosmtpd with a Maildir.

Arguments: port, mailbox, certificate, key, user, password, and `implicit` or `starttls`.
"""

import asyncio
import ssl
import sys

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP, AuthResult

port, mailbox, certificate, key, user, password, mode = sys.argv[1:]
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(certificate, key)
implicit = mode == "implicit"


def authenticate(server, session, envelope, mechanism, login):
    right = (login.login, login.password) == (user.encode(), password.encode())
    return AuthResult(success=right, handled=False)


def session():
    # Within implicit TLS aiosmtpd does not know that it is within TLS.
    secure = {"auth_require_tls": False} if implicit else {"tls_context": tls, "require_starttls": True}
    return SMTP(Mailbox(mailbox), authenticator=authenticate, auth_required=True, **secure)


async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", int(port), ssl=tls if implicit else None)
    await server.serve_forever()


asyncio.run(serve())
