"""What real servers were asked and answered, asked again of the simulator.

The recordings lie beside the project and are no part of it; without them these tests are skipped.
"""

import base64
import gzip
import http.client
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from simulator import Simulator
from tests.simulator.pixels import encoded, mask, opened, sample

RECORDINGS = Path(__file__).parents[3] / "shared" / "recordings"
A1111 = RECORDINGS / "a1111"
SDCPP = RECORDINGS / "sdcpp" / "new"
MODELS = ("dreamshaper_8.safetensors", "v1-5-pruned-emaonly.safetensors")
pytestmark = pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings beside the project")

OPTIONS = "300 options, of which the simulator knows those that matter"
BYTES = "its bytes are not in the recording"
CUT = "the text is cut in the recording; test_painting.py has its own"
# Cases that cannot match, by the whole name's pattern, each with its reason.
LEFT_OUT = {
    r"extra_.*|interrogate_.*|bigimage_.*": "upscaling and captions are no part of the simulator",
    r"server_(kill|stop|restart).*|txt2img_killed_midway|after_server_stop.*": "recorded with --api-server-stop",
    r"api_mode_(internal.*|openapi|root|user)|openapi.*": "recorded without the web interface",
    r"docs|auth_docs_open|get_openapi|auth_openapi_open|root_ui.*|head_root": "pages, for people and not for clients",
    r"get_(cmd-flags|face-restorers|realesrgan-models|script.*)": "lists that no client of the service's kind reads",
    r"refresh_.*|reload_checkpoint|unload_checkpoint": "buttons of the page that no client presses",
    r"cors_.*|api_mode_cors": "what is for browsers is not simulated",
    r"txt2img_(hr|refiner|script|alwayson)_?.*": "hires fix, refiner and scripts are not simulated",
    r"txt2img_batch2_save_images": "grids are not simulated",
    r"get_options|options_(gzip|after_override|while_running)|full_options.*|api_mode_gzip": OPTIONS,
    r"full_sd_models_while_model_loads|sd-models_after_switch": "hashes depend on what was loaded before",
    r"options_post_model|options_post_model_while_running": "named by the hash of the recording's model",
    r"txt2img_switch_(by_short_hash|norestore)": "named by the hash of the recording's model",
    r"interrupt_target_niter3": "was interrupted while it ran",
    r"internal_(pending|progress)_.*|idle_pending_.*|disconnected_while_.*": "show what other requests had done before",
    r"progress_(running|while).*|memory_.*": "show a running job or a machine's memory",
    r"txt2img_infotext": "reading fields out of an infotext is not simulated",
    r"txt2img_override_format_(bad|webp)|txt2img_override_outdir": "JPEG because of an earlier request's leak",
    r"txt2img_override_format_jpeg_after_option_set": "needs an option set before; test_models.py has its own",
    r"txt2img_(chunked_request|expect_100|gzip_request_body|latin1|no_length|http10|deep)": BYTES,
    r"http10_.*|no_host_header": BYTES,
    r"img2img_(base64_urlsafe|datauri_charset|datauri_textplain|bad_padding|truncated_png|base64_newlines)": CUT,
    r"txt2img_(big_body_20MB|prompt_long)": "the text is cut in the recording",
    r"png_info.*": "the picture is cut in the recording",
    r"txt2img_width_1e12": "names the real allocator's bytes",
    r"txt2img_json_array": "was not answered in time",
    r"garbage_request_line|header_64k": "no whole request in the recording",
}
# Values in info that differ with every run or every machine.
RANDOM = {"seed", "all_seeds", "subseed", "all_subseeds", "job_timestamp", "sd_model_hash", "infotexts", "clip_skip"}
# Machine paths and hashes, random ids, the clock; and a leaked clip skip of earlier requests.
MACHINE = re.compile(r"Model hash: \w+|Seed: \d+|Version: [\w.]+|, Clip skip: 2")
UNSENT_HEADERS = {"host", "content-length", "transfer-encoding", "content-encoding", "expect"}


def cases(folder: Path, without: dict[str, str]) -> list[Any]:
    return [
        pytest.param(path, id=path.stem)
        for path in sorted(folder.glob("*.json"))
        if not any(re.fullmatch(pattern, path.stem) for pattern in without) and is_request(path)
    ]


