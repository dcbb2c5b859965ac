local rules = test.rules("fresh_images.lua")
local cat = { model = "stability/sd3.5-medium", prompt = "a cat" }

test.case("who asks again gets another picture", function()
  test.expect(rules:call(cat), { cache = { status = "refresh" } })
  test.expect(rules:call(cat), { cache = { status = "refresh" }, cost = usd "0.035" })
end)

test.case("a seed asks for one certain picture", function()
  local seeded = table.clone(cat)
  seeded.seed = 7
  rules:call(seeded)
  test.expect(rules:call(seeded), { cache = { status = "hit" }, cost = usd(0), rules = {} })
end)

test.case("a repeat may come from memory", function()
  local again = table.clone(cat)
  again.tags = { "repeat" }
  rules:call(again)
  test.expect(rules:call(again), { cache = { status = "hit" } })
end)
