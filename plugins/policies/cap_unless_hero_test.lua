local rules = test.rules("cap_unless_hero.lua")
local large = { model = "openai/gpt-image-2", prompt = "a desk", size = "2048x2048", quality = "medium" }

test.case("the longer side comes down to 1024", function()
  test.expect(rules:call(large), { decided = { size = "1024x1024" }, rules = { { did = "change", why = "cap" } } })
end)

test.case("a hero stays as large as it was asked for", function()
  local hero = table.clone(large)
  hero.tags = "hero"
  test.expect(rules:call(hero), { decided = { size = "2048x2048" } })
end)
