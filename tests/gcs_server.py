"""A small stand-in for Google Cloud Storage: its JSON API over HTTP, objects in memory.

What tensorstore, gcsfs and google-cloud-storage ask for, with counts of what was asked. Clients
are sent here by `Server.environment`, which they read once: a process has one server, `shared()`.
"""

import collections
import email
import functools
import http.server
import json
import os
import re
import threading
import time
import urllib.parse

_OBJECT = re.compile(r"(/download)?/storage/v1/b/([^/]+)/o/([^/]+)")
_COPY = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/(?:rewriteTo|copyTo)/b/([^/]+)/o/([^/]+)")
_MOVE = re.compile(r"/storage/v1/b/([^/]+)/o/([^/]+)/moveTo/o/([^/]+)")
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class Server(http.server.ThreadingHTTPServer):
    """Buckets in memory; a context manager that serves while it is open.

    Attributes:
      buckets: {bucket: {name: (bytes, generation)}}; a bucket must be there before it is used.
      asked: Counter of (what, name of the object or "") since the last `forget`; what: READ,
        GET (what is known of it), PUT, DELETE, COPY, MOVE, LIST.
      ranges: (name, first byte, end) of each ranged read of an object.
      failures: answers to give instead, an HTTP status each, before anything else; each once.
      denied: buckets that nobody may use.
      delay: seconds that each answer takes; peak: most answers under way at a time.
    """

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, *buckets: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets = {name: {} for name in buckets}
        self.failures, self.denied, self.lock = [], set(), threading.RLock()
        self.generation, self.uploads, self.delay, self.busy = 0, {}, 0.0, 0
        self.forget()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """Quiet: the client was killed, or has read enough."""

    def new_bucket(self) -> str:
        """Makes a bucket; returns its name."""
        name = f"bucket-{len(self.buckets)}"
        self.buckets[name] = {}
        return name

    def forget(self) -> None:
        self.asked, self.ranges, self.peak = collections.Counter(), [], 0

    @property
    def environment(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.server_port}"
        return dict(
            TENSORSTORE_GCS_HTTP_URL=url,
            STORAGE_EMULATOR_HOST=url,
            GOOGLE_AUTH_TOKEN_FOR_TESTING="test",
            NO_GCE_CHECK="true",
            GCE_METADATA_ROOT="127.0.0.1:9",  # no such machine; else each look-up takes seconds
            GCE_METADATA_IP="127.0.0.1:9",
            GCE_METADATA_HOST="127.0.0.1:9",
        )

    def names(self, bucket: str) -> list[str]:
        return sorted(self.buckets[bucket])

    def put(self, bucket: str, name: str, data: bytes) -> dict:
        with self.lock:
            self.generation += 1
            self.buckets[bucket][name] = (bytes(data), self.generation)
            return self.about(bucket, name)

    def about(self, bucket: str, name: str) -> dict:
        data, generation = self.buckets[bucket][name]
        return {
            "kind": "storage#object",
            "name": name,
            "bucket": bucket,
            "size": str(len(data)),
            "generation": str(generation),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "timeCreated": "2026-01-01T00:00:00.000Z",
            "updated": "2026-01-01T00:00:00.000Z",
        }


