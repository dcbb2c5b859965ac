-- thresholds.lua: each class of models has a price that no call in it may pass. The classes are in pixtoll.yaml:
-- classes: {draft: {models: […], max_cost: 0.01}, final: {models: […], max_cost: 0.04}}
return {
  options = { draft = "class:draft", final = "class:final" },

  on_request = function(call, options)
    if call:tagged("draft") then return call:route(options.draft, { reason = "draft" }) end
    return call:route(options.final, { reason = "final" })
  end,
}
