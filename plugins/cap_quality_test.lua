local rules = test.rules("cap_quality.lua", { max_quality = "low" })

test.case("quality comes down to the cap", function()
  local d = rules:call { model = "openai/gpt-image-2", prompt = "a cat", size = "1024x1024", quality = "high" }
  test.expect(d, { asked = { quality = "high" }, decided = { quality = "low" } })
  assert(d.saved_by.quality > usd(0))
end)

test.case("what the provider would choose is capped too, a hero is not", function()
  local cat = { model = "openai/gpt-image-2", prompt = "a cat", size = "1024x1024" }
  test.expect(rules:call(cat), { decided = { quality = "low" } })
  cat.tags = "hero"
  test.expect(rules:call(cat), { decided = { quality = false }, rules = {} })
end)
