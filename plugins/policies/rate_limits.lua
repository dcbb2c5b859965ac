-- rate_limits.lua
return { options = { after = 2, to = { "google/gemini-2.5-flash-image", "bfl/flux-2-pro" } },
  on_failure = function(call, failure, options)
    if failure.kind ~= "rate_limited" then return end
    if failure.times < options.after then return call:retry {} end
    return call:route(options.to, { reason = "rate limited twice" })
  end }
