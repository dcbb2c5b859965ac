-- tier_by_deadline: whoever can wait pays less, and whoever cannot gets the fast lane.
--
-- A call whose app can wait `patient` seconds (its x-pixtoll-deadline), or that has the tag
-- `background`, gets the first of the tiers in `slow` that its model has and that comes in time.
-- One whose app waits at most `hurried` seconds gets the first of `fast`; that costs more, so it
-- is off (0) unless you say from when. Calls with the tag `unless` stay as they are.
return {
  options = {
    patient = 900,
    background = "background",
    slow = { "batch", "flex" },
    hurried = 0,
    fast = { "fast" },
    unless = "hero",
  },

  on_request = function(call, options)
    if call:tagged(options.unless) or call.request.tier ~= "standard" then return end
    local deadline = call.deadline
    if call:tagged(options.background) or deadline and deadline >= options.patient then
      return call:change { tier = options.slow, reason = "can wait" }
    end
    if deadline and deadline <= options.hurried then
      return call:change { tier = options.fast, reason = "in haste" }
    end
  end,
}
