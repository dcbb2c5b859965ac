local rules = test.rules("cap_resolution.lua", { max_side = 1024 })
local desk = { model = "openai/gpt-image-2", prompt = "a desk", size = "2048x1536", quality = "medium" }

test.case("a large picture comes down in its own shape, and costs less", function()
  local d = rules:call(desk)
  test.expect(d, { decided = { size = "1024x768" }, rules = { { applied = true, why = "cap_resolution" } } })
  assert(d.saved_by.resolution > usd(0))
end)

test.case("a hero keeps its size", function()
  local hero = table.clone(desk)
  hero.tags = { "hero" }
  test.expect(rules:call(hero), { decided = { size = "2048x1536" }, rules = {} })
end)
