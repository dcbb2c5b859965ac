local rules = test.rules("icons_to_cheap.lua")
local icon = { model = "openai/gpt-image-2", prompt = "An icon of a fox", size = "1024x1024", quality = "medium" }

test.case("an icon goes to the cheaper model", function()
  test.expect(rules:call(icon), { sent = { "stability/sd3.5-medium" }, cost = usd "0.035" })
end)

test.case("no rule raises a price: where the asked model is cheaper, the icon stays", function()
  local low = table.clone(icon)
  low.quality = "low"
  test.expect(rules:call(low), { sent = { "openai/gpt-image-2" }, rules = { { applied = false } } })
end)

test.case("iconic is no icon", function()
  local lion = table.clone(icon)
  lion.prompt = "an iconic lion"
  test.expect(rules:call(lion), { sent = { "openai/gpt-image-2" }, rules = {} })
end)
