curl -sS --fail -o /dev/null https://api.openai.com/v1/images/generations \
  -H "authorization: Bearer any" -H "content-type: application/json" -H "x-pixtoll-tags: draft" \
  -d '{"model":"gpt-image-2","prompt":"a paper boat","size":"1024x1024","quality":"high"}'
sleep 1 # the decision is written after the answer
pixtoll tail --json -n 1 | grep -o '"decided":{[^}]*}' | grep -o '"quality":"[a-z]*"'
