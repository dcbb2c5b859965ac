local rules = test.rules("night.lua")
local function picture(tags, at)
  return { model = "google/gemini-3-pro-image", prompt = "a lighthouse at " .. at, tags = tags, at = at }
end

test.case("a background picture of the night costs half", function()
  local night = rules:call(picture("background", "2026-11-22T23:10Z"))
  test.expect(night, { decided = { tier = "flex" }, attempts = { { tier = "flex" } }, rules = { { set = { tier = "flex" } } } })
  local day = rules:call(picture("background", "2026-11-23T10:10Z"))
  test.expect(day, { decided = { tier = "standard" } })
  assert(night.cost < day.cost)
end)

test.case("whoever waits for it gets it at once", function()
  test.expect(rules:call(picture(nil, "2026-11-22T23:10Z")), { decided = { tier = "standard" } })
end)

test.case("a model without a slow tier is left as it is, and the log says so", function()
  local d = rules:call { model = "stability/sd3.5-medium", prompt = "a lighthouse", tags = "background", at = "2026-11-22T23:10Z" }
  test.expect(d, { decided = { tier = "standard" }, rules = { { applied = false } } })
  assert(string.find(d.rules[1].skipped, "it has no tier flex", 1, true))
end)
