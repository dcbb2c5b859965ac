-- icons_to_cheap: icons do not need the best model.
--
-- Sends a call whose prompt has `word` in it to the model `to`, if that costs at most `max_share`
-- of what was asked for. Calls with the tag `unless` stay where they are.
return {
  options = { to = "stability/sd3.5-medium", word = "icon", max_share = 1, unless = "hero" },

  on_request = function(call, options)
    if call:tagged(options.unless) or not call:mentions(options.word) then return end
    return call:route(options.to, { max_share = options.max_share, reason = "icon" })
  end,
}
