-- icons_to_cheap.lua
return { options = { to = "stability/sd3.5-medium", word = "icon", max_share = 1 },
  on_request = function(call, options)
    if call:tagged("hero") or not call:mentions(options.word) then return end
    return call:route(options.to, { max_share = options.max_share, reason = "icon" })
  end }
