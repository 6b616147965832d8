"""Holds many connections to a door open and waiting: `slow_sockets.py PORT COUNT KEY`.

Half of them stop within the headers, half within the body; each says a byte now and then. Says
`open` when all are there, and goes on until it is ended.
"""

import contextlib
import socket
import sys
import time

port, count, key = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
starts = [f"{head}X: a".encode(), f"{head}Content-Length: 100000\r\n\r\n{{".encode()]
opened = []
for index in range(count):
    each = socket.create_connection(("127.0.0.1", port))
    each.sendall(starts[index % 2])
    opened.append(each)
print("open", flush=True)
while True:
    for index, each in enumerate(opened):
        with contextlib.suppress(OSError):  # cut by now: that is what it is here for
            each.sendall(b"a")
        if index % 20 == 0:
            time.sleep(0.01)
