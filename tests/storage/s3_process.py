"""A process that serves a folder as S3: each folder in it is a bucket. Prints its port."""

import sys
from http.server import ThreadingHTTPServer
from pathlib import Path

from localbucket import S3Handler


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # its own 5 refuse what many threads ask for at once


def main(folder: str, port: str) -> None:
    S3Handler.data_root = Path(folder)
    with Server(("127.0.0.1", int(port)), S3Handler) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
