local cat = { model = "openai/gpt-image-2", prompt = "a cat", size = "1024x1024", quality = "high" }

test.case("a refused prompt goes to a house that can be strict", function()
  local rules = test.rules("safety_fallback.lua", { chain = { "stability/sd3.5-medium", "bfl/flux-2-pro" } })
  local d = rules:call(cat, { "safety", "ok" })
  test.expect(d, { sent = { "openai/gpt-image-2", "bfl/flux-2-pro" }, error = false })
end)

test.case("without that wish it goes to the next one", function()
  local rules = test.rules("safety_fallback.lua", { chain = { "stability/sd3.5-medium" }, safety = "" })
  test.expect(rules:call(cat, { "safety", "ok" }), { sent = { "openai/gpt-image-2", "stability/sd3.5-medium" } })
end)

test.case("what every house refuses stays refused", function()
  local rules = test.rules("safety_fallback.lua", { chain = { "stability/sd3.5-medium" }, safety = "" })
  local d = rules:call(cat, { "safety", "safety", "ok" })
  test.expect(d, { error = { kind = "safety" }, answered = false })
end)

test.case("other failures are left alone", function()
  local rules = test.rules("safety_fallback.lua", { chain = { "stability/sd3.5-medium" } })
  test.expect(rules:call(cat, { "server", "ok" }), { sent = { "openai/gpt-image-2" } })
end)
