#!/bin/sh
# LiteLLM 1.110.2: image_generation(extra_headers=…) with a model "openai/…" sends the headers, and once more as a field.
# Seen: 'header: b, body: {"prompt": "a cat", "model": "sd", "extra_headers": {"X-A": "b"}}'; headers=… is sent as headers alone.
# A server that refuses unknown fields, as OpenAI's does and ours, answers 400. The guide for existing programs says so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check litellm==1.110.2
LITELLM_LOCAL_MODEL_COST_MAP=True "$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import litellm

seen = []


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        seen.append((self.headers["X-A"], json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
        body = b'{"created": 1, "data": [{"b64_json": "aGk="}]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
where = {"api_base": f"http://127.0.0.1:{server.server_port}/v1", "api_key": "k"}
litellm.image_generation(model="openai/sd", prompt="a cat", extra_headers={"X-A": "b"}, **where)
litellm.image_generation(model="openai/sd", prompt="a cat", headers={"X-A": "b"}, **where)
for header, body in seen:
    print(f"header: {header}, body: {json.dumps(body)}")
(_, extra), (plain, other) = seen
sys.exit(0 if "extra_headers" in extra and plain == "b" and "headers" not in str(other) else 1)
PYTHON
