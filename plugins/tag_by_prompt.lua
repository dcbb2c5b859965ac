-- tag_by_prompt: tags for apps that give none, by the words in their prompts.
--
-- `tags` has for each tag a word or a list of them (`tags: {icon: [icon, glyph], sky: sky}`). A call
-- whose prompt has one of them as a whole word, in any case, gets the tag. Put it in front of the
-- rules that go by tags.
return {
  options = { tags = {} },

  on_request = function(call, options)
    local found = {}
    for tag, words in options.tags do
      if type(words) == "string" then words = { words } end
      if call:mentions(table.unpack(words)) then table.insert(found, tag) end
    end
    if #found == 0 then return end
    table.sort(found)
    return call:tag(table.unpack(found))
  end,
}
