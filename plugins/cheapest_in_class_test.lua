local classes = { draft = { models = { "openai/gpt-image-2", "stability/sd3.5-medium" }, max_cost = usd "0.05" } }
local rules = test.rules("cheapest_in_class.lua", { to = "class:draft" }, { classes = classes })
local cat = { model = "openai/gpt-image-2", prompt = "a cat", size = "1024x1024", quality = "high" }

test.case("a call goes to the member that costs least", function()
  test.expect(rules:call(cat), { sent = { "stability/sd3.5-medium" }, cost = usd "0.035" })
  local low = table.clone(cat)
  low.quality = "low"
  test.expect(rules:call(low), { sent = { "openai/gpt-image-2" } })
end)

test.case("a member that would lose what must be kept is passed over", function()
  local keeping = test.rules("cheapest_in_class.lua", { to = "class:draft", keep = { "background" } }, { classes = classes })
  local clear = table.clone(cat)
  clear.quality, clear.background = "low", "opaque"
  test.expect(keeping:call(clear), { sent = { "openai/gpt-image-2" } })
end)
