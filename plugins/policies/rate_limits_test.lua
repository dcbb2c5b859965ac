local rules = test.rules("rate_limits.lua")
local cat = { model = "openai/gpt-image-2", prompt = "cat", size = "1024x1024", quality = "low" }

test.case("one rate limit is waited out", function()
  local d = rules:call(cat, { { "rate_limited", retry_after = 3 }, "ok" })
  test.expect(d, { sent = { "openai/gpt-image-2", "openai/gpt-image-2" } })
  assert(d.attempts[2].wait_ms == 3000)
end)

test.case("after two the call goes elsewhere", function()
  local d = rules:call(cat, { "rate_limited", "rate_limited", "ok" })
  test.expect(d, { sent = { "openai/gpt-image-2", "openai/gpt-image-2", "google/gemini-2.5-flash-image" } })
end)

test.case("a server that fails is not this rule's matter", function()
  test.expect(rules:call(cat, { "server" }), { sent = { "openai/gpt-image-2" }, answered = false })
end)