def is_request(path: Path) -> bool:
    """Whether it is a request with its answer, and not notes about several."""
    case = json.loads(path.read_bytes())
    return isinstance(case, dict) and isinstance(case.get("request"), dict)


def whole(value: object, name: str) -> object:
    """Put a picture of our own where the recording has cut one."""
    if not isinstance(value, str) or "<total" not in value:
        return value
    picture = Image.new("L", (64, 64)) if "empty_mask" in name else sample()
    return f"data:image/png;base64,{encoded(picture)}" if value.startswith("data:") else encoded(picture)


def a1111_body(case: dict, name: str) -> bytes:
    body = case["request"].get("body")
    if body is None:
        return b""
    if isinstance(body, str) and name != "txt2img_json_string":
        return body.encode()
    if isinstance(body, dict) and isinstance(body.get("init_images"), list):
        body["init_images"] = [whole(one, name) for one in body["init_images"]]
        if "<total" in str(body.get("mask", "")):
            hole = mask((20, 20, 43, 43), (128, 96) if "other_size" in name else (64, 64))
            body["mask"] = encoded(Image.new("L", (64, 64)) if "empty" in name else hole)
    elif isinstance(body, dict) and "init_images" in body:
        body["init_images"] = whole(body["init_images"], name)
    return json.dumps(body).encode()


def asked(sim: Simulator, method: str, path: str, body: bytes, headers: dict) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection(sim.url.removeprefix("http://"), timeout=20)
    try:
        connection.request(method, path, body=body or None, headers=headers)
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    return response, gzip.decompress(data) if response.headers["content-encoding"] == "gzip" else data


def size_of(cut: str) -> tuple[int, int] | None:
    """A PNG's size from its first characters."""
    data = base64.b64decode(cut[:32])
    return struct.unpack(">II", data[16:24]) if data.startswith(b"\x89PNG") else None


@pytest.mark.parametrize("path", cases(A1111, LEFT_OUT))
def test_a1111(path: Path):
    case, name = json.loads(path.read_bytes()), path.stem
    request, recorded = case["request"], case["response"]
    headers = {key: value for key, value in request["headers"].items() if key.lower() not in UNSENT_HEADERS}
    auth = "user:pass" if name.startswith(("auth_", "api_mode_")) else None
    with Simulator(models=MODELS, api_auth=auth, device="cpu") as sim:
        response, data = asked(sim, request["method"], request["path"], a1111_body(case, name), headers)
    assert response.status == int(recorded["status_line"].split()[1])
    assert {key.lower() for key in response.headers} == {key.lower() for key, _ in recorded["headers"]}
    expected_type = dict(recorded["headers"]).get("content-type")
    assert response.headers["content-type"] == expected_type
    if recorded.get("body") is None or not data:
        return
    compare_a1111(recorded["body"], json.loads(data))


def compare_a1111(recorded: Any, found: Any) -> None:
    assert type(found) is type(recorded)
    if isinstance(recorded, list):
        assert [list(one) for one in found[:1]] == [list(one) for one in recorded[:1]]
        return
    assert list(found) == list(recorded)
    for key in ("error", "detail", "errors"):
        assert found.get(key) == recorded.get(key)
    if "images" not in recorded:
        return
    assert len(found["images"]) == len(recorded["images"])
    for image, other in zip(found["images"], recorded["images"], strict=True):
        picture, size = opened(image), size_of(other)
        assert picture.format == ("PNG" if size else "JPEG")
        assert picture.size == (size or picture.size)
    compare_parameters(recorded["parameters"], found["parameters"])
    compare_info(json.loads(recorded["info"]), json.loads(found["info"]))


def compare_parameters(recorded: dict, found: dict) -> None:
    assert list(found) == list(recorded)
    for key, value in recorded.items():
        assert found[key] == value or "<total" in str(value), key


def compare_info(recorded: dict, found: dict) -> None:
    assert list(found) == list(recorded)
    for key in recorded.keys() - RANDOM:
        assert found[key] == recorded[key], key
    assert [MACHINE.sub("", text) for text in found["infotexts"]] == [
        MACHINE.sub("", text) for text in recorded["infotexts"]
    ]


