local rules = test.rules("tier_by_deadline.lua")
local function picture(deadline, tags)
  return { model = "google/gemini-3-pro-image", prompt = "a lighthouse, " .. tostring(deadline), deadline = deadline, tags = tags }
end

test.case("who can wait a quarter of an hour pays half", function()
  local patient, usual = rules:call(picture(3600)), rules:call(picture(60))
  test.expect(patient, { decided = { tier = "flex" }, rules = { { why = "can wait", set = { tier = "flex" } } } })
  test.expect(usual, { decided = { tier = "standard" }, rules = {} })
  assert(patient.cost < usual.cost)
end)

test.case("a background call waits, whatever it says", function()
  test.expect(rules:call(picture(nil, "background")), { decided = { tier = "flex" } })
  test.expect(rules:call(picture(nil, { "background", "hero" })), { decided = { tier = "standard" } })
end)

test.case("the fast lane is for those who ask for it", function()
  local hurried = test.rules("tier_by_deadline.lua", { hurried = 20 })
  test.expect(hurried:call(picture(10)), { decided = { tier = "fast" }, rules = { { why = "in haste" } } })
  test.expect(hurried:call(picture(30)), { decided = { tier = "standard" } })
end)

test.case("a model that has but one tier keeps it, and the log says why", function()
  local d = rules:call { model = "stability/sd3.5-medium", prompt = "a lighthouse", deadline = 3600 }
  test.expect(d, { decided = { tier = "standard" } })
  assert(string.find(d.rules[1].skipped, "it has no tier flex", 1, true))
end)
