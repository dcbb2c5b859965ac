-- safe_mode.lua
return { options = { to = "bfl/flux-2-pro", max_share = 0.5 },
  on_failure = function(call, failure, options)
    if failure.kind ~= "safety" then return end
    return call:route(options.to, { safety = "strict", keep = { "safety" }, max_share = options.max_share, reason = "safety block" })
  end }
