-- canary: tries a model on a small part of the calls before all of them go there.
--
-- Sends the part `share` (0 to 1) of all calls to the model `to`. Equal calls go the same way, so
-- that memory works as before; another `salt` picks other calls. Calls with the tag `unless` stay
-- where they are. `pixtoll tail --where answered.model=…` shows how they fare.
return {
  options = { to = pixtoll.needs "model", share = 0.05, salt = "canary", unless = "hero" },

  on_request = function(call, options)
    if call:tagged(options.unless) or not call:share(options.share, options.salt) then return end
    return call:route(options.to, { reason = "canary" })
  end,
}
