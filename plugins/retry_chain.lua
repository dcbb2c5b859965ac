-- retry_chain: when a provider is busy or broken, ask again, then ask the next one.
--
-- `chain` lists the models to turn to, in order; each is asked once. A kind of failure in `retry`
-- is first tried again where it happened, `attempts` times there in all; a kind in `move_on` goes
-- to the chain at once. Other kinds are left alone, a safety block among them: another house may
-- judge otherwise, and that is for you to decide (`move_on: [safety, server]`). A call whose
-- outcome is unknown may have been paid for; it is sent again only with `may_pay_twice: true`.
return {
  options = {
    chain = pixtoll.needs "models",
    retry = { "rate_limited", "overloaded" },
    move_on = { "quota", "retired", "timeout", "network", "no_image", "server" },
    attempts = 2,
    may_pay_twice = false,
  },

  on_failure = function(call, failure, options)
    local busy = table.find(options.retry, failure.kind) ~= nil
    if not busy and not table.find(options.move_on, failure.kind) then return end

    local unknown = failure.sent == "unknown" or failure.billed == "unknown"
    if unknown and not options.may_pay_twice then return end

    local again = { may_pay_twice = options.may_pay_twice, reason = failure.kind }
    if busy and failure.times < options.attempts then return call:retry(again) end

    local rest, place = {}, table.find(options.chain, failure.model) or 0
    for i = place + 1, #options.chain do
      table.insert(rest, options.chain[i])
    end
    if #rest == 0 then return call:stop("the chain is used up") end
    return call:route(rest, again)
  end,
}
