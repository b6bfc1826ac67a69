#!/usr/bin/env python3
"""An agent that reviews, with nothing but Python's standard library.

It registers, opens its stream, accepts every call, answers each message that it is sent with
how long it is, and leaves when somebody says "thanks". It ends after so many calls:

    python3 reviewer.py NAME [CALLS]

It finds the host in $DUO_HOME. docs/api.md and docs/stream.md say what it speaks.
"""

import base64
import http.client
import json
import os
import socket
import struct
import sys

HOME = os.environ.get("DUO_HOME") or os.path.expanduser("~/.local/share/duo")


class Local(http.client.HTTPConnection):
    """A connection over the local socket, whose user may do everything."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(os.path.join(HOME, "run", "duo.sock"))


def ask(connection, method, path, body=None, headers=()):
    connection.request(method, path, None if body is None else json.dumps(body), dict(headers))
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 400:
        problem = json.loads(text)
        sys.exit(f"{method} {path}: {problem['code']}: {problem['detail']}")
    return json.loads(text) if text else None


class Stream:
    """A WebSocket (RFC 6455), as far as a client needs it that is sent whole frames."""

    def __init__(self, host, port, token):
        self.socket = socket.create_connection((host, port))
        self.buffer = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 101"):
            sys.exit(f"stream: {head.decode()}")

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            sys.exit("stream: the daemon hung up")
        return data

    def take(self, size):
        while len(self.buffer) < size:
            self.buffer += self.more()
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def frame(self, opcode, payload):
        mask = os.urandom(4)
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x80 | opcode, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 0x80 | 127, size)
        self.socket.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def say(self, **fields):
        self.frame(1, json.dumps(fields).encode())

    def __iter__(self):
        """The frames of the daemon. Pings are answered; a close ends it."""
        while True:
            first, size = self.take(2)
            if size == 126:
                (size,) = struct.unpack(">H", self.take(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self.take(8))
            payload = self.take(size)
            opcode = first & 0x0F
            if opcode == 1:
                yield json.loads(payload)
            elif opcode == 9:
                self.frame(10, payload)
            elif opcode == 8:
                sys.exit(f"stream: closed: {payload[2:].decode()}")


def main(name, calls):
    local = Local("duo")
    me = ask(local, "POST", "/v1/agents", {"name": name, "capabilities": ["review"]})["agent"]
    host, port = ask(local, "GET", "/v1/status")["http"].rsplit(":", 1)
    with open(os.path.join(me["folder"], "token")) as file:
        token = file.read().strip()
    stream = Stream(host, int(port), token)
    stream.say(op="subscribe")
    for event in stream:
        if event.get("op") == "ready":
            print(f"{name} listens", flush=True)
        elif event.get("op") == "refused":
            sys.exit(f"refused: {event['problem']['detail']}")
        elif event.get("type") == "call" and event.get("status") in ("ringing", "queued"):
            print(f"{event['from']} calls about {event['topic']}", flush=True)
            stream.say(op="send", key=event["request"], message={"type": "accept", "request": event["request"], "content": "Show me."})
            stream.say(op="confirm", request=event["request"], status=event["status"], state="seen")
        elif "seq" in event:
            stream.say(op="confirm", conversation=event["conversation"], seq=event["seq"], state="seen")
            if event["type"] != "message":
                continue
            text = event["content"]
            print(f"{event['ref']} {event['from']}: {text[:60]!r}", flush=True)
            if text.startswith("thanks"):
                stream.say(op="send", message={"type": "leave", "conversation": event["conversation"]})
                calls -= 1
                if calls == 0:
                    break
            elif len(text) > 40:
                answer = {"conversation": event["conversation"], "replyTo": event["seq"], "content": f"{len(text.splitlines())} lines, I have read them."}
                stream.say(op="send", key=event["id"], message=answer)
    for event in stream:  # until what was said last is answered
        if event.get("op") in ("sent", "refused") and "key" not in event:
            break
    print(f"{name} is done", flush=True)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 1)
