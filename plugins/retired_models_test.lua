local rules = test.rules("retired_models.lua")
local fox = { model = "openai/dall-e-3", prompt = "a fox", size = "1792x1024", style = "vivid" }

test.case("an app written for DALL·E 3 works again", function()
  fox.at = "2026-11-22T12:00Z"
  test.expect(rules:call(fox), {
    asked = { retired = true },
    sent = { "openai/gpt-image-2" },
    lost = { { field = "style" } },
    answered = { sizes = { "1792x1024" } },
    error = false,
  })
end)

test.case("before its last day it is asked, and its provider is believed that it is gone", function()
  fox.at = "2026-05-11T23:59Z"
  test.expect(rules:call(fox), {
    asked = { retired = false },
    sent = { "openai/dall-e-3", "openai/gpt-image-2" },
    error = false,
  })
end)

test.case("so does one written for Imagen", function()
  local d = rules:call { model = "google/imagen-4.0-generate-001", prompt = "a fox", at = "2026-11-22T12:00Z" }
  test.expect(d, { sent = { "google/gemini-nano-banana-2.1" }, error = false })
end)

test.case("a successor of one's own", function()
  local own = test.rules("retired_models.lua", { to = { ["openai/dall-e-3"] = "stability/sd3.5-medium" } })
  fox.at = "2026-11-22T12:00Z"
  test.expect(own:call(fox), { sent = { "stability/sd3.5-medium" }, cost = usd "0.035" })
end)
