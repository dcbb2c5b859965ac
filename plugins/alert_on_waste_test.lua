local cat = { model = "openai/gpt-image-2", prompt = "a cat", quality = "low", app = "catalog", at = "2026-11-22T10:00Z" }

test.case("the call that passes the mark is told of, once", function()
  local rules = test.rules("alert_on_waste.lua", { most = "0.01", window = "1h" })
  local first = rules:call(cat, { "drop" })
  test.expect(first, { alerts = {} })
  local alerts = {}
  for i = 1, 3 do
    cat.prompt = "a cat " .. i
    for _, alert in rules:call(cat, { "drop" }).alerts do
      table.insert(alerts, alert)
    end
  end
  assert(#alerts == 1, #alerts)
  assert(alerts[1].level == "warning" and alerts[1].fields.app == "catalog")
end)

test.case("what was wasted an hour ago is forgotten", function()
  local rules = test.rules("alert_on_waste.lua", { most = "0.01", window = "1h" })
  for i = 1, 3 do
    cat.prompt = "a dog " .. i
    cat.at = `2026-11-22T1{2 * i}:30Z`
    test.expect(rules:call(cat, { "drop" }), { alerts = {} })
  end
end)

test.case("pictures that were delivered are no waste", function()
  local rules = test.rules("alert_on_waste.lua", { most = "0.001" })
  test.expect(rules:call(cat), { alerts = {} })
end)
