local night = "2026-11-22T23:10Z"
local day = "2026-11-22T13:10Z"

local function picture(tags, at)
  return { model = "google/gemini-3-pro-image", prompt = "a lighthouse at " .. at, tags = tags, at = at }
end

test.case("a background picture of the night costs half, one of the day does not", function()
  local rules = test.rules("off_peak_batch.lua")
  local slow = rules:call(picture("background", night))
  test.expect(slow, { decided = { tier = "flex" }, attempts = { { tier = "flex" } }, rules = { { why = "off peak" } } })
  local usual = rules:call(picture("background", day))
  test.expect(usual, { decided = { tier = "standard" }, rules = {} })
  assert(slow.cost < usual.cost)
end)

test.case("whoever did not say so is not kept waiting", function()
  local rules = test.rules("off_peak_batch.lua")
  test.expect(rules:call(picture(nil, night)), { decided = { tier = "standard" }, rules = {} })
end)

test.case("always, in any zone, and for a tag of one's own", function()
  local always = test.rules("off_peak_batch.lua", { always = true, tag = "bulk" })
  test.expect(always:call(picture("bulk", day)), { decided = { tier = "flex" } })
  local there = test.rules("off_peak_batch.lua", { zone = "Asia/Tokyo" })
  test.expect(there:call(picture("background", "2026-11-22T13:10Z")), { decided = { tier = "flex" } })
end)

test.case("an app that can wait a day gets the batch, one that cannot the next tier", function()
  local rules = test.rules("off_peak_batch.lua")
  local patient = picture("background", night)
  patient.deadline = 86400
  test.expect(rules:call(patient), { decided = { tier = "batch" }, attempts = { { tier = "batch" } } })
end)

test.case("a model without a slow tier stays as it is, and the log says why", function()
  local rules = test.rules("off_peak_batch.lua")
  local d = rules:call { model = "stability/sd3.5-medium", prompt = "a lighthouse", tags = "background", at = night }
  test.expect(d, { decided = { tier = "standard" }, rules = { { applied = false } } })
end)
