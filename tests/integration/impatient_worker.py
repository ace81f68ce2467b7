"""The service's worker with less patience, for gunicorn's ``-k``."""

from __future__ import annotations

from api.worker import Worker


class ImpatientWorker(Worker):
    """Lets a request's head, and a caller's next bite of an answer, take a tenth of a second."""

    head_s = 0.1
    send_s = 0.1
