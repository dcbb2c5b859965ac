-- alert_on_waste: tells somebody when money is spent for nothing: attempts that failed and were billed, outcomes that nobody knows,
-- pictures that reached no one, pictures bought twice.
return {
  options = {
    most = usd "1.00",
    window = "1h",
    causes = { "failed_billed", "unknown", "undelivered", "duplicate" },
    level = "warning",
  },

  on_decision = function(decision, options)
    local wasted = usd(0)
    for _, cause in options.causes do
      wasted += decision.causes[cause]
    end
    if wasted == usd(0) then return end

    local counted = pixtoll.counter("alert_on_waste", { window = options.window, money = true })
    local before = counted:value()
    counted:add(wasted)
    -- Once, when the sum passes the mark, and again once the window has moved on.
    if before < options.most and counted:value() >= options.most then
      pixtoll.alert(options.level, `{counted:value()} were spent for nothing within {options.window}`, {
        app = decision.app,
        wasted = wasted,
        sum = counted:value(),
      })
    end
  end,
}
