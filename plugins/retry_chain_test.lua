local rules = test.rules("retry_chain.lua", { chain = { "stability/sd3.5-medium" } })
local cat = { model = "openai/gpt-image-2", prompt = "a cat", size = "1024x1024", quality = "low" }

test.case("a busy provider is asked again, then the next one", function()
  local d = rules:call(cat, { "rate_limited", { "rate_limited", retry_after = 3 }, "ok" })
  test.expect(d, {
    sent = { "openai/gpt-image-2", "openai/gpt-image-2", "stability/sd3.5-medium" },
    cost = usd "0.035",
  })
end)

test.case("one whose account is empty is left at once", function()
  test.expect(rules:call(cat, { "quota", "ok" }), { sent = { "openai/gpt-image-2", "stability/sd3.5-medium" } })
end)

test.case("a safety block is no failure of the provider", function()
  test.expect(rules:call(cat, { "safety" }), { sent = { "openai/gpt-image-2" }, error = { kind = "safety" } })
end)

test.case("what may have been paid for is not bought again", function()
  test.expect(rules:call(cat, { "drop" }), { sent = { "openai/gpt-image-2" }, answered = false })
end)
