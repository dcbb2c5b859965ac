local cat = { model = "openai/gpt-image-2", prompt = "a cat", size = "1024x1024", quality = "low" }

test.case("all, none, or those that are no heroes", function()
  local all = test.rules("canary.lua", { to = "stability/sd3.5-medium", share = 1 })
  test.expect(all:call(cat), { sent = { "stability/sd3.5-medium" }, rules = { { why = "canary" } } })
  local none = test.rules("canary.lua", { to = "stability/sd3.5-medium", share = 0 })
  test.expect(none:call(cat), { sent = { "openai/gpt-image-2" }, rules = {} })
  local hero = table.clone(cat)
  hero.tags = { "hero" }
  test.expect(all:call(hero), { sent = { "openai/gpt-image-2" } })
end)

test.case("equal calls go the same way, so memory works", function()
  local half = test.rules("canary.lua", { to = "stability/sd3.5-medium", share = 0.5 })
  for i = 1, 4 do
    local call = table.clone(cat)
    call.prompt = "cat number " .. i
    local first = half:call(call)
    test.expect(half:call(call), { cache = { status = "hit" }, answered = { model = first.answered.model } })
  end
end)
