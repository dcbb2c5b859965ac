-- night.lua
return { options = { from = "22:00", to = "06:00", zone = "Europe/Berlin" },
  on_request = function(call, options)
    if call:tagged("background") and pixtoll.between(options.from, options.to, options.zone) then
      return call:change { tier = { "batch", "flex" }, reason = "night" }
    end
  end }
