local rules = test.rules("safe_mode.lua")
local duel = { model = "openai/gpt-image-2", prompt = "a duel", size = "1024x1024", quality = "high" }

test.case("a refused prompt goes to another house, strictly, for half the price at most", function()
  local d = rules:call(duel, { "safety", "ok" })
  test.expect(d, { sent = { "openai/gpt-image-2", "bfl/flux-2-pro" }, rules = { { why = "safety block", applied = true } } })
  assert(d.cost < usd "0.1")
end)

test.case("one that is not cheaper is no way out", function()
  local low = table.clone(duel)
  low.quality = "low"
  test.expect(rules:call(low, { "safety" }), { sent = { "openai/gpt-image-2" }, error = { kind = "safety" } })
end)

test.case("a house without a safe mode is none", function()
  local nobody = test.rules("safe_mode.lua", { to = "stability/sd3.5-medium" })
  local d = nobody:call(duel, { "safety" })
  test.expect(d, { sent = { "openai/gpt-image-2" } })
  assert(string.find(d.rules[1].skipped, "`safety` must be kept", 1, true))
end)