SDCPP_LEFT_OUT = {
    r"oai_.*|sdcpp_.*|get_v1_.*|get_sdcpp_.*": "the server's other APIs are not simulated",
    r"transport|pixel_effect_of_fields|concurrency.*": "notes, not a request",
    r"get_loras|t2i_lora_field.*": "a machine's files",
    r"options_txt2img_cors": "what is for browsers is not simulated",
    r"t2i_enable_hr.*|type_enable_hr.*": "hires fix is not simulated",
    r"t2i_extra_args": "settings inside a prompt are not simulated: the service refuses them",
    r"t2i_prompt_4000_words|i2i_data_uri|i2i_mask_data_uri": "the text is cut in the recording",
}
# The JSON library's words about where and why parsing failed.
PARSE_ERROR = re.compile(r"(\[json\.exception\.parse_error\.101\]).*")


def sdcpp_whole(value: Any, name: str) -> Any:
    if isinstance(value, dict) and "$base64" in value:
        if "mask" in name and value["$base64"].startswith("iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAAAAA"):
            return encoded(mask((20, 20, 43, 43)))
        width, height = size_of(value["$base64"]) or (64, 64)
        return encoded(sample((width, height)))
    if isinstance(value, dict):
        return {key: sdcpp_whole(one, name) for key, one in value.items()}
    return [sdcpp_whole(one, name) for one in value] if isinstance(value, list) else value


@pytest.mark.parametrize("path", cases(SDCPP, SDCPP_LEFT_OUT))
def test_sdcpp(path: Path):
    case, name = json.loads(path.read_bytes()), path.stem
    request, recorded = case["request"], case["response"]
    body = json.dumps(sdcpp_whole(request["json"], name)).encode() if "json" in request else b""
    body = request["raw"].encode("latin-1") if "raw" in request else body
    with Simulator(flavour="sdcpp", models=("sd15-random.safetensors",)) as sim:
        response, data = asked(sim, request["method"], request["path"], body, request.get("headers", {}))
    assert response.status == recorded["status"]
    noise = {"accept-ranges"}  # Sent with HEAD only.
    assert {key.lower() for key in response.headers} == {key.lower() for key in recorded["headers"]} - noise
    if "json" not in recorded:
        assert data.decode("latin-1") == recorded.get("text", "")
        return
    # The one thing in which the simulator is meant to differ: it says that it is one.
    if name == "get_options":
        recorded["json"]["simulator"] = True
    compare_sdcpp(recorded["json"], json.loads(data), case)


def compare_sdcpp(recorded: Any, found: Any, case: dict) -> None:
    if not isinstance(recorded, dict) or "images" not in recorded:
        assert json.loads(PARSE_ERROR.sub(r'\1"}', json.dumps(found))) == json.loads(
            PARSE_ERROR.sub(r'\1"}', json.dumps(recorded))
        )
        return
    assert list(found) == list(recorded)
    sizes = [tuple(one["size"]) for one in case["response"]["decoded_images"]]
    assert [opened(image).size for image in found["images"]] == sizes
    assert list(found["parameters"]) == list(recorded["parameters"])
    if not isinstance(recorded["info"], str) or not recorded["info"].endswith("}"):
        return  # Cut in the recording.
    first, second = json.loads(recorded["info"]), json.loads(found["info"])
    assert list(second) == list(first)
    fields = case["request"].get("json", {"seed": 42})
    random = {"infotexts"} | ({"seed", "all_seeds"} if fields.get("seed", -1) < 0 else set())
    for key in first.keys() - random:
        assert second[key] == first[key], key


@pytest.mark.parametrize(("folder", "without"), [(A1111, LEFT_OUT), (SDCPP, SDCPP_LEFT_OUT)], ids=["a1111", "sdcpp"])
def test_nothing_is_left_out_that_is_not_there(folder: Path, without: dict[str, str]):
    names = [path.stem for path in folder.glob("*.json")]
    for pattern in without:
        assert any(re.fullmatch(pattern, name) for name in names), pattern
