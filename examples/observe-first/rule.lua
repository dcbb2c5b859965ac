-- Drafts need no more than low quality.
return {
  on_request = function(call)
    if call:tagged("draft") then
      return call:change { max_quality = "low", reason = "a draft" }
    end
  end,
}
