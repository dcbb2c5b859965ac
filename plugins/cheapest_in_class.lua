-- cheapest_in_class: of models that are as good as each other, the one that costs least today.
--
-- `to` is a class of the configuration (`to: class:draft`). Every call goes to its cheapest member
-- that can serve it, if that costs at most `max_share` of what was asked for. A member that would
-- lose one of the fields in `keep` is passed over. Calls with the tag `unless` stay where they are.
return {
  options = { to = pixtoll.needs "model", max_share = 1, keep = {}, unless = "hero" },

  on_request = function(call, options)
    if call:tagged(options.unless) then return end
    return call:route(options.to, {
      max_share = options.max_share,
      keep = #options.keep > 0 and options.keep or nil,
      reason = "cheapest in class",
    })
  end,
}
