-- safety_fallback: a prompt that one house refuses is put to another, under its strictest rules.
--
-- Houses differ in what they take for unsafe, and harmless prompts are refused too. After a safety
-- block the call goes to the next of `chain`, each of which is asked once. It goes there with
-- `safety`, and a model that has no such setting is no target; `safety: ""` asks for none. The
-- target may cost at most `max_share` of what was asked for. Nobody has this rule without naming it.
return {
  options = { chain = pixtoll.needs "models", safety = "strict", max_share = 1 },

  on_failure = function(call, failure, options)
    if failure.kind ~= "safety" then return end
    local rest, place = {}, table.find(options.chain, failure.model) or 0
    for i = place + 1, #options.chain do
      table.insert(rest, options.chain[i])
    end
    if #rest == 0 then return call:stop("every house in the chain refused it") end
    local strict = options.safety ~= ""
    return call:route(rest, {
      safety = strict and options.safety or nil,
      keep = strict and { "safety" } or nil,
      max_share = options.max_share,
      reason = "safety block",
    })
  end,
}
