# An app that knows nothing of pixtoll: curl, with a key of its own.
call() {
  curl -sS --fail -o /dev/null -D - https://api.openai.com/v1/images/generations \
    -H "authorization: Bearer any" -H "content-type: application/json" \
    -d "{\"model\":\"gpt-image-2\",\"prompt\":\"$1\",\"size\":\"$2\",\"quality\":\"medium\"}" | grep -i -E '^x-pixtoll-(route|cost|saved)'
}
call "a flat icon of a fox" 1024x1024
call "a desk by a window" 2048x2048
call "a desk by a window" 2048x2048
