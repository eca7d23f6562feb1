"""Speaks to an echo server, and says what came of it as one line of JSON.

Arguments: the URL, and perhaps whoami: to ask for the credential that the server has seen.
"""

import json
import os
import sys

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

url, *asks = sys.argv[1:]
options = {"proxy": None, "max_size": None, "subprotocols": ["echo"]}
told = {}


def echoes(connection, message):
    connection.send(message)
    return connection.recv() == message


with connect(url, **options) as connection:
    told["extensions"] = connection.response.headers.get_all("sec-websocket-extensions")
    told["subprotocol"] = connection.subprotocol
    told["text"] = echoes(connection, "grüße, wörld")
    told["binary"] = echoes(connection, bytes(range(256)))
    told["empty"] = echoes(connection, "")
    told["megabyte"] = echoes(connection, os.urandom(1 << 20))
    told["many"] = all(echoes(connection, f"message {n}") for n in range(100))
    # A token may begin like these end: they must not wait for what comes next.
    told["endings"] = all(echoes(connection, text) for text in ("t", "tok", "wait", "Bearer tok-"))
    connection.send(iter(["one", " message", " in pieces"]))
    told["fragmented"] = connection.recv()
    told["pong"] = connection.ping(b"are you there?").wait(10)
    for question in asks:
        connection.send(question)
        told[question] = connection.recv()
    connection.close(4001, "done")
    told["close"] = [connection.close_code, connection.close_reason]

with connect(url, **options) as connection:
    connection.send("end")
    try:
        connection.recv()
    except ConnectionClosed as closed:
        told["closed"] = [closed.rcvd.code, closed.rcvd.reason, closed.rcvd_then_sent]

print(json.dumps(told))
