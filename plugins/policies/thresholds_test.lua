local models = { "openai/gpt-image-2", "stability/sd3.5-medium" }
local classes = { draft = { models = models, max_cost = usd "0.01" }, final = { models = models, max_cost = usd "0.04" } }
local rules = test.rules("thresholds.lua", {}, { classes = classes })
local function bowl(quality, tags)
  return { model = "openai/gpt-image-2", prompt = "a bowl", size = "1024x1024", quality = quality, tags = tags }
end

test.case("a final picture goes where it costs 0.04 at most", function()
  test.expect(rules:call(bowl("high")), { sent = { "stability/sd3.5-medium" }, cost = usd "0.035" })
end)

test.case("a draft goes where it costs 0.01 at most", function()
  local d = rules:call(bowl("low", "draft"))
  test.expect(d, { sent = { "openai/gpt-image-2" }, rules = { { applied = true, why = "draft" } } })
  assert(d.cost <= usd "0.01")
end)

test.case("what no member makes for that stays as it was asked, and the log says why", function()
  local d = rules:call(bowl("high", "draft"))
  test.expect(d, { sent = { "openai/gpt-image-2" }, rules = { { applied = false } } })
  assert(string.find(d.rules[1].skipped, "no member of class `draft`", 1, true))
end)