@functools.cache
def shared() -> Server:
    """The server of this process, and of those it starts."""
    server = Server().__enter__()
    os.environ.update(server.environment)
    return server


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def _answer(self, status: int, body: bytes | dict = b"", **headers) -> None:
        if isinstance(body, dict):
            body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, text: str) -> None:
        self._answer(status, {"error": {"code": status, "message": text}})

    def _handle(self) -> None:
        body = self._body()
        url = urllib.parse.urlsplit(self.path)
        query = {k: v[-1] for k, v in urllib.parse.parse_qs(url.query).items()}
        server = self.server
        with server.lock:
            server.busy += 1
            server.peak = max(server.peak, server.busy)
        time.sleep(server.delay)
        with server.lock:
            server.busy -= 1
            if server.failures:
                return self._error(server.failures.pop(0), "made to fail")
            return self._route(self.command, url.path, query, self.headers, body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _handle

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _route(self, method, path, query, headers, body) -> None:
        server = self.server
        if path == "/batch/storage/v1":
            return self._batch(headers, body)
        if found := re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path):
            return self._upload(found[1], query, headers, body)
        if found := _COPY.fullmatch(path):
            source, name, bucket, target = map(urllib.parse.unquote, found.groups())
            if name not in server.buckets.get(source, {}):
                return self._error(404, "no such object")
            server.asked["COPY", name] += 1
            made = server.put(bucket, target, server.buckets[source][name][0])
            return self._answer(200, {"done": True, "resource": made} | made)
        if found := _MOVE.fullmatch(path):
            bucket, name, target = map(urllib.parse.unquote, found.groups())
            if name not in server.buckets.get(bucket, {}):
                return self._error(404, "no such object")
            server.asked["MOVE", name] += 1
            return self._answer(
                200, server.put(bucket, target, server.buckets[bucket].pop(name)[0])
            )
        found = _OBJECT.fullmatch(path) or re.fullmatch(r"()/storage/v1/b/([^/]+)(/o|)/?", path)
        if not found:
            return self._error(501, f"not served here: {method} {path}")
        bucket, rest = found[2], urllib.parse.unquote(found[3])
        if bucket in server.denied:
            return self._error(403, f"no access to {bucket}")
        if bucket not in server.buckets:
            return self._error(404, f"The specified bucket {bucket} does not exist.")
        if rest == "":
            return self._answer(200, {"kind": "storage#bucket", "name": bucket})
        if rest == "/o":
            server.asked["LIST", ""] += 1
            return self._answer(200, self._list(bucket, query))
        server.asked["READ" if query.get("alt") == "media" else method, rest] += 1
        return self._object(method, bucket, rest, query, headers)

    def _list(self, bucket, query) -> dict:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items, prefixes = [], []
        for name in self.server.names(bucket):
            below = name.removeprefix(prefix)
            if not name.startswith(prefix) or name < query.get("startOffset", ""):
                continue
            if query.get("endOffset") and name >= query["endOffset"]:
                continue
            if delimiter and delimiter in below:
                folder = prefix + below.partition(delimiter)[0] + delimiter
                prefixes += [folder] * (folder not in prefixes)
            else:
                items.append(self.server.about(bucket, name))
        start = int(query.get("pageToken", 0))
        stop = start + int(query.get("maxResults", 1000))
        out = {"kind": "storage#objects", "items": items[start:stop]}
        if start == 0 and prefixes:
            out["prefixes"] = prefixes
        return out | ({"nextPageToken": str(stop)} if stop < len(items) else {})

    def _unmet(self, bucket, name, query) -> int:
        """The status of a precondition that does not hold, or 0."""
        now = self.server.buckets[bucket].get(name, (b"", 0))[1]
        if "ifGenerationMatch" in query and int(query["ifGenerationMatch"]) != now:
            return 412
        return 304 * ("ifGenerationNotMatch" in query and int(query["ifGenerationNotMatch"]) == now)

    def _object(self, method, bucket, name, query, headers) -> None:
        objects = self.server.buckets[bucket]
        if unmet := self._unmet(bucket, name, query):
            return self._error(unmet, "precondition") if unmet == 412 else self._answer(unmet)
        if name not in objects:
            return self._error(404, f"No such object: {bucket}/{name}")
        if method == "DELETE":
            del objects[name]
            return self._answer(204)
        if query.get("alt") != "media":
            return self._answer(200, self.server.about(bucket, name))
        data, generation = objects[name]
        about = {"x_goog_generation": str(generation), "Content-Type": "application/octet-stream"}
        if not (found := _RANGE.fullmatch(headers.get("Range", ""))):
            return self._answer(200, data, **about)
        start, stop = int(found[1]), int(found[2]) + 1 if found[2] else len(data)
        stop = min(stop, len(data))
        if start >= stop:
            return self._error(416, "beyond the end")
        self.server.ranges.append((name, start, stop))
        about["Content_Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return self._answer(206, data[start:stop], **about)

    def _upload(self, bucket, query, headers, body) -> None:
        server = self.server
        if bucket in server.denied:
            return self._error(403, f"no access to {bucket}")
        if bucket not in server.buckets:
            return self._error(404, f"The specified bucket {bucket} does not exist.")
        kind = query.get("uploadType")
        if kind == "resumable" and "upload_id" not in query:
            key = str(len(server.uploads))
            name = query.get("name") or json.loads(body)["name"]
            server.uploads[key] = (name, bytearray())
            return self._answer(200, Location=f"{self._host()}{self.path}&upload_id={key}")
        if kind == "resumable":
            name, data = server.uploads[query["upload_id"]]
            data += body
            if not re.search(r"/\d+$", headers.get("Content-Range", "/0")):  # more comes
                return self._answer(308, Range=f"bytes=0-{len(data) - 1}")
            body = bytes(data)
        elif kind == "multipart":
            about, content = _parts(headers, body)
            name, body = json.loads(about)["name"], content
        else:
            name = query["name"]
        if unmet := self._unmet(bucket, name, query):
            return self._error(unmet, "precondition")
        server.asked["PUT", name] += 1
        return self._answer(200, server.put(bucket, name, body))

    def _host(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def _batch(self, headers, body) -> None:
        """Many deletions in one request, as gcsfs sends them."""
        out = b""
        for part in _parts(headers, body):
            url = urllib.parse.urlsplit(part.split(b" ")[1].decode()).path
            _, bucket, name = _OBJECT.fullmatch(url).groups()
            name = urllib.parse.unquote(name)
            gone = self.server.buckets[bucket].pop(name, None)
            self.server.asked["DELETE", name] += 1
            status = b"204 No Content" if gone else b"404 Not Found"
            out += b"--part\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 " + status
            out += b"\r\nContent-Length: 0\r\n\r\n\r\n"
        self._answer(200, out + b"--part--\r\n", Content_Type="multipart/mixed; boundary=part")


def _parts(headers, body: bytes) -> list[bytes]:
    """Contents of the parts of a multipart body, whichever line ends a client writes."""
    about = email.message_from_string(f"Content-Type: {headers['Content-Type']}\n\n")
    parts = body.split(b"--" + about.get_boundary().encode())[1:-1]
    return [
        re.sub(rb"\r?\n\Z", b"", re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1]) for part in parts
    ]
