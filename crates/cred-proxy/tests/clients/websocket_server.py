"""Echoes messages over TLS to whoever carries the credential.

Arguments: the certificate, its key, the value of Authorization that is wanted. Says its port in a
line, then for each handshake its path and fields, and for each connection's end its code and reason.
Two messages are answered in another way: "whoami" by the credential, "end" by closing with 4002.
"""

import http
import json
import ssl
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

certificate, key, wanted = sys.argv[1:]


def check(connection, request):
    fields = [[name.lower(), value] for name, value in request.headers.raw_items()]
    print(json.dumps({"path": request.path, "fields": fields}), flush=True)
    if request.headers.get_all("authorization") != [wanted]:
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "who are you?\n")
    return None


def echo(connection):
    try:
        while True:
            message = connection.recv()
            if message == "whoami":
                connection.send(wanted)
            elif message == "end":
                connection.close(4002, "told to")
            else:
                connection.send(message)
    except ConnectionClosed:
        print(json.dumps({"closed": connection.close_code, "reason": connection.close_reason}), flush=True)


tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(certificate, key)
options = {"subprotocols": ["echo"], "max_size": None}
with serve(echo, "127.0.0.1", 0, ssl=tls, process_request=check, **options) as server:
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever()
