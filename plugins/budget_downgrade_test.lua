local budgets = { { name = "daily", limit = usd(20), per = "day", over = "plugin" } }
local rules = test.rules("budget_downgrade.lua", { budget = "daily" }, { budgets = budgets })
local cat = { model = "openai/gpt-image-2", prompt = "a cat", size = "2048x2048", quality = "high" }

test.case("while there is much left, nothing changes", function()
  rules:spent("daily", usd(15))
  test.expect(rules:call(cat), { rules = {}, attempts = { { model = "openai/gpt-image-2" } } })
end)

test.case("from four fifths on, pictures are no better than medium", function()
  rules:spent("daily", usd(16))
  test.expect(rules:call(cat), { decided = { quality = "medium", size = "2048x2048" } })
end)

test.case("where a call does not fit, it is made cheaper until it does", function()
  rules:spent("daily", usd(19.98))
  local d = rules:call(cat)
  test.expect(d, {
    decided = { quality = "low", size = "1024x1024" },
    budgets = { { name = "daily", did = "degraded" } },
    answered = { model = "openai/gpt-image-2" },
  })
  assert(d.cost < usd(0.02))
end)

test.case("what does not fit at all is refused", function()
  rules:spent("daily", usd(19.999))
  test.expect(rules:call(cat), { sent = {}, error = { by = "budget", status = 402 } })
end)

test.case("a hero is not made cheaper", function()
  rules:spent("daily", usd(19.98))
  local hero = { model = cat.model, prompt = cat.prompt, size = cat.size, quality = cat.quality, tags = "hero" }
  test.expect(rules:call(hero), { sent = {}, error = { by = "budget" } })
end)

test.case("another day, another twenty dollars", function()
  rules:spent("daily", usd(20))
  local night = { model = cat.model, prompt = "a cat", size = "1024x1024", quality = "low", at = "2026-11-22T23:30Z" }
  test.expect(rules:call(night), { error = { by = "budget" } })
  rules:clock("+1h")
  night.at = nil
  test.expect(rules:call(night), { error = false })
end)
