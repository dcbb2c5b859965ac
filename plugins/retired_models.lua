-- retired_models: apps that were written for a model that is gone work again.
--
-- Sends a call for a retired model to what its provider offers in its place, by the price book; a
-- model in `to` goes where that says instead (`to: {openai/dall-e-3: stability/sd3.5-medium}`). The
-- picture is handed over in the size that was asked, unless `same_size` is false. With `max_share`
-- above 0 the successor may cost so many times what the retired model did, and no more. A model
-- that the book still offers and its provider answers to be gone is moved after that answer.
return {
  options = { to = {}, same_size = true, max_share = 0 },

  on_request = function(call, options)
    local model = call.request.model
    local successor, gone = pixtoll.successor(model)
    local to = options.to[model] or (gone and successor)
    if not to then return end
    return call:route(to, {
      fit = options.same_size and "requested" or nil,
      max_share = options.max_share > 0 and options.max_share or nil,
      reason = model .. " is retired",
    })
  end,

  on_failure = function(call, failure, options)
    if failure.kind ~= "retired" then return end
    local to = options.to[failure.model] or pixtoll.successor(failure.model)
    if not to then return end
    return call:route(to, {
      fit = options.same_size and "requested" or nil,
      max_share = options.max_share > 0 and options.max_share or nil,
      reason = failure.model .. " is gone",
    })
  end,
}
