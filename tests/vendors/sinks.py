"""A sink in memory, a clock that only sleeping moves, a server of canned answers."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Memory:
    "Keep bars in memory."

    def __init__(self):
        self.frames, self.received = {}, 0

    def write(self, dataset, interval, frame, revise=False):
        old = self.frames.get((dataset, interval), frame.iloc[:0])
        self.frames[dataset, interval] = frame.combine_first(old)[frame.columns]
        self.received += len(frame)

    def read(self, dataset, interval, symbols=None, start=None, end=None):
        frame = self.frames[dataset, interval].loc[start:end]
        return frame if symbols is None else frame[frame.index.get_level_values("symbol").isin(symbols)]


class Clock:
    "Pass time only when somebody sleeps."

    def __init__(self):
        self.seconds, self.naps = 0.0, []

    def __call__(self):
        return self.seconds

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.seconds += seconds


class Server:
    "Answer GET requests from a function of path and query; note them all."

    def __init__(self, answer):
        noted = self.requests = []

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                noted.append(self.path)
                status, headers, body = answer(self.path, len(noted))
                self.send_response(status)
                for name, value in {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(body)),
                    **headers,
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                "Say nothing."

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
