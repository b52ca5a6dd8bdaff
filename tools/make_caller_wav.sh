#!/bin/sh
# Make bluejay_ws/testing/assets/caller.wav again: the two sentences that the Digital Human says by default.
# Needs espeak-ng and sox (Debian: apt-get install espeak-ng sox). Run it from anywhere.
set -eu

asset="$(cd "$(dirname "$0")/.." && pwd)/bluejay_ws/testing/assets/caller.wav"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

# sentence NAME TEXT: speak it as 16 kHz mono s16le, without the silence round it.
sentence() {
    espeak-ng -v en-us -s 180 -w "$work/raw.wav" "$2"
    sox -D "$work/raw.wav" -b 16 -e signed-integer -c 1 "$work/$1.wav" \
        rate 16000 gain -n -3 silence 1 0.01 0.5% reverse silence 1 0.01 0.5% reverse
}

sentence first "Hi, I lost my card. It ends in four two four two."
sentence second "Yes, please freeze it."

# The pause between the two is longer than any inside them, so that it can be found by its energy alone.
sox -D -n -r 16000 -c 1 -b 16 -e signed-integer "$work/pause.wav" trim 0 0.7
sox -D "$work/first.wav" "$work/pause.wav" "$work/second.wav" "$asset"
soxi "$asset"
ls -l "$asset"
