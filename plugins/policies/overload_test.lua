local rules = test.rules("overload.lua")
local bowl = { model = "openai/gpt-image-2", prompt = "a bowl", size = "1024x1024", quality = "medium" }

test.case("an overloaded model is left for a cheaper one", function()
  local d = rules:call(bowl, { "overloaded", "ok" })
  test.expect(d, { sent = { "openai/gpt-image-2", "stability/sd3.5-medium" }, cost = usd "0.035", rules = { { why = "cheaper" } } })
  assert(d.cost < d.asked.quote)
end)

test.case("where the other is not cheaper, a smaller picture is asked for", function()
  local large = table.clone(bowl)
  large.size, large.quality = "2048x2048", "low"
  local d = rules:call(large, { "overloaded", "ok" })
  test.expect(d, { sent = { "openai/gpt-image-2", "openai/gpt-image-2" }, answered = { sizes = { "1024x1024" } } })
  assert(string.find(d.rules[1].skipped, "max_share", 1, true))
  assert(d.cost < d.asked.quote)
end)

test.case("a rate limit is waited for by others", function()
  test.expect(rules:call(bowl, { "rate_limited" }), { sent = { "openai/gpt-image-2" }, answered = false })
end)
