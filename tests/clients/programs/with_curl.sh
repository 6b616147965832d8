#!/bin/sh
# What docs and tutorials show: curl, whole and streamed, in both formats.
set -eu
url=$1 key=$2
ask='"messages":[{"role":"user","content":"Say hello."}]'
curl -sS "$url/v1/chat/completions" -H "Authorization: Bearer $key" \
  -H "Content-Type: application/json" -d "{\"model\":\"m\",$ask}"
echo
curl -sS -N "$url/v1/chat/completions" -H "Authorization: Bearer $key" \
  -d "{\"model\":\"m\",\"stream\":true,$ask}"
curl -sS "$url/v1/messages" -H "x-api-key: $key" -H "anthropic-version: 2023-06-01" \
  -d "{\"model\":\"m\",\"max_tokens\":9,$ask}"
echo
curl -sS "$url/v1/responses" -H "Authorization: Bearer $key" -d '{"model":"m","input":"hi"}'
