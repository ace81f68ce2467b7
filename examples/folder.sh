#!/bin/sh
# img2img over a folder of photos: each becomes a PNG of the same name in another folder.
#   examples/folder.sh photos painted 'a watercolour' [strength]
# Can be ended and started again: what is there already is not painted twice.
set -eu

from=$1
to=$2
prompt=$3
strength=${4:-0.5}
api=${SERVICE:-http://localhost:5002}/api/v1/ai/generation
failed=0
mkdir -p "$to"

for photo in "$from"/*; do
  case $photo in
    *.jpg | *.jpeg | *.png | *.webp | *.bmp | *.JPG | *.JPEG | *.PNG) ;;
    *) continue ;;
  esac
  name=$(basename "$photo")
  target=$to/${name%.*}.png
  if [ -e "$target" ]; then
    echo "$name: is there already"
    continue
  fi
  # With its key a picture is painted once, however often it has to be asked for. --retry waits as long as
  # Retry-After says (429, 503). The photo comes from standard input, because -F reads , and ; in a file's name.
  key=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  if curl --silent --show-error --fail-with-body --retry 20 --retry-connrefused "$api/img2img" \
    ${API_KEY:+-H "Authorization: Bearer $API_KEY"} -H 'Accept: image/png' -H "Idempotency-Key: $key" \
    -F "image=@-;filename=photo" --form-string "prompt=$prompt" -F "strength=$strength" -o "$target.part" < "$photo"
  then
    mv "$target.part" "$target"
    echo "$name: painted"
  else
    # What the service said against it: a problem of RFC 9457, as JSON.
    echo "$name: $(cat "$target.part" 2> /dev/null)" >&2
    rm -f "$target.part"
    failed=1
  fi
done
exit $failed
