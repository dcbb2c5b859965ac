-- overload.lua: an overloaded model is left for a cheaper one; where none is cheaper it is asked again for less.
return {
  options = { to = "stability/sd3.5-medium", max_side = 1024 },

  on_failure = function(call, failure, options)
    if failure.kind ~= "overloaded" or failure.model == options.to then return end
    return call:route(options.to, { max_share = 1, reason = "cheaper" }),
      call:route(failure.model, { max_side = options.max_side, reason = "smaller" })
  end,
}
