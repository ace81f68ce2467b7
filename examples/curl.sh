#!/bin/sh
# Every route once, with curl 7.76 or newer. What is fetched goes into the folder given, or into ./pictures.
#   examples/curl.sh
#   SERVICE=https://pictures.example.com API_KEY=… examples/curl.sh folder
set -eu

service=${SERVICE:-http://localhost:5002}
api=$service/api/v1/ai/generation
here=$(dirname "$0")
out=${1:-pictures}
mkdir -p "$out"

# A refusal ends the script, and its reason is shown. The key is needed only where the service has API_KEYS.
call() {
  curl --silent --show-error --fail-with-body ${API_KEY:+-H "Authorization: Bearer $API_KEY"} "$@"
}

# The value of one text field of a JSON answer. A program would use a JSON parser, such as jq.
field() {
  sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p"
}

echo "== Can it paint?"
call "$api/health"; echo
call "$api/health/live"; echo

echo "== What can be asked for?"
call "$api/models"; echo
call "$api/options" -o "$out/options.json"

echo "== A picture from words, straight into a file"
call "$api/txt2img" -H 'Accept: image/png' -H 'Content-Type: application/json' \
  -d '{"prompt": "a lighthouse at sunset", "seed": 7}' -o "$out/photo.png"

echo "== The whole picture painted over: strength 0 changes nothing, 1 everything"
call "$api/img2img" -H 'Accept: image/png' -F image=@"$out/photo.png" -F prompt='a city at night' -F strength=0.6 \
  -o "$out/night.png"

echo "== Only the white part of the mask painted anew; the answer names the picture instead of holding it"
call "$api/inpainting" -F image=@"$out/photo.png" -F mask=@"$here/samples/circle-mask.png" -F prompt='a blue sky' \
  -F response_format=url -o "$out/answer.json"
cat "$out/answer.json"; echo
image_id=$(field image_id < "$out/answer.json")

echo "== That picture twice as large; what the service has stored need not be sent again"
call "$api/upscale" -H 'Content-Type: application/json' -H 'Accept: image/png' \
  -d "{\"image\": \"$image_id\", \"scale\": 2, \"upscaler\": \"Lanczos\"}" -o "$out/larger.png"

echo "== That picture, its headers alone, and a small copy of it"
call "$api/image/$image_id" -o "$out/sky.png"
call --head "$api/image/$image_id"
call "$api/image/$image_id?format=webp&width=256" -o "$out/sky-small.webp"

echo "== A request followed and cancelled, by an id of our own choice"
request_id=curl-example-$$
curl --silent "$api/txt2img" ${API_KEY:+-H "Authorization: Bearer $API_KEY"} -H "X-Request-ID: $request_id" \
  -H 'Content-Type: application/json' -d '{"prompt": "a forest", "steps": 150}' -o "$out/cancelled.json" &
until call "$api/requests/$request_id" -o "$out/progress.json" 2> /dev/null; do sleep 0.2; done
cat "$out/progress.json"; echo
# 204, or 404 where it was done before; either way the job has ended.
curl --silent --write-out '%{http_code}\n' -X DELETE "$api/requests/$request_id" \
  ${API_KEY:+-H "Authorization: Bearer $API_KEY"} -o "$out/ended.json"
wait

echo "== The same as programs ask that speak OpenAI's API"
call "$service/v1/models" -o "$out/openai-models.json"
call "$service/v1/models/$(field id < "$out/openai-models.json")"; echo
call "$service/v1/images/generations" -H 'Content-Type: application/json' \
  -d '{"prompt": "a lighthouse at sunset", "size": "256x256", "output_format": "webp"}' -o "$out/openai.json"
call "$service/v1/images/edits" -F image=@"$out/photo.png" -F mask=@"$here/samples/circle-mask.png" -F mask_mode=white \
  -F prompt='a blue sky' -o "$out/openai-edit.json"

if [ -n "${API_KEY:-}" ]; then
  echo "== The picture removed: only with a key"
  call -X DELETE "$api/image/$image_id"
fi

a1111=$service/sdapi/v1
if curl --silent --fail ${API_KEY:+-H "Authorization: Bearer $API_KEY"} "$a1111/cmd-flags" -o "$out/flags.json"; then
  echo "== The same for programs that speak A1111's API"
  for list in options sd-models samplers schedulers loras upscalers embeddings hypernetworks prompt-styles \
    face-restorers realesrgan-models latent-upscale-modes sd-vae scripts script-info extensions progress; do
    call "$a1111/$list" -o "$out/a1111-$list.json"
  done
  call "$a1111/refresh-checkpoints" -X POST; echo
  call "$a1111/refresh-loras" -X POST; echo
  call "$a1111/options" -d '{"sd_model_checkpoint": "v1-5-pruned-emaonly"}'; echo
  call "$a1111/txt2img" -d '{"prompt": "a lighthouse", "sampler_name": "Euler a"}' -o "$out/a1111.json"
  photo=$(base64 < "$out/photo.png" | tr -d '\n')
  echo "{\"prompt\": \"a storm\", \"denoising_strength\": 0.5, \"init_images\": [\"$photo\"]}" |
    call "$a1111/img2img" -d @- -o "$out/a1111-storm.json"
  echo "{\"image\": \"$photo\", \"upscaler_1\": \"Lanczos\"}" |
    call "$a1111/extra-single-image" -d @- -o "$out/a1111-larger.json"
  echo "{\"image\": \"$photo\"}" | call "$a1111/png-info" -d @- -o "$out/a1111-png-info.json"
  call "$a1111/interrupt" -X POST; echo
fi

echo "== For programs and for people: the API's description, its pages, the studio page, metrics"
call "$service/openapi.json" -o "$out/openapi.json"
call "$service/docs" -o "$out/docs.html"
call "$service/docs/errors" -o "$out/errors.html"
call "$service/" -o "$out/studio.html"
call "$service/metrics" -o "$out/metrics.txt"

echo "== Done: see $out"
