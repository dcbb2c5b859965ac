-- cap_unless_hero.lua
return { options = { max_side = 1024, unless = "hero" },
  on_request = function(call, options)
    if not call:tagged(options.unless) then return call:change { max_side = options.max_side, reason = "cap" } end
  end }
