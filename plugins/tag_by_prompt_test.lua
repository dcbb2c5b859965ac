local rules = test.rules("tag_by_prompt.lua", { tags = { icon = { "icon", "glyph" }, sky = "sky" } })

test.case("words in the prompt become tags", function()
  local d = rules:call { model = "stability/sd3.5-medium", prompt = "A Glyph of the sky", tags = { "own" } }
  test.expect(d, { tags = { "own", "icon", "sky" } })
end)

test.case("whole words only", function()
  local d = rules:call { model = "stability/sd3.5-medium", prompt = "an iconic skyline" }
  test.expect(d, { tags = {}, rules = {} })
end)
