-- cap_quality: no picture better than it needs to be.
--
-- Brings the quality of every picture down to `max_quality`; what was left to the provider counts
-- as above it. Calls with the tag `unless` keep theirs. A cap that would make a call dearer is
-- skipped.
return {
  options = { max_quality = "medium", unless = "hero" },

  on_request = function(call, options)
    if call:tagged(options.unless) then return end
    return call:change { max_quality = options.max_quality, reason = "cap_quality" }
  end,
}
