-- budget_downgrade: near its limit a budget buys cheaper pictures, instead of none.
--
-- From `from` (a share of its limit, spent or held) on, pictures of the budget named `budget` come
-- down to `max_quality`. Where a call does not fit any more, it is made as cheap as `full_quality`
-- and `full_side` make it, and goes to `to` where that is given; if that does not fit either, it is
-- refused. The budget must say `over: plugin`. Calls with the tag `unless` are left as they are.
return {
  options = {
    budget = pixtoll.needs "text",
    from = 0.8,
    max_quality = "medium",
    full_quality = "low",
    full_side = 1024,
    to = "",
    unless = "hero",
  },

  on_request = function(call, options)
    if call:tagged(options.unless) then return end
    local budget = call:budget(options.budget)
    if not budget or budget.used < options.from then return end
    return call:change { max_quality = options.max_quality, reason = "little left of " .. budget.name }
  end,

  on_budget = function(call, budget, options)
    if budget.name ~= options.budget or call:tagged(options.unless) then return end
    local why = budget.name .. " has no room"
    local less = call:change { max_quality = options.full_quality, max_side = options.full_side, reason = why }
    if options.to == "" then return less end
    return less, call:route(options.to, { max_share = 1, reason = why })
  end,
}
