# The words in brackets tell the simulated provider what to do; a real one does it by itself.
curl -sS --fail -o /dev/null -D - https://api.openai.com/v1/images/generations \
  -H "authorization: Bearer any" -H "content-type: application/json" \
  -d '{"model":"gpt-image-2","prompt":"a bowl of pears [[sim openai: overloaded]]","quality":"low"}' | grep -i x-pixtoll-route
