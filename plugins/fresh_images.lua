-- fresh_images: who asks again wants another picture.
--
-- A request without a seed is not answered from memory but bought anew, and remembered (`mode:
-- refresh`). `mode: bypass` does not remember it either; `mode: off` also keeps equal calls apart
-- that are made at the same time. A request with a seed asks for one certain picture and may come
-- from memory, and so may calls with the tag `unless`. With `only` none but calls of that tag.
return {
  options = { mode = "refresh", only = "", unless = "repeat" },

  on_request = function(call, options)
    if call.request.seed or call:tagged(options.unless) then return end
    if options.only ~= "" and not call:tagged(options.only) then return end
    return call:cache { mode = options.mode, reason = "fresh_images" }
  end,
}
