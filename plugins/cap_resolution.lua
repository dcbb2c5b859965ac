-- cap_resolution: no picture larger than it needs to be.
--
-- Brings the longer side of every picture down to `max_side` pixels, in the shape that was asked.
-- Calls with the tag `unless` keep their size. A cap that would make a call dearer is skipped.
return {
  options = { max_side = 1024, unless = "hero" },

  on_request = function(call, options)
    if call:tagged(options.unless) then return end
    return call:change { max_side = options.max_side, reason = "cap_resolution" }
  end,
}
