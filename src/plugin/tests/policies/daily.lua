-- daily.lua, with budgets: [{name: catalog-day, for: {app: catalog}, limit: 20, per: day, over: plugin}]
return { options = { budget = "catalog-day", from = 0.8 },
  on_request = function(call, options)
    local budget = call:budget(options.budget)
    if budget and budget.used >= options.from then return call:change { max_quality = "medium", reason = "80 % spent" } end
  end,
  on_budget = function(call, budget, options)
    if budget.name == options.budget then return call:change { max_quality = "low", max_side = 1024, reason = "budget" } end
  end }
