local rules = test.rules("icons_to_cheap.lua")
local icon = { model = "openai/gpt-image-2", prompt = "a flat icon of a fox", size = "1024x1024", quality = "high" }

test.case("an icon goes to the cheap model", function()
  test.expect(rules:call(icon), { sent = { "stability/sd3.5-medium" }, cost = usd "0.035" })
end)

test.case("a hero and a word that only begins like it stay", function()
  local hero, iconic = table.clone(icon), table.clone(icon)
  hero.tags, iconic.prompt = "hero", "an iconic lion"
  test.expect(rules:call(hero), { sent = { "openai/gpt-image-2" } })
  test.expect(rules:call(iconic), { sent = { "openai/gpt-image-2" } })
end)

test.case("no icon is made dearer", function()
  local low = table.clone(icon)
  low.quality = "low"
  test.expect(rules:call(low), { sent = { "openai/gpt-image-2" } })
end)
