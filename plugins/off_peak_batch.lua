-- off_peak_batch: background work of the night in the slow tier, at half the price.
--
-- A call with the tag gets the first of `tiers` that its model has and that its app can wait for:
-- `batch` takes up to a day, so it is for apps that submit and ask later, or that say so in
-- x-pixtoll-deadline; the others get the next. `always` leaves the hours aside.
return {
  options = {
    tag = "background",
    from = "22:00",
    to = "06:00",
    zone = "UTC",
    always = false,
    tiers = { "batch", "flex" },
  },

  on_request = function(call, options)
    if not call:tagged(options.tag) or call.request.tier ~= "standard" then return end
    if options.always or pixtoll.between(options.from, options.to, options.zone) then
      return call:change { tier = options.tiers, reason = "off peak" }
    end
  end,
}
