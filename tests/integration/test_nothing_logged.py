"""At the wordiest level the log holds nothing of what callers send, nor who they are."""

from __future__ import annotations

import requests

from simulator import Simulator
from tests.api.bad_inputs import FORM, PNG, VALID, form, part, text
from tests.running import DEADLINE_S, running_service

SECRET = "Geheimnis7f3a"
SMALL = {"width": 64, "height": 64, "steps": 1}


def test_the_log_at_debug(simulator: Simulator, tmp_path) -> None:
    password = f"user:{SECRET}@"
    url = simulator.url.replace("://", f"://{password}")
    with running_service(tmp_path, url, workers=1, LOG_LEVEL="DEBUG", API_KEYS=f"a-{SECRET}") as service:
        service.wait_until_answering()
        mine = {"X-API-Key": f"a-{SECRET}"}
        keyed = mine | {"Idempotency-Key": SECRET}
        secret = {**VALID["txt2img"], **SMALL, "prompt": SECRET, "negative_prompt": SECRET}
        for _ in range(2):
            assert service.post("/txt2img", secret, headers=keyed).status_code == 200
        simulator.set_fault("error-json", times=1)  # quotes the prompt
        assert service.post("/txt2img", secret, headers=mine).status_code == 502
        wrong = [
            {"prompt": SECRET, "steps": SECRET},
            {"prompt": SECRET, SECRET: SECRET},
            {"prompt": "a", "model": SECRET},
            {**VALID["img2img"], "prompt": SECRET, "image": f"/etc/{SECRET}"},
            {**VALID["img2img"], "prompt": SECRET, "image": text(PNG + SECRET.encode())[:-9]},
        ]
        for body in wrong:
            assert service.post("/img2img", body, headers=mine).status_code == 422
        head = {**mine, "Content-Type": FORM}
        upload = form(part("prompt", SECRET.encode()), part("image", b"no picture", f"{SECRET}.png"))
        for data in (upload, upload[:-20], SECRET.encode()):
            answer = requests.post(f"{service.url}/img2img", data=data, headers=head, timeout=DEADLINE_S)
            assert answer.status_code in (400, 422)
        odd = dict.fromkeys(["User-Agent", "Referer", "Origin", "Cookie", "Prefer", "X-Forwarded-For"], SECRET)
        for path in (f"/{SECRET}", f"/image/{SECRET}", f"/requests/{SECRET}", f"/models?{SECRET}={SECRET}"):
            service.get(path, headers={**odd, "X-API-Key": SECRET, "Authorization": f"Basic {SECRET}"})
            service.get(path, headers={**odd, **mine})
        service.get("/image/x", headers={"X-Forwarded-For": "198.51.100.7"})
        assert service.stop() == 0
        printed = service.printed
    assert '"level": "DEBUG"' in printed
    assert SECRET.lower() not in printed.lower(), [line for line in printed.splitlines() if SECRET in line][:5]
    _, started, served = printed.partition("Booting worker")
    assert started
    assert "127.0.0.1" not in served
    assert "198.51.100.7" not in served
